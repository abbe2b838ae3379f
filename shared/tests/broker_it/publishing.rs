//! What a confirm means.

use shared::broker::health;
use shared::broker::publisher::{PublishError, Publisher};
use shared::broker::topology::{Queue, Target};
use shared::domain::channel::Channel;
use shared::domain::message::WorkQueue;

use crate::support::{BOUND, TestBroker, routes, to, wait_connected};

const ROUTE: Queue = Queue::Work(WorkQueue::Route);

#[tokio::test(flavor = "multi_thread")]
async fn the_topology_can_be_declared_twice() {
    let broker = TestBroker::start().await;
    wait_connected(&broker.another_session()).await;
    let health = health::check(&broker.session).await;
    assert!(health.is_ready(), "{health:?}");
    broker.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_messages_are_confirmed_in_one_call() {
    let broker = TestBroker::start().await;
    let publisher = Publisher::new(&broker.session);
    let outcomes = publisher.publish(routes(0..1_000)).await;
    assert_eq!(outcomes, vec![Ok(()); 1_000]);
    broker.wait_ready(ROUTE, 1_000).await;
    broker.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_callers_publish_at_once() {
    let broker = TestBroker::start().await;
    let publisher = Publisher::new(&broker.session);
    let callers: Vec<_> = (0..20)
        .map(|caller| {
            let publisher = publisher.clone();
            tokio::spawn(async move {
                let first = caller * 100;
                publisher.publish(routes(first..first + 100)).await
            })
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), vec![Ok(()); 100]);
    }
    broker.wait_ready(ROUTE, 2_000).await;
    broker.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unroutable_message_is_returned_and_its_queue_is_declared_again() {
    let broker = TestBroker::start().await;
    let publisher = Publisher::new(&broker.session);
    let mut gaps = broker.session.gaps();
    let email = WorkQueue::Deliver(Channel::Email);
    broker.delete_queue(Queue::Work(email)).await;

    let outcomes = publisher.publish(vec![to(Target::Work(email), 1)]).await;
    assert_eq!(outcomes, [Err(PublishError::Returned)]);

    tokio::time::timeout(BOUND, gaps.changed())
        .await
        .expect("whoever reconciles is told")
        .unwrap();
    let outcomes = publisher.publish(vec![to(Target::Work(email), 1)]).await;
    assert_eq!(outcomes, [Ok(())]);
    broker.finish().await;
}

/// The client library hands returns to whichever confirm comes next. Whether that is another's
/// depends on how the broker bundles its confirms, so this is tried a few times.
#[tokio::test(flavor = "multi_thread")]
async fn among_pipelined_messages_exactly_the_unroutable_ones_are_returned() {
    let broker = TestBroker::start().await;
    let publisher = Publisher::new(&broker.session);
    let email = WorkQueue::Deliver(Channel::Email);
    let target = |number: u128| match number % 3 {
        0 => Target::Work(email),
        1 => Target::Work(WorkQueue::Route),
        _ => Target::Work(WorkQueue::Receipts),
    };
    let mut gaps = broker.session.gaps();
    for _ in 0..4 {
        broker.delete_queue(Queue::Work(email)).await;
        let batch = (0..500).map(|number| to(target(number), number));
        let outcomes = publisher.publish(batch.collect()).await;
        for (number, outcome) in (0..500).zip(outcomes) {
            let expected = if number % 3 == 0 {
                Err(PublishError::Returned)
            } else {
                Ok(())
            };
            assert_eq!(outcome, expected, "message {number}");
        }
        tokio::time::timeout(BOUND, gaps.changed())
            .await
            .expect("declared again")
            .unwrap();
    }
    broker.wait_ready(ROUTE, 4 * 167).await;
    broker.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_lies_in_the_dead_queue_and_in_the_intake() {
    let broker = TestBroker::start().await;
    let publisher = Publisher::new(&broker.session);
    let letter = to(Target::Letter(WorkQueue::Receipts), 1);
    assert_eq!(publisher.publish(vec![letter]).await, [Ok(())]);
    broker.wait_ready(Queue::Dead(WorkQueue::Receipts), 1).await;
    broker.wait_ready(Queue::Intake, 1).await;
    assert_eq!(
        health::queue_is_empty(&broker.session, Queue::Dead(WorkQueue::Route)).await,
        Ok(true)
    );
    broker.finish().await;
}
