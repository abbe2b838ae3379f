//! What is due later is data: this moves what has become due to the outbox, and releases what was
//! held. Also the binder's second look at receipts that found no delivery.

use std::time::Duration;

use shared::broker::relay::Relay;
use shared::runtime::batcher::Batcher;
use shared::runtime::telemetry::chain;
use shared::runtime::vitals::Beat;
use shared::store::deliveries::DueDelivery;
use shared::store::{StoreError, deliveries, outbox, receipts};
use sqlx::{Connection, PgPool};
use tokio_util::sync::CancellationToken;

use crate::receipt::ApplyReceipts;

/// How often due times are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The most deliveries of one look.
const PAGE: i64 = 500;
/// How often held deliveries are looked at.
const RELEASE_EVERY: Duration = Duration::from_secs(1);
/// How often unbound receipts get a second look.
const BIND_EVERY: Duration = Duration::from_secs(5);

/// Moves due deliveries to the outbox until `stopping`.
pub(crate) async fn run(pool: PgPool, relay: Relay, beat: Beat, stopping: CancellationToken) {
    loop {
        let moved = match look(&pool, &relay).await {
            Ok(moved) => {
                beat.now();
                moved
            }
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
    let mut tx = conn.begin().await?;
    let due = deliveries::take_due(&mut tx, PAGE).await?;
    let mut messages: Vec<_> = due
        .iter()
        .filter_map(DueDelivery::message)
        .map(|message| outbox::NewMessage::work(&message))
        .collect();
    messages.sort_by_key(|message| message.subject_id);
    let rows = outbox::insert(&mut tx, messages).await?;
    tx.commit().await?;
    relay.hand_over(rows);
    Ok(due.len())
}

/// Releases what accounts held that can send again, until `stopping`.
pub(crate) async fn release(pool: PgPool, beat: Beat, stopping: CancellationToken) {
    loop {
        let released = async { deliveries::release_held(&mut *pool.acquire().await?, PAGE).await };
        match released.await {
            Ok(_) => beat.now(),
            Err(error) => {
                tracing::warn!(error = %chain(&error), "held deliveries cannot be looked at, trying again");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(RELEASE_EVERY) => {}
            () = stopping.cancelled() => return,
        }
    }
}

/// Looks again at receipts that found no delivery, until `stopping`.
pub(crate) async fn bind_late(
    pool: PgPool,
    apply: Batcher<ApplyReceipts>,
    beat: Beat,
    stopping: CancellationToken,
) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(BIND_EVERY) => {}
            () = stopping.cancelled() => return,
        }
        let looked = async {
            let mut conn = pool.acquire().await?;
            receipts::ignore_hopeless(&mut conn, PAGE).await?;
            receipts::settleable(&mut conn, PAGE).await
        };
        match looked.await {
            Ok(found) => {
                futures_util::future::join_all(
                    found.into_iter().map(|receipt| apply.submit(receipt)),
                )
                .await;
                beat.now();
            }
            Err(error) => {
                let error: StoreError = error;
                tracing::warn!(error = %chain(&error), "unbound receipts cannot be looked at, trying again");
            }
        }
    }
}
