//! What died in planning is planned again: today's templates, rules and reference data, the same
//! delivery.

use posto_tests::world::{Leaves, World};
use serde_json::json;
use shared::broker::Queue;
use shared::domain::message::WorkQueue;

use crate::management::{self, until_depth};
use crate::support::{WHATSAPP, audit, bill, dead, letters, messages_to, post, until_all, world};

/// Posts a bill whose template misses a variable.
async fn without_amount(world: &World, number: u32) -> (String, String) {
    let mut event = bill(number);
    event["payload"]
        .as_object_mut()
        .expect("because a payload is an object")
        .remove("amount");
    let posted = post(world, &event).await;
    world
        .until("it is dead", async |world| dead(world).await == 1)
        .await;
    posted
}

async fn redrive(world: &World) {
    let order = json!({"ids": letters(world, "dead").await, "actor": "maria"});
    let done = world.order("/admin/dead-letters/redrive", &order).await;
    assert_eq!(
        done.body["outcomes"],
        json!({"redriven": 1}),
        "{}",
        done.body
    );
    assert_eq!(done.body["ways"], json!({"replan": 1}));
}

/// Writes a new text and waits until the router has read it.
async fn mend_template(world: &World) {
    world
        .run_sql(
            "update message_templates set active = false where key = 'overdue_7d';
             insert into message_templates (key, channel, version, body, variables)
             values ('overdue_7d', 'whatsapp', 2, 'Oi, {{ customer_name }}: {{ description }} está em aberto.',
                     '[{\"name\":\"customer_name\",\"required\":true,\"sample\":\"A\"},
                       {\"name\":\"description\",\"required\":true,\"sample\":\"B\"}]')",
        )
        .await;
    // A bill that is read shows which text the router has by now.
    let mut probe = 900;
    loop {
        probe += 1;
        post(world, &bill(probe)).await;
        world
            .until("the probe is read", async |world| {
                messages_to(world, probe).len() == 1
            })
            .await;
        let phone = crate::support::phone(probe);
        let messages = world.sim.messages();
        let text = &messages
            .iter()
            .find(|message| message.to == phone)
            .expect("because it was sent")
            .text;
        if text.contains("está em aberto.") {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bill_whose_template_was_mended_is_rendered_anew_and_sent_once() {
    let world = world().await;
    let (event, trace) = without_amount(&world, 1).await;
    until_depth(&world, Queue::Dead(WHATSAPP), 1).await;
    mend_template(&world).await;
    redrive(&world).await;
    until_all(&world, "read").await;
    assert_eq!(messages_to(&world, 1), [true]);
    let row = format!(
        "select concat_ws(' ', generation, attempt_count, body_text) from deliveries where event_id = '{event}'"
    );
    assert_eq!(
        world.texts(&row).await,
        ["1 1 Oi, Padaria Aurora: Hospedagem 1 está em aberto."]
    );
    assert_eq!(
        audit(&world).await,
        [
            "maria redriven delivery replan",
            "posto replanned delivery queued"
        ]
    );
    let story = world.story(&trace).await;
    assert_eq!(
        story["routings"].as_array().unwrap().len(),
        1,
        "one decision stands"
    );
    until_depth(&world, Queue::Dead(WHATSAPP), 0).await;
    world.end(Leaves::Unsettled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_mended_is_dead_again_with_the_next_letter() {
    let world = world().await;
    without_amount(&world, 2).await;
    redrive(&world).await;
    world
        .until("there is a second letter", async |world| {
            world.count("select count(*) from dead_letters").await == 2
        })
        .await;
    assert_eq!(
        world.texts("select concat_ws(' ', generation, failure_code, state) from dead_letters order by id").await,
        ["0 template_variable_missing redriven", "1 template_variable_missing dead"]
    );
    assert_eq!(world.count("select count(*) from deliveries").await, 1);
    assert!(world.sim.messages().is_empty());
    world.end(Leaves::Unsettled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_no_rule_wants_any_more_is_suppressed() {
    let mut world = world().await;
    without_amount(&world, 3).await;
    world
        .run_sql("update routing_rules set enabled = false where name = 'billing-overdue'")
        .await;
    world.stop_router().await;
    world.start_router().await.unwrap();
    redrive(&world).await;
    until_all(&world, "suppressed").await;
    assert!(world.sim.messages().is_empty());
    assert_eq!(dead(&world).await, 0);
    world.end(Leaves::Unsettled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_whose_message_was_lost_is_asked_for_again() {
    let mut world = world().await;
    without_amount(&world, 4).await;
    mend_template(&world).await;
    world.stop_router().await;
    redrive(&world).await;
    let queue = Queue::Work(WorkQueue::Route);
    world
        .until("the message is in the queue", async |world| {
            world.count("select count(*) from outbox").await == 0
        })
        .await;
    let lost = management::get_with(&world, queue, 100, "ack_requeue_false").await;
    let asks = lost.iter().filter(|one| one.payload.contains("replan"));
    assert_eq!(asks.count(), 1);
    world.start_router().await.unwrap();
    // A queue that goes away makes the reconciler look at once.
    management::delete(&world, queue).await;
    until_all(&world, "read").await;
    assert_eq!(messages_to(&world, 4), [true]);
    world.end(Leaves::Unsettled).await;
}
