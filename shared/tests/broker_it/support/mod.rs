//! A broker of one's own for one test: random prefix, helpers to look and to break, clean-up.

pub(crate) mod handler;
pub(crate) mod proxy;

use std::time::Duration;

use lapin::options::{BasicPublishOptions, ExchangeDeleteOptions, QueueDeleteOptions};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use secrecy::SecretString;
use shared::broker::health;
use shared::broker::publisher::Outbound;
use shared::broker::session::{BrokerConfig, Session};
use shared::broker::topology::{Exchange, Queue, Target, Topology};
use shared::domain::ids::EventId;
use shared::domain::message::{Labels, VERSION, Work, WorkMessage, WorkQueue};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// No wait of a test is longer.
pub(crate) const BOUND: Duration = Duration::from_secs(30);

/// Where the real broker is.
pub(crate) fn amqp_url() -> String {
    std::env::var("AMQP_URL").expect(
        "AMQP_URL is not set: these tests need a RabbitMQ (3.10 or newer), \
         for example AMQP_URL=amqp://guest:guest@127.0.0.1:5672/",
    )
}

/// A session on a topology of its own.
pub(crate) struct TestBroker {
    pub(crate) session: Session,
    pub(crate) topology: Topology,
    pub(crate) tasks: TaskTracker,
    stop: CancellationToken,
    url: String,
}

impl TestBroker {
    pub(crate) async fn start() -> Self {
        Self::start_through(&amqp_url()).await
    }

    /// Reaches the broker through `url`, a proxy's perhaps.
    pub(crate) async fn start_through(url: &str) -> Self {
        Self::start_with(url, Duration::from_secs(10)).await
    }

    pub(crate) async fn start_with(url: &str, connect_timeout: Duration) -> Self {
        let prefix = format!("test-{}.", Uuid::new_v4().simple());
        let topology = Topology::new(&prefix).unwrap();
        let config = BrokerConfig {
            topology: topology.clone(),
            connect_timeout,
            ..BrokerConfig::new(SecretString::from(url.to_owned()), "broker tests")
        };
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let session = Session::start(&config, &tasks, &stop).unwrap();
        let broker = Self {
            session,
            topology,
            tasks,
            stop,
            url: amqp_url(),
        };
        broker.connected().await;
        broker
    }

    /// A second session on the same topology.
    pub(crate) fn another_session(&self) -> Session {
        let config = BrokerConfig {
            topology: self.topology.clone(),
            ..BrokerConfig::new(SecretString::from(self.url.clone()), "broker tests, second")
        };
        Session::start(&config, &self.tasks, &self.stop).unwrap()
    }

    /// Waits until both connections are up.
    pub(crate) async fn connected(&self) {
        wait_connected(&self.session).await;
    }

    /// A connection that goes around the session, for what no user of the broker module does.
    pub(crate) async fn admin(&self) -> Connection {
        connect(&self.url).await.unwrap()
    }

    pub(crate) async fn delete_queue(&self, queue: Queue) {
        let admin = self.admin().await;
        let channel = admin.create_channel().await.unwrap();
        let name = self.topology.queue(queue);
        channel
            .queue_delete(name.into(), QueueDeleteOptions::default())
            .await
            .unwrap();
        admin.close(200, "done".into()).await.unwrap();
    }

    /// Publishes bytes that no publisher of ours would.
    pub(crate) async fn publish_raw(&self, queue: Queue, body: &[u8]) {
        let admin = self.admin().await;
        let channel = admin.create_channel().await.unwrap();
        let name = self.topology.queue(queue);
        channel
            .basic_publish(
                "".into(),
                name.into(),
                BasicPublishOptions::default(),
                body,
                BasicProperties::default(),
            )
            .await
            .unwrap();
        admin.close(200, "done".into()).await.unwrap();
    }

    /// Waits until the queue has that many messages ready.
    pub(crate) async fn wait_ready(&self, queue: Queue, ready: u32) {
        eventually(&format!("{ready} ready in {}", queue.label()), async || {
            health::depth(&self.session, queue)
                .await
                .is_ok_and(|depth| depth.ready == ready)
        })
        .await;
    }

    /// Ends everything and removes the topology.
    pub(crate) async fn finish(self) {
        self.tasks.close();
        self.stop.cancel();
        tokio::time::timeout(BOUND, self.tasks.wait())
            .await
            .expect("every task ends after the stop");
    }
}

impl Drop for TestBroker {
    /// Also after a failed test; a drop cannot wait, so a thread does.
    fn drop(&mut self) {
        self.stop.cancel();
        let (url, topology) = (self.url.clone(), self.topology.clone());
        let removal = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(remove(&url, &topology));
        });
        let _removed = removal.join();
    }
}

/// The client library takes a trailing slash for a vhost without a name.
async fn connect(url: &str) -> lapin::Result<Connection> {
    let url = url.strip_suffix('/').unwrap_or(url);
    Connection::connect(url, ConnectionProperties::default()).await
}

async fn remove(url: &str, topology: &Topology) {
    let Ok(admin) = connect(url).await else {
        return;
    };
    let Ok(channel) = admin.create_channel().await else {
        return;
    };
    for queue in Queue::all() {
        let name = topology.queue(queue);
        let _gone = channel
            .queue_delete(name.into(), QueueDeleteOptions::default())
            .await;
    }
    for exchange in Exchange::ALL {
        let name = topology.exchange(exchange);
        let _gone = channel
            .exchange_delete(name.into(), ExchangeDeleteOptions::default())
            .await;
    }
    let _closed = admin.close(200, "done".into()).await;
}

pub(crate) async fn wait_connected(session: &Session) {
    for mut state in [session.publishing(), session.consuming()] {
        tokio::time::timeout(BOUND, state.wait_for(|state| state.is_connected()))
            .await
            .expect("connected in time")
            .unwrap();
    }
}

/// Polls a condition that nothing announces.
pub(crate) async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(BOUND, waiting)
        .await
        .unwrap_or_else(|_| panic!("in vain: {what}"));
}

/// The event of a number, to tell messages apart.
pub(crate) fn event(number: u128) -> EventId {
    EventId(Uuid::from_u128(number))
}

pub(crate) fn route_message(number: u128) -> WorkMessage {
    WorkMessage {
        version: VERSION,
        work: Work::Route {
            event_id: event(number),
            run: 0,
            generation: 0,
        },
        trace_id: "0af7651916cd43dd8448eb211c80319c".parse().unwrap(),
        labels: Labels::default(),
    }
}

pub(crate) fn route(number: u128) -> Outbound {
    to(Target::Work(WorkQueue::Route), number)
}

pub(crate) fn to(target: Target, number: u128) -> Outbound {
    Outbound {
        target,
        message_id: number.to_string(),
        body: serde_json::to_vec(&route_message(number)).unwrap(),
        traceparent: None,
        headers: None,
    }
}

pub(crate) fn routes(numbers: std::ops::Range<u128>) -> Vec<Outbound> {
    numbers.map(route).collect()
}
