//! A WPP Gateway that runs anywhere and misbehaves on demand.
//!
//! It speaks the gateway's HTTP API (facts §1.2) on a real port, answers each send with echo and ack
//! webhooks, and shows in `/_sim/messages` what really went out. `/_sim/faults` makes it fail in
//! every way of facts §1.3. It is the demo's gateway and the tests'; it knows nothing of Posto.
//! `docs/gateway-simulator.md` is its manual.
//!
//! A send walks `send` → `faults` → `messages` → `script` → `courier`; its answer is `answer`'s.

mod answer;
mod api;
mod channels;
mod control;
mod courier;
mod envelope;
mod faults;
mod incidents;
mod jid;
mod messages;
mod script;
mod send;
mod wire;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};

use self::{
    channels::{Channels, Registration},
    courier::Courier,
    faults::FaultBook,
    messages::Messages,
};
pub use self::{
    courier::{RetryPolicy, WebhookStats},
    envelope::{AckShape, EchoEvent},
    faults::{ArmedFault, Effect, Fault, FaultRule},
    jid::{chat_jid, match_key},
    messages::{Arrival, Message, Step},
};

/// How long a stop waits for requests that are being answered.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// What a simulator is started with.
#[derive(Clone)]
pub struct SimConfig {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Directory for messages and registrations; without one they live in memory.
    pub data: Option<PathBuf>,
    /// What callers must send as `X-Gateway-Secret`.
    pub gateway_secret: String,
    /// Where webhooks go until somebody registers another URL.
    pub webhook_url: Option<String>,
    /// Secret sent along with webhooks, unless a registration brings its own.
    pub webhook_secret: Option<String>,
    /// Channels that exist and are connected from the start.
    pub sessions: Vec<String>,
    /// Settings at the start and after a reset.
    pub settings: Settings,
    /// How webhooks are retried.
    pub retry: RetryPolicy,
}

impl SimConfig {
    /// A simulator for tests: free loopback port, in memory, channel "Pixel12 Digital".
    pub fn for_tests(gateway_secret: &str) -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            data: None,
            gateway_secret: gateway_secret.to_owned(),
            webhook_url: None,
            webhook_secret: None,
            sessions: vec!["Pixel12 Digital".to_owned()],
            settings: Settings::default(),
            retry: RetryPolicy::default(),
        }
    }
}

/// How a well-behaved send is told by webhooks, and how fast.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Whether an echo is sent.
    pub echo: bool,
    /// Ack levels that follow, in order.
    pub acks: Vec<i8>,
    /// Time from taking the message in to its echo.
    pub echo_delay_ms: u64,
    /// The n-th ack comes n times this after the message was taken in.
    pub ack_delay_ms: u64,
    /// Every send is answered this much later.
    pub answer_delay_ms: u64,
    /// Shape of the echo.
    pub echo_event: EchoEvent,
    /// Shape of the acks.
    pub ack_shape: AckShape,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            echo: true,
            acks: vec![1, 2, 3],
            echo_delay_ms: 20,
            ack_delay_ms: 40,
            answer_delay_ms: 0,
            echo_event: EchoEvent::MessageSent,
            ack_shape: AckShape::String,
        }
    }
}

/// Why a simulator could not start.
#[derive(Debug)]
pub enum StartError {
    /// The data directory cannot be used; give one that can be written.
    Data(io::Error),
    /// The address cannot be listened on; free the port or choose another.
    Listen(io::Error),
    /// The client for webhooks cannot be built.
    Client(reqwest::Error),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Data(_) => "the simulator's data or webhook URL cannot be used",
            Self::Listen(_) => "the simulator cannot listen on its address",
            Self::Client(_) => "the simulator cannot build its webhook client",
        })
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Data(error) | Self::Listen(error) => Some(error),
            Self::Client(error) => Some(error),
        }
    }
}

/// A running simulator; dropping it stops it.
pub struct GatewaySim {
    sim: Arc<Sim>,
    addr: SocketAddr,
    stop: watch::Sender<bool>,
    server: Option<JoinHandle<io::Result<()>>>,
}

impl GatewaySim {
    /// Starts a simulator, and takes up the webhooks that the last run on the same data left undone.
    ///
    /// # Errors
    /// See [`StartError`]; nothing runs afterwards.
    pub async fn start(config: SimConfig) -> Result<Self, StartError> {
        let (messages, untold) = match &config.data {
            None => (Messages::in_memory(), Vec::new()),
            Some(dir) => {
                std::fs::create_dir_all(dir).map_err(StartError::Data)?;
                Messages::open(&dir.join("messages.jsonl")).map_err(StartError::Data)?
            }
        };
        let channels = Channels::load(
            config.data.as_ref().map(|dir| dir.join("state.json")),
            &config.sessions,
            config.webhook_url.clone().map(|url| Registration {
                url,
                secret: config.webhook_secret.clone(),
            }),
        )
        .map_err(StartError::Data)?;
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(StartError::Listen)?;
        let addr = listener.local_addr().map_err(StartError::Listen)?;
        let (stop, stopped) = watch::channel(false);
        let sim = Arc::new(Sim {
            courier: Courier::new(config.retry).map_err(StartError::Client)?,
            settings: RwLock::new(Arc::new(config.settings.clone())),
            config,
            channels,
            messages,
            faults: FaultBook::default(),
            media: Mutex::default(),
            sends: SendCounters::default(),
            era: AtomicU64::new(0),
            stopped: stopped.clone(),
        });
        for message in untold {
            script::tell_again(&sim, message);
        }
        let routes = api::router(Arc::clone(&sim));
        let server = tokio::spawn(
            axum::serve(
                wire::CuttableListener(listener),
                routes.into_make_service_with_connect_info::<wire::Fuse>(),
            )
            .with_graceful_shutdown(wait_for_stop(stopped))
            .into_future(),
        );
        Ok(Self {
            sim,
            addr,
            stop,
            server: Some(server),
        })
    }

    /// Base URL, without a slash at its end.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Every message taken in so far, in order of arrival.
    pub fn messages(&self) -> Vec<Message> {
        let entries = self.sim.messages.since(0);
        let parsed = entries
            .iter()
            .map(|entry| serde_json::from_str(entry.json()));
        parsed
            .collect::<Result<_, _>>()
            .expect("the list is parseable because it was serialised from messages")
    }

    /// Arms a fault.
    pub fn set_fault(&self, rule: FaultRule) {
        self.sim.faults.arm(rule);
    }

    /// Removes all faults.
    pub fn clear_faults(&self) {
        self.sim.faults.clear();
    }

    /// Sends the webhooks of all channels to `url` from now on.
    ///
    /// # Errors
    /// `url` is none.
    pub fn register_webhook(&self, url: &str, secret: Option<&str>) -> io::Result<()> {
        let registration = Registration {
            url: url.to_owned(),
            secret: secret.map(str::to_owned),
        };
        self.sim.channels.register(None, registration)
    }

    /// The settings in force.
    pub fn settings(&self) -> Settings {
        self.sim.settings().as_ref().clone()
    }

    /// Changes the settings.
    pub fn set_settings(&self, settings: Settings) {
        self.sim.set_settings(settings);
    }

    /// Counters of webhooks.
    pub fn webhook_stats(&self) -> WebhookStats {
        self.sim.courier.stats()
    }

    /// Stops listening, ends what is being answered and writes the journal to its end.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        if let Some(mut server) = self.server.take()
            && timeout(STOP_PATIENCE, &mut server).await.is_err()
        {
            server.abort();
        }
        let sim = Arc::clone(&self.sim);
        // Joins a thread: not for a thread of the runtime.
        let _ = tokio::task::spawn_blocking(move || sim.messages.close()).await;
    }
}

impl Drop for GatewaySim {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
    }
}

/// What all handlers and tasks of one simulator share.
struct Sim {
    config: SimConfig,
    channels: Channels,
    messages: Messages,
    faults: FaultBook,
    settings: RwLock<Arc<Settings>>,
    courier: Courier,
    /// Media of inbound messages: type and base64 by message id.
    media: Mutex<std::collections::HashMap<String, (String, String)>>,
    sends: SendCounters,
    /// Counts the resets: what was begun in an earlier era tells nothing any more.
    era: AtomicU64,
    stopped: watch::Receiver<bool>,
}

/// Sends by what became of them, as `GET /_sim/stats` shows them.
#[derive(Default)]
struct SendCounters {
    received: AtomicU64,
    refused: AtomicU64,
    stayed: AtomicU64,
    went_out: AtomicU64,
}

impl Sim {
    fn settings(&self) -> Arc<Settings> {
        let settings = self.settings.read();
        Arc::clone(&settings.unwrap_or_else(PoisonError::into_inner))
    }

    fn set_settings(&self, settings: Settings) {
        let mut current = self
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(settings);
    }

    fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    fn era(&self) -> u64 {
        self.era.load(Ordering::Acquire)
    }

    /// Back to the beginning; registrations and the LID map stay.
    fn reset(&self) {
        self.era.fetch_add(1, Ordering::AcqRel);
        self.faults.clear();
        self.messages.wipe();
        lock(&self.media).clear();
        self.set_settings(self.config.settings.clone());
        self.channels.connect_all();
        for session in &self.config.sessions {
            self.channels.create(session, channels::Session::Connected);
        }
    }

    /// Waits, but not beyond the stop of the simulator.
    async fn pause(&self, how_long: Duration) {
        if !how_long.is_zero() {
            let _ = timeout(how_long, wait_for_stop(self.stopped.clone())).await;
        }
    }
}

async fn wait_for_stop(mut stopped: watch::Receiver<bool>) {
    // An error means that the simulator was dropped, which is a stop too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Locks a mutex whose data stay valid when a holder panics.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
