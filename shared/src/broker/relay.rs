//! The one mouth: messages leave only from rows of `outbox` that are already committed.
//!
//! Two ways lead to it (design §1.2). *Hot*: the committing process offers what it just committed;
//! bounded, never waited for, and dropped once half of the row's lease is gone. *Sweep*: a loop
//! leases rows that are due, in a transaction of its own, and only while the broker takes them.
//! Either way a row is deleted after its confirm; a row that fails is left, and its lease lapses.
//! Duplicates are allowed, lost rows are not.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::publisher::{CHUNK, Outbound, Publisher};
use super::relay_metrics::Path;
pub use super::relay_metrics::RelayMetrics;
use super::session::{Pace, Session};
use super::sweeper::Sweeper;
use super::topology::Target;
use crate::failpoint;

pub use crate::store::outbox::HOT_LEASE;

/// Rows that may wait for the hot path. What finds no room waits for its whole lease, on each of the two
/// hops of an event: so there is as much as can be published in half a lease, the age at which a row is
/// dropped, on a machine with both cores busy (some 3,000/s). A few hundred bytes each.
const HOT_ROOM: usize = 16_384;

/// Hot chunks in flight at once; the publisher's last lane is left to the sweeper.
const HOT_WORKERS: usize = 3;

/// Confirmed ids that may wait for their delete; beyond, publishing waits.
const DELETES_WAITING: usize = 64;

/// Ids of one delete.
const DELETE_BATCH: usize = 2_000;

/// How long confirmed ids are gathered for one delete. Nobody waits for it; far below the lease of a
/// row, after which the sweeper would publish it again.
const DELETE_AFTER: Duration = Duration::from_millis(100);

/// A committed row of the outbox.
#[derive(Clone)]
pub struct HotRow {
    /// Its id.
    pub id: i64,
    /// Where to.
    pub target: Target,
    /// The message, JSON.
    pub body: Vec<u8>,
    /// Its trace, as W3C Trace Context writes it.
    pub traceparent: Option<String>,
    /// Headers, for letters.
    pub headers: Option<Map<String, Value>>,
}

impl fmt::Debug for HotRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HotRow")
            .field("id", &self.id)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

/// The outbox table, as far as the relay needs it.
pub trait OutboxStore: Send + Sync + 'static {
    /// Why a call failed.
    type Error: std::error::Error + Send;

    /// Deletes confirmed rows. Ids that are not there (any more) are no error.
    fn delete(&self, ids: &[i64]) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Leases up to `limit` rows that are due, oldest first: sets `available_at` to database now
    /// + `lease`, skips rows that another process has locked, and has committed when it returns.
    fn lease_due(
        &self,
        limit: usize,
        lease: Duration,
    ) -> impl Future<Output = Result<Vec<HotRow>, Self::Error>> + Send;
}

/// What the relay works with.
pub struct RelayParts<S> {
    /// The connections.
    pub session: Session,
    /// The publisher on them.
    pub publisher: Publisher,
    /// The outbox.
    pub store: S,
    /// Where to count.
    pub metrics: RelayMetrics,
}

/// The entrance of the hot path; clones share it.
#[derive(Clone, Debug)]
pub struct Relay {
    session: Session,
    hot: mpsc::Sender<Hot>,
    metrics: RelayMetrics,
}

/// A row and when its lease began, by our own monotonic clock.
struct Hot {
    row: HotRow,
    leased_at: Instant,
}

impl Relay {
    /// Starts the relay's tasks. On `stop` they publish what was offered and end; stop the session
    /// after them.
    pub fn start<S: OutboxStore>(
        parts: RelayParts<S>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let (hot, offered) = mpsc::channel(HOT_ROOM);
        let (confirmed, deletes) = mpsc::channel(DELETES_WAITING);
        let relay = Self {
            session: parts.session.clone(),
            hot,
            metrics: parts.metrics.clone(),
        };
        let mouth = Mouth {
            publisher: parts.publisher,
            metrics: parts.metrics,
            confirmed,
        };
        let store = Arc::new(parts.store);
        let offered = Arc::new(Mutex::new(offered));
        for _ in 0..HOT_WORKERS {
            let (mouth, offered, stop) = (mouth.clone(), Arc::clone(&offered), stop.clone());
            tasks.spawn(async move { mouth.publish_offered(&offered, &stop).await });
        }
        let sweeper = Sweeper {
            session: parts.session,
            store: Arc::clone(&store),
            mouth: mouth.clone(),
        };
        let sweep_stop = stop.clone();
        tasks.spawn(async move { sweeper.run(&sweep_stop).await });
        let (metrics, stop) = (mouth.metrics.clone(), stop.clone());
        tasks.spawn(async move { delete_confirmed(&*store, deletes, &metrics, &stop).await });
        relay
    }

    /// Offers rows right after their commit and answers how many were taken. What is not taken
    /// is left to the sweeper. `leased_at` is a moment *before* the insert.
    pub fn offer(&self, rows: Vec<HotRow>, leased_at: Instant) -> usize {
        let offered = rows.len();
        let connected = self.session.publishing().borrow().is_connected();
        let mut taken = 0;
        if connected {
            for row in rows {
                if self.hot.try_send(Hot { row, leased_at }).is_err() {
                    break;
                }
                taken += 1;
            }
        }
        self.metrics.dropped_hot.inc_by((offered - taken) as u64);
        taken
    }
}

/// Publishes rows and passes on what was confirmed.
#[derive(Clone)]
pub(super) struct Mouth {
    publisher: Publisher,
    metrics: RelayMetrics,
    confirmed: mpsc::Sender<Vec<i64>>,
}

impl Mouth {
    /// Publishes what is offered; on `stop`, what is left of it.
    async fn publish_offered(
        &self,
        offered: &Mutex<mpsc::Receiver<Hot>>,
        stop: &CancellationToken,
    ) {
        loop {
            let taken = take_offered(&mut *offered.lock().await, stop).await;
            let count = taken.len();
            if count == 0 {
                return;
            }
            let rows: Vec<_> = taken
                .into_iter()
                .filter(|hot| hot.leased_at.elapsed() < HOT_LEASE / 2)
                .map(|hot| hot.row)
                .collect();
            self.metrics.dropped_hot.inc_by((count - rows.len()) as u64);
            self.publish(rows, Path::Hot).await;
        }
    }

    /// Publishes rows and answers how many were confirmed.
    pub(super) async fn publish(&self, rows: Vec<HotRow>, path: Path) -> usize {
        if rows.is_empty() {
            return 0;
        }
        failpoint!(RelayTaken);
        let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
        let timer = self.metrics.publish_seconds.start_timer();
        let outcomes = self
            .publisher
            .publish(rows.into_iter().map(outbound).collect())
            .await;
        timer.observe_duration();
        let mut confirmed = Vec::with_capacity(ids.len());
        let mut failure = None;
        for (id, outcome) in ids.iter().zip(outcomes) {
            match outcome {
                Ok(()) => confirmed.push(*id),
                Err(error) => {
                    let reason = error.as_str();
                    self.metrics.failures.with_label_values(&[reason]).inc();
                    failure = Some(error);
                }
            }
        }
        let path = path.as_str();
        let count = confirmed.len();
        self.metrics
            .published
            .with_label_values(&[path])
            .inc_by(count as u64);
        debug!(
            path,
            published = count,
            offered = ids.len(),
            "relay.published"
        );
        if let Some(error) = failure {
            let left = ids.len() - count;
            warn!(path, left, error = %error, "messages stay in the outbox");
        }
        if count > 0 {
            failpoint!(RelayConfirmed);
            // The receiver outlives every sender.
            let _deleter_lives = self.confirmed.send(confirmed).await;
        }
        count
    }

    pub(super) fn count_store_failure(&self) {
        self.metrics.store_failures.inc();
    }
}

/// The next chunk; empty when all is taken and `stop` came.
async fn take_offered(offered: &mut mpsc::Receiver<Hot>, stop: &CancellationToken) -> Vec<Hot> {
    let mut taken = Vec::new();
    tokio::select! {
        biased;
        _ = offered.recv_many(&mut taken, CHUNK) => return taken,
        () = stop.cancelled() => {}
    }
    offered.close();
    offered.recv_many(&mut taken, CHUNK).await;
    taken
}

fn outbound(row: HotRow) -> Outbound {
    Outbound {
        target: row.target,
        message_id: row.id.to_string(),
        body: row.body,
        traceparent: row.traceparent,
        headers: row.headers,
    }
}

/// Deletes what was confirmed, in batches as large as they gather while the last one runs.
async fn delete_confirmed<S: OutboxStore>(
    store: &S,
    mut confirmed: mpsc::Receiver<Vec<i64>>,
    metrics: &RelayMetrics,
    stop: &CancellationToken,
) {
    let mut pace = Pace::new(Duration::from_millis(200), Duration::from_secs(10));
    let mut ids: Vec<i64> = Vec::new();
    loop {
        if ids.is_empty() {
            match confirmed.recv().await {
                Some(more) => ids = more,
                None => return,
            }
        }
        let until = tokio::time::Instant::now() + DELETE_AFTER;
        while ids.len() < DELETE_BATCH
            && let Ok(Some(more)) = timeout_at(until, confirmed.recv()).await
        {
            ids.extend(more);
        }
        match store.delete(&ids).await {
            Ok(()) => {
                failpoint!(RelayDeleted);
                ids.clear();
                pace.reset();
            }
            Err(error) => {
                metrics.store_failures.inc();
                warn!(count = ids.len(), error = %error, "published rows could not be deleted");
                // On a stop nobody waits for the database: the rows are published once more.
                if stop.is_cancelled() {
                    ids.clear();
                }
                tokio::select! {
                    () = tokio::time::sleep(pace.next()) => {}
                    () = stop.cancelled() => {}
                }
            }
        }
    }
}
