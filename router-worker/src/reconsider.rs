//! Finds out whose events are of which nobody knew it, once the map of customers, accounts and
//! charges has changed (incident 23).
//!
//! Invariant: sends nothing. The decision stands as it was made; only its tenant is filled in, with
//! the time at which it was found and a line on the trace. Whether something should still go out
//! weeks later is a person's to say.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use shared::runtime::clock::Clock;
use shared::runtime::telemetry::chain;
use shared::runtime::vitals::Beat;
use shared::sealing::Keyring;
use shared::store::StoreError;
use shared::store::config::DirectoryCache;
use shared::store::events::{self, StoredEvent};
use shared::store::invoices::{self, OwnedCharge};
use shared::store::logs::{self, NewLog};
use shared::store::unresolved::{self, Resolution};
use sqlx::{Connection, PgPool};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::decide::{finding_of, normalise};
use crate::metrics::Metrics;
use crate::route::learnt_of;

/// How often it is looked whether the map changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often those that wait are counted.
const COUNT_EVERY: Duration = Duration::from_secs(5);
/// A change is followed by a second look after this time: a decision may have been made by a
/// process that did not know of it yet.
const AGAIN_AFTER: Duration = Duration::from_secs(45);
/// Decisions of one transaction.
const PAGE: i64 = 200;

/// Set when it was learnt whose a charge is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked(Arc<AtomicBool>);

impl Asked {
    /// Asks for a look.
    pub(crate) fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// The loop.
pub(crate) struct Reconsider {
    pub(crate) pool: PgPool,
    pub(crate) directory: DirectoryCache,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) asked: Asked,
    pub(crate) seals: Keyring,
}

impl Reconsider {
    /// Looks until `stopping`.
    pub(crate) async fn run(self, beat: Beat, stopping: CancellationToken) {
        let mut seen = None;
        let mut again: Option<Instant> = None;
        let mut counted: Option<Instant> = None;
        loop {
            let version = self.directory.get().version;
            let due = again.is_some_and(|at| Instant::now() >= at);
            let changed = seen != Some(version) || self.asked.take();
            let to_count = counted.is_none_or(|at| at.elapsed() >= COUNT_EVERY);
            if changed || due || to_count {
                let looked = async {
                    if changed || due {
                        self.resolve().await?;
                    }
                    self.count().await
                };
                match looked.await {
                    Ok(()) => {
                        beat.now();
                        if changed {
                            again = Some(Instant::now() + AGAIN_AFTER);
                        } else if due {
                            again = None;
                        }
                        (seen, counted) = (Some(version), Some(Instant::now()));
                    }
                    Err(error) => {
                        // What was asked for is asked for still.
                        seen = None;
                        tracing::warn!(error = %chain(&error), "events without a tenant cannot be looked at, trying again");
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = stopping.cancelled() => return,
            }
        }
    }

    async fn resolve(&self) -> Result<(), StoreError> {
        let mut after = Uuid::nil();
        while let Some(last) = self.page(after).await? {
            after = last;
        }
        Ok(())
    }

    async fn count(&self) -> Result<(), StoreError> {
        let left = unresolved::count(&mut *self.pool.acquire().await?).await?;
        self.metrics.unresolved.set(left);
        Ok(())
    }

    /// Looks at one page; answers where the next one begins.
    async fn page(&self, after: Uuid) -> Result<Option<Uuid>, StoreError> {
        let mut conn = self.pool.acquire().await?;
        let waiting = unresolved::page(&mut conn, after, PAGE).await?;
        let Some(last) = waiting.last() else {
            return Ok(None);
        };
        let last = last.routing_id;
        let ids: Vec<Uuid> = waiting.iter().map(|one| one.event_id).collect();
        // An event whose week is gone has nothing left to be found by.
        let events: HashMap<Uuid, StoredEvent> = events::load(&mut conn, &ids, &self.seals)
            .await?
            .into_iter()
            .map(|event| (event.id, event))
            .collect();
        let directory = self.directory.get();
        let mut found = Vec::new();
        for one in &waiting {
            let Some(event) = events.get(&one.event_id) else {
                continue;
            };
            let Ok(normalised) = normalise(event) else {
                continue;
            };
            let finding = finding_of(event, &normalised, &directory);
            if let Some(tenant) = finding.tenant {
                let resolution = Resolution {
                    routing_id: one.routing_id,
                    tenant_id: tenant.0,
                    how: finding.how,
                };
                found.push((resolution, event, learnt_of(event, &finding)));
            }
        }
        if !found.is_empty() {
            let mut tx = conn.begin().await?;
            let resolutions: Vec<Resolution> = found.iter().map(|one| one.0.clone()).collect();
            let now = self.clock.now();
            let new = unresolved::resolve(&mut tx, &resolutions, now).await?;
            found.retain(|one| new.contains(&one.0.routing_id));
            let mut charges: Vec<&OwnedCharge> =
                found.iter().filter_map(|one| one.2.as_ref()).collect();
            charges.sort_unstable();
            charges.dedup_by(|a, b| a.asaas_key == b.asaas_key);
            if invoices::learn(&mut tx, &charges).await? > 0 {
                self.asked.ask();
            }
            let lines: Vec<NewLog> = found.iter().map(|one| line(&one.0, one.1)).collect();
            logs::insert(&mut tx, &lines).await?;
            tx.commit().await?;
            for (resolution, event, _) in &found {
                tracing::info!(
                    trace_id = event.trace_id,
                    tenant.id = resolution.tenant_id,
                    source = event.source_system,
                    event.id = %event.id,
                    event.type = event.event_type,
                    routing.id = %resolution.routing_id,
                    outcome = resolution.how,
                    "event.resolved"
                );
            }
        }
        Ok(Some(last))
    }
}

fn line(resolution: &Resolution, event: &StoredEvent) -> NewLog {
    NewLog {
        level: "info",
        trace_id: Some(event.trace_id.clone()),
        source_system: Some(event.source_system.clone()),
        tenant_id: Some(resolution.tenant_id),
        event_id: Some(event.id),
        code: "tenant_resolved".to_owned(),
        message: "it was found out whose the event is; nothing was sent".to_owned(),
        context: json!({"how": resolution.how}),
        ..NewLog::default()
    }
}
