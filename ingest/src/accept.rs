//! THE use case: an authentic, well-formed event becomes a row with its key and its outbox
//! message, or is recognised as one that came before.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use shared::broker::relay::Relay;
use shared::domain::directory::{Directory, account_slug};
use shared::domain::event::{Body, IncomingEvent, InlineMedia, KeyOrigin, mark};
use shared::domain::ids::{EventId, TenantId, TraceId};
use shared::domain::message::{Labels, WorkMessage};
use shared::domain::module::Module;
use shared::failpoint;
use shared::runtime::batcher::BatchJob;
use shared::sealing::Keyring;
use shared::store::events::{self, NewEvent};
use shared::store::outbox::{OutboxRow, encode};
use shared::store::{StoreError, media};
use sqlx::{Connection as _, PgConnection, PgPool};
use uuid::Uuid;

/// How long a key lives that a caller chose or a provider gave, in seconds: 30 days.
const KEY_TTL_S: f64 = 30.0 * 86_400.0;
/// How long a key lives that is only a hash of the content, in seconds. Long enough for every
/// repeat of a post, short enough that tomorrow's equal fact is a new one.
const CONTENT_KEY_TTL_S: f64 = 86_400.0;

/// An event on its way into the store.
#[derive(Clone, Debug)]
pub struct AcceptRequest {
    event: NewEvent,
    key_origin: KeyOrigin,
    /// Files that came with it.
    media: Vec<InlineMedia>,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It is stored.
    New {
        /// The event.
        event_id: EventId,
    },
    /// It came before.
    Duplicate {
        /// The first event.
        event_id: EventId,
        /// Its trace.
        trace_id: String,
        /// Its correlation.
        correlation_id: Option<String>,
    },
    /// The caller used its key for another body before.
    KeyReused {
        /// The event that has the key.
        event_id: EventId,
    },
}

/// What the door knows besides the event itself.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The tenant that the credential is bound to, 0 where it speaks for all.
    pub scope: i64,
    /// The trace, where the event names none.
    pub trace_id: TraceId,
    /// When it came.
    pub received_at: DateTime<Utc>,
    /// The bytes that came.
    pub body: Vec<u8>,
    /// The module that it came by, where that is in shadow: nothing of what follows leaves.
    pub shadow: Option<Module>,
}

impl AcceptRequest {
    /// Prepares an event for the store: its id, its trace, its message.
    #[must_use]
    pub fn new(incoming: IncomingEvent, arrival: Arrival, directory: &Directory) -> Self {
        let id = EventId::generate();
        let trace_id = incoming.trace_id.unwrap_or(arrival.trace_id);
        let labels = Labels {
            event_type: incoming.event_type.clone(),
            source: incoming.source_system.clone(),
            tenant_id: incoming.tenant_id,
            ..Labels::default()
        };
        let message = WorkMessage::route(id, trace_id.clone(), labels);
        let (key, key_origin) = match incoming.key {
            Some(key) => (key.expose().to_owned(), key.origin()),
            None => (id.to_string(), KeyOrigin::Natural),
        };
        let channel_id = incoming.channel_account.map(|raw| {
            directory
                .account(&raw)
                .map_or_else(|| account_slug(&raw), |account| account.id.clone())
        });
        let (body, media) = match incoming.body {
            Body::AsReceived => (arrival.body, Vec::new()),
            Body::Redacted(body) => (body, Vec::new()),
            Body::Lightened { body, media } => (body, media),
        };
        let event = NewEvent {
            id: id.0,
            source_system: incoming.source_system,
            scope: arrival.scope,
            key,
            key_ttl_s: if key_origin == KeyOrigin::Content {
                CONTENT_KEY_TTL_S
            } else {
                KEY_TTL_S
            },
            body_sha256: incoming.body_sha256,
            event_type: incoming.event_type,
            tenant_id: incoming.tenant_id.map(|tenant: TenantId| tenant.0),
            source_event_id: incoming.source_event_id,
            // Events that name no group are grouped by their trace.
            correlation_id: Some(
                incoming
                    .correlation_id
                    .unwrap_or_else(|| trace_id.to_string()),
            ),
            trace_id: trace_id.to_string(),
            causation_id: incoming.causation_id,
            occurred_at: incoming.occurred_at.unwrap_or(arrival.received_at),
            received_at: arrival.received_at,
            metadata: mark(incoming.metadata, arrival.shadow),
            body,
            payload: incoming.payload,
            provider_message_id: incoming.provider_message_id,
            channel_id,
            direction: incoming.direction.map(|direction| direction.as_str()),
            contact_key: incoming.contact_key,
            invoice_key: incoming.invoice_key,
            message: encode(&message),
        };
        Self {
            event,
            key_origin,
            media,
        }
    }

    /// The same with nothing but its raw bytes: what is kept when the database cannot hold the
    /// rest of an authentic event.
    #[must_use]
    pub fn bare(mut self) -> Self {
        let event = &mut self.event;
        event.payload = None;
        event.metadata = serde_json::json!({});
        event.source_event_id = None;
        event.provider_message_id = None;
        event.channel_id = None;
        event.contact_key = None;
        event.invoice_key = None;
        event.key = format!("bytes:{}", hex::encode(Sha256::digest(&event.body)));
        self
    }

    /// The event's id, if it is new.
    #[must_use]
    pub const fn event_id(&self) -> EventId {
        EventId(self.event.id)
    }

    /// The event's trace, if it is new.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        &self.event.trace_id
    }

    /// The event's correlation, if it is new.
    #[must_use]
    pub fn correlation_id(&self) -> Option<&str> {
        self.event.correlation_id.as_deref()
    }

    fn key(&self) -> (String, i64, String) {
        (
            self.event.source_system.clone(),
            self.event.scope,
            self.event.key.clone(),
        )
    }

    /// The verdict when another event holds the key.
    fn against(&self, holder: Uuid, holder_sha256: &[u8]) -> Verdict {
        // Only a key that somebody chose can be chosen wrongly (design §1.6).
        if self.key_origin == KeyOrigin::Caller && holder_sha256 != self.event.body_sha256 {
            Verdict::Reused(holder)
        } else {
            Verdict::Duplicate(holder)
        }
    }
}

enum Verdict {
    New,
    Duplicate(Uuid),
    Reused(Uuid),
}

/// The batch job that accepts events.
pub(crate) struct Accept {
    pub(crate) pool: PgPool,
    pub(crate) relay: Relay,
    pub(crate) seals: Keyring,
}

impl BatchJob for Accept {
    type Item = AcceptRequest;
    type Done = Accepted;
    type Error = StoreError;

    fn weight(item: &AcceptRequest) -> usize {
        let files = item.media.iter().map(|media| media.bytes.len());
        item.event.body.len() + files.sum::<usize>()
    }

    async fn run(&self, items: &[AcceptRequest]) -> Result<Vec<Accepted>, StoreError> {
        failpoint!(AcceptBegun);
        let mut conn = self.pool.acquire().await?;
        // Files are few: whoever brings none costs one statement, which is its own transaction.
        let (verdicts, rows) = if items.iter().all(|item| item.media.is_empty()) {
            store(&mut conn, items, &self.seals).await?
        } else {
            let mut tx = conn.begin().await?;
            let (verdicts, rows) = store(&mut tx, items, &self.seals).await?;
            let new = items.iter().zip(&verdicts);
            let new = new.filter(|(_, verdict)| matches!(verdict, Verdict::New));
            let files: Vec<&InlineMedia> = new.flat_map(|(item, _)| &item.media).collect();
            media::insert(&mut tx, files, &self.seals).await?;
            tx.commit().await?;
            (verdicts, rows)
        };
        failpoint!(AcceptStored);
        // Committed: what it wrote may be published.
        self.relay.hand_over(rows);
        failpoint!(AcceptOffered);
        answers(&mut conn, items, verdicts).await
    }
}

/// Stores what is new. Equal keys inside the batch are collapsed in memory: the first wins, the
/// others are compared with it.
async fn store(
    conn: &mut PgConnection,
    items: &[AcceptRequest],
    seals: &Keyring,
) -> Result<(Vec<Verdict>, Vec<OutboxRow>), StoreError> {
    let mut first_of: HashMap<(String, i64, String), usize> = HashMap::with_capacity(items.len());
    let mut firsts = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        if let Entry::Vacant(entry) = first_of.entry(item.key()) {
            entry.insert(index);
            firsts.push(index);
        }
    }
    // Sorted by the key that two batches may collide on, else they deadlock.
    firsts.sort_by_cached_key(|index| items[*index].key());
    let events: Vec<&NewEvent> = firsts.iter().map(|index| &items[*index].event).collect();
    let leased_at = std::time::Instant::now();
    let won: HashMap<Uuid, i64> = events::insert_new(conn, &events, seals)
        .await?
        .into_iter()
        .collect();

    let lost: Vec<_> = firsts
        .iter()
        .filter(|index| !won.contains_key(&items[**index].event.id))
        .map(|index| items[*index].key())
        .collect();
    let mut holders: HashMap<(String, i64, String), (Uuid, Vec<u8>)> =
        HashMap::with_capacity(lost.len());
    if !lost.is_empty() {
        for holder in events::key_holders(conn, &lost).await? {
            holders.insert(
                (holder.source_system, holder.scope, holder.key),
                (holder.event_id, holder.body_sha256),
            );
        }
    }
    let verdicts = items
        .iter()
        .enumerate()
        .map(|(index, item)| {
            let key = item.key();
            let first = first_of.get(&key).map_or(item, |first| &items[*first]);
            match holders.get(&key) {
                // Our own id: an earlier try of this transaction had succeeded after all.
                Some((holder, _)) if *holder == item.event.id => Verdict::New,
                Some((holder, sha256)) => item.against(*holder, sha256),
                None if first.event.id == items[index].event.id => Verdict::New,
                None => item.against(first.event.id, &first.event.body_sha256),
            }
        })
        .collect();
    let rows = firsts
        .iter()
        .filter_map(|index| {
            let event = &items[*index].event;
            Some(OutboxRow {
                id: *won.get(&event.id)?,
                target: shared::domain::message::WorkQueue::Route.name().to_owned(),
                body: event.message.clone(),
                headers: None,
                leased_at,
            })
        })
        .collect();
    Ok((verdicts, rows))
}

/// Answers each item; a duplicate is answered with the trace of the first event.
async fn answers(
    conn: &mut PgConnection,
    items: &[AcceptRequest],
    verdicts: Vec<Verdict>,
) -> Result<Vec<Accepted>, StoreError> {
    let mut traces: HashMap<Uuid, (String, Option<String>)> = items
        .iter()
        .map(|item| {
            (
                item.event.id,
                (
                    item.event.trace_id.clone(),
                    item.event.correlation_id.clone(),
                ),
            )
        })
        .collect();
    let mut unknown: Vec<Uuid> = verdicts
        .iter()
        .filter_map(|verdict| match verdict {
            Verdict::Duplicate(holder) if !traces.contains_key(holder) => Some(*holder),
            _ => None,
        })
        .collect();
    unknown.sort_unstable();
    unknown.dedup();
    if !unknown.is_empty() {
        for found in events::traces_of(conn, &unknown).await? {
            traces.insert(found.id, (found.trace_id, found.correlation_id));
        }
    }
    Ok(items
        .iter()
        .zip(verdicts)
        .map(|(item, verdict)| match verdict {
            Verdict::New => Accepted::New {
                event_id: item.event_id(),
            },
            Verdict::Reused(holder) => Accepted::KeyReused {
                event_id: EventId(holder),
            },
            Verdict::Duplicate(holder) => {
                // An event whose partition is gone keeps its key; the caller's own trace has to do.
                let (trace_id, correlation_id) =
                    traces.get(&holder).cloned().unwrap_or_else(|| {
                        (
                            item.event.trace_id.clone(),
                            item.event.correlation_id.clone(),
                        )
                    });
                Accepted::Duplicate {
                    event_id: EventId(holder),
                    trace_id,
                    correlation_id,
                }
            }
        })
        .collect())
}
