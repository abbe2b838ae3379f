//! Publishing with proof: persistent, mandatory, confirmed, pipelined.
//!
//! A confirm counts only when it is an ack and the message was not returned. The client library
//! hands a returned message to whichever confirm of its channel completes next, so a channel
//! serves one chunk at a time and `confirms.rs` tells by message id what was returned.

use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, ShortString};
use lapin::{BasicProperties, Channel, Confirmation};
use serde_json::{Map, Value};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::confirms::Confirms;
use super::headers::{PUBLISHED_MS, to_table};
use super::link::Live;
use super::session::{LinkState, Role, Session};
use super::topology::Target;

/// Longest wait for the confirms of one chunk.
pub const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);

/// Messages of one chunk; one channel pipelines one chunk at a time.
pub const CHUNK: usize = 500;

/// Channels in use at once: `LANES` × `CHUNK` messages may be in flight.
pub const LANES: usize = 4;

const PERSISTENT: u8 = 2;

/// A message to publish.
#[derive(Clone)]
pub struct Outbound {
    /// Where to.
    pub target: Target,
    /// Its id, unique among the messages of one call; at most 255 bytes.
    pub message_id: String,
    /// JSON.
    pub body: Vec<u8>,
    /// The header `traceparent`.
    pub traceparent: Option<String>,
    /// Further headers.
    pub headers: Option<Map<String, Value>>,
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound")
            .field("target", &self.target)
            .field("message_id", &self.message_id)
            .finish_non_exhaustive()
    }
}

/// Why a message is not known to lie in its queue. It may lie there all the same after
/// [`Self::ChannelClosed`] and [`Self::Timeout`]; publish it again, consumers drop copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum PublishError {
    /// There is no connection.
    #[error("no connection to the broker")]
    NotConnected,
    /// The broker takes no publishes now (memory or disk alarm).
    #[error("the broker is blocked by an alarm")]
    Blocked,
    /// No queue took it; the topology is being declared again.
    #[error("the broker returned the message: no queue for it")]
    Returned,
    /// The broker refused it (queue full, or its leader is gone).
    #[error("the broker refused the message")]
    Nack,
    /// The channel or connection broke before the confirm.
    #[error("the channel closed before the confirm")]
    ChannelClosed,
    /// No confirm in time.
    #[error("no confirm in time")]
    Timeout,
}

impl PublishError {
    /// Every reason, for metrics' labels.
    pub const ALL: [Self; 6] = [
        Self::NotConnected,
        Self::Blocked,
        Self::Returned,
        Self::Nack,
        Self::ChannelClosed,
        Self::Timeout,
    ];

    /// The closed label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotConnected => "not_connected",
            Self::Blocked => "blocked",
            Self::Returned => "returned",
            Self::Nack => "nack",
            Self::ChannelClosed => "channel_closed",
            Self::Timeout => "timeout",
        }
    }

    /// All of them pass: publishing again is always right.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        true
    }
}

/// Publishes on the session's publishing connection; clones share its channels.
#[derive(Clone)]
pub struct Publisher {
    session: Session,
    lanes: Arc<Lanes>,
}

struct Lanes {
    permits: Semaphore,
    idle: Mutex<Vec<Lane>>,
}

/// A channel in confirm mode with nothing outstanding.
struct Lane {
    live: Arc<Live>,
    channel: Channel,
}

pub(super) type Outcome = Result<(), PublishError>;

impl Publisher {
    /// A publisher on that session.
    #[must_use]
    pub fn new(session: &Session) -> Self {
        Self {
            session: session.clone(),
            lanes: Arc::new(Lanes {
                permits: Semaphore::new(LANES),
                idle: Mutex::default(),
            }),
        }
    }

    /// Publishes all and answers one result per message, in their order. Many callers may do so
    /// at once; they wait their turn for a channel. Dropping the future is safe: what it left
    /// behind may or may not lie in its queue.
    pub async fn publish(&self, batch: Vec<Outbound>) -> Vec<Outcome> {
        let chunks = batch.chunks(CHUNK).map(|chunk| self.publish_chunk(chunk));
        join_all(chunks).await.concat()
    }

    async fn publish_chunk(&self, chunk: &[Outbound]) -> Vec<Outcome> {
        let Ok(_permit) = self.lanes.permits.acquire().await else {
            return vec![Err(PublishError::NotConnected); chunk.len()];
        };
        let deadline = Instant::now() + CONFIRM_TIMEOUT;
        let lane = match timeout_at(deadline, self.take_lane()).await {
            Ok(Ok(lane)) => lane,
            Ok(Err(error)) => return vec![Err(error); chunk.len()],
            Err(_) => return vec![Err(PublishError::Timeout); chunk.len()],
        };
        let outcomes = self.run(&lane, chunk, deadline).await;
        let has = |error| outcomes.contains(&Err(error));
        // A missing exchange closes the channel instead of returning the message.
        if has(PublishError::Returned) || has(PublishError::ChannelClosed) {
            self.session.request_declare();
        }
        // A channel with open confirms must not serve another chunk; dropping it closes it.
        if !has(PublishError::Timeout) && !has(PublishError::ChannelClosed) {
            self.idle().push(lane);
        }
        outcomes
    }

    async fn take_lane(&self) -> Result<Lane, PublishError> {
        match *self.session.publishing().borrow() {
            LinkState::Connected => {}
            LinkState::Blocked { .. } => return Err(PublishError::Blocked),
            LinkState::Down { .. } => return Err(PublishError::NotConnected),
        }
        let live = self
            .session
            .live(Role::Publish)
            .ok_or(PublishError::NotConnected)?;
        let usable =
            |lane: &Lane| Arc::ptr_eq(&lane.live, &live) && lane.channel.status().connected();
        let idle = {
            let mut idle = self.idle();
            idle.retain(usable);
            idle.pop()
        };
        if let Some(lane) = idle {
            return Ok(lane);
        }
        let closed = |_| PublishError::ChannelClosed;
        let channel = live.open_channel().await.map_err(closed)?;
        let confirm = channel.confirm_select(ConfirmSelectOptions::default());
        live.guard(confirm).await.map_err(closed)?;
        Ok(Lane { live, channel })
    }

    /// Publishes a chunk on a channel of its own and collects the confirms until the deadline.
    async fn run(&self, lane: &Lane, chunk: &[Outbound], deadline: Instant) -> Vec<Outcome> {
        let mut confirms: FuturesUnordered<_> = chunk
            .iter()
            .enumerate()
            .map(|(index, message)| async move { (index, self.send(&lane.channel, message).await) })
            .collect();
        let mut collected = Confirms::new(chunk.len());
        let mut died = pin!(lane.live.died());
        let missing = loop {
            tokio::select! {
                biased;
                confirm = confirms.next() => match confirm {
                    Some((index, confirm)) => collected.add(index, confirm),
                    None => break PublishError::Timeout,
                },
                () = &mut died => break PublishError::ChannelClosed,
                () = sleep_until(deadline) => break PublishError::Timeout,
            }
        };
        // What completed meanwhile may carry the return of a message that is already confirmed.
        while let Some(Some((index, confirm))) = confirms.next().now_or_never() {
            collected.add(index, confirm);
        }
        let ids = chunk.iter().map(|message| message.message_id.as_str());
        collected.outcomes(ids, missing)
    }

    async fn send(&self, channel: &Channel, message: &Outbound) -> lapin::Result<Confirmation> {
        let exchange = self.session.topology().exchange(message.target.exchange());
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        channel
            .basic_publish(
                exchange.into(),
                message.target.routing_key().into(),
                options,
                &message.body,
                properties(message),
            )
            .await?
            .await
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Lane>> {
        self.lanes
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn properties(message: &Outbound) -> BasicProperties {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let published_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    let mut headers = message.headers.as_ref().map(to_table).unwrap_or_default();
    headers.insert(PUBLISHED_MS.into(), AMQPValue::LongLongInt(published_ms));
    if let Some(traceparent) = &message.traceparent {
        let value = AMQPValue::LongString(traceparent.as_str().into());
        headers.insert("traceparent".into(), value);
    }
    let id = ShortString::try_new(message.message_id.as_str()).unwrap_or_default();
    BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type("application/json".into())
        .with_message_id(id)
        .with_timestamp(now.as_secs())
        .with_headers(headers)
}
