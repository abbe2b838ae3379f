//! Letters moved back in the management UI: with its shovel, and with "get" and "publish".

use posto_tests::gateway_sim::{Fault, FaultRule};
use posto_tests::world::{Leaves, Setup, World};
use serde_json::{Value, json};
use shared::broker::Queue;

use crate::management::{self, get_with, publish, shovel, until_depth};
use crate::support::{
    WHATSAPP, audit, bill, dead, die, letters, messages_to, phone, post, until_all, world,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_shovel_that_moves_all_letters_back_redrives_each_once() {
    let world = world().await;
    let posted = die(&world, 0..30).await;
    let queue = Queue::Dead(WHATSAPP);
    until_depth(&world, queue, 30).await;
    shovel(&world, queue, Queue::Work(WHATSAPP)).await;
    until_all(&world, "read").await;
    for number in 0..30 {
        assert_eq!(messages_to(&world, number), [true], "customer {number}");
    }
    assert_eq!(
        audit(&world).await,
        ["management-ui redriven delivery resend"; 30]
    );
    assert_eq!(letters(&world, "redriven").await.len(), 30);
    until_depth(&world, queue, 0).await;
    let story = world.story(&posted[0].1).await;
    assert_eq!(story["audit"][0]["actor"], "management-ui");
    assert_eq!(story["deliveries"][0]["generation"], 1);
    world.end(Leaves::Unsettled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_message_that_is_got_and_published_is_redriven_once_however_it_is_copied() {
    let world = world().await;
    die(&world, 0..3).await;
    let queue = Queue::Dead(WHATSAPP);
    until_depth(&world, queue, 3).await;
    let work = Queue::Work(WHATSAPP);
    let shown = management::get(&world, queue, 3).await;
    // With its headers, without them, and twice.
    publish(&world, work, &shown[0].payload, &shown[0].headers).await;
    publish(&world, work, &shown[1].payload, &json!({})).await;
    publish(&world, work, &shown[2].payload, &shown[2].headers).await;
    publish(&world, work, &shown[2].payload, &json!({})).await;
    until_all(&world, "read").await;
    for number in 0..3 {
        assert_eq!(messages_to(&world, number), [true], "customer {number}");
    }
    assert_eq!(audit(&world).await.len(), 3);
    // "Get" put the letters back; settled as they are, they are tidied away.
    until_depth(&world, queue, 0).await;
    world.end(Leaves::Unsettled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_that_are_left_over_are_dropped() {
    let world = world().await;
    die(&world, 0..2).await;
    let queue = Queue::Dead(WHATSAPP);
    until_depth(&world, queue, 2).await;
    // A person keeps copies of both.
    let kept = management::get(&world, queue, 2).await;
    let order = json!({"ids": letters(&world, "dead").await});
    world.order("/admin/dead-letters/redrive", &order).await;
    until_all(&world, "read").await;
    let work = Queue::Work(WHATSAPP);
    for copy in &kept {
        publish(&world, work, &copy.payload, &copy.headers).await;
        publish(&world, work, &copy.payload, &json!({})).await;
    }
    let mut nobodys = kept[0].headers.clone();
    nobodys["x-letter-id"] = json!(uuid::Uuid::new_v4());
    publish(&world, work, &kept[0].payload, &nobodys).await;
    world
        .until("every copy is dropped", async |world| {
            world
                .metric(
                    "delivery-worker",
                    "hub_dead_letter_copies_dropped_total{reason=\"moved_on\"}",
                )
                .await
                == 4.0
                && world
                    .metric(
                        "delivery-worker",
                        "hub_dead_letter_copies_dropped_total{reason=\"unknown\"}",
                    )
                    .await
                    == 1.0
        })
        .await;
    for number in 0..2 {
        assert_eq!(messages_to(&world, number), [true], "customer {number}");
    }
    assert_eq!(audit(&world).await.len(), 2, "copies leave no line");
    world.end(Leaves::Unsettled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_second_copy_of_a_message_redrives_nothing() {
    let mut world = world().await;
    die(&world, 5..6).await;
    let queue = Queue::Dead(WHATSAPP);
    until_depth(&world, queue, 1).await;
    let letter = management::get(&world, queue, 1).await.remove(0);
    world.stop_delivery().await;
    // As the relay publishes a row twice: the last attempt's message, marked with its time.
    let work = Queue::Work(WHATSAPP);
    publish(&world, work, &letter.payload, &json!({"x-published-ms": 1})).await;
    world.start_delivery().await.unwrap();
    world
        .until("the copy is dropped", async |world| {
            world
                .metric("delivery-worker", "hub_delivery_stale_copies_total")
                .await
                == 1.0
        })
        .await;
    assert_eq!(dead(&world).await, 1);
    assert!(audit(&world).await.is_empty());
    world.end(Leaves::Unsettled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_may_not_be_redriven_goes_back_to_its_dead_queue() {
    let mut world = World::start_with(Setup {
        send_timeout: "500ms",
        retry_base: "1ms",
        router: false,
        ..Setup::default()
    })
    .await;
    world
        .run_sql("update message_templates set unknown_policy = 'resend' where key = 'overdue_7d'")
        .await;
    world.start_router().await.unwrap();
    let to = phone(9);
    world
        .sim
        .set_fault(FaultRule::new(Fault::TimeoutBefore).to(&to).times(1));
    world
        .sim
        .set_fault(FaultRule::new(Fault::SuccessFalse).to(&to).times(1));
    post(&world, &bill(9)).await;
    let queue = Queue::Dead(WHATSAPP);
    until_depth(&world, queue, 1).await;
    let before = management::get(&world, queue, 1).await.remove(0);
    shovel(&world, queue, Queue::Work(WHATSAPP)).await;
    world
        .until("it was refused", async |world| {
            world
                .metric(
                    "delivery-worker",
                    "hub_dead_letter_copies_dropped_total{reason=\"refused\"}",
                )
                .await
                == 1.0
        })
        .await;
    until_depth(&world, queue, 1).await;
    let after = management::get(&world, queue, 1).await.remove(0);
    let told = |headers: &Value| {
        let mut headers = headers.clone();
        for changing in ["x-published-ms", "x-delivery-count"] {
            headers.as_object_mut().unwrap().remove(changing);
        }
        headers
    };
    assert_eq!(told(&before.headers), told(&after.headers));
    let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    assert_eq!(parsed(&before.payload), parsed(&after.payload));
    assert_eq!(dead(&world).await, 1);
    assert_eq!(messages_to(&world, 9), [false, false]);
    assert!(
        get_with(&world, Queue::Work(WHATSAPP), 5, "ack_requeue_true")
            .await
            .is_empty()
    );
    world.end(Leaves::Unsettled).await;
}
