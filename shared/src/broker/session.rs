//! The two connections to the broker, kept alive for as long as the process lives: one publishes,
//! one consumes, because an alarm of the broker blocks the publishing one only (design §3).
//!
//! It never gives up and never blocks its users: they see the state of each connection in a
//! `watch` and fail fast while it is down. This is also the one home of the `backoff` crate
//! (unmaintained, RUSTSEC-2025-0012): replace it by one edit of `Pace`.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;
use lapin::uri::AMQPUri;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::link::{Link, Live};
use super::topology::Topology;

/// Heartbeats, unless the URL says otherwise: a dead peer is noticed within twice this time.
const HEARTBEAT_SECONDS: u16 = 10;

/// How to reach the broker and what to expect there.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// `amqp://user:password@host:port/vhost`; an empty vhost means `/`.
    pub url: SecretString,
    /// Names of exchanges and queues.
    pub topology: Topology,
    /// Shown in the management UI, followed by the role of the connection.
    pub connection_name: String,
    /// Bound of one attempt, handshake included.
    pub connect_timeout: Duration,
}

impl BrokerConfig {
    /// A configuration with the usual bounds and no prefix.
    #[must_use]
    pub fn new(url: SecretString, connection_name: &str) -> Self {
        Self {
            url,
            topology: Topology::default(),
            connection_name: connection_name.to_owned(),
            connect_timeout: Duration::from_secs(10),
        }
    }
}

/// The URL cannot be used; mend the configuration. It is not shown because of its password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the broker's URL is not of the form amqp://user:password@host:port/vhost")]
pub struct InvalidBrokerUrl;

/// The state of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// Open, topology declared.
    Connected,
    /// Open, but the broker takes no publishes (memory or disk alarm).
    Blocked {
        /// Since when.
        since: Instant,
    },
    /// Not open; being reopened.
    Down {
        /// Since when.
        since: Instant,
        /// Why.
        cause: DownCause,
    },
}

impl LinkState {
    /// True when messages can pass.
    #[must_use]
    pub const fn is_connected(self) -> bool {
        matches!(self, Self::Connected)
    }

    /// The closed label of the state.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Blocked { .. } => "blocked",
            Self::Down { .. } => "down",
        }
    }
}

/// Why a connection is not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownCause {
    /// Not tried yet.
    Starting,
    /// The broker cannot be reached, or refused the credentials or the vhost.
    Connect,
    /// The broker did not finish the handshake in time.
    Timeout,
    /// The broker refused the topology: a queue of another schema stands in the way.
    Declare,
    /// It was open and broke.
    Lost,
    /// We closed it.
    Stopped,
}

impl DownCause {
    /// The closed label of the cause.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Declare => "declare",
            Self::Lost => "lost",
            Self::Stopped => "stopped",
        }
    }
}

/// A handle on both connections; clones share them.
#[derive(Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

struct Inner {
    topology: Topology,
    publish: Link,
    consume: Link,
    gaps: watch::Sender<u64>,
}

impl Session {
    /// Starts both connections and returns at once; nothing waits for the broker.
    ///
    /// Cancel `stop` last, after consumers and relay have finished: they need the connections.
    ///
    /// # Errors
    /// The URL is malformed; refuse to start.
    pub fn start(
        config: &BrokerConfig,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Self, InvalidBrokerUrl> {
        let uri = parse(&config.url)?;
        let (gaps, _) = watch::channel(0);
        let session = Self {
            inner: Arc::new(Inner {
                topology: config.topology.clone(),
                publish: Link::new(Role::Publish, &uri, config),
                consume: Link::new(Role::Consume, &uri, config),
                gaps,
            }),
        };
        for role in [Role::Publish, Role::Consume] {
            let (session, stop) = (session.clone(), stop.clone());
            tasks.spawn(async move { session.link(role).keep_alive(&session, &stop).await });
        }
        Ok(session)
    }

    /// The state of the connection that publishes.
    #[must_use]
    pub fn publishing(&self) -> watch::Receiver<LinkState> {
        self.inner.publish.state()
    }

    /// The state of the connection that consumes.
    #[must_use]
    pub fn consuming(&self) -> watch::Receiver<LinkState> {
        self.inner.consume.state()
    }

    /// Counts the occasions on which messages may have been lost by the broker: a returned
    /// publish, a missing queue, a cancelled consumer, a reconnect. Whoever reconciles runs at
    /// once when it changes (design §1.8). The topology has been declared again by then.
    #[must_use]
    pub fn gaps(&self) -> watch::Receiver<u64> {
        self.inner.gaps.subscribe()
    }

    /// The names in use.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.inner.topology
    }

    /// Asks for the topology to be declared again, without waiting for it.
    pub(super) fn request_declare(&self) {
        self.inner.consume.request_declare();
    }

    /// Tells whoever reconciles that something may be missing.
    pub(super) fn report_gap(&self) {
        self.inner.gaps.send_modify(|count| *count += 1);
    }

    pub(super) fn link(&self, role: Role) -> &Link {
        match role {
            Role::Publish => &self.inner.publish,
            Role::Consume => &self.inner.consume,
        }
    }

    pub(super) fn live(&self, role: Role) -> Option<Arc<Live>> {
        self.link(role).live()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("publishing", &*self.publishing().borrow())
            .field("consuming", &*self.consuming().borrow())
            .finish()
    }
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Publish,
    Consume,
}

impl Role {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Consume => "consume",
        }
    }
}

/// Growing waits with jitter, without end.
pub(super) struct Pace {
    backoff: ExponentialBackoff,
    longest: Duration,
}

impl Pace {
    /// Waits that grow from about `first` to about `longest`.
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        let mut backoff = ExponentialBackoff {
            initial_interval: first,
            max_interval: longest,
            multiplier: 2.0,
            randomization_factor: 0.5,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        backoff.reset();
        Self { backoff, longest }
    }

    /// The next wait.
    pub(super) fn next(&mut self) -> Duration {
        self.backoff.next_backoff().unwrap_or(self.longest)
    }

    /// Begins with the shortest wait again.
    pub(super) fn reset(&mut self) {
        self.backoff.reset();
    }
}

/// The vhost that a URL names.
///
/// # Errors
/// The URL is malformed; refuse to start.
pub(super) fn vhost(url: &SecretString) -> Result<String, InvalidBrokerUrl> {
    Ok(parse(url)?.vhost)
}

fn parse(url: &SecretString) -> Result<AMQPUri, InvalidBrokerUrl> {
    let text = url.expose_secret();
    // The client's parser takes an IPv6 literal for "no host" and would silently go to localhost.
    if text.contains("://[") || text.contains("@[") {
        return Err(InvalidBrokerUrl);
    }
    let mut uri: AMQPUri = text.parse().map_err(|_| InvalidBrokerUrl)?;
    uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
    if uri.vhost.is_empty() {
        "/".clone_into(&mut uri.vhost);
    }
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Result<AMQPUri, InvalidBrokerUrl> {
        parse(&SecretString::from(url.to_owned()))
    }

    #[test]
    fn a_trailing_slash_means_the_default_vhost() {
        for url in ["amqp://h:1/", "amqp://h:1", "amqp://h:1/%2f"] {
            assert_eq!(parsed(url).unwrap().vhost, "/", "{url}");
        }
        assert_eq!(parsed("amqp://h:1/posto").unwrap().vhost, "posto");
    }

    #[test]
    fn heartbeats_are_on_unless_the_url_says_otherwise() {
        let heartbeat = |url| parsed(url).unwrap().query.heartbeat;
        assert_eq!(heartbeat("amqp://h:1/"), Some(10));
        assert_eq!(heartbeat("amqp://h:1/?heartbeat=30"), Some(30));
    }

    #[test]
    fn a_malformed_url_is_refused_without_showing_its_password() {
        for url in [
            "http://u:geheim@h/",
            "geheim",
            "amqp://u:geheim@[::1]:5672/",
        ] {
            let error = parsed(url).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("geheim"), "{url}");
        }
    }

    #[test]
    fn waits_grow_with_jitter_to_a_bound_and_never_end() {
        let mut pace = Pace::new(Duration::from_millis(100), Duration::from_secs(4));
        let waits: Vec<_> = (0..50).map(|_| pace.next()).collect();
        assert!(waits[0] <= Duration::from_millis(151), "{waits:?}");
        assert!(waits.iter().all(|w| *w <= Duration::from_millis(6_001)));
        assert!(
            waits[40..]
                .iter()
                .all(|w| *w >= Duration::from_millis(1_999))
        );
        pace.reset();
        assert!(pace.next() <= Duration::from_millis(151));
    }
}
