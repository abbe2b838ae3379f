//! What is due later is data: this moves what has become due to the outbox. Also the binder's second
//! look at receipts that found no delivery.

use std::time::Duration;

use shared::broker::relay::Relay;
use shared::failpoint;
use shared::runtime::batcher::Batcher;
use shared::runtime::telemetry::chain;
use shared::runtime::vitals::Beat;
use shared::store::{StoreError, deliveries, receipts};
use sqlx::{Connection, PgPool};
use tokio_util::sync::CancellationToken;

use crate::receipt::ApplyReceipts;
use crate::release::write_messages;

/// How often due times are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The most deliveries of one look.
const PAGE: i64 = 500;
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
    let mut due = deliveries::take_due(&mut tx, PAGE).await?;
    due.sort_unstable_by_key(|delivery| delivery.id);
    let rows = write_messages(&mut tx, &due).await?;
    if !due.is_empty() {
        failpoint!(DueWritten);
    }
    tx.commit().await?;
    if !due.is_empty() {
        failpoint!(DueCommitted);
    }
    relay.hand_over(rows);
    Ok(due.len())
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
