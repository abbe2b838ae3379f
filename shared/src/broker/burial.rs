//! Gives up a message that no handler can do: a row that tells why, the subject marked, and a
//! letter beside the work queue, in one transaction; only then is the message acked.

use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sqlx::{Connection, PgConnection, PgPool};
use uuid::Uuid;

use super::consumer::{DeadItem, NotRecorded};
use super::dead::Letter;
use super::relay::Relay;
use super::topology::{Queue, Target};
use crate::domain::delivery::DeliveryState;
use crate::domain::failure::FailureCode;
use crate::domain::ids::{EventId, LetterId, RoutingId, TraceId};
use crate::domain::message::{Work, WorkMessage, WorkQueue};
use crate::failpoint;
use crate::runtime::clock::Clock;
use crate::runtime::telemetry::chain;
use crate::store::deliveries::{self, StateChange};
use crate::store::outbox::{self, NewMessage, OutboxRow};
use crate::store::receipts::{self, Settlement};
use crate::store::routings::{self, NewRouting};
use crate::store::{StoreResult, dead_letters};

/// Buries what consumers give up.
#[derive(Clone)]
pub struct Burial {
    pool: PgPool,
    relay: Relay,
    clock: Arc<dyn Clock>,
}

impl Burial {
    /// A burial over a database and its relay.
    #[must_use]
    pub fn new(pool: PgPool, relay: Relay, clock: Arc<dyn Clock>) -> Self {
        Self { pool, relay, clock }
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

    /// Records a letter that the broker made by itself (delivery limit): its row, and its subject
    /// marked. The letter itself lies beside its work queue already. Safe to repeat.
    ///
    /// # Errors
    /// The database is unwell: hold the message and call again.
    pub async fn note_broker_letter(
        &self,
        message: &WorkMessage,
        queue: WorkQueue,
    ) -> Result<(), NotRecorded> {
        let item = DeadItem {
            code: FailureCode::BrokerDeliveryLimit,
            queue: Queue::Work(queue),
            message: Some(message.clone()),
            body: Vec::new(),
            headers: serde_json::Map::new(),
            delivery_count: 0,
        };
        let noted = async {
            let letter = self.letter(&item, queue);
            let mut conn = self.pool.acquire().await?;
            let mut tx = conn.begin().await?;
            mark_subject(&mut tx, message, &letter).await?;
            let row = letter.row(
                queue,
                subject_kind(Some(message)),
                Some(message.work.subject()),
            );
            dead_letters::insert_new(&mut tx, &[row]).await?;
            tx.commit().await?;
            StoreResult::Ok(())
        };
        noted.await.map_err(|error| {
            tracing::warn!(queue = queue.name(), error = %chain(&error), "a letter of the broker cannot be recorded yet");
            NotRecorded
        })?;
        tracing::error!(
            queue = queue.name(),
            trace_id = message.trace_id.as_str(),
            message.kind = message.work.kind(),
            failure.code = item.code.as_str(),
            "the broker gave a message up"
        );
        Ok(())
    }

    fn letter(&self, item: &DeadItem, queue: WorkQueue) -> Letter {
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
        let subject = message.map(|message| message.work.subject());
        let mut conn = self.pool.acquire().await?;
        let mut tx = conn.begin().await?;
        if let Some(message) = message {
            mark_subject(&mut tx, message, &letter).await?;
        }
        let new = dead_letters::insert_new(
            &mut tx,
            &[letter.row(queue, subject_kind(message), subject)],
        )
        .await?;
        let messages = if new.is_empty() {
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

fn subject_kind(message: Option<&WorkMessage>) -> &'static str {
    match message.map(|message| &message.work) {
        Some(Work::Route { .. }) => "event",
        Some(Work::Deliver { .. }) => "delivery",
        Some(Work::ApplyReceipt { .. }) => "receipt",
        None => "message",
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
            body: json!({"unreadable_bytes": item.body.len(), "sha256": hex::encode(Sha256::digest(&item.body))}),
            headers: Some(Value::Object(letter.headers())),
        },
    }
}

/// Marks the subject, so that nobody takes it for work whose message was lost.
async fn mark_subject(
    conn: &mut PgConnection,
    message: &WorkMessage,
    letter: &Letter,
) -> StoreResult<()> {
    match &message.work {
        Work::Route { event_id, run, .. } => {
            fail_routing(conn, *event_id, *run, (message, letter)).await
        }
        Work::Deliver {
            delivery_id,
            generation,
            ..
        } => fail_delivery(conn, delivery_id.0, *generation, letter).await,
        Work::ApplyReceipt { receipt_id } => {
            let settlement = Settlement {
                id: receipt_id.0,
                state: "ignored",
                delivery_id: None,
                attempt_id: None,
                effect: Some(format!("given up: {}", letter.code)),
            };
            receipts::settle(conn, &[settlement]).await
        }
    }
}

async fn fail_routing(
    conn: &mut PgConnection,
    event_id: EventId,
    run: i32,
    (message, letter): (&WorkMessage, &Letter),
) -> StoreResult<()> {
    let routing = NewRouting {
        id: RoutingId::generate().0,
        event_id: event_id.0,
        run,
        trace_id: message.trace_id.to_string(),
        tenant_id: message.labels.tenant_id.map(|tenant| tenant.0),
        event_type: message.labels.event_type.clone(),
        source_system: message.labels.source.clone(),
        state: "failed",
        decision: json!({}),
        failure_code: Some(letter.code.as_str()),
        error_message: Some("the event could not be routed".to_owned()),
        processing_time_ms: 0.0,
    };
    routings::insert_new(conn, &[&routing]).await?;
    Ok(())
}

/// Only a delivery that waits for this very message dies with it.
async fn fail_delivery(
    conn: &mut PgConnection,
    id: Uuid,
    generation: i32,
    letter: &Letter,
) -> StoreResult<()> {
    let changes: Vec<StateChange> = deliveries::lock(conn, &[id])
        .await?
        .into_iter()
        .filter(|delivery| {
            delivery.generation == generation && delivery.state == DeliveryState::Queued.as_str()
        })
        .map(|delivery| StateChange {
            failure_code: Some(letter.code.as_str().to_owned()),
            ..StateChange::plain(delivery.id, DeliveryState::Queued, DeliveryState::Dead)
        })
        .collect();
    deliveries::change_states(conn, &changes).await
}
