//! The internal chat as a channel.

use posto_tests::world::{CHAT_TOKEN, Leaves, World};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_event_becomes_a_message_on_the_thread_of_its_order_once() {
    let world = World::start().await;
    for (key, text) in [
        ("c1", "Qual o prazo?"),
        ("c1", "Qual o prazo?"),
        ("c2", "E o logo?"),
    ] {
        let event = json!({
            "event_type": "chat.message.received", "source_system": "chat", "tenant_id": 1, "idempotency_key": key,
            "payload": {"order_id": 77, "role": "user", "message": text}
        });
        assert_eq!(world.post_as(CHAT_TOKEN, &event).await.status, 202);
    }
    world
        .until("both are delivered", async |world| {
            world
                .count("select count(*) from deliveries where state = 'delivered'")
                .await
                == 2
        })
        .await;
    let threads = world
        .texts(
            "select concat_ws('|', kind, order_id, customer_id, message_count) from chat_threads",
        )
        .await;
    assert_eq!(threads, ["order|77|1|2"]);
    let mut messages = world
        .texts("select content from chat_messages order by id")
        .await;
    messages.sort();
    assert_eq!(messages, ["E o logo?", "Qual o prazo?"]);
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_for_a_thread_that_does_not_exist_fails_visibly() {
    let world = World::start().await;
    let event = json!({
        "event_type": "chat.message.received", "source_system": "chat", "tenant_id": 1, "idempotency_key": "nobody",
        "payload": {"thread_id": 4711, "message": "oi"}
    });
    let accepted = world.post_as(CHAT_TOKEN, &event).await;
    world
        .until_states(&accepted.text("/event_id"), &["failed"])
        .await;
    let story = world.story(&accepted.text("/trace_id")).await;
    assert_eq!(story["deliveries"][0]["failure_code"], "recipient_missing");
    world.end(Leaves::Unsettled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_of_one_tenant_speaks_for_no_other() {
    let world = World::start().await;
    for tenant in [json!(2), json!(999), json!(null)] {
        let event = json!({
            "event_type": "chat.message.received", "source_system": "chat", "tenant_id": tenant,
            "payload": {"order_id": 1, "message": "oi"}
        });
        let refused = world.post_as(CHAT_TOKEN, &event).await;
        assert_eq!(
            (refused.status, refused.text("/code")),
            (403, "tenant_forbidden".to_owned()),
            "tenant {tenant}"
        );
    }
    assert_eq!(
        world
            .count("select count(*) from communication_events")
            .await,
        0
    );
    world.end(Leaves::Nothing).await;
}
