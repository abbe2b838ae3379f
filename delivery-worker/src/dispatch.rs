//! What is due later is data: this moves what has become due to the outbox, and releases what was
//! held. Also the binder's second look at receipts that found no delivery.

use std::time::Duration;

use shared::broker::relay::Relay;
use shared::domain::ids::{DeliveryId, TenantId};
use shared::domain::message::{Labels, VERSION, Work, WorkMessage};
use shared::runtime::batcher::Batcher;
use shared::runtime::telemetry::chain;
use shared::store::deliveries::DueDelivery;
use shared::store::{StoreError, deliveries, outbox, receipts};
use sqlx::{Connection, PgPool};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::receipt::ApplyReceipts;

/// How often due times are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The most deliveries of one look.
const PAGE: i64 = 500;
/// How often unbound receipts get a second look.
const BIND_EVERY: Duration = Duration::from_secs(5);

/// Moves due deliveries to the outbox until `stopping`.
pub(crate) async fn run(pool: PgPool, relay: Relay, stopping: CancellationToken) {
    loop {
        let moved = match look(&pool, &relay).await {
            Ok(moved) => moved,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "due deliveries cannot be looked at, trying again");
                0
            }
        };
        // A full page means that more is waiting.
        let pause = if moved == PAGE as usize {
            Duration::ZERO
        } else {
            LOOK_EVERY
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stopping.cancelled() => return,
        }
    }
}

async fn look(pool: &PgPool, relay: &Relay) -> Result<usize, StoreError> {
    let mut conn = pool.acquire().await?;
    deliveries::release_held(&mut conn, PAGE).await?;
    let mut tx = conn.begin().await?;
    let due = deliveries::take_due(&mut tx, PAGE).await?;
    let mut messages: Vec<_> = due.iter().filter_map(message_of).collect();
    messages.sort_by_key(|message| message.subject_id);
    let rows = outbox::insert(&mut tx, messages).await?;
    tx.commit().await?;
    relay.hand_over(rows);
    Ok(due.len())
}

/// The work message of a delivery that is to be tried.
pub(crate) fn message_of(due: &DueDelivery) -> Option<outbox::NewMessage> {
    let message = WorkMessage {
        version: VERSION,
        work: Work::Deliver {
            delivery_id: DeliveryId(due.id),
            channel: due.channel.parse().ok()?,
            generation: due.generation,
            attempt: due.attempt,
        },
        trace_id: due.trace_id.parse().ok()?,
        labels: Labels {
            event_type: due.event_type.clone(),
            source: due.source_system.clone(),
            tenant_id: due.tenant_id.map(TenantId),
            template: due.template_key.clone(),
        },
    };
    Some(outbox::NewMessage::work(&message))
}

/// Looks again at receipts that found no delivery, until `stopping`.
pub(crate) async fn bind_late(
    pool: PgPool,
    apply: Batcher<ApplyReceipts>,
    stopping: CancellationToken,
) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(BIND_EVERY) => {}
            () = stopping.cancelled() => return,
        }
        let mut after = Uuid::nil();
        loop {
            let page = async {
                let mut conn = pool.acquire().await?;
                receipts::unbound(&mut conn, after, PAGE).await
            };
            let page = match page.await {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "unbound receipts cannot be looked at, trying again");
                    break;
                }
            };
            let Some(last) = page.last().copied() else {
                break;
            };
            futures_util::future::join_all(page.into_iter().map(|receipt| apply.submit(receipt)))
                .await;
            after = last;
        }
    }
}
