//! What is looked after now and then: what is old or comes soon ([`crate::retention`]), and where
//! everything stands ([`crate::ledger`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::runtime::telemetry::chain;
use shared::runtime::vitals::Beat;
use shared::store::{StoreError, pool};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::ledger::Auditor;
use crate::ledger_metrics::LedgerMetrics;
use crate::metrics::Metrics;
use crate::retention::Retention;

/// How often it is looked at what is old or comes soon.
const CLEAN_EVERY: Duration = Duration::from_secs(3600);
/// How soon a failed look is repeated.
const AFTER_FAILURE: Duration = Duration::from_secs(60);
/// How often the ledger is looked at, while a look is quick:
const AUDIT_EVERY: Duration = Duration::from_secs(5);
/// so many times as long as it took the work that it looks at has the database to itself,
const AUDIT_REST: u32 = 20;
/// but never longer than this.
const AUDIT_AT_LAST: Duration = Duration::from_secs(30);

/// Cleans until `stopping`.
pub(crate) async fn clean(
    retention: Retention,
    (metrics, beat): (Arc<Metrics>, Beat),
    stopping: CancellationToken,
) {
    loop {
        let turn = tokio::select! {
            turn = retention.turn() => turn,
            // Whatever is half done then, the next turn ends.
            () = stopping.cancelled() => return,
        };
        // Told after a failure too: that is when it matters.
        let told = tell_weeks_ahead(&retention.pool, &metrics).await;
        let pause = match turn.and_then(|report| told.map(|()| report)) {
            Ok(report) => {
                beat.now();
                if report.is_some_and(|report| !report.postponed.is_empty()) {
                    AFTER_FAILURE
                } else {
                    CLEAN_EVERY
                }
            }
            Err(error) => {
                tracing::error!(error = %chain(&error), "the coming partitions, or what is old, could not be looked after");
                AFTER_FAILURE
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stopping.cancelled() => return,
        }
    }
}

async fn tell_weeks_ahead(db: &PgPool, metrics: &Metrics) -> Result<(), StoreError> {
    let weeks = pool::weeks_ahead(&mut *db.acquire().await?).await?;
    metrics.partitions_ahead.set(weeks);
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
        let begun = Instant::now();
        match auditor.look().await {
            Ok(look) => {
                metrics.show(&look);
                beat.now();
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "the ledger cannot be looked at, trying again");
            }
        }
        let rest = (begun.elapsed() * AUDIT_REST).clamp(AUDIT_EVERY, AUDIT_AT_LAST);
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            () = stopping.cancelled() => return,
        }
    }
}
