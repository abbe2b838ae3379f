//! What the database needs now and then: the partitions of the coming weeks, those of weeks that
//! nobody wants any more, and idempotency keys that have expired thrown out. One ingest at a time makes partitions; the rest is harmless twice.

use std::time::Duration;

use prometheus::{Gauge, IntGauge};
use shared::runtime::telemetry::chain;
use shared::store::{StoreError, events, outbox, pool, retention};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// How often partitions and keys are looked at.
const CLEAN_EVERY: Duration = Duration::from_secs(3600);
/// How soon a failed look is repeated.
const AFTER_FAILURE: Duration = Duration::from_secs(60);
/// The most keys that one statement throws out, so that none holds locks for long.
const KEYS_PAGE: i64 = 5_000;
/// How often the outbox is measured.
const MEASURE_EVERY: Duration = Duration::from_secs(5);

/// Cleans until `stopping`. Partitions older than `keep_weeks` are dropped, none when it is 0.
pub(crate) async fn clean(db: PgPool, keep_weeks: u16, stopping: CancellationToken) {
    loop {
        let pause = match look(&db, keep_weeks).await {
            Ok(()) => CLEAN_EVERY,
            Err(error) => {
                tracing::error!(error = %chain(&error), "the coming partitions or the expired keys could not be looked after");
                AFTER_FAILURE
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stopping.cancelled() => return,
        }
    }
}

async fn look(db: &PgPool, keep_weeks: u16) -> Result<(), StoreError> {
    let mut conn = db.acquire().await?;
    pool::make_partitions(&mut conn).await?;
    while events::delete_expired_keys(&mut conn, KEYS_PAGE).await? == KEYS_PAGE as u64 {}
    if keep_weeks == 0 {
        return Ok(());
    }
    // A lock timeout set by a drop that failed must not go back to the pool.
    let mut conn = conn.detach();
    for name in retention::droppable(&mut conn, i32::from(keep_weeks)).await? {
        retention::drop_partition(&mut conn, &name).await?;
        tracing::info!(partition = name, "the events of an old week were dropped");
    }
    Ok(())
}

/// What is measured of the outbox.
#[derive(Clone, Debug)]
pub(crate) struct OutboxGauges {
    /// Messages that wait to be published.
    pub(crate) depth: IntGauge,
    /// Age of the oldest, in seconds.
    pub(crate) oldest: Gauge,
}

/// Measures the outbox until `stopping`: a broker that takes nothing shows here first.
pub(crate) async fn measure_outbox(
    db: PgPool,
    metrics: std::sync::Arc<Metrics>,
    stopping: CancellationToken,
) {
    loop {
        let measured = async { outbox::backlog(&mut *db.acquire().await?).await };
        match measured.await {
            Ok((depth, oldest)) => {
                metrics.outbox.depth.set(depth);
                metrics.outbox.oldest.set(oldest);
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "the outbox cannot be measured, trying again")
            }
        }
        tokio::select! {
            () = tokio::time::sleep(MEASURE_EVERY) => {}
            () = stopping.cancelled() => return,
        }
    }
}
