//! What is looked after now and then: what is old or comes soon ([`crate::retention`]), and how much
//! waits in the outbox.

use std::time::Duration;

use prometheus::{Gauge, IntGauge};
use shared::runtime::telemetry::chain;
use shared::store::outbox;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::retention::Retention;

/// How often it is looked at what is old or comes soon.
const CLEAN_EVERY: Duration = Duration::from_secs(3600);
/// How soon a failed look is repeated.
const AFTER_FAILURE: Duration = Duration::from_secs(60);
/// How often the outbox is measured.
const MEASURE_EVERY: Duration = Duration::from_secs(5);

/// Cleans until `stopping`.
pub(crate) async fn clean(retention: Retention, stopping: CancellationToken) {
    loop {
        let turn = tokio::select! {
            turn = retention.turn() => turn,
            // Whatever is half done then, the next turn ends.
            () = stopping.cancelled() => return,
        };
        let pause = match turn {
            Ok(Some(report)) if !report.postponed.is_empty() => AFTER_FAILURE,
            Ok(_) => CLEAN_EVERY,
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
