//! Makes the event partitions of the coming weeks, daily; one ingest at a time does it.

use std::time::Duration;

use shared::runtime::telemetry::chain;
use shared::store::pool;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(24 * 3600);
/// How soon a failed look is repeated.
const AFTER_FAILURE: Duration = Duration::from_secs(60);

/// Looks until `stopping`.
pub(crate) async fn keep_ahead(db: PgPool, stopping: CancellationToken) {
    loop {
        let made = async { pool::make_partitions(&mut *db.acquire().await?).await };
        let pause = match made.await {
            Ok(()) => LOOK_EVERY,
            Err(error) => {
                tracing::error!(error = %chain(&error), "the partitions of the coming weeks could not be made");
                AFTER_FAILURE
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stopping.cancelled() => return,
        }
    }
}
