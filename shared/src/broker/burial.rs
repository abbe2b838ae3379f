//! Gives up a message that no handler can do: a row that tells why, the subject marked, and a
//! letter beside the work queue, in one transaction; only then is the message acked.

use std::sync::Arc;

use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sqlx::{Connection, PgConnection, PgPool};
use uuid::Uuid;

use super::consumer::{DeadItem, NotRecorded};
use super::dead::{self, Letter};
use super::dead_metrics::{DeadLetterMetrics, Dropped};
use super::relay::Relay;
use super::topology::{Queue, Target};
use crate::domain::delivery::DeliveryState;
use crate::domain::ids::{EventId, LetterId, RoutingId, TraceId};
use crate::domain::message::{Work, WorkMessage, WorkQueue};
use crate::domain::redrive::LetterState;
use crate::failpoint;
use crate::runtime::clock::Clock;
use crate::runtime::telemetry::chain;
use crate::sealing::Keyring;
use crate::store::dead_letters::{self, Settled};
use crate::store::deliveries::{self, StateChange};
use crate::store::outbox::{self, MessageJson, NewMessage, OutboxRow};
use crate::store::plans::{self, NewPlans, NewRouting};
use crate::store::{StoreResult, receipts, replans};

/// Buries what consumers give up.
#[derive(Clone)]
pub struct Burial {
    pub(super) pool: PgPool,
    pub(super) relay: Relay,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: DeadLetterMetrics,
}

impl Burial {
    /// A burial over a database and its relay.
    #[must_use]
    pub fn new(
        pool: PgPool,
        relay: Relay,
        clock: Arc<dyn Clock>,
        metrics: DeadLetterMetrics,
    ) -> Self {
        Self {
            pool,
            relay,
            clock,
            metrics,
        }
    }

    /// Records one dead message. Safe to repeat.
    ///
    /// # Errors
    /// The database is unwell: hold the message and call again.
    pub async fn bury(&self, item: DeadItem) -> Result<(), NotRecorded> {
        let Queue::Work(queue) = item.queue else {
            return Ok(());
        };
        match self.record(&item, queue).await {
            Ok(rows) => {
                if dead::letter_id(&item.headers).is_none() {
                    self.metrics.recorded(&rows);
                }
                tracing::error!(
                    queue = queue.name(),
                    trace_id = item
                        .message
                        .as_ref()
                        .map(|message| message.trace_id.as_str()),
                    message.kind = item.message.as_ref().map(|message| message.work.kind()),
                    failure.code = item.code.as_str(),
                    "a message was given up"
                );
                self.relay.hand_over(rows);
                Ok(())
            }
            Err(error) => {
                tracing::warn!(queue = queue.name(), error = %chain(&error), "a dead message cannot be recorded yet");
                Err(NotRecorded)
            }
        }
    }

    /// A letter that somebody moved to a work queue where nobody can do anything with it has its
    /// row already. While that is open, the letter goes back to where it can be found.
    async fn back(
        &self,
        conn: &mut PgConnection,
        id: LetterId,
        body: &[u8],
    ) -> StoreResult<Option<NewMessage>> {
        let letter = dead_letters::find(conn, id.0).await?;
        let open = letter.filter(|letter| letter.state == LetterState::Dead.as_str());
        let why = if open.is_some() {
            Dropped::Refused
        } else {
            Dropped::MovedOn
        };
        self.metrics.dropped(why, 1);
        Ok(open.and_then(|letter| {
            dead::put_back(&letter, serde_json::from_slice(body).unwrap_or_default())
        }))
    }

    pub(super) fn letter(&self, item: &DeadItem, queue: WorkQueue) -> Letter {
        let now = self.clock.now();
        let message = item.message.as_ref();
        Letter {
            id: LetterId::generate(),
            generation: message.map_or(0, |message| message.work.generation()),
            code: item.code,
            attempts: i32::try_from(item.delivery_count).unwrap_or(i32::MAX),
            first_at: now,
            last_at: now,
            trace_id: message.map_or_else(TraceId::generate, |message| message.trace_id.clone()),
            event_type: message
                .map(|message| message.labels.event_type.clone())
                .filter(|label| !label.is_empty()),
            tenant_id: message.and_then(|message| message.labels.tenant_id),
            channel: match queue {
                WorkQueue::Deliver(channel) => Some(channel),
                WorkQueue::Route | WorkQueue::Receipts => None,
            },
            template: message.and_then(|message| message.labels.template.clone()),
        }
    }

    async fn record(&self, item: &DeadItem, queue: WorkQueue) -> StoreResult<Vec<OutboxRow>> {
        let message = item.message.as_ref();
        let letter = self.letter(item, queue);
        let mut conn = self.pool.acquire().await?;
        let mut tx = conn.begin().await?;
        if let Some(id) = dead::letter_id(&item.headers) {
            let back = self.back(&mut tx, id, &item.body).await?;
            let rows = outbox::insert(&mut tx, back.into_iter().collect()).await?;
            tx.commit().await?;
            return Ok(rows);
        }
        let settled = match message {
            Some(message) => mark_subject(&mut tx, message, &letter).await?,
            None => Settled::Stays,
        };
        let open = dead_letters::insert(&mut tx, &[letter.row(queue, message)], settled).await?;
        let messages = if open.is_empty() {
            Vec::new()
        } else {
            vec![letter_of(item, queue, &letter)]
        };
        let rows = outbox::insert(&mut tx, messages).await?;
        failpoint!(BurialWritten);
        tx.commit().await?;
        failpoint!(BurialCommitted);
        Ok(rows)
    }
}

/// The letter of a message; of bytes that are none of ours only what identifies them.
fn letter_of(item: &DeadItem, queue: WorkQueue, letter: &Letter) -> NewMessage {
    match &item.message {
        Some(message) => NewMessage {
            target: Target::Letter(queue).to_string(),
            ..letter.message(message)
        },
        None => NewMessage {
            target: Target::Letter(queue).to_string(),
            subject_id: letter.id.0,
            body: unreadable(&item.body),
            headers: Some(Value::Object(letter.headers())),
        },
    }
}

/// What stands for bytes that are no message of ours.
fn unreadable(bytes: &[u8]) -> MessageJson {
    to_raw_value(
        &json!({"unreadable_bytes": bytes.len(), "sha256": hex::encode(Sha256::digest(bytes))}),
    )
    .expect("a number and a text always have a JSON form")
}

/// Marks the subject, so that nobody takes it for work whose message was lost. Answers what the
/// letter of a stale copy does, should there be one: it makes room only where this very message was
/// waited for, so that its subject died of it.
pub(super) async fn mark_subject(
    conn: &mut PgConnection,
    message: &WorkMessage,
    letter: &Letter,
) -> StoreResult<Settled> {
    let died = match &message.work {
        Work::Route { event_id, run, .. } => {
            fail_routing(conn, (*event_id, *run), message, letter).await?
        }
        Work::Deliver {
            delivery_id,
            generation,
            attempt,
            ..
        } => fail_delivery(conn, delivery_id.0, (*generation, *attempt), letter).await?,
        Work::Replan {
            delivery_id,
            generation,
        } => {
            let waiting = replans::lock_waiting(conn, &[(delivery_id.0, *generation)]).await?;
            if !waiting.is_empty() {
                replans::give_up(conn, delivery_id.0, letter.code.as_str()).await?;
            }
            !waiting.is_empty()
        }
        Work::ApplyReceipt {
            receipt_id,
            generation,
        } => {
            let why = format!("given up: {}", letter.code);
            receipts::give_up(conn, (receipt_id.0, *generation), &why).await?
        }
    };
    Ok(if died { Settled::Opens } else { Settled::Stays })
}

/// True when the event waited for this decision.
async fn fail_routing(
    conn: &mut PgConnection,
    (event_id, run): (EventId, i32),
    message: &WorkMessage,
    letter: &Letter,
) -> StoreResult<bool> {
    let generation = message.work.generation();
    let routing = NewRouting {
        id: RoutingId::generate().0,
        event_id: event_id.0,
        run,
        generation,
        trace_id: message.trace_id.to_string(),
        tenant_id: message.labels.tenant_id.map(|tenant| tenant.0),
        event_type: message.labels.event_type.clone(),
        source_system: message.labels.source.clone(),
        state: "failed",
        decision: plans::no_decision(),
        failure_code: Some(letter.code.as_str()),
        error_message: Some("the event could not be routed".to_owned()),
        processing_time_ms: 0.0,
    };
    Ok(if generation == 0 {
        {
            // A decision alone: there is no text to be sealed.
            let plans = NewPlans {
                routings: vec![&routing],
                ..NewPlans::default()
            };
            !plans::insert(conn, plans, &Keyring::off())
                .await?
                .routings
                .is_empty()
        }
    } else {
        !replans::decide_again(conn, &[&routing]).await?.is_empty()
    })
}

/// Only a delivery that waits for this very message dies with it: one that waits for a later
/// attempt, or to be planned again, does not. True when it died.
async fn fail_delivery(
    conn: &mut PgConnection,
    id: Uuid,
    (generation, attempt): (i32, i32),
    letter: &Letter,
) -> StoreResult<bool> {
    let changes: Vec<StateChange> = deliveries::lock(conn, &[id])
        .await?
        .into_iter()
        .filter(|delivery| {
            delivery.generation == generation
                && delivery.attempt_count + 1 == attempt
                && delivery.state == DeliveryState::Queued.as_str()
        })
        .map(|delivery| StateChange {
            failure_code: Some(letter.code.as_str().to_owned()),
            ..StateChange::plain(delivery.id, DeliveryState::Queued, DeliveryState::Dead)
        })
        .collect();
    // The row is locked, so what is written is what was read.
    deliveries::change_states(conn, &changes).await?;
    Ok(!changes.is_empty())
}
