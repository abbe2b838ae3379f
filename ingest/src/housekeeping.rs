//! What the database needs now and then: the partitions of the coming weeks, those of weeks that
//! nobody wants any more, and idempotency keys that have expired thrown out. One ingest at a time makes partitions; the rest is harmless twice.

use std::sync::Arc;
use std::time::Duration;

use shared::runtime::telemetry::chain;
use shared::runtime::vitals::Beat;
use shared::store::{StoreError, events, pool, retention};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::ledger::Auditor;
use crate::ledger_metrics::LedgerMetrics;
use crate::metrics::Metrics;

/// How often partitions and keys are looked at.
const CLEAN_EVERY: Duration = Duration::from_secs(3600);
/// How soon a failed look is repeated.
const AFTER_FAILURE: Duration = Duration::from_secs(60);
/// The most keys that one statement throws out, so that none holds locks for long.
const KEYS_PAGE: i64 = 5_000;
/// How often the ledger is looked at.
const AUDIT_EVERY: Duration = Duration::from_secs(5);

/// Cleans until `stopping`. Partitions older than `keep_weeks` are dropped, none when it is 0.
pub(crate) async fn clean(
    db: PgPool,
    keep_weeks: u16,
    (metrics, beat): (Arc<Metrics>, Beat),
    stopping: CancellationToken,
) {
    loop {
        let pause = match look(&db, keep_weeks, &metrics).await {
            Ok(()) => {
                beat.now();
                CLEAN_EVERY
            }
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

async fn look(db: &PgPool, keep_weeks: u16, metrics: &Metrics) -> Result<(), StoreError> {
    let mut conn = db.acquire().await?;
    let made = pool::make_partitions(&mut conn).await;
    // Told before a failure is: that is when it matters.
    metrics
        .partitions_ahead
        .set(pool::weeks_ahead(&mut conn).await?);
    made?;
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

/// Looks at the ledger until `stopping`: what waits, what contradicts itself, what is in the
/// outbox. A broker that takes nothing shows there first.
pub(crate) async fn audit(
    auditor: Auditor,
    metrics: LedgerMetrics,
    beat: Beat,
    stopping: CancellationToken,
) {
    loop {
        match auditor.look().await {
            Ok(look) => {
                metrics.show(&look);
                beat.now();
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "the ledger cannot be looked at, trying again");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(AUDIT_EVERY) => {}
            () = stopping.cancelled() => return,
        }
    }
}
