//! What AMQP does not tell and the management API does: whether feature flag `stream_queue` is on
//! (without it, dead-lettering at least once falls back to at most once and says nothing), and how
//! many letters are stuck on their way to `hub.dead` (`messages_dlx`). Both are of design §3.
//!
//! The API is no part of the walk: while it does not answer nothing stops, and nothing is claimed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use prometheus::{IntGauge, IntGaugeVec, Opts, Registry};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::args::BrokerArgs;
use super::session;
use super::topology::{Queue, Topology};
use crate::runtime::ops::Check;

/// How often the broker is asked.
const ASK_EVERY: Duration = Duration::from_secs(15);
/// How soon again, until it has answered once.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// The bound of one question.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// What dead-lettering at least once needs (design §3). RabbitMQ 3.12 and newer always have it.
const FLAG: &str = "stream_queue";

/// What is known of the feature flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamQueue {
    /// Nobody could be asked so far, or no address is set.
    Unknown,
    /// It is on.
    On,
    /// It is off: letters that the broker makes may be lost.
    Off,
}

/// The settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidManagement {
    /// The URL cannot be read; it is not shown because of its password.
    #[error("RABBITMQ_MANAGEMENT_URL is not of the form http://user:password@host:port")]
    Url,
    /// `AMQP_URL`, which names the vhost, cannot be read.
    #[error("AMQP_URL cannot be read")]
    Broker(#[source] session::InvalidBrokerUrl),
    /// `AMQP_PREFIX` cannot be part of a name.
    #[error("AMQP_PREFIX cannot be used")]
    Prefix(#[source] super::topology::InvalidPrefix),
    /// The HTTP client could not be built.
    #[error("the HTTP client could not be built")]
    Client(#[source] reqwest::Error),
    /// A metric's name is taken.
    #[error("a metric could not be registered")]
    Metrics(#[source] prometheus::Error),
}

/// What was last heard; clones share it.
#[derive(Clone, Debug)]
pub struct Management {
    stream_queue: Arc<AtomicU8>,
    asked: bool,
}

/// Asks until the process stops.
struct Asker {
    client: reqwest::Client,
    base: reqwest::Url,
    vhost: String,
    topology: Topology,
    heard: Management,
    registry: Registry,
    dlx: IntGaugeVec,
}

impl Management {
    /// Begins to ask, where an address is set; answers at once.
    ///
    /// # Errors
    /// A setting cannot be used; refuse to start.
    pub fn start(
        args: &BrokerArgs,
        registry: &Registry,
        (tasks, stop): (&tokio_util::task::TaskTracker, &CancellationToken),
    ) -> Result<Self, InvalidManagement> {
        // An empty variable is one that a script had no value for.
        let url = args
            .rabbitmq_management_url
            .as_ref()
            .filter(|url| !url.expose_secret().is_empty());
        let management = Self {
            stream_queue: Arc::new(AtomicU8::new(StreamQueue::Unknown as u8)),
            asked: url.is_some(),
        };
        if let Some(url) = url {
            let asker = Asker::new(args, url, registry, management.clone())?;
            let stop = stop.clone();
            tasks.spawn(async move { asker.run(&stop).await });
        }
        Ok(management)
    }

    /// What is known of the feature flag.
    #[must_use]
    pub fn stream_queue(&self) -> StreamQueue {
        let heard = self.stream_queue.load(Ordering::Relaxed);
        [StreamQueue::On, StreamQueue::Off]
            .into_iter()
            .find(|known| *known as u8 == heard)
            .unwrap_or(StreamQueue::Unknown)
    }

    /// The line of readiness: only a flag that is known to be off keeps a worker from being ready.
    #[must_use]
    pub fn check(&self) -> Check {
        let (ok, detail) = match self.stream_queue() {
            StreamQueue::On => (true, ""),
            StreamQueue::Unknown if self.asked => (true, "the management API has not answered yet"),
            StreamQueue::Unknown => (true, "not asked: RABBITMQ_MANAGEMENT_URL is not set"),
            StreamQueue::Off => (
                false,
                "off: letters of the broker may be lost; run `rabbitmqctl enable_feature_flag stream_queue`",
            ),
        };
        Check {
            name: FLAG,
            ok,
            detail: detail.to_owned(),
        }
    }

    fn hear(&self, flag: StreamQueue) {
        let before = self.stream_queue.swap(flag as u8, Ordering::Relaxed);
        if flag == StreamQueue::Off && before != flag as u8 {
            tracing::error!(
                "the broker's feature flag stream_queue is off: letters that it makes may be lost"
            );
        }
    }
}

#[derive(Deserialize)]
struct FeatureFlag {
    name: String,
    state: String,
}

#[derive(Deserialize)]
struct QueueRow {
    name: String,
    #[serde(default)]
    messages_dlx: i64,
}

impl Asker {
    fn new(
        args: &BrokerArgs,
        url: &SecretString,
        registry: &Registry,
        heard: Management,
    ) -> Result<Self, InvalidManagement> {
        let base: reqwest::Url = url
            .expose_secret()
            .parse()
            .ok()
            .filter(|url: &reqwest::Url| !url.cannot_be_a_base())
            .ok_or(InvalidManagement::Url)?;
        let dlx = IntGaugeVec::new(
            Opts::new(
                "hub_broker_dlx_messages",
                "Messages that the broker gave up and could not yet bring to hub.dead.",
            ),
            &["queue"],
        )
        .map_err(InvalidManagement::Metrics)?;
        registry
            .register(Box::new(dlx.clone()))
            .map_err(InvalidManagement::Metrics)?;
        // The TLS library wants one provider per process; a second call finds it set.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(Self {
            client: reqwest::Client::builder()
                .timeout(ANSWER_TIMEOUT)
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .build()
                .map_err(InvalidManagement::Client)?,
            base,
            vhost: session::vhost(&args.amqp_url).map_err(InvalidManagement::Broker)?,
            topology: Topology::new(&args.amqp_prefix).map_err(InvalidManagement::Prefix)?,
            heard,
            registry: registry.clone(),
            dlx,
        })
    }

    async fn run(&self, stop: &CancellationToken) {
        let mut flag_metric = None;
        let mut told = false;
        loop {
            let pause = match self.ask(&mut flag_metric).await {
                Ok(()) => {
                    told = false;
                    ASK_EVERY
                }
                Err(error) => {
                    if !told {
                        tracing::warn!(error = %crate::runtime::telemetry::chain(&error.without_url()), "the broker's management API does not answer");
                    }
                    told = true;
                    if flag_metric.is_none() {
                        ASK_AGAIN
                    } else {
                        ASK_EVERY
                    }
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn ask(&self, metric: &mut Option<IntGauge>) -> Result<(), reqwest::Error> {
        let flags: Vec<FeatureFlag> = self.get(&["feature-flags"], "").await?;
        let flag = if flags
            .iter()
            .any(|flag| flag.name == FLAG && flag.state == "enabled")
        {
            StreamQueue::On
        } else {
            StreamQueue::Off
        };
        self.heard.hear(flag);
        // Registered with the first answer: a process that could not ask claims nothing.
        if metric.is_none() {
            *metric = flag_metric(&self.registry);
        }
        if let Some(metric) = metric {
            metric.set(i64::from(flag == StreamQueue::On));
        }
        let queues: Vec<QueueRow> = self
            .get(&["queues", &self.vhost], "columns=name,messages_dlx")
            .await?;
        for queue in Queue::all() {
            let Queue::Work(_) = queue else { continue };
            // A queue that is missing, or too young for statistics, has nothing stuck in it.
            let name = self.topology.queue(queue);
            let stuck = queues
                .iter()
                .find(|row| row.name == name)
                .map_or(0, |row| row.messages_dlx);
            self.dlx.with_label_values(&[queue.label()]).set(stuck);
        }
        Ok(())
    }

    async fn get<T: serde::de::DeserializeOwned>(
        &self,
        path: &[&str],
        query: &str,
    ) -> Result<T, reqwest::Error> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("api").extend(path);
        }
        url.set_query(Some(query).filter(|query| !query.is_empty()));
        let answer = self.client.get(url).send().await?.error_for_status()?;
        answer.json().await
    }
}

/// None when the name is taken, which registering once keeps from happening.
fn flag_metric(registry: &Registry) -> Option<IntGauge> {
    let metric = IntGauge::new(
        "hub_broker_stream_queue",
        "1 while the broker's feature flag stream_queue is on.",
    )
    .ok()?;
    registry.register(Box::new(metric.clone())).ok()?;
    Some(metric)
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;
    use serde_json::{Value, json};
    use tokio_util::task::TaskTracker;
    use wiremock::matchers::{method, path};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;

    async fn broker(flags: Value, queues: Value) -> MockServer {
        let server = MockServer::start().await;
        Mock::given(method("GET"))
            .and(path("/api/feature-flags"))
            .respond_with(ResponseTemplate::new(200).set_body_json(flags))
            .mount(&server)
            .await;
        Mock::given(method("GET"))
            .and(path("/api/queues/%2F"))
            .respond_with(ResponseTemplate::new(200).set_body_json(queues))
            .mount(&server)
            .await;
        server
    }

    fn args(management: Option<String>) -> BrokerArgs {
        BrokerArgs {
            amqp_url: SecretString::from("amqp://guest:guest@127.0.0.1:1/%2f"),
            amqp_prefix: "t.".to_owned(),
            rabbitmq_management_url: management.map(SecretString::from),
        }
    }

    async fn heard(flags: Value, queues: Value) -> (Management, String) {
        let server = broker(flags, queues).await;
        let (registry, tasks, stop) = (
            Registry::new(),
            TaskTracker::new(),
            CancellationToken::new(),
        );
        let url = server.uri().replace("http://", "http://guest:guest@");
        let management = Management::start(&args(Some(url)), &registry, (&tasks, &stop)).unwrap();
        let text = || {
            TextEncoder::new()
                .encode_to_string(&registry.gather())
                .unwrap()
        };
        let patience = tokio::time::timeout(Duration::from_secs(5), async {
            while management.stream_queue() == StreamQueue::Unknown
                || server.received_requests().await.unwrap().len() < 2
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        patience.await.unwrap();
        stop.cancel();
        tasks.close();
        tasks.wait().await;
        (management, text())
    }

    #[tokio::test]
    async fn a_flag_that_is_off_is_told_with_the_way_out() {
        let (management, text) = heard(
            json!([{"name": "stream_queue", "state": "disabled"}]),
            json!([]),
        )
        .await;
        let check = management.check();
        assert!(!check.ok);
        assert!(
            check
                .detail
                .contains("rabbitmqctl enable_feature_flag stream_queue")
        );
        assert!(text.contains("hub_broker_stream_queue 0"), "{text}");
    }

    #[tokio::test]
    async fn a_flag_that_is_on_is_ready_and_stuck_letters_are_counted_by_queue() {
        let (management, text) = heard(
            json!([{"name": "stream_queue", "state": "enabled"}]),
            json!([
                {"name": "t.hub.deliveries.whatsapp", "messages_dlx": 3},
                {"name": "t.hub.receipts"},
                {"name": "other.hub.events.route", "messages_dlx": 9},
            ]),
        )
        .await;
        assert!(management.check().ok);
        assert!(text.contains("hub_broker_stream_queue 1"), "{text}");
        assert!(
            text.contains("{queue=\"hub.deliveries.whatsapp\"} 3"),
            "{text}"
        );
        assert!(
            !text.contains("} 9"),
            "another installation's queue: {text}"
        );
    }

    #[tokio::test]
    async fn without_an_address_nothing_is_claimed_and_nothing_is_held_up() {
        let (registry, tasks, stop) = (
            Registry::new(),
            TaskTracker::new(),
            CancellationToken::new(),
        );
        let management = Management::start(&args(None), &registry, (&tasks, &stop)).unwrap();
        assert!(management.check().ok);
        assert!(
            management
                .check()
                .detail
                .contains("RABBITMQ_MANAGEMENT_URL")
        );
        assert!(registry.gather().is_empty());
    }
}
