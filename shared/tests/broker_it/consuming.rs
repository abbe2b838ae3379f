//! What a consumer promises to its handler.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lapin::options::BasicGetOptions;
use shared::broker::consumer::{ConsumerState, Verdict};
use shared::broker::dead::BrokerDeath;
use shared::broker::health;
use shared::broker::publisher::Publisher;
use shared::broker::topology::Queue;
use shared::domain::failure::FailureCode;
use shared::domain::message::WorkQueue;
use tokio::sync::Semaphore;

use crate::support::handler::{Consuming, Script};
use crate::support::{TestBroker, event, eventually, route, route_message, routes};

const ROUTE: Queue = Queue::Work(WorkQueue::Route);

/// Consumed, and acknowledged too: nothing comes back after the consumer is gone.
async fn stopped_with_nothing_left(broker: TestBroker, consuming: Consuming) {
    consuming.stop().await;
    broker.wait_ready(ROUTE, 0).await;
    broker.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_arrives_whole_and_is_acknowledged() {
    let broker = TestBroker::start().await;
    let mut consuming = Consuming::start(&broker, Script::new(|_| Verdict::Done));
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut message = route(1);
    message.headers = serde_json::json!({"x-letter-id": "a"}).as_object().cloned();
    Publisher::new(&broker.session).publish(vec![message]).await;

    let incoming = consuming.next().await;
    assert_eq!(incoming.message, route_message(1));
    assert_eq!(incoming.delivery_count, 0);
    assert!(!incoming.alone && !incoming.redelivered);
    assert_eq!(incoming.headers["x-letter-id"], "a");
    let published = Duration::from_millis(incoming.published_at_ms.unwrap().try_into().unwrap());
    assert!(published + Duration::from_millis(1) >= before);
    assert_eq!(consuming.view.newest_taken_ms(), incoming.published_at_ms);
    eventually("settled", async || {
        consuming.view.oldest_unsettled_ms().is_none()
    })
    .await;
    assert_eq!(consuming.view.state(), ConsumerState::Flowing);
    stopped_with_nothing_left(broker, consuming).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panicking_handler_makes_a_dead_letter_and_the_message_is_acknowledged() {
    let broker = TestBroker::start().await;
    let script = Script::new(|incoming| {
        assert_ne!(incoming.message, route_message(2), "a bug of the handler");
        Verdict::Done
    });
    let mut consuming = Consuming::start(&broker, script);
    Publisher::new(&broker.session).publish(routes(1..4)).await;

    let dead = consuming.next_dead().await;
    assert_eq!(dead.code, FailureCode::Panicked);
    assert_eq!(dead.message, Some(route_message(2)));
    consuming.see_all([event(1), event(3)]).await;
    stopped_with_nothing_left(broker, consuming).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_decoded_is_dead_and_never_reaches_the_handler() {
    let broker = TestBroker::start().await;
    let mut consuming = Consuming::start(&broker, Script::new(|_| Verdict::Done));
    broker.publish_raw(ROUTE, b"{\"kind\":\"nonsense\"}").await;

    let dead = consuming.next_dead().await;
    assert_eq!(dead.code, FailureCode::MessageUnreadable);
    assert_eq!(dead.message, None);
    assert_eq!(dead.body, b"{\"kind\":\"nonsense\"}");
    assert!(!format!("{dead:?}").contains("nonsense"));
    assert!(consuming.seen.try_recv().is_err());
    stopped_with_nothing_left(broker, consuming).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_takes_long_shuts_the_consumer_for_nobody_behind_it() {
    let broker = TestBroker::start().await;
    let first_may_end = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&first_may_end);
    let script = Script::slow(move |incoming| {
        let gate = Arc::clone(&gate);
        async move {
            if incoming.message == route_message(0) {
                gate.acquire().await.unwrap().forget();
            }
            Verdict::Done
        }
    });
    let mut consuming = Consuming::start(
        &broker,
        Script {
            prefetch: 5,
            ..script
        },
    );
    Publisher::new(&broker.session).publish(routes(0..10)).await;

    // A few may be settled behind the first and wait; with a prefetch of five, all ten come anyway.
    consuming.see_all((0..10).map(event)).await;
    broker.wait_ready(ROUTE, 0).await;
    assert!(consuming.view.oldest_unsettled_ms().is_some());
    first_may_end.add_permits(1);
    stopped_with_nothing_left(broker, consuming).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_came_back_often_runs_alone() {
    let broker = TestBroker::start().await;
    Publisher::new(&broker.session).publish(routes(0..5)).await;
    for _ in 0..3 {
        return_all(&broker, 5).await;
    }
    let at_once = Arc::new(Semaphore::new(1));
    let one = Arc::clone(&at_once);
    let script = Script::slow(move |_| {
        let one = Arc::clone(&one);
        async move {
            let _only_one = one.try_acquire().expect("nothing else runs");
            tokio::time::sleep(Duration::from_millis(5)).await;
            Verdict::Done
        }
    });
    let mut consuming = Consuming::start(&broker, script);
    for _ in 0..5 {
        let incoming = consuming.next().await;
        assert!(incoming.alone && incoming.redelivered);
        assert_eq!(incoming.delivery_count, 3);
    }
    assert!(consuming.dead.try_recv().is_err(), "none panicked");
    stopped_with_nothing_left(broker, consuming).await;
}

/// Takes messages and loses the connection, as a process that is killed does.
async fn return_all(broker: &TestBroker, count: u32) {
    broker.wait_ready(ROUTE, count).await;
    let admin = broker.admin().await;
    let channel = admin.create_channel().await.unwrap();
    for _ in 0..count {
        let name = broker.topology.queue(ROUTE);
        let options = BasicGetOptions::default();
        assert!(
            channel
                .basic_get(name.into(), options)
                .await
                .unwrap()
                .is_some()
        );
    }
    admin.close(200, "done".into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_gives_up_at_the_delivery_limit_and_its_letter_tells_why() {
    let broker = TestBroker::start().await;
    Publisher::new(&broker.session)
        .publish(vec![route(1)])
        .await;
    for _ in 0..=50 {
        return_all(&broker, 1).await;
    }
    broker.wait_ready(Queue::Dead(WorkQueue::Route), 1).await;
    broker.wait_ready(Queue::Intake, 1).await;
    assert_eq!(
        health::queue_is_empty(&broker.session, ROUTE).await,
        Ok(true)
    );

    let mut letters = Consuming::start_on(&broker, Queue::Intake, Script::new(|_| Verdict::Done));
    let letter = letters.next().await;
    assert_eq!(letter.message, route_message(1));
    let death = BrokerDeath::of(&letter.headers).expect("made by the broker");
    assert_eq!(death.queue, Some(WorkQueue::Route));
    assert_eq!(death.reason, "delivery_limit");
    letters.stop().await;
    broker.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_running_handlers_finish_and_acknowledges_them() {
    let broker = TestBroker::start().await;
    let script = Script::slow(|_| async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Verdict::Done
    });
    let mut consuming = Consuming::start(
        &broker,
        Script {
            prefetch: 4,
            ..script
        },
    );
    Publisher::new(&broker.session)
        .publish(routes(0..200))
        .await;
    consuming.next().await;
    consuming.stop().await;
    let left = health::depth(&broker.session, ROUTE).await.unwrap().ready;
    assert!(left > 0, "it stopped early");
    let mut rest = Consuming::start(&broker, Script::new(|_| Verdict::Done));
    let mut seen = 0;
    while seen < left {
        let incoming = rest.next().await;
        // What was on its way when the consumer was cancelled is returned by the broker, once.
        assert!(incoming.delivery_count <= 1);
        seen += 1;
    }
    stopped_with_nothing_left(broker, rest).await;
}
