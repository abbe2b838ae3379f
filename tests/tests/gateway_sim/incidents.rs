//! What happens without a send: customers write, sessions drop, contacts go offline, all is reset.

use posto_tests::gateway_sim::Fault;
use serde_json::{Value, json};

use crate::receiver::{AURORA, AURORA_CHAT, CHANNEL, World, names, rule};

async fn inbound(world: &World, more: Value) -> Value {
    let mut body = json!({ "channel": CHANNEL });
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let answer = world.post("/_sim/inbound", body).await;
    assert_eq!(answer.status(), 200);
    answer.json().await.unwrap()
}

#[tokio::test]
async fn a_customer_writes() {
    let world = World::start().await;
    let told = inbound(
        &world,
        json!({ "from": AURORA, "text": "Bom dia", "name": "Aurora", "id": "3EB0AA" }),
    )
    .await;
    assert_eq!(told["id"], "false_554799900011@c.us_3EB0AA");
    let event = world.hooks.wait_for(1).await.remove(0);
    assert_eq!(event["event"], "message");
    assert_eq!(event["session"]["id"], CHANNEL);
    assert_eq!(event["message"]["id"], told["id"]);
    assert_eq!(event["message"]["from"], AURORA_CHAT);
    assert_eq!(event["message"]["text"], "Bom dia");
    assert_eq!(event["raw"]["payload"]["event"], "onmessage");
    assert_eq!(event["raw"]["payload"]["notifyName"], "Aurora");
    assert_eq!(event["raw"]["payload"]["fromMe"], false);
    assert!(event["timestamp"].is_i64());
}

#[tokio::test]
async fn a_customer_writes_under_a_lid_that_can_be_looked_up() {
    let world = World::start().await;
    let lid = "111122223333444";
    let path = format!("/api/Pixel12%20Digital/contact/pn-lid/{lid}");
    assert_eq!(world.get(&path).await.status(), 404);
    inbound(&world, json!({ "from": AURORA, "lid": lid, "text": "oi" })).await;
    let event = world.hooks.wait_for(1).await.remove(0);
    assert_eq!(event["message"]["from"], format!("{lid}@lid"));
    assert_eq!(world.json(&path).await["phone"], "554799900011");
    inbound(&world, json!({ "lid": "999988887777666", "text": "oi" })).await;
    let event = world.hooks.wait_for(2).await.remove(1);
    assert_eq!(event["message"]["from"], "999988887777666@lid");
}

#[tokio::test]
async fn groups_pictures_ciphertexts_and_own_messages_have_their_shapes() {
    let world = World::start().await;
    let group = "120363000000000001@g.us";
    inbound(
        &world,
        json!({ "from": group, "author": "222233334444555", "text": "oi" }),
    )
    .await;
    let event = world.hooks.wait_for(1).await.remove(0);
    assert_eq!(event["message"]["from"], group);
    assert_eq!(event["raw"]["payload"]["author"], "222233334444555@lid");
    let id = event["message"]["id"].as_str().unwrap();
    assert!(id.ends_with("_222233334444555@lid"), "{id}");

    let picture = inbound(
        &world,
        json!({ "from": AURORA, "type": "image", "text": "segue" }),
    )
    .await;
    let event = world.hooks.wait_for(2).await.remove(1);
    assert!(
        event["message"]["text"]
            .as_str()
            .unwrap()
            .starts_with("/9j/")
    );
    assert_eq!(event["raw"]["payload"]["caption"], "segue");
    let id = picture["id"].as_str().unwrap();
    let media = world
        .json(&format!("/api/media/Pixel12%20Digital/{id}"))
        .await;
    assert_eq!(media["mime_type"], "image/jpeg");
    let unknown = world.get("/api/media/Pixel12%20Digital/x").await;
    assert_eq!(unknown.status(), 404);

    inbound(
        &world,
        json!({ "from": AURORA, "type": "ciphertext", "text": "x" }),
    )
    .await;
    let event = world.hooks.wait_for(3).await.remove(2);
    assert_eq!(event["message"]["text"], "");
    assert_eq!(event["raw"]["payload"]["subtype"], "fanout");

    inbound(
        &world,
        json!({ "from": AURORA, "from_me": true, "text": "nós" }),
    )
    .await;
    let event = world.hooks.wait_for(4).await.remove(3);
    assert_eq!(event["raw"]["payload"]["event"], "onselfmessage");
    assert_eq!(event["message"]["to"], AURORA_CHAT);
    assert_eq!(event["raw"]["payload"]["notifyName"], CHANNEL);
}

#[tokio::test]
async fn a_session_drops_and_returns() {
    let world = World::start().await;
    let change = |state: &str| json!({ "channel": CHANNEL, "state": state });
    world.post("/_sim/session", change("drop")).await;
    let event = world.hooks.wait_for(1).await.remove(0);
    assert_eq!(event["connection"]["status"], "close");
    assert_eq!(event["raw"]["payload"]["event"], "status-find");
    assert_eq!(event["raw"]["payload"]["state"], "close");
    assert!(event["timestamp"].is_string());

    let answer = world.send(AURORA, "oi").await;
    assert_eq!(answer.status(), 404);
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["error"], "A sessão do WhatsApp não está ativa.");
    assert!(world.went_out().is_empty());
    let shown = world.json("/api/channels/Pixel12%20Digital").await;
    assert_eq!(shown["channel"]["status"], "disconnected");

    world.post("/_sim/session", change("return")).await;
    let events = world.hooks.wait_for(3).await;
    assert_eq!(events[1]["connection"]["status"], "open");
    assert_eq!(events[1]["raw"]["payload"]["status"], "isLogged");
    assert_eq!(events[2]["connection"]["status"], "connected");
    assert_eq!(events[2]["raw"]["payload"]["status"], "inChat");
    assert_eq!(world.send(AURORA, "oi").await.status(), 200);
    assert_eq!(
        world
            .post("/_sim/session", change("explode"))
            .await
            .status(),
        422
    );
}

#[tokio::test]
async fn a_contacts_presence_arrives_as_a_connection_update() {
    let world = World::start().await;
    let body = json!({ "channel": CHANNEL, "contact": "5521977700099" });
    assert_eq!(world.post("/_sim/presence", body).await.status(), 200);
    let event = world.hooks.wait_for(1).await.remove(0);
    assert_eq!(event["event"], "connection.update");
    assert_eq!(event["connection"]["status"], "unavailable");
    assert_eq!(event["raw"]["payload"]["event"], "onpresencechanged");
    assert_eq!(event["raw"]["payload"]["id"], "5521977700099@c.us");
    assert!(event["raw"]["payload"]["t"].as_i64().unwrap() > 10_000_000_000);
}

#[tokio::test]
async fn a_reset_forgets_everything_but_the_registration() {
    let world = World::with(|config| config.webhook_url = None).await;
    let url = json!({ "url": world.hooks.url });
    world.post("/api/webhooks", url).await;
    let late = rule(Fault::LateWebhooks).delayed(150);
    world.sim.set_fault(late);
    world.send(AURORA, "antes").await;
    world.sim.set_fault(rule(Fault::Forbidden));
    let drop = json!({ "channel": CHANNEL, "state": "drop", "silent": true });
    world.post("/_sim/session", drop).await;

    assert_eq!(world.post("/_sim/reset", json!({})).await.status(), 200);
    assert_eq!(world.json("/_sim/messages").await, json!([]));
    assert_eq!(world.send(AURORA, "depois").await.status(), 200);
    let messages = world.sim.messages();
    let events = world.hooks.wait_for(4).await;
    assert_eq!(names(&events), ["echo", "ack 1", "ack 2", "ack 3"]);
    assert!(
        events
            .iter()
            .all(|it| it["message"]["id"] == messages[0].id)
    );
}

#[tokio::test]
async fn the_counters_add_up() {
    let world = World::start().await;
    world.send_under(rule(Fault::Forbidden)).await;
    world.send_under(rule(Fault::SuccessFalse)).await;
    world.send(AURORA, "oi").await;
    world.hooks.wait_for(4).await;
    crate::receiver::until(|| world.sim.webhook_stats().waiting == 0).await;
    let stats = world.json("/_sim/stats").await;
    assert_eq!(
        stats["sends"],
        json!({ "received": 3, "refused": 1, "stayed": 1, "went_out": 1 })
    );
    assert_eq!(stats["webhooks"]["delivered"], 4);
    assert_eq!(stats["messages"], 2);
}
