//! What the gateway posts becomes what `samples/hub` says, in any order and more than once.

use posto_tests::gateway_sim::Settings;
use posto_tests::world::{Leaves, World, overdue};
use serde_json::{Value, json};

/// A text message of the gateway, as sample 01.
fn inbound(id: &str, from: &str, text: &str) -> Value {
    json!({
        "spec_version": "1.0", "event": "message",
        "session": {"id": "Pixel12 Digital", "name": "Pixel12 Digital"},
        "message": {"id": format!("false_{from}_{id}"), "from": from, "to": "554733000001@c.us", "text": text, "timestamp": 1_770_300_001},
        "ack": null, "connection": null,
        "raw": {"provider": "wppconnect", "payload": {
            "event": "onmessage", "session": "Pixel12 Digital", "id": format!("false_{from}_{id}"), "body": text,
            "type": "chat", "t": 1_770_300_001, "notifyName": "Aurora Padaria", "from": from,
            "to": "554733000001@c.us", "fromMe": false, "isGroupMsg": false, "mediaData": [],
        }},
        "event_id": uuid::Uuid::new_v4(), "correlation_id": uuid::Uuid::new_v4(), "timestamp": 1_770_300_001
    })
}

fn session_changed(status: &str, at: &str) -> Value {
    json!({
        "spec_version": "1.0", "event": "connection.update",
        "session": {"id": "Pixel12 Digital", "name": "Pixel12 Digital"},
        "message": null, "ack": null,
        "connection": {"status": if status == "inChat" { "connected" } else { "close" }},
        "raw": {"provider": "wppconnect", "payload": {"event": "status-find", "session": "Pixel12 Digital", "status": status}},
        "event_id": uuid::Uuid::new_v4(), "correlation_id": uuid::Uuid::new_v4(), "timestamp": at
    })
}

fn presence() -> Value {
    json!({
        "spec_version": "1.0", "event": "connection.update",
        "session": {"id": "Pixel12 Digital", "name": "Pixel12 Digital"},
        "message": null, "ack": null, "connection": {"status": "unavailable"},
        "raw": {"provider": "wppconnect", "payload": {
            "event": "onpresencechanged", "session": "Pixel12 Digital", "id": "5521977700099@c.us", "isOnline": false,
            "isUser": true, "state": "unavailable", "t": 1_770_300_666_490_i64}},
        "event_id": uuid::Uuid::new_v4(), "correlation_id": uuid::Uuid::new_v4(), "timestamp": "2026-02-05T14:11:06.497Z"
    })
}

/// An echo of ours or of the phone, as samples 10 and 11.
fn outbound(id: &str, to: &str, text: &str, correlation: &str) -> Value {
    json!({
        "spec_version": "1.0", "event": "message",
        "session": {"id": "Pixel12 Digital", "name": "Pixel12 Digital"},
        "message": {"id": format!("true_{to}_{id}"), "from": "554733000001@c.us", "to": to, "text": text, "timestamp": 1_770_300_480},
        "ack": null, "connection": null,
        "raw": {"provider": "wppconnect", "payload": {
            "event": "onselfmessage", "session": "Pixel12 Digital", "id": format!("true_{to}_{id}"), "body": text,
            "type": "chat", "t": 1_770_300_480, "notifyName": "Pixel12 Digital", "from": "554733000001@c.us", "to": to,
            "fromMe": true, "isGroupMsg": false}},
        "event_id": uuid::Uuid::new_v4(), "correlation_id": correlation, "timestamp": 1_770_300_480
    })
}

fn ack(id: &str, to: &str, level: i32) -> Value {
    json!({
        "spec_version": "1.0", "event": "message.ack",
        "session": {"id": "Pixel12 Digital", "name": "Pixel12 Digital"},
        "message": {"id": format!("true_{to}_{id}"), "from": "554733000001@c.us", "to": to, "timestamp": 1_770_300_545},
        "ack": {"level": level}, "connection": null,
        "raw": {"provider": "wppconnect", "payload": {
            "event": "onack", "session": "Pixel12 Digital", "id": format!("true_{to}_{id}"), "ack": level, "t": 1_770_300_545,
            "from": "554733000001@c.us", "to": to, "type": "chat"}},
        "event_id": uuid::Uuid::new_v4(), "correlation_id": uuid::Uuid::new_v4(), "timestamp": 1_770_300_545
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customers_text_becomes_one_message_on_the_thread_of_the_right_tenant() {
    let world = World::start().await;
    let text = "Bom dia! Consegue me mandar a 2ª via do boleto?";
    for _ in 0..2 {
        let answer = world
            .post_webhook(&inbound(
                "3EB0A10000000000000001",
                "554799900011@c.us",
                text,
            ))
            .await;
        assert_eq!(
            (answer.status, answer.text("/code")),
            (200, "SUCCESS".to_owned())
        );
    }
    world
        .until("the message is on its thread", async |world| {
            world.count("select count(*) from chat_messages").await == 1
        })
        .await;
    let thread = world
        .texts("select concat_ws('|', channel_id, contact_key, contact_address, contact_name, customer_id, unread_count, message_count, status) from chat_threads")
        .await;
    assert_eq!(
        thread,
        ["pixel12digital|tel:554799900011|554799900011@c.us|Aurora Padaria|1|1|1|open"]
    );
    let message = world.texts("select concat_ws('|', role, origin, content, message_id, occurred_at at time zone 'utc') from chat_messages").await;
    assert_eq!(
        message,
        [format!(
            "user|contact|{text}|3EB0A10000000000000001|2026-02-05 14:00:01"
        )]
    );
    assert_eq!(
        world
            .count("select count(*) from communication_events")
            .await,
        1,
        "the second post is the first event"
    );
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_typed_on_the_phone_is_a_message_of_ours_that_pauses_automation() {
    let world = World::start().await;
    let typed = outbound(
        "3EB0B10000000000000010",
        "5521977700099@c.us",
        "Oi! Aqui é da Pixel.",
        "no-send-of-ours",
    );
    world.post_webhook(&typed).await;
    world.post_webhook(&typed).await;
    world
        .until("it is on its thread", async |world| {
            world.count("select count(*) from chat_messages").await == 1
        })
        .await;
    let row = world
        .texts(
            "select concat_ws('|', m.role, m.origin, m.content, t.unread_count, t.customer_id is null, t.contact_name is null,
                    t.automation_paused_at is not null)
             from chat_messages m join chat_threads t on t.id = m.thread_id",
        )
        .await;
    assert_eq!(row, ["assistant|device|Oi! Aqui é da Pixel.|0|t|t|t"]);
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_echo_without_text_binds_by_the_gateways_id_and_late_acks_never_regress() {
    let world = World::start().await;
    world.sim.set_settings(Settings {
        echo: false,
        acks: Vec::new(),
        ..world.sim.settings()
    });
    let accepted = world.post(&overdue("echo-1")).await;
    let event_id = accepted.text("/event_id");
    world.until_states(&event_id, &["sent"]).await;
    let correlation = world
        .texts("select gateway_correlation_id from delivery_attempts")
        .await
        .remove(0);
    let (id, to) = ("3EB0B20000000000000011", "554799900011@c.us");

    // Acks first, the latest before the earliest: they wait for the echo that names the message.
    world.post_webhook(&ack(id, to, 3)).await;
    world.post_webhook(&ack(id, to, 1)).await;
    world
        .until("the acks wait", async |world| {
            world
                .count("select count(*) from receipts where state = 'unbound'")
                .await
                == 2
        })
        .await;
    world.until_states(&event_id, &["sent"]).await;
    let mut echo = outbound(id, to, "", &correlation);
    echo["event"] = json!("message.sent");
    world.post_webhook(&echo).await;
    world.until_states(&event_id, &["read"]).await;
    world.post_webhook(&ack(id, to, 2)).await;
    world.post_webhook(&echo).await;
    world
        .until("every receipt is applied", async |world| {
            world
                .count("select count(*) from receipts where state = 'applied'")
                .await
                == 4
        })
        .await;
    world.until_states(&event_id, &["read"]).await;
    let confirmed =
        "select count(*) from billing_notifications where delivery_confirmed_at is not null";
    assert_eq!(world.count(confirmed).await, 1);
    assert_eq!(
        world.count("select count(*) from chat_messages").await,
        0,
        "an echo is no new message"
    );
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contacts_presence_is_counted_and_not_stored() {
    let world = World::start().await;
    let answer = world.post_webhook(&presence()).await;
    assert_eq!(
        (answer.status, answer.text("/code")),
        (200, "EVENT_SKIPPED".to_owned())
    );
    assert_eq!(
        world
            .count("select count(*) from communication_events")
            .await,
        0
    );
    assert_eq!(
        world.texts("select session_state from channels").await,
        ["unknown"],
        "the session has not changed"
    );
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_drops_holds_its_sends_and_drains_when_it_returns() {
    let world = World::start().await;
    world
        .post_webhook(&session_changed(
            "desconnectedMobile",
            "2026-02-05T14:12:10.001Z",
        ))
        .await;
    world
        .until("the session is down", async |world| {
            world.texts("select session_state from channels").await == ["down"]
        })
        .await;
    for n in 0..5 {
        world.post(&overdue(&format!("held-{n}"))).await;
    }
    world
        .until("all are held", async |world| {
            world
                .count("select count(*) from deliveries where state = 'held'")
                .await
                == 5
        })
        .await;
    assert_eq!(world.sim.messages().len(), 0);
    assert_eq!(
        world.count("select count(*) from delivery_attempts").await,
        0,
        "no attempt is burnt"
    );
    assert_eq!(
        world
            .count("select count(*) from communication_logs where code = 'session_down'")
            .await,
        1,
        "somebody is told"
    );
    world
        .post_webhook(&session_changed("inChat", "2026-02-05T15:12:10.001Z"))
        .await;
    world
        .until("all are read", async |world| {
            world
                .count("select count(*) from deliveries where state = 'read'")
                .await
                == 5
        })
        .await;
    assert_eq!(world.sim.messages().len(), 5);
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_stores_nothing() {
    let world = World::start().await;
    let answer = world
        .post_webhook_as("wrong", &inbound("1", "554799900011@c.us", "oi"))
        .await;
    assert_eq!(
        (answer.status, answer.text("/code")),
        (401, "unauthenticated".to_owned())
    );
    assert_eq!(
        world
            .count("select count(*) from communication_events")
            .await,
        0
    );
    assert_eq!(
        world.count("select count(*) from communication_logs").await,
        0,
        "a stranger leaves only a metric"
    );
    world.end(Leaves::Nothing).await;
}
