//! A handler whose verdicts a test decides, and which tells what it saw.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use shared::broker::consumer::{
    ConsumerConfig, ConsumerView, DeadItem, Handler, Incoming, NotRecorded, Verdict, consume,
};
use shared::broker::topology::Queue;
use shared::domain::ids::EventId;
use shared::domain::message::WorkQueue;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{BOUND, TestBroker};

type Record = Box<dyn FnMut(&DeadItem) -> Result<(), NotRecorded> + Send>;
type Decide = Box<dyn Fn(Incoming) -> BoxFuture<'static, Verdict> + Send + Sync>;

/// Tells everything that it gets and answers what `decide` says.
pub(crate) struct Scripted {
    decide: Decide,
    record: Mutex<Record>,
    seen: mpsc::UnboundedSender<Incoming>,
    dead: mpsc::UnboundedSender<DeadItem>,
}

impl Handler for Scripted {
    async fn handle(&self, incoming: Incoming) -> Verdict {
        let _test_over = self.seen.send(incoming.clone());
        (self.decide)(incoming).await
    }

    async fn dead(&self, item: DeadItem) -> Result<(), NotRecorded> {
        (self.record.lock().unwrap())(&item)?;
        let _test_over = self.dead.send(item);
        Ok(())
    }
}

/// A running consumer and what its handler saw.
pub(crate) struct Consuming {
    pub(crate) seen: mpsc::UnboundedReceiver<Incoming>,
    pub(crate) dead: mpsc::UnboundedReceiver<DeadItem>,
    pub(crate) view: ConsumerView,
    /// Every event that was taken out of `seen` so far.
    known: HashSet<EventId>,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

pub(crate) struct Script {
    pub(crate) decide: Decide,
    pub(crate) record: Record,
    pub(crate) prefetch: u16,
}

impl Script {
    /// Decides at once.
    pub(crate) fn new(decide: impl Fn(&Incoming) -> Verdict + Send + Sync + 'static) -> Self {
        let decide = Arc::new(decide);
        Self::slow(move |incoming| {
            let decide = Arc::clone(&decide);
            async move { decide(&incoming) }
        })
    }

    /// Decides in its own time.
    pub(crate) fn slow<F>(decide: impl Fn(Incoming) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Verdict> + Send + 'static,
    {
        Self {
            decide: Box::new(move |incoming| decide(incoming).boxed()),
            record: Box::new(|_| Ok(())),
            prefetch: 50,
        }
    }
}

impl Consuming {
    /// Consumes the routing queue.
    pub(crate) fn start(broker: &TestBroker, script: Script) -> Self {
        Self::start_on(broker, Queue::Work(WorkQueue::Route), script)
    }

    pub(crate) fn start_on(broker: &TestBroker, queue: Queue, script: Script) -> Self {
        let (seen_in, seen) = mpsc::unbounded_channel();
        let (dead_in, dead) = mpsc::unbounded_channel();
        let handler = Scripted {
            decide: script.decide,
            record: Mutex::new(script.record),
            seen: seen_in,
            dead: dead_in,
        };
        let config = ConsumerConfig::new(queue, script.prefetch, "test");
        let view = config.view.clone();
        let stop = CancellationToken::new();
        let running = tokio::spawn(consume(
            broker.session.clone(),
            config,
            Arc::new(handler),
            stop.clone(),
        ));
        Self {
            seen,
            dead,
            view,
            known: HashSet::new(),
            stop,
            running,
        }
    }

    pub(crate) async fn next(&mut self) -> Incoming {
        let incoming = tokio::time::timeout(BOUND, self.seen.recv())
            .await
            .expect("a message in time")
            .unwrap();
        let event = EventId(incoming.message.work.subject());
        self.known.insert(event);
        incoming
    }

    pub(crate) async fn next_dead(&mut self) -> DeadItem {
        tokio::time::timeout(BOUND, self.dead.recv())
            .await
            .expect("a dead item in time")
            .unwrap()
    }

    /// Waits until every one of those events was seen at least once since the start.
    pub(crate) async fn see_all(&mut self, expected: impl IntoIterator<Item = EventId>) {
        for event in expected {
            while !self.known.contains(&event) {
                self.next().await;
            }
        }
    }

    /// Forgets what was seen until now.
    pub(crate) fn forget(&mut self) {
        while self.seen.try_recv().is_ok() {}
        self.known.clear();
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(BOUND, self.running)
            .await
            .expect("the consumer stops in time")
            .unwrap();
    }
}
