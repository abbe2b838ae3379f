//! Records what attempts came to, a batch in one transaction: the attempts are closed, the
//! deliveries move, what is given up gets its letter.

use std::collections::HashMap;

use shared::broker::relay::Relay;
use shared::domain::channel::Channel;
use shared::domain::delivery::DeliveryState;
use shared::domain::failure::FailureCode;
use shared::domain::ids::{DeliveryId, LetterId, TenantId};
use shared::domain::message::{Labels, VERSION, Work, WorkMessage};
use shared::runtime::batcher::BatchJob;
use shared::runtime::clock::Clock;
use shared::store::deliveries::{self, AttemptResult, LockedDelivery, StateChange};
use shared::store::{StoreError, dead_letters, outbox, sessions};
use sqlx::{Connection, PgConnection, PgPool};
use std::sync::Arc;

use crate::metrics::Metrics;

/// The batch job that records results.
pub(crate) struct Record {
    pub(crate) pool: PgPool,
    pub(crate) relay: Relay,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
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
        let mut tx = conn.begin().await?;
        let results: Vec<&AttemptResult> = items.iter().map(|item| &item.result).collect();
        let letters = conclude(&mut tx, &results, self.clock.as_ref()).await?;
        for (channel_id, code) in sessions_down(items) {
            if sessions::set_state(&mut tx, channel_id, "down", code).await? {
                tracing::warn!(
                    channel = channel_id,
                    failure.code = code,
                    "the gateway says that the session is down"
                );
            }
        }
        tx.commit().await?;
        self.relay.hand_over(letters);
        for item in items {
            self.metrics
                .attempt(item.result.outcome, item.result.failure_code);
        }
        Ok(vec![(); items.len()])
    }
}

/// Closes attempts and moves their deliveries; answers the outbox rows of letters. Shared with
/// the reaper, whose verdict is one more result.
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
    deliveries::close_attempts(conn, results).await?;
    let mut changes = Vec::new();
    let mut dead = Vec::new();
    for result in results {
        let Some(delivery) = locked.get(&result.delivery_id) else {
            continue;
        };
        let Ok(from) = delivery.state.parse::<DeliveryState>() else {
            continue;
        };
        let Some(to) = from.after_attempt(result.conclusion) else {
            continue;
        };
        changes.push(StateChange {
            id: delivery.id,
            from,
            to,
            failure_code: result.failure_code.map(str::to_owned),
            held_reason: result.held_reason,
            retry_after_s: result.retry_after_s,
            burns_retry: i32::from(result.outcome == "retry"),
        });
        if to == DeliveryState::Dead {
            dead.push((delivery, result.failure_code));
        }
    }
    deliveries::change_states(conn, &changes).await?;
    bury(conn, &dead, clock).await
}

async fn bury(
    conn: &mut PgConnection,
    dead: &[(&LockedDelivery, Option<&'static str>)],
    clock: &dyn Clock,
) -> Result<Vec<outbox::OutboxRow>, StoreError> {
    let now = clock.now();
    let letters: Vec<_> = dead
        .iter()
        .filter_map(|(delivery, code)| {
            let code: FailureCode = code.and_then(|code| code.parse().ok())?;
            let channel: Channel = delivery.channel.parse().ok()?;
            let letter = shared::broker::dead::Letter {
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
            Some((message_of(delivery, channel, &letter), letter, delivery.id))
        })
        .collect();
    let rows: Vec<_> = letters
        .iter()
        .map(|(message, letter, subject)| {
            letter.row(message.work.queue(), "delivery", Some(*subject))
        })
        .collect();
    let new = dead_letters::insert_new(conn, &rows).await?;
    let messages = letters
        .iter()
        .filter(|(_, letter, _)| new.contains(&letter.id.0))
        .map(|(message, letter, _)| letter.message(message))
        .collect();
    outbox::insert(conn, messages).await
}

fn message_of(
    delivery: &LockedDelivery,
    channel: Channel,
    letter: &shared::broker::dead::Letter,
) -> WorkMessage {
    WorkMessage {
        version: VERSION,
        work: Work::Deliver {
            delivery_id: DeliveryId(delivery.id),
            channel,
            generation: delivery.generation,
            attempt: delivery.attempt_count,
        },
        trace_id: letter.trace_id.clone(),
        labels: Labels {
            event_type: delivery.event_type.clone(),
            source: delivery.source_system.clone(),
            tenant_id: letter.tenant_id,
            template: delivery.template_key.clone(),
        },
    }
}

/// Accounts whose gateway says that the session is down, each once, sorted: two batches that
/// update the same rows must take them in one order.
fn sessions_down(items: &[Recorded]) -> Vec<(&str, &'static str)> {
    let mut down: Vec<_> = items
        .iter()
        .filter(|item| item.result.failure_code == Some(FailureCode::SessionDown.as_str()))
        .filter_map(|item| {
            Some((
                item.channel_id.as_deref()?,
                FailureCode::SessionDown.as_str(),
            ))
        })
        .collect();
    down.sort_unstable();
    down.dedup();
    down
}
