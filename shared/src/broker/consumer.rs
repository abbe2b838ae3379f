//! Consuming a queue: what a handler gets, what it answers, and how the consumer is watched.
//!
//! The loop behind [`consume`] owns acknowledging, reconnecting, panics and holding; a handler
//! only decides (design §1.7). Handlers must be idempotent: after a lost connection the broker
//! delivers again what was not acknowledged, also what was settled out of order.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use super::consume_loop::Runner;
use super::session::Session;
use super::topology::Queue;
use crate::domain::failure::FailureCode;
use crate::domain::message::WorkMessage;

/// A message that came back this often runs alone: if it is the one that ends the process, it
/// takes no other with it (design §3).
pub const ALONE_FROM: u32 = 3;

/// What to consume and how.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    /// The queue.
    pub queue: Queue,
    /// Most messages taken and not yet acknowledged, and most handlers at once.
    pub prefetch: u16,
    /// Shown as the consumer's tag in the management UI.
    pub name: String,
    /// How long a stop waits for running handlers.
    pub stop_timeout: Duration,
    /// Where to show how it goes.
    pub view: ConsumerView,
}

impl ConsumerConfig {
    /// A consumer of that queue with a stop bound of 20 s.
    #[must_use]
    pub fn new(queue: Queue, prefetch: u16, name: &str) -> Self {
        Self {
            queue,
            prefetch,
            name: name.to_owned(),
            stop_timeout: Duration::from_secs(20),
            view: ConsumerView::default(),
        }
    }
}

/// One message to handle.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The message.
    pub message: WorkMessage,
    /// How often the broker has seen it come back.
    pub delivery_count: u32,
    /// It runs alone (see [`ALONE_FROM`]): do not batch it with others.
    pub alone: bool,
    /// When it was published, by the publisher's clock.
    pub published_at_ms: Option<i64>,
    /// The broker has delivered it before.
    pub redelivered: bool,
    /// All headers.
    pub headers: Arc<Map<String, Value>>,
}

/// What is to become of a message (design §1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It needs no more work: acknowledge.
    Done,
    /// It is given up: [`Handler::dead`] writes row and letter, then acknowledge.
    Dead(FailureCode),
    /// A dependency is unwell: keep it, start nothing, try again later.
    Hold,
}

/// A message that is given up.
#[derive(Clone)]
pub struct DeadItem {
    /// Why.
    pub code: FailureCode,
    /// The queue that it lay in.
    pub queue: Queue,
    /// The message; `None` when it cannot be decoded.
    pub message: Option<WorkMessage>,
    /// Its bytes, whatever they are.
    pub body: Vec<u8>,
    /// All headers.
    pub headers: Arc<Map<String, Value>>,
    /// How often the broker has seen it come back.
    pub delivery_count: u32,
}

impl fmt::Debug for DeadItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadItem")
            .field("code", &self.code)
            .field("queue", &self.queue)
            .field("message", &self.message)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// The row and letter of a dead item could not be written now; it is held and tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the dead letter could not be written now")]
pub struct NotRecorded;

/// Decides about the messages of one queue.
pub trait Handler: Send + Sync + 'static {
    /// Handles one message. Called concurrently; may be called again for the same message.
    fn handle(&self, incoming: Incoming) -> impl Future<Output = Verdict> + Send;

    /// Writes the row and the letter of a message that is given up: undecodable, panicked, or
    /// with [`Verdict::Dead`]. The message is acknowledged after `Ok` only.
    ///
    /// # Errors
    /// It cannot be written now: the message is held and this is called again.
    fn dead(&self, item: DeadItem) -> impl Future<Output = Result<(), NotRecorded>> + Send;
}

/// How a consumer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerState {
    /// No consumer on the broker.
    Down,
    /// Taking messages.
    Flowing,
    /// A handler said [`Verdict::Hold`]: nothing is started until one of the held succeeds, and
    /// at most the prefetch is kept.
    Holding,
}

/// Shows a consumer to readiness, metrics and reconciliation; clones show the same one.
#[derive(Clone, Debug)]
pub struct ConsumerView(Arc<Shown>);

#[derive(Debug)]
struct Shown {
    state: AtomicU8,
    newest_taken_ms: AtomicI64,
    oldest_unsettled_ms: AtomicI64,
}

const NO_TIME: i64 = i64::MIN;

impl Default for ConsumerView {
    fn default() -> Self {
        Self(Arc::new(Shown {
            state: AtomicU8::new(ConsumerState::Down as u8),
            newest_taken_ms: AtomicI64::new(NO_TIME),
            oldest_unsettled_ms: AtomicI64::new(NO_TIME),
        }))
    }
}

impl ConsumerView {
    /// How it goes.
    #[must_use]
    pub fn state(&self) -> ConsumerState {
        let state = self.0.state.load(Ordering::Relaxed);
        [ConsumerState::Flowing, ConsumerState::Holding]
            .into_iter()
            .find(|known| *known as u8 == state)
            .unwrap_or(ConsumerState::Down)
    }

    /// The watermark of reconciliation: the newest publish time taken from the queue.
    #[must_use]
    pub fn newest_taken_ms(&self) -> Option<i64> {
        time(&self.0.newest_taken_ms)
    }

    /// The oldest publish time that was taken and is not settled: what was published from then
    /// on is not lost, it is here.
    #[must_use]
    pub fn oldest_unsettled_ms(&self) -> Option<i64> {
        time(&self.0.oldest_unsettled_ms)
    }

    pub(super) fn set_state(&self, state: ConsumerState) {
        self.0.state.store(state as u8, Ordering::Relaxed);
    }

    /// A message was taken; it is not settled.
    pub(super) fn taken(&self, published_ms: i64) {
        self.0
            .newest_taken_ms
            .fetch_max(published_ms, Ordering::Relaxed);
        if self
            .oldest_unsettled_ms()
            .is_none_or(|oldest| published_ms < oldest)
        {
            self.set_oldest_unsettled(Some(published_ms));
        }
    }

    pub(super) fn set_oldest_unsettled(&self, published_ms: Option<i64>) {
        let value = published_ms.unwrap_or(NO_TIME);
        self.0.oldest_unsettled_ms.store(value, Ordering::Relaxed);
    }
}

fn time(cell: &AtomicI64) -> Option<i64> {
    Some(cell.load(Ordering::Relaxed)).filter(|ms| *ms != NO_TIME)
}

/// Consumes until `stop`, through every outage. On `stop` it takes no more, lets running
/// handlers finish within the bound, acknowledges what they settled and returns.
pub async fn consume<H: Handler>(
    session: Session,
    config: ConsumerConfig,
    handler: Arc<H>,
    stop: CancellationToken,
) {
    Runner::new(session, config, handler).run(&stop).await;
}
