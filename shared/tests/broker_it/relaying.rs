//! The relay on an outbox in memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use prometheus::Registry;
use shared::broker::consumer::Verdict;
use shared::broker::publisher::Publisher;
use shared::broker::relay::{HOT_LEASE, HotRow, OutboxStore, Relay, RelayMetrics, RelayParts};
use shared::broker::topology::{Queue, Target};
use shared::domain::channel::Channel;
use shared::domain::message::WorkQueue;
use tokio_util::sync::CancellationToken;

use crate::support::handler::{Consuming, Script};
use crate::support::proxy::Proxy;
use crate::support::{TestBroker, event, eventually, route_message};

const ROUTE: Queue = Queue::Work(WorkQueue::Route);

#[derive(Debug, thiserror::Error)]
#[error("the database is away")]
struct Away;

/// The outbox table: rows and when their lease ends.
#[derive(Clone, Default)]
struct Memory(Arc<Table>);

#[derive(Default)]
struct Table {
    rows: Mutex<BTreeMap<i64, (HotRow, Instant)>>,
    away: AtomicBool,
}

impl Memory {
    /// Inserts rows with a lease, as a committing transaction does.
    fn insert(&self, rows: &[HotRow], lease: Duration) {
        let mut table = self.0.rows.lock().unwrap();
        for row in rows {
            table.insert(row.id, (row.clone(), Instant::now() + lease));
        }
    }

    fn len(&self) -> usize {
        self.0.rows.lock().unwrap().len()
    }

    fn check(&self) -> Result<(), Away> {
        if self.0.away.load(Ordering::SeqCst) {
            Err(Away)
        } else {
            Ok(())
        }
    }
}

impl OutboxStore for Memory {
    type Error = Away;

    async fn delete(&self, ids: &[i64]) -> Result<(), Away> {
        self.check()?;
        let mut rows = self.0.rows.lock().unwrap();
        for id in ids {
            rows.remove(id);
        }
        Ok(())
    }

    async fn lease_due(&self, limit: usize, lease: Duration) -> Result<Vec<HotRow>, Away> {
        self.check()?;
        let now = Instant::now();
        let mut rows = self.0.rows.lock().unwrap();
        let due = rows.values_mut().filter(|(_, until)| *until <= now);
        Ok(due
            .take(limit)
            .map(|(row, until)| {
                *until = now + lease;
                row.clone()
            })
            .collect())
    }
}

struct Relaying {
    relay: Relay,
    outbox: Memory,
    registry: Registry,
    stop: CancellationToken,
}

impl Relaying {
    fn start(broker: &TestBroker) -> Self {
        let (outbox, registry) = (Memory::default(), Registry::new());
        let stop = CancellationToken::new();
        let parts = RelayParts {
            session: broker.session.clone(),
            publisher: Publisher::new(&broker.session),
            store: outbox.clone(),
            metrics: RelayMetrics::register(&registry).unwrap(),
        };
        Self {
            relay: Relay::start(parts, &broker.tasks, &stop),
            outbox,
            registry,
            stop,
        }
    }

    async fn emptied(&self) {
        eventually("an empty outbox", async || self.outbox.len() == 0).await;
    }

    fn count(&self, metric: &str, label: Option<&str>) -> u64 {
        let families = self.registry.gather();
        let family = families.iter().find(|f| f.name() == metric).unwrap();
        let counted = family
            .get_metric()
            .iter()
            .filter(|m| label.is_none_or(|l| m.get_label().iter().any(|p| p.value() == l)))
            .map(|m| m.get_counter().get_value())
            .sum::<f64>();
        counted as u64
    }

    async fn finish(self, broker: TestBroker) {
        self.stop.cancel();
        broker.finish().await;
    }
}

fn rows(numbers: std::ops::Range<i64>) -> Vec<HotRow> {
    numbers
        .map(|id| HotRow {
            id,
            target: Target::Work(WorkQueue::Route),
            body: serde_json::to_vec(&route_message(id.try_into().unwrap())).unwrap(),
            traceparent: None,
            headers: None,
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_offered_is_published_and_deleted() {
    let broker = TestBroker::start().await;
    let relaying = Relaying::start(&broker);
    for part in 0..10 {
        let committed = rows(part * 100..(part + 1) * 100);
        let leased_at = Instant::now();
        relaying.outbox.insert(&committed, HOT_LEASE);
        assert_eq!(relaying.relay.offer(committed, leased_at), 100);
    }
    relaying.emptied().await;
    broker.wait_ready(ROUTE, 1_000).await;
    assert_eq!(
        relaying.count("hub_relay_published_total", Some("hot")),
        1_000
    );
    assert_eq!(
        relaying.count("hub_relay_published_total", Some("sweep")),
        0
    );
    relaying.finish(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_offered_is_swept_page_after_page() {
    let broker = TestBroker::start().await;
    let relaying = Relaying::start(&broker);
    relaying.outbox.insert(&rows(0..1_700), Duration::ZERO);
    relaying.emptied().await;
    broker.wait_ready(ROUTE, 1_700).await;
    assert_eq!(
        relaying.count("hub_relay_published_total", Some("sweep")),
        1_700
    );
    relaying.finish(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_with_half_its_lease_gone_is_left_to_the_sweeper() {
    let broker = TestBroker::start().await;
    let relaying = Relaying::start(&broker);
    let late = Instant::now().checked_sub(HOT_LEASE / 2).unwrap();
    assert_eq!(relaying.relay.offer(rows(0..3), late), 3);
    eventually("dropped", async || {
        relaying.count("hub_relay_dropped_hot_total", None) == 3
    })
    .await;
    broker.wait_ready(ROUTE, 0).await;
    relaying.finish(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_there_is_room_for_is_not_taken() {
    let broker = TestBroker::start().await;
    let relaying = Relaying::start(&broker);
    let all = rows(0..30_000);
    relaying.outbox.insert(&all, Duration::from_secs(4));
    let taken = relaying.relay.offer(all, Instant::now());
    assert!(taken < 30_000, "took {taken}");
    relaying.emptied().await;
    relaying.finish(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_broker_is_away_rows_wait_and_go_out_when_it_is_back() {
    let proxy = Proxy::start().await;
    let broker = TestBroker::start_through(&proxy.url()).await;
    let relaying = Relaying::start(&broker);
    let mut consuming = Consuming::start(&broker, Script::new(|_| Verdict::Done));
    proxy.shut();
    let mut state = broker.session.publishing();
    state.wait_for(|state| !state.is_connected()).await.unwrap();
    assert_eq!(relaying.relay.offer(rows(0..10), Instant::now()), 0);
    relaying.outbox.insert(&rows(0..800), Duration::ZERO);
    proxy.open();
    relaying.emptied().await;
    consuming.see_all((0..800).map(event)).await;
    consuming.stop().await;
    relaying.finish(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_away_confirmed_rows_wait_for_their_delete() {
    let broker = TestBroker::start().await;
    let relaying = Relaying::start(&broker);
    let committed = rows(0..50);
    relaying.outbox.insert(&committed, HOT_LEASE);
    relaying.outbox.0.away.store(true, Ordering::SeqCst);
    relaying.relay.offer(committed, Instant::now());
    broker.wait_ready(ROUTE, 50).await;
    eventually("a failed delete", async || {
        relaying.count("hub_relay_store_failures_total", None) > 0
    })
    .await;
    relaying.outbox.0.away.store(false, Ordering::SeqCst);
    relaying.emptied().await;
    broker.wait_ready(ROUTE, 50).await;
    relaying.finish(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_returned_row_stays_and_goes_out_once_its_queue_is_back() {
    let broker = TestBroker::start().await;
    let relaying = Relaying::start(&broker);
    let email = WorkQueue::Deliver(Channel::Email);
    broker.delete_queue(Queue::Work(email)).await;
    let mut row = rows(1..2).remove(0);
    row.target = Target::Work(email);
    relaying
        .outbox
        .insert(std::slice::from_ref(&row), Duration::from_secs(1));
    relaying.relay.offer(vec![row], Instant::now());
    relaying.emptied().await;
    assert_eq!(
        relaying.count("hub_relay_failures_total", Some("returned")),
        1
    );
    broker.wait_ready(Queue::Work(email), 1).await;
    relaying.finish(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_publishes_what_was_taken() {
    let broker = TestBroker::start().await;
    let relaying = Relaying::start(&broker);
    let committed = rows(0..1_500);
    relaying.outbox.insert(&committed, HOT_LEASE);
    let taken = relaying.relay.offer(committed, Instant::now());
    relaying.stop.cancel();
    eventually("deleted", async || relaying.outbox.len() == 1_500 - taken).await;
    relaying.finish(broker).await;
}
