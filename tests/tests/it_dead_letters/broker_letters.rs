//! Letters that the broker makes at the delivery limit: seen, tried once more alone, and then left
//! to a person.

use posto_tests::world::{Leaves, World};
use serde_json::json;
use shared::broker::Queue;
use shared::domain::message::WorkQueue;

use crate::management::{self, until_depth};
use crate::support::{WHATSAPP, audit, bill, dead, letters, messages_to, post, until_all, world};

/// Takes and returns the only message of a queue until the broker has had enough.
async fn exhaust(world: &World, queue: Queue) {
    until_depth(world, queue, 1).await;
    let mut first = None;
    for _ in 0..60 {
        let Some(shown) = management::get(world, queue, 1).await.pop() else {
            return;
        };
        // Its one more try may lie there before anybody sees the queue empty.
        if *first.get_or_insert_with(|| shown.payload.clone()) != shown.payload {
            return;
        }
    }
    panic!("the broker gives a message up after 50 returns");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_the_broker_gave_up_gets_one_more_try_alone() {
    let mut world = world().await;
    world.stop_delivery().await;
    let (_, trace) = post(&world, &bill(1)).await;
    exhaust(&world, Queue::Work(WHATSAPP)).await;
    world.start_delivery().await.unwrap();
    until_all(&world, "read").await;
    assert_eq!(messages_to(&world, 1), [true]);
    assert_eq!(audit(&world).await, ["posto retried_alone delivery resend"]);
    assert_eq!(
        world
            .texts("select concat_ws(' ', made_by, failure_code, state) from dead_letters")
            .await,
        ["broker broker_delivery_limit redriven"]
    );
    let recorded = "hub_dead_letters_recorded_total{failure_code=\"broker_delivery_limit\",made_by=\"broker\",queue=\"hub.deliveries.whatsapp\"}";
    assert_eq!(world.metric("delivery-worker", recorded).await, 1.0);
    let story = world.story(&trace).await;
    assert_eq!(story["dead_letters"][0]["made_by"], "broker");
    // The broker's own letter carries no id of ours, and is tidied away all the same.
    until_depth(&world, Queue::Dead(WHATSAPP), 0).await;
    world.end(Leaves::Unsettled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_time_it_stays_dead_and_a_person_may_redrive_it() {
    let mut world = world().await;
    world.stop_delivery().await;
    post(&world, &bill(2)).await;
    let work = Queue::Work(WHATSAPP);
    exhaust(&world, work).await;
    // The worker that records the first death is gone before it can send.
    world.start_delivery().await.unwrap();
    until_all(&world, "read").await;
    world.stop_delivery().await;
    world
        .run_sql(
            "update deliveries set state = 'queued', attempt_count = 0, sent_at = null, delivered_at = null,
                    read_at = null, settled_at = null;
             delete from receipts; delete from delivery_attempts",
        )
        .await;
    // What told that it was read may have been published, and not yet taken from the outbox.
    world
        .until("nothing waits in the outbox", async |world| {
            world.count("select count(*) from outbox").await == 0
        })
        .await;
    let delivery = world
        .texts("select id::text from deliveries")
        .await
        .remove(0);
    let body = json!({
        "version": 1, "kind": "deliver", "delivery_id": delivery, "channel": "whatsapp", "generation": 1,
        "attempt": 1, "trace_id": world.texts("select trace_id from deliveries").await.remove(0),
    });
    management::publish(
        &world,
        work,
        &body.to_string(),
        &json!({"x-published-ms": 1}),
    )
    .await;
    exhaust(&world, work).await;
    world.start_delivery().await.unwrap();
    world
        .until("it is dead for good", async |world| dead(world).await == 1)
        .await;
    assert_eq!(
        world
            .count("select count(*) from deliveries where state = 'dead'")
            .await,
        1
    );
    let seen = world.admin("/admin/dead-letters").await;
    assert_eq!(seen.body["dead_letters"][0]["made_by"], "broker");
    assert_eq!(seen.body["dead_letters"][0]["generation"], 1);

    // Moved back in the UI: the broker's letter has no id of ours, what it is about tells.
    let queue = Queue::Dead(WHATSAPP);
    until_depth(&world, queue, 1).await;
    management::shovel(&world, queue, work).await;
    until_all(&world, "read").await;
    assert_eq!(letters(&world, "redriven").await.len(), 2);
    let lines = audit(&world).await;
    assert_eq!(
        lines.last().unwrap(),
        "management-ui redriven delivery resend"
    );
    world.end(Leaves::Unsettled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_the_broker_gave_up_is_decided_alone() {
    let mut world = world().await;
    world.stop_router().await;
    let (event, _) = post(&world, &bill(3)).await;
    exhaust(&world, Queue::Work(WorkQueue::Route)).await;
    world
        .until("its death is noted", async |world| {
            letters(world, "redriven").await.len() == 1
        })
        .await;
    let status = world.get(&format!("/api/events/{event}")).await;
    assert_eq!(status.body["status"], "queued", "it is to be decided again");
    world.start_router().await.unwrap();
    until_all(&world, "read").await;
    world
        .until("it is read", async |world| messages_to(world, 3) == [true])
        .await;
    assert_eq!(
        world.texts("select concat_ws(' ', run, generation, state) from routings where event_type like 'billing%'").await,
        ["0 1 routed"]
    );
    assert_eq!(audit(&world).await, ["posto retried_alone event route"]);
    world.end(Leaves::Unsettled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_copy_that_the_broker_gave_up_harms_nobody() {
    let mut world = world().await;
    let (event, _) = post(&world, &bill(4)).await;
    world.until_states(&event, &["read"]).await;
    world.stop_delivery().await;
    let delivery = world
        .texts("select id::text from deliveries")
        .await
        .remove(0);
    let body = json!({
        "version": 1, "kind": "deliver", "delivery_id": delivery, "channel": "whatsapp", "generation": 0,
        "attempt": 1, "trace_id": world.texts("select trace_id from deliveries").await.remove(0),
    });
    let work = Queue::Work(WHATSAPP);
    management::publish(
        &world,
        work,
        &body.to_string(),
        &json!({"x-published-ms": 1}),
    )
    .await;
    exhaust(&world, work).await;
    world.start_delivery().await.unwrap();
    world
        .until("its death is noted", async |world| {
            letters(world, "superseded").await.len() == 1
        })
        .await;
    assert_eq!(messages_to(&world, 4), [true]);
    assert_eq!(
        world
            .count("select count(*) from deliveries where state = 'read'")
            .await,
        1
    );
    until_depth(&world, Queue::Dead(WHATSAPP), 0).await;
    world.end(Leaves::Unsettled).await;
}
