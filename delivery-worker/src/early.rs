//! Evidence that came before the answer of its send: both have committed by the time it is looked for,
//! so they can meet (design §1.10).
//!
//! The attempts of a moment are looked for at once; nobody waits for it, and whatever is missed here is
//! met again by the binder.

use std::time::Duration;

use futures_util::future::join_all;
use shared::runtime::batcher::Batcher;
use shared::store::{StoreResult, receipts};
use sqlx::PgPool;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::receipt::ApplyReceipts;

/// How long attempts are gathered for one look.
const GATHERED_FOR: Duration = Duration::from_millis(50);
/// The most attempts of one look.
const LARGEST_LOOK: usize = 2_000;
/// Attempts that may wait for the look; what finds no room is left to the binder.
const ROOM: usize = 8_192;

/// Looks for the receipts of attempts whose ids have just become known.
#[derive(Clone)]
pub(crate) struct EarlyReceipts {
    known: mpsc::Sender<Uuid>,
}

impl EarlyReceipts {
    /// Starts looking; ends when its last handle is gone, after a last look.
    pub(crate) fn start(
        pool: PgPool,
        receipts: Batcher<ApplyReceipts>,
        tasks: &TaskTracker,
    ) -> Self {
        let (early, arrivals) = Self::channel();
        tasks.spawn(look(pool, receipts, arrivals, tasks.clone()));
        early
    }

    /// A handle, and the attempts that are told to it.
    pub(crate) fn channel() -> (Self, mpsc::Receiver<Uuid>) {
        let (known, arrivals) = mpsc::channel(ROOM);
        (Self { known }, arrivals)
    }

    /// An attempt's provider ids have been committed.
    pub(crate) fn known(&self, attempt: Uuid) {
        let _left_to_the_binder = self.known.try_send(attempt);
    }
}

async fn look(
    pool: PgPool,
    receipts: Batcher<ApplyReceipts>,
    mut arrivals: mpsc::Receiver<Uuid>,
    tasks: TaskTracker,
) {
    while let Some(first) = arrivals.recv().await {
        let until = Instant::now() + GATHERED_FOR;
        let mut attempts = vec![first];
        while attempts.len() < LARGEST_LOOK
            && let Ok(Some(next)) = timeout_at(until, arrivals.recv()).await
        {
            attempts.push(next);
        }
        let (pool, receipts) = (pool.clone(), receipts.clone());
        tasks.spawn(async move { apply_waiting(&pool, &receipts, &attempts).await });
    }
}

/// Applies the receipts that wait for these attempts.
pub(crate) async fn apply_waiting(
    pool: &PgPool,
    receipts: &Batcher<ApplyReceipts>,
    attempts: &[Uuid],
) {
    let found = waiting(pool, attempts).await.unwrap_or_default();
    join_all(found.into_iter().map(|receipt| receipts.submit(receipt))).await;
}

async fn waiting(pool: &PgPool, attempts: &[Uuid]) -> StoreResult<Vec<Uuid>> {
    let mut conn = pool.acquire().await?;
    receipts::waiting_for_attempts(&mut conn, attempts).await
}
