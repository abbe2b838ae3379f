//! One connection: connect → declare → run, for ever. The client library's own recovery stays
//! off: it would replay a topology of its own making and hide what was lost (design §3).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use lapin::tcp::OwnedTLSConfig;
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{
    AsyncTcpStream, Channel, Connection, ConnectionProperties, ConnectionState, ErrorKind, Event,
};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::declare::declare;
use super::session::{BrokerConfig, DownCause, LinkState, Pace, Role, Session};
use super::socket::{Socket, SocketGuard};
use super::topology::Topology;

const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// A connection that lived this long was a real one: the next waits begin small again.
const STABLE_AFTER: Duration = Duration::from_secs(10);
/// Creating eleven quorum queues on a busy cluster takes seconds.
const DECLARE_TIMEOUT: Duration = Duration::from_secs(60);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);
/// A close by the broker without an error raises no event in the client library.
const STATUS_CHECK: Duration = Duration::from_millis(500);

/// Keeps one connection open.
pub(super) struct Link {
    role: Role,
    uri: AMQPUri,
    name: String,
    topology: Topology,
    connect_timeout: Duration,
    epochs: AtomicU64,
    live: watch::Sender<Option<Arc<Live>>>,
    state: watch::Sender<LinkState>,
    redeclare: Notify,
}

/// A connection while it is open.
pub(super) struct Live {
    /// Counts the connections of the link.
    pub(super) epoch: u64,
    connection: Connection,
    socket: SocketGuard,
}

impl Live {
    pub(super) async fn open_channel(&self) -> lapin::Result<Channel> {
        self.guard(self.connection.create_channel()).await
    }

    /// Waits for an answer of the broker, but not past the end of the connection: the client
    /// library leaves a call that begins just then without an answer for ever.
    pub(super) async fn guard<T>(
        &self,
        call: impl Future<Output = lapin::Result<T>>,
    ) -> lapin::Result<T> {
        tokio::select! {
            biased;
            answer = call => answer,
            () = self.died() => {
                Err(ErrorKind::InvalidConnectionState(ConnectionState::Error).into())
            }
        }
    }

    /// Returns when the connection has ended.
    pub(super) async fn died(&self) {
        while self.connection.status().connected() {
            tokio::time::sleep(STATUS_CHECK).await;
        }
    }

    /// Closes within a bound; shutting the socket ends what does not answer.
    async fn close(&self) {
        let closing = self.connection.close(200, "closed by Posto".into());
        let _closed_or_gone = timeout(CLOSE_TIMEOUT, closing).await;
        self.socket.shut();
    }
}

impl Link {
    pub(super) fn new(role: Role, uri: &AMQPUri, config: &BrokerConfig) -> Self {
        Self {
            role,
            uri: uri.clone(),
            name: format!("{} ({})", config.connection_name, role.as_str()),
            topology: config.topology.clone(),
            connect_timeout: config.connect_timeout,
            epochs: AtomicU64::new(0),
            live: watch::channel(None).0,
            state: watch::channel(down(DownCause::Starting)).0,
            redeclare: Notify::new(),
        }
    }

    pub(super) fn state(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    pub(super) fn live(&self) -> Option<Arc<Live>> {
        self.live.borrow().clone()
    }

    /// Changes whenever a connection opens or ends.
    pub(super) fn watch_live(&self) -> watch::Receiver<Option<Arc<Live>>> {
        self.live.subscribe()
    }

    pub(super) fn request_declare(&self) {
        self.redeclare.notify_one();
    }

    /// Runs until `stop`.
    pub(super) async fn keep_alive(&self, session: &Session, stop: &CancellationToken) {
        let mut pace = Pace::new(FIRST_WAIT, LONGEST_WAIT);
        while !stop.is_cancelled() {
            let opened = tokio::select! {
                opened = self.open() => opened,
                () = stop.cancelled() => break,
            };
            let cause = match opened {
                Ok(live) => {
                    let since = Instant::now();
                    self.run(session, &live, stop).await;
                    if stop.is_cancelled() {
                        break;
                    }
                    if since.elapsed() >= STABLE_AFTER {
                        pace.reset();
                    }
                    DownCause::Lost
                }
                Err(cause) => cause,
            };
            self.set_down(cause);
            tokio::select! {
                () = tokio::time::sleep(pace.next()) => {}
                () = stop.cancelled() => {}
            }
        }
        self.set_down(DownCause::Stopped);
    }

    /// Connects and declares.
    async fn open(&self) -> Result<Arc<Live>, DownCause> {
        let live = self.connect().await?;
        let declared = timeout(DECLARE_TIMEOUT, self.declare_on(&live)).await;
        let problem = match declared {
            Ok(Ok(())) => return Ok(Arc::new(live)),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        self.warn("the topology could not be declared", &problem);
        live.close().await;
        Err(DownCause::Declare)
    }

    async fn connect(&self) -> Result<Live, DownCause> {
        let properties =
            ConnectionProperties::default().with_connection_name(self.name.as_str().into());
        let socket = SocketGuard::default();
        match timeout(self.connect_timeout, self.dial(properties, socket.handle())).await {
            Ok(Ok(connection)) => Ok(Live {
                epoch: self.epochs.fetch_add(1, Ordering::Relaxed) + 1,
                connection,
                socket,
            }),
            Ok(Err(error)) => {
                self.warn("the broker cannot be reached", &error.to_string());
                Err(DownCause::Connect)
            }
            Err(_) => {
                self.warn("the broker does not answer", "no handshake in time");
                Err(DownCause::Timeout)
            }
        }
    }

    async fn dial(
        &self,
        properties: ConnectionProperties,
        socket: Socket,
    ) -> lapin::Result<Connection> {
        let limit = self.connect_timeout;
        let runtime = lapin::runtime::default_runtime()?;
        Connection::connector(
            self.uri.clone(),
            runtime,
            async move |uri: AMQPUri, runtime| {
                let host = (uri.authority.host.clone(), uri.authority.port);
                let addresses = runtime.to_socket_addrs(host);
                let open = async {
                    let stream = AsyncTcpStream::connect(&runtime, addresses).await?;
                    if let AsyncTcpStream::Plain(tcp) = &stream {
                        socket.hold(tcp.get_ref())?;
                    }
                    match uri.scheme {
                        AMQPScheme::AMQP => Ok(stream),
                        AMQPScheme::AMQPS => {
                            let tls = OwnedTLSConfig::default();
                            stream.into_tls(&uri.authority.host, tls.as_ref()).await
                        }
                    }
                };
                match timeout(limit, open).await {
                    Ok(opened) => opened.map_err(lapin::Error::from),
                    Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
                }
            },
            properties,
        )
        .await
    }

    /// Serves an open connection until it ends.
    async fn run(&self, session: &Session, live: &Arc<Live>, stop: &CancellationToken) {
        let mut events = live.connection.events_listener();
        self.live.send_replace(Some(Arc::clone(live)));
        self.set_state(LinkState::Connected);
        if live.epoch > 1 && self.role == Role::Consume {
            session.report_gap();
        }
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(_)) => {
                        self.set_state(LinkState::Blocked { since: Instant::now() });
                    }
                    Some(Event::ConnectionUnblocked) => self.set_state(LinkState::Connected),
                    Some(_) => {}
                    None => break,
                },
                () = self.redeclare.notified() => {
                    if self.declare_again(live).await {
                        session.report_gap();
                    }
                }
                () = live.died() => break,
                () = stop.cancelled() => break,
            }
        }
        self.live.send_replace(None);
        live.close().await;
    }

    /// Declares the topology again on an open connection. False: it could not be done, and the
    /// failure is logged; whoever needs it will ask again.
    pub(super) async fn declare_again(&self, live: &Live) -> bool {
        let problem = match timeout(DECLARE_TIMEOUT, self.declare_on(live)).await {
            Ok(Ok(())) => {
                info!(link = self.role.as_str(), "the topology was declared again");
                return true;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        self.warn("the topology could not be declared again", &problem);
        false
    }

    async fn declare_on(&self, live: &Live) -> lapin::Result<()> {
        let channel = live.open_channel().await?;
        live.guard(declare(&channel, &self.topology)).await?;
        live.guard(channel.close(200, "declared".into())).await
    }

    fn set_down(&self, cause: DownCause) {
        self.state.send_if_modified(|state| match state {
            // The first cause of an outage stays in the log; the state shows the newest, and
            // the time at which the outage began.
            LinkState::Down { since, .. } => {
                *state = LinkState::Down {
                    since: *since,
                    cause,
                };
                true
            }
            _ => {
                if cause == DownCause::Stopped {
                    info!(
                        link = self.role.as_str(),
                        "the connection to the broker is closed"
                    );
                } else {
                    self.warn("the connection to the broker is down", cause.as_str());
                }
                *state = down(cause);
                true
            }
        });
    }

    fn set_state(&self, state: LinkState) {
        info!(
            link = self.role.as_str(),
            outcome = state.as_str(),
            host = self.uri.authority.host,
            port = self.uri.authority.port,
            "the connection to the broker changed"
        );
        self.state.send_replace(state);
    }

    fn warn(&self, message: &'static str, problem: &str) {
        warn!(
            link = self.role.as_str(),
            host = self.uri.authority.host,
            port = self.uri.authority.port,
            error = problem,
            "{message}"
        );
    }
}

fn down(cause: DownCause) -> LinkState {
    LinkState::Down {
        since: Instant::now(),
        cause,
    }
}
