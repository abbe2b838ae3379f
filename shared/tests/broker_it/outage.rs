//! Outages heal by themselves and lose nothing.

use std::time::Duration;

use shared::broker::consumer::Verdict;
use shared::broker::health;
use shared::broker::publisher::{Outbound, PublishError, Publisher};
use shared::broker::session::LinkState;
use shared::broker::topology::Queue;
use shared::domain::message::WorkQueue;

use crate::support::handler::{Consuming, Script};
use crate::support::proxy::Proxy;
use crate::support::{BOUND, TestBroker, event, route, routes};

const ROUTE: Queue = Queue::Work(WorkQueue::Route);

/// As the sweeper does: until each is confirmed.
async fn publish_until_confirmed(publisher: Publisher, mut left: Vec<Outbound>) {
    while !left.is_empty() {
        let outcomes = publisher.publish(left.clone()).await;
        let mut outcomes = outcomes.into_iter();
        left.retain(|_| outcomes.next().is_some_and(|outcome| outcome.is_err()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_connections_heal_under_load_and_nothing_is_lost() {
    let proxy = Proxy::start().await;
    let broker = TestBroker::start_through(&proxy.url()).await;
    let mut consuming = Consuming::start(&broker, Script::new(|_| Verdict::Done));
    let publisher = Publisher::new(&broker.session);
    let load: Vec<_> = (0..20)
        .map(|part| {
            let publisher = publisher.clone();
            let first = part * 200;
            tokio::spawn(publish_until_confirmed(
                publisher,
                routes(first..first + 200),
            ))
        })
        .collect();
    for _ in 0..3 {
        for _ in 0..100 {
            consuming.next().await;
        }
        proxy.cut();
    }
    for part in load {
        tokio::time::timeout(BOUND, part)
            .await
            .expect("confirmed")
            .unwrap();
    }
    consuming.see_all((0..4_000).map(event)).await;
    // Copies may still lie behind the last one that was new.
    publish_until_confirmed(publisher, vec![route(4_000)]).await;
    consuming.see_all([event(4_000)]).await;
    consuming.stop().await;
    broker.wait_ready(ROUTE, 0).await;
    broker.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_message_confirmed_across_a_cut_is_consumed() {
    let proxy = Proxy::start().await;
    let broker = TestBroker::start_through(&proxy.url()).await;
    let mut consuming = Consuming::start(&broker, Script::new(|_| Verdict::Done));
    let publisher = Publisher::new(&broker.session);
    let first = tokio::spawn(publish_until_confirmed(publisher.clone(), routes(0..2_000)));
    consuming.next().await;
    proxy.cut();
    let second = publish_until_confirmed(publisher, routes(2_000..2_500));
    tokio::time::timeout(BOUND, second)
        .await
        .expect("confirmed");
    tokio::time::timeout(BOUND, first)
        .await
        .expect("confirmed")
        .unwrap();
    consuming.see_all((0..2_500).map(event)).await;
    consuming.stop().await;
    broker.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_broker_publishing_fails_fast_and_comes_back() {
    let proxy = Proxy::start().await;
    let broker = TestBroker::start_through(&proxy.url()).await;
    let publisher = Publisher::new(&broker.session);
    proxy.shut();
    let mut state = broker.session.publishing();
    let down = |state: &LinkState| matches!(state, LinkState::Down { .. });
    tokio::time::timeout(BOUND, state.wait_for(down))
        .await
        .expect("down")
        .unwrap();
    assert_eq!(
        publisher.publish(vec![route(1)]).await,
        [Err(PublishError::NotConnected)]
    );
    proxy.open();
    broker.connected().await;
    assert_eq!(publisher.publish(vec![route(1)]).await, [Ok(())]);
    broker.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_accepts_but_does_not_answer_is_given_up_and_tried_again() {
    let proxy = Proxy::start().await;
    let broker = TestBroker::start_with(&proxy.url(), Duration::from_millis(300)).await;
    proxy.fall_silent();
    let mut state = broker.session.consuming();
    let timed_out = |state: &LinkState| matches!(state, LinkState::Down { cause, .. } if cause.as_str() == "timeout");
    tokio::time::timeout(BOUND, state.wait_for(timed_out))
        .await
        .expect("gave up")
        .unwrap();
    proxy.open();
    broker.connected().await;
    broker.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_queue_is_declared_again_and_consumed_again() {
    let broker = TestBroker::start().await;
    let mut gaps = broker.session.gaps();
    let mut consuming = Consuming::start(&broker, Script::new(|_| Verdict::Done));
    let publisher = Publisher::new(&broker.session);
    publisher.publish(vec![route(1)]).await;
    consuming.next().await;

    broker.delete_queue(ROUTE).await;
    tokio::time::timeout(BOUND, gaps.changed())
        .await
        .expect("whoever reconciles is told")
        .unwrap();
    publish_until_confirmed(publisher, vec![route(2)]).await;
    consuming.see_all([event(2)]).await;
    consuming.stop().await;
    broker.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_starts_without_its_queue_declares_it() {
    let broker = TestBroker::start().await;
    broker.delete_queue(ROUTE).await;
    let mut consuming = Consuming::start(&broker, Script::new(|_| Verdict::Done));
    publish_until_confirmed(Publisher::new(&broker.session), vec![route(1)]).await;
    consuming.see_all([event(1)]).await;
    consuming.stop().await;
    broker.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_names_a_missing_queue_until_it_is_declared_again() {
    let broker = TestBroker::start().await;
    let mut gaps = broker.session.gaps();
    broker.delete_queue(Queue::Intake).await;
    let health = health::check(&broker.session).await;
    assert_eq!(health.missing, ["hub.dead.intake"]);
    assert!(!health.is_ready());
    tokio::time::timeout(BOUND, gaps.changed())
        .await
        .expect("declared again")
        .unwrap();
    assert!(health::check(&broker.session).await.is_ready());
    broker.finish().await;
}
