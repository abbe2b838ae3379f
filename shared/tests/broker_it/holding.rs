//! Holding: a dependency is unwell, nothing is burnt and nothing is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use shared::broker::consumer::{ConsumerState, NotRecorded, Verdict};
use shared::broker::publisher::Publisher;
use shared::broker::topology::Queue;
use shared::domain::failure::FailureCode;
use shared::domain::message::WorkQueue;

use crate::support::handler::{Consuming, Script};
use crate::support::{TestBroker, event, eventually, route, routes};

const ROUTE: Queue = Queue::Work(WorkQueue::Route);

#[tokio::test(flavor = "multi_thread")]
async fn held_messages_are_kept_and_run_again_without_being_returned() {
    let broker = TestBroker::start().await;
    let unwell = Arc::new(AtomicBool::new(true));
    let database = Arc::clone(&unwell);
    let script = Script::new(move |incoming| {
        assert_eq!(incoming.delivery_count, 0);
        assert!(!incoming.redelivered);
        if database.load(Ordering::SeqCst) {
            Verdict::Hold
        } else {
            Verdict::Done
        }
    });
    let mut consuming = Consuming::start(
        &broker,
        Script {
            prefetch: 10,
            ..script
        },
    );
    let publisher = Publisher::new(&broker.session);
    publisher.publish(routes(0..30)).await;

    eventually("holding", async || {
        consuming.view.state() == ConsumerState::Holding
    })
    .await;
    consuming.forget();
    // Two probes later no more than the prefetch is taken.
    for _ in 0..2 {
        consuming.next().await;
    }
    broker.wait_ready(ROUTE, 20).await;
    assert!(consuming.view.oldest_unsettled_ms().is_some());
    consuming.forget();

    unwell.store(false, Ordering::SeqCst);
    consuming.see_all((0..30).map(event)).await;
    assert!(consuming.dead.try_recv().is_err());
    consuming.stop().await;
    broker.wait_ready(ROUTE, 0).await;
    broker.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_cannot_be_written_is_held_and_written_later() {
    let broker = TestBroker::start().await;
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let mut script = Script::new(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        Verdict::Dead(FailureCode::SubjectNotFound)
    });
    let mut refusals = 1;
    script.record = Box::new(move |_| {
        if refusals > 0 {
            refusals -= 1;
            return Err(NotRecorded);
        }
        Ok(())
    });
    let mut consuming = Consuming::start(&broker, script);
    Publisher::new(&broker.session)
        .publish(vec![route(1)])
        .await;

    let dead = consuming.next_dead().await;
    assert_eq!(dead.code, FailureCode::SubjectNotFound);
    assert_eq!(
        runs.load(Ordering::SeqCst),
        1,
        "the handler is not asked again"
    );
    consuming.stop().await;
    broker.wait_ready(ROUTE, 0).await;
    broker.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_holding_gives_everything_back() {
    let broker = TestBroker::start().await;
    let consuming = Consuming::start(&broker, Script::new(|_| Verdict::Hold));
    Publisher::new(&broker.session).publish(routes(0..10)).await;
    eventually("holding", async || {
        consuming.view.state() == ConsumerState::Holding
    })
    .await;
    consuming.stop().await;
    broker.wait_ready(ROUTE, 10).await;
    broker.finish().await;
}
