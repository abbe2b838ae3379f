//! Records what attempts came to, a batch in one transaction: the attempts are closed, the
//! deliveries move, what is given up gets its letter.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use shared::broker::dead::{self, Letter};
use shared::broker::relay::Relay;
use shared::domain::channel::Channel;
use shared::domain::delivery::{DeliveryState, Standing};
use shared::domain::failure::FailureCode;
use shared::domain::ids::{DeliveryId, LetterId, TenantId};
use shared::domain::message::{Labels, Work, WorkMessage};
use shared::failpoint;
use shared::runtime::batcher::BatchJob;
use shared::runtime::clock::Clock;
use shared::store::attempts::{self, AttemptResult};
use shared::store::deliveries::{self, LockedDelivery, StateChange};
use shared::store::{StoreError, dead_letters, outbox, releases, sessions};
use sqlx::{Connection, PgConnection, PgPool};
use uuid::Uuid;

use crate::early::EarlyReceipts;
use crate::metrics::Metrics;
use crate::release::write_messages;

/// The batch job that records results.
pub(crate) struct Record {
    pub(crate) pool: PgPool,
    pub(crate) relay: Relay,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) early: EarlyReceipts,
}

/// One result, with the account that it speaks about.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) result: AttemptResult,
    pub(crate) channel_id: Option<String>,
}

impl BatchJob for Record {
    type Item = Recorded;
    type Done = ();
    type Error = StoreError;

    async fn run(&self, items: &[Recorded]) -> Result<Vec<()>, StoreError> {
        let mut conn = self.pool.acquire().await?;
        failpoint!(RecordWritten);
        let closed = record_usual(&mut conn, items).await?;
        let unusual: Vec<&Recorded> = items
            .iter()
            .filter(|item| !closed.contains(&item.result.attempt_id))
            .collect();
        let rows = self.record_unusual(&mut conn, &unusual).await?;
        failpoint!(RecordCommitted);
        self.metrics.letters.recorded(&rows);
        self.relay.hand_over(rows);
        for item in items {
            if item.result.names_a_message() {
                self.early.known(item.result.attempt_id);
            }
            self.metrics
                .attempt(item.result.outcome, item.result.failure_code);
        }
        Ok(vec![(); items.len()])
    }
}

/// Records what was sent and is no reply; answers those attempts.
async fn record_usual(
    conn: &mut PgConnection,
    items: &[Recorded],
) -> Result<HashSet<Uuid>, StoreError> {
    let mut sent: Vec<&Recorded> = items
        .iter()
        .filter(|item| item.result.outcome == "sent")
        .collect();
    if sent.is_empty() {
        return Ok(HashSet::new());
    }
    sent.sort_by_key(|item| item.result.delivery_id);
    let results: Vec<&AttemptResult> = sent.iter().map(|item| &item.result).collect();
    let accounts: BTreeSet<&str> = sent
        .iter()
        .filter_map(|item| item.channel_id.as_deref())
        .collect();
    let accounts: Vec<&str> = accounts.into_iter().collect();
    let closed = attempts::record_sent(conn, &results, &accounts).await?;
    Ok(closed.into_iter().collect())
}

impl Record {
    /// Records everything else, each by what its delivery has become meanwhile.
    async fn record_unusual(
        &self,
        conn: &mut PgConnection,
        items: &[&Recorded],
    ) -> Result<Vec<outbox::OutboxRow>, StoreError> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let results: Vec<&AttemptResult> = items.iter().map(|item| &item.result).collect();
        let mut tx = conn.begin().await?;
        let rows = conclude(&mut tx, &results, self.clock.as_ref()).await?;
        for (channel_id, state, reason) in session_states(items) {
            if sessions::set_state(&mut tx, channel_id, state, reason).await? && state == "down" {
                tracing::error!(
                    channel = channel_id,
                    failure.code = reason,
                    "the account cannot send: its deliveries are held"
                );
            }
        }
        tx.commit().await?;
        Ok(rows)
    }
}

/// Closes attempts and moves their deliveries; answers the outbox rows of letters, and of replies
/// that one of them was the last to block. Shared with the reaper, whose verdict is one more result.
pub(crate) async fn conclude(
    conn: &mut PgConnection,
    results: &[&AttemptResult],
    clock: &dyn Clock,
) -> Result<Vec<outbox::OutboxRow>, StoreError> {
    let mut ids: Vec<_> = results.iter().map(|result| result.delivery_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let locked: HashMap<_, _> = deliveries::lock(conn, &ids)
        .await?
        .into_iter()
        .map(|delivery| (delivery.id, delivery))
        .collect();
    let closed: HashMap<_, _> = attempts::close_attempts(conn, results)
        .await?
        .into_iter()
        .map(|attempt| (attempt.id, attempt))
        .collect();
    // One change for each delivery: two results of its attempts may come in one batch, and the
    // second is judged by what the first made of it.
    let mut changes: BTreeMap<Uuid, StateChange> = BTreeMap::new();
    for result in results {
        let Some(delivery) = locked.get(&result.delivery_id) else {
            continue;
        };
        // A result that was recorded before, or of an attempt that a newer one replaced, proves
        // nothing any more, unless it proves that the message is out.
        let current = closed.get(&result.attempt_id).is_some_and(|attempt| {
            attempt.number == delivery.attempt_count && attempt.generation == delivery.generation
        });
        if !current
            && !matches!(
                result.conclusion,
                DeliveryState::Sent | DeliveryState::Delivered
            )
        {
            continue;
        }
        let Ok(stored) = delivery.state.parse::<DeliveryState>() else {
            continue;
        };
        let earlier = changes.get(&delivery.id);
        let (from, code) = match earlier {
            Some(change) => (change.to, change.failure_code.as_deref()),
            None => (stored, delivery.failure_code.as_deref()),
        };
        let Some(to) = Standing::new(from, code).after_attempt(result.conclusion) else {
            continue;
        };
        let burnt = earlier.map_or(0, |change| change.burns_retry);
        let change = StateChange {
            id: delivery.id,
            from: stored,
            to,
            failure_code: result.failure_code.map(str::to_owned),
            held_reason: result.held_reason,
            retry_after_s: result.retry_after_s,
            burns_retry: burnt + i32::from(result.outcome == "retry"),
        };
        changes.insert(delivery.id, change);
    }
    let changes: Vec<StateChange> = changes.into_values().collect();
    deliveries::change_states(conn, &changes).await?;
    let dead: Vec<_> = changes
        .iter()
        .filter(|change| change.to == DeliveryState::Dead)
        .filter_map(|change| Some((locked.get(&change.id)?, change.failure_code.as_deref())))
        .collect();
    let replies: Vec<Uuid> = changes
        .iter()
        .filter(|change| !change.to.waits_or_is_claimed())
        .filter(|change| locked.get(&change.id).is_some_and(blocks_replies))
        .map(|change| change.id)
        .collect();
    let risen: Vec<Uuid> = changes
        .iter()
        .filter(|change| change.from == DeliveryState::Dead)
        .map(|change| change.id)
        .collect();
    dead_letters::supersede(conn, &risen).await?;
    let mut rows = bury(conn, &dead, clock).await?;
    rows.extend(release_next_replies(conn, &replies).await?);
    Ok(rows)
}

/// Whether a younger delivery may wait for this one (design §1.11).
pub(crate) fn blocks_replies(delivery: &LockedDelivery) -> bool {
    delivery.lane == "reply" && delivery.channel != "chat"
}

/// Lets the next reply of each thread follow those that were concluded; answers the outbox rows.
/// Costs nothing where no reply was concluded.
pub(crate) async fn release_next_replies(
    conn: &mut PgConnection,
    concluded: &[Uuid],
) -> Result<Vec<outbox::OutboxRow>, StoreError> {
    if concluded.is_empty() {
        return Ok(Vec::new());
    }
    let next = releases::release_next_replies(conn, concluded).await?;
    write_messages(conn, &next).await
}

async fn bury(
    conn: &mut PgConnection,
    dead: &[(&LockedDelivery, Option<&str>)],
    clock: &dyn Clock,
) -> Result<Vec<outbox::OutboxRow>, StoreError> {
    let now = clock.now();
    let letters: Vec<_> = dead
        .iter()
        .filter_map(|(delivery, code)| {
            let code: FailureCode = code.and_then(|code| code.parse().ok())?;
            let channel: Channel = delivery.channel.parse().ok()?;
            let letter = Letter {
                id: LetterId::generate(),
                generation: delivery.generation,
                code,
                attempts: delivery.attempt_count,
                first_at: delivery.created_at,
                last_at: now,
                trace_id: delivery.trace_id.parse().ok()?,
                event_type: Some(delivery.event_type.clone()),
                tenant_id: delivery.tenant_id.map(TenantId),
                channel: Some(channel),
                template: delivery.template_key.clone(),
            };
            let message = message_of(delivery, channel, &letter);
            Some((letter, message))
        })
        .collect();
    let messages = dead::record(conn, &letters).await?;
    outbox::insert(conn, messages).await
}

fn message_of(delivery: &LockedDelivery, channel: Channel, letter: &Letter) -> WorkMessage {
    let work = Work::Deliver {
        delivery_id: DeliveryId(delivery.id),
        channel,
        generation: delivery.generation,
        attempt: delivery.attempt_count,
    };
    let labels = Labels {
        event_type: delivery.event_type.clone(),
        source: delivery.source_system.clone(),
        tenant_id: letter.tenant_id,
        template: delivery.template_key.clone(),
        account: delivery.channel_id.clone(),
        lane: Some(delivery.lane.clone()),
    };
    WorkMessage::new(work, letter.trace_id.clone(), labels)
}

/// What the results say about their accounts' sessions, each account once, sorted: two batches
/// that update the same rows must take them in one order. A send that worked weighs more.
fn session_states<'a>(items: &[&'a Recorded]) -> Vec<(&'a str, &'static str, &'static str)> {
    let mut states: BTreeMap<&str, (&'static str, &'static str)> = BTreeMap::new();
    for item in items {
        let Some(channel_id) = item.channel_id.as_deref() else {
            continue;
        };
        match (item.result.outcome, item.result.held_reason) {
            ("sent", _) => {
                states.insert(channel_id, ("up", "sends"));
            }
            ("held", Some(reason)) => {
                states.entry(channel_id).or_insert(("down", reason));
            }
            _ => {}
        }
    }
    states
        .into_iter()
        .map(|(channel_id, (state, reason))| (channel_id, state, reason))
        .collect()
}
