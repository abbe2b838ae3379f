//! The sweep: rows of the outbox that are due and that nobody publishes.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::publisher::CHUNK;
use super::relay::{HOT_LEASE, Mouth, OutboxStore};
use super::relay_metrics::Path;
use super::session::{Pace, Session};
use crate::failpoint;

const INTERVAL: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The sweeping loop of this process.
pub(super) struct Sweeper<S> {
    pub(super) session: Session,
    pub(super) store: Arc<S>,
    pub(super) mouth: Mouth,
}

/// How a sweep went.
enum Swept {
    /// There may be more.
    FullPage,
    /// Nothing more is due.
    Rest,
    /// Database or broker unwell: leave them alone for a while.
    Unwell,
}

impl<S: OutboxStore> Sweeper<S> {
    /// Sweeps until `stop`: one page at a time, so a page is the cap in flight.
    pub(super) async fn run(&self, stop: &CancellationToken) {
        let mut publishing = self.session.publishing();
        let mut pace = Pace::new(INTERVAL, LONGEST_WAIT);
        while !stop.is_cancelled() {
            tokio::select! {
                up = publishing.wait_for(|state| state.is_connected()) => if up.is_err() { return },
                () = stop.cancelled() => return,
            }
            let wait = match self.sweep().await {
                Swept::FullPage => {
                    pace.reset();
                    continue;
                }
                Swept::Rest => {
                    pace.reset();
                    INTERVAL
                }
                Swept::Unwell => pace.next(),
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // It came back: what waited goes out at once.
                _ = publishing.changed() => pace.reset(),
                () = stop.cancelled() => {}
            }
        }
    }

    async fn sweep(&self) -> Swept {
        let rows = match self.store.lease_due(CHUNK, HOT_LEASE).await {
            Ok(rows) => rows,
            Err(error) => {
                self.mouth.count_store_failure();
                warn!(error = %error, "the outbox could not be swept");
                return Swept::Unwell;
            }
        };
        let found = rows.len();
        if found > 0 {
            failpoint!(SweepLeased);
        }
        let confirmed = self.mouth.publish(rows, Path::Sweep).await;
        match found {
            0 => Swept::Rest,
            _ if confirmed == 0 => Swept::Unwell,
            // Failed rows keep their lease, so that they do not fill the next page too.
            CHUNK => Swept::FullPage,
            _ => Swept::Rest,
        }
    }
}
