//! What readiness and reconciliation ask the broker.
//!
//! Whether its version and feature flags suffice (`stream_queue`, design §3) is asked through the
//! management API, not here.

use std::time::Duration;

use lapin::Channel;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use tokio::time::timeout;

use super::declare::is_not_found;
use super::session::{LinkState, Role, Session};
use super::topology::Queue;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How a queue is, as a passive declare tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueDepth {
    /// Messages that no consumer has taken.
    pub ready: u32,
    /// Consumers subscribed.
    pub consumers: u32,
}

/// The broker could not be asked, or did not know the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// No connection, or it broke, or no answer in time; ask again later.
    #[error("the broker cannot be asked now")]
    Unavailable,
    /// There is no such queue; it is being declared again.
    #[error("the queue is missing on the broker")]
    Missing,
}

/// The state of everything that the broker has to offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The connection that publishes.
    pub publishing: LinkState,
    /// The connection that consumes.
    pub consuming: LinkState,
    /// Queues that are not there, by label. Empty also while nothing can be asked.
    pub missing: Vec<&'static str>,
}

impl Health {
    /// True when messages can pass both ways and nothing is missing. Blocked is no reason to
    /// take a process out of service: the outbox holds what it accepts.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !matches!(self.publishing, LinkState::Down { .. })
            && self.consuming.is_connected()
            && self.missing.is_empty()
    }
}

/// Looks at both connections and at every queue. A missing queue is declared again.
pub async fn check(session: &Session) -> Health {
    let mut missing = Vec::new();
    for queue in Queue::all() {
        match depth(session, queue).await {
            Ok(_) => {}
            Err(AskError::Missing) => missing.push(queue.label()),
            // The states of the connections tell it.
            Err(AskError::Unavailable) => break,
        }
    }
    Health {
        publishing: *session.publishing().borrow(),
        consuming: *session.consuming().borrow(),
        missing,
    }
}

/// How deep a queue is.
///
/// # Errors
/// The broker cannot be asked, or the queue is missing; see [`AskError`].
pub async fn depth(session: &Session, queue: Queue) -> Result<QueueDepth, AskError> {
    let live = session.live(Role::Consume).ok_or(AskError::Unavailable)?;
    let ask = async {
        let channel = live.open_channel().await?;
        let depth = passive_declare(&channel, session.topology().queue(queue)).await?;
        channel.close(200, "asked".into()).await?;
        Ok::<_, lapin::Error>(depth)
    };
    match timeout(ANSWER_TIMEOUT, ask).await {
        Ok(Ok(depth)) => Ok(depth),
        Ok(Err(error)) if is_not_found(&error) => {
            session.request_declare();
            Err(AskError::Missing)
        }
        Ok(Err(_)) | Err(_) => Err(AskError::Unavailable),
    }
}

/// True when no message waits to be taken: the watermark of reconciliation is then "now".
///
/// # Errors
/// As [`depth`].
pub async fn queue_is_empty(session: &Session, queue: Queue) -> Result<bool, AskError> {
    Ok(depth(session, queue).await?.ready == 0)
}

async fn passive_declare(channel: &Channel, name: String) -> lapin::Result<QueueDepth> {
    let options = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let queue = channel
        .queue_declare(name.into(), options, FieldTable::default())
        .await?;
    Ok(QueueDepth {
        ready: queue.message_count(),
        consumers: queue.consumer_count(),
    })
}
