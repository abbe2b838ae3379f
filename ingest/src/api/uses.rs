//! When credentials were last used: noted in memory by each request, written once a minute for all
//! of them, so that no request waits for it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use chrono::{DateTime, Utc};
use shared::runtime::telemetry::chain;
use shared::store::{StoreError, credentials};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

/// How often uses are written.
const WRITE_EVERY: Duration = Duration::from_secs(60);
/// Stands for "not used since the last writing".
const UNUSED: i64 = 0;

/// The uses that are not written yet, by the credential's number: Unix seconds. One entry for each
/// credential that was ever used here, so the credentials bound it.
#[derive(Debug, Default)]
pub(crate) struct Uses(RwLock<HashMap<i64, AtomicI64>>);

impl Uses {
    /// Notes a use. A lookup under a shared lock; the exclusive one is taken once per credential.
    pub(crate) fn mark(&self, credential: i64, now: DateTime<Utc>) {
        let now = now.timestamp();
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = known.get(&credential) {
            last.fetch_max(now, Ordering::Relaxed);
            return;
        }
        drop(known);
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let last = known.entry(credential).or_default();
        last.fetch_max(now, Ordering::Relaxed);
    }

    /// Takes what is not written yet, in the order of the numbers.
    fn take(&self) -> Vec<(i64, DateTime<Utc>)> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut taken: Vec<_> = known
            .iter()
            .filter_map(|(credential, last)| {
                let at = DateTime::from_timestamp(last.swap(UNUSED, Ordering::Relaxed), 0)?;
                (at.timestamp() != UNUSED).then_some((*credential, at))
            })
            .collect();
        taken.sort_unstable();
        taken
    }
}

/// Writes uses every minute, and once more at the end.
pub(crate) async fn write(uses: Arc<Uses>, pool: PgPool, stopping: CancellationToken) {
    loop {
        let ending = tokio::select! {
            () = tokio::time::sleep(WRITE_EVERY) => false,
            () = stopping.cancelled() => true,
        };
        let taken = uses.take();
        if let Err(error) = write_all(&pool, &taken).await {
            tracing::warn!(error = %chain(&error), "when credentials were last used could not be written, trying again");
            for (credential, at) in taken {
                uses.mark(credential, at);
            }
        }
        if ending {
            return;
        }
    }
}

async fn write_all(pool: &PgPool, uses: &[(i64, DateTime<Utc>)]) -> Result<(), StoreError> {
    if uses.is_empty() {
        return Ok(());
    }
    credentials::mark_used(&mut *pool.acquire().await?, uses).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_use_of_each_credential_is_taken_once() {
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let uses = Uses::default();
        for (credential, seconds) in [(7, 100), (3, 50), (7, 300), (7, 200)] {
            uses.mark(credential, at(seconds));
        }
        assert_eq!(uses.take(), [(3, at(50)), (7, at(300))]);
        assert_eq!(uses.take(), []);
        uses.mark(3, at(400));
        assert_eq!(uses.take(), [(3, at(400))]);
    }
}
