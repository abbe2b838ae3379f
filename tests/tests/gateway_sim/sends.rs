//! Well-behaved sends and the webhooks that follow them.

use axum::http::StatusCode;
use posto_tests::gateway_sim::{AckShape, EchoEvent, Settings};
use serde_json::{Value, json};

use crate::receiver::{AURORA, AURORA_CHAT, CHANNEL, HOOK_SECRET, Receiver, World, names};

#[tokio::test]
async fn a_send_is_accepted_without_id_then_echoed_and_acked_to_read() {
    let world = World::start().await;
    let answer = world.send(AURORA, "Sua fatura venceu").await;
    assert_eq!(answer.status(), 200);
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["success"], true);
    assert!(answer.get("messageId").is_none());

    let events = world.hooks.wait_for(4).await;
    assert_eq!(names(&events), ["echo", "ack 1", "ack 2", "ack 3"]);
    let message = &world.sim.messages()[0];
    assert_eq!(events[0]["correlation_id"], answer["correlationId"]);
    assert_eq!(events[0]["message"]["id"], message.id);
    assert_eq!(events[0]["message"]["to"], AURORA_CHAT);
    assert_eq!(events[0]["message"]["text"], "");
    assert_eq!(events[0]["raw"]["payload"]["key"]["remoteJid"], AURORA_CHAT);
    assert!(message.id.starts_with("true_554799900011@c.us_3EB0"));
    for event in &events[1..] {
        assert_eq!(event["message"]["id"], message.id);
        assert_eq!(event["raw"]["payload"]["id"], message.id);
        assert_eq!(event["ack"]["level"], event["raw"]["payload"]["ack"]);
    }
    let mut ids: Vec<_> = events
        .iter()
        .map(|event| event["event_id"].to_string())
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4, "every delivery has its own event_id");
}

#[tokio::test]
async fn webhooks_carry_the_secret_under_both_names() {
    let world = World::start().await;
    world.send(AURORA, "oi").await;
    world.hooks.wait_for(1).await;
    let headers = &world.hooks.headers()[0];
    assert_eq!(headers["x-gateway-secret"], HOOK_SECRET);
    assert_eq!(headers["x-webhook-secret"], HOOK_SECRET);
}

#[tokio::test]
async fn the_list_shows_what_was_asked_in_order_of_arrival() {
    let world = World::start().await;
    let body = json!({
        "channel": CHANNEL, "to": AURORA, "text": "um", "metadata": { "delivery": "d-1" },
    });
    let request = world.http.post(world.url("/api/messages")).json(&body);
    let request = request
        .header("x-gateway-secret", crate::receiver::SECRET)
        .header("x-request-id", "0123456789abcdef");
    request.send().await.unwrap();
    world.send("5511988880022", "dois").await;

    let list = world.json("/_sim/messages").await;
    assert_eq!(list[0]["channel"], CHANNEL);
    assert_eq!(list[0]["to"], AURORA);
    assert_eq!(list[0]["text"], "um");
    assert_eq!(list[0]["type"], "text");
    assert_eq!(list[0]["request_id"], "0123456789abcdef");
    assert_eq!(list[0]["metadata"]["delivery"], "d-1");
    assert_eq!(list[0]["went_out"], true);
    assert!(list[0]["at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(list[1]["text"], "dois");

    let since = world.json("/_sim/messages?since=1").await;
    assert_eq!(since.as_array().unwrap().len(), 1);
    let by_other_spelling = world.json("/_sim/messages?to=554799900011").await;
    assert_eq!(by_other_spelling[0]["text"], "um");
    assert_eq!(by_other_spelling.as_array().unwrap().len(), 1);
    let count = world.json("/_sim/messages/count").await;
    assert_eq!(count, json!({ "count": 2, "went_out": 2 }));
}

#[tokio::test]
async fn a_list_longer_than_one_chunk_is_one_json_array() {
    let world = World::with(|config| {
        config.settings.echo = false;
        config.settings.acks = Vec::new();
    })
    .await;
    for _ in 0..25 {
        let sends = (0..100).map(|_| world.send(AURORA, "oi"));
        futures_util::future::join_all(sends).await;
    }
    let list = world.json("/_sim/messages").await;
    assert_eq!(list.as_array().unwrap().len(), 2_500);
    let last = world.json("/_sim/messages?since=2499").await;
    assert_eq!(last[0], list[2_499]);
    assert_eq!(world.json("/_sim/messages?since=9999").await, json!([]));
}

#[tokio::test]
async fn groups_and_lids_get_their_own_kind_of_chat() {
    let world = World::start().await;
    world.send("120363000000000001@g.us", "oi").await;
    world.send("111122223333444", "oi").await;
    let messages = world.sim.messages();
    assert!(messages[0].id.starts_with("true_120363000000000001@g.us_"));
    assert!(messages[0].id.ends_with("_554733000001@c.us"));
    assert_eq!(messages[1].chat, "111122223333444@lid");
}

#[tokio::test]
async fn media_of_every_type_is_taken_and_bad_base64_refused() {
    let world = World::start().await;
    let base = json!({ "channel": CHANNEL, "to": AURORA, "text": "" });
    let with = |more: Value| {
        let mut body = base.clone();
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body
    };
    for media in [
        json!({ "type": "audio", "base64Ptt": "T2dnUw==" }),
        json!({ "type": "image", "base64": "/9j/4A==", "caption": "legenda" }),
        json!({ "type": "document", "fileName": "b.pdf", "url": "https://x.example/b.pdf" }),
        json!({ "type": "video", "base64": "AAAA" }),
    ] {
        let answer = world.post("/api/messages", with(media)).await;
        assert_eq!(answer.status(), 200);
    }
    let captions: Vec<_> = world
        .sim
        .messages()
        .into_iter()
        .map(|it| (it.r#type, it.text))
        .collect();
    assert_eq!(captions[1], ("image".to_owned(), "legenda".to_owned()));
    for media in [
        json!({ "type": "image", "base64": "" }),
        json!({ "type": "image", "base64": "data:image/png;base64,AAAA" }),
    ] {
        let answer = world.post("/api/messages", with(media)).await;
        assert_eq!(answer.status(), 400);
        let text = answer.text().await.unwrap();
        assert!(
            text.contains("Invalid or empty base64 image data"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn settings_change_which_webhooks_come_and_in_what_shape() {
    let world = World::start().await;
    let changes = json!({
        "acks": [1, 2], "echo_event": "message", "ack_shape": "mixed", "echo_delay_ms": 0,
    });
    assert_eq!(world.post("/_sim/settings", changes).await.status(), 200);
    world.send(AURORA, "com texto").await;
    let events = world.hooks.wait_for(3).await;
    assert_eq!(names(&events), ["message", "ack 1", "ack 2"]);
    assert_eq!(events[0]["message"]["text"], "com texto");
    assert_eq!(events[0]["raw"]["payload"]["event"], "onselfmessage");
    assert_eq!(events[0]["raw"]["payload"]["fromMe"], true);
    let id = &world.sim.messages()[0].id;
    assert_eq!(events[1]["raw"]["payload"]["id"], *id);
    assert_eq!(events[2]["raw"]["payload"]["id"]["_serialized"], *id);
    assert_eq!(events[2]["ack"], json!({ "message_id": id, "status": 2 }));
    assert_eq!(events[2]["message"], Value::Null);

    let unknown = world.post("/_sim/settings", json!({ "ack": [1] })).await;
    assert_eq!(unknown.status(), 422);
    let settings = world.sim.settings();
    assert_eq!(settings.echo_event, EchoEvent::Message);
    assert_eq!(settings.ack_shape, AckShape::Mixed);
    world.post("/_sim/reset", json!({})).await;
    assert_eq!(world.sim.settings(), Settings::default());
}

#[tokio::test]
async fn a_webhook_that_is_refused_comes_again() {
    let world = World::start().await;
    world
        .hooks
        .refuse_next(&[StatusCode::INTERNAL_SERVER_ERROR, StatusCode::FORBIDDEN]);
    world.send(AURORA, "oi").await;
    let events = world.hooks.wait_for(4).await;
    assert_eq!(names(&events), ["echo", "ack 1", "ack 2", "ack 3"]);
    assert_eq!(world.sim.webhook_stats().failed_tries, 2);
}

#[tokio::test]
async fn webhooks_wait_for_a_receiver_that_is_down() {
    let world = World::start().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("http://{addr}/hook");
    let registered = world.post("/api/webhooks", json!({ "url": url })).await;
    assert_eq!(registered.status(), 200);
    world.send(AURORA, "oi").await;
    crate::receiver::until(|| world.sim.webhook_stats().failed_tries > 0).await;
    let late = Receiver::on(tokio::net::TcpListener::bind(addr).await.unwrap());
    let events = late.wait_for(4).await;
    assert_eq!(names(&events), ["echo", "ack 1", "ack 2", "ack 3"]);
}

#[tokio::test]
async fn a_webhook_is_given_up_after_its_last_try() {
    let world = World::with(|config| {
        config.retry.attempts = 2;
        config.settings.acks = Vec::new();
    })
    .await;
    let no = StatusCode::INTERNAL_SERVER_ERROR;
    world.hooks.refuse_next(&[no, no, no, no]);
    world.send(AURORA, "oi").await;
    crate::receiver::until(|| world.sim.webhook_stats().given_up == 1).await;
    assert_eq!(world.sim.webhook_stats().failed_tries, 2);
    assert_eq!(world.hooks.events().len(), 0);
}

#[tokio::test]
async fn a_kept_connection_that_the_receiver_closed_costs_no_webhook() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let world = World::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 8192]).await;
            let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            let _ = stream.write_all(ok).await;
        }
    });
    world.sim.register_webhook(&url, None).unwrap();
    world.send(AURORA, "oi").await;
    crate::receiver::until(|| world.sim.webhook_stats().delivered == 4).await;
    assert_eq!(world.sim.webhook_stats().failed_tries, 0);
}

#[tokio::test]
async fn under_load_every_message_has_its_whole_story_in_order() {
    let world = World::start().await;
    let recipients: Vec<_> = (0..300).map(|n| format!("55119888{n:05}")).collect();
    let sends = recipients.iter().map(|to| world.send(to, "oi"));
    let answers = futures_util::future::join_all(sends).await;
    assert!(answers.iter().all(|answer| answer.status() == 200));
    let events = world.hooks.wait_for(1_200).await;
    for message in world.sim.messages() {
        let its: Vec<_> = events
            .iter()
            .filter(|event| event["message"]["id"] == message.id)
            .cloned()
            .collect();
        assert_eq!(names(&its), ["echo", "ack 1", "ack 2", "ack 3"]);
    }
}
