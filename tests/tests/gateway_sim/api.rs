//! The gateway's API apart from sending, and what it refuses.

use serde_json::{Value, json};

use crate::receiver::{AURORA, CHANNEL, Receiver, SECRET, World, names, text_body};

#[tokio::test]
async fn nothing_of_the_api_works_without_the_secret() {
    let world = World::start().await;
    for (path, secret) in [
        ("/api/channels", None),
        ("/api/health", None),
        ("/api/no/such/path", None),
        ("/api/channels", Some("errado")),
    ] {
        let mut request = world.http.get(world.url(path));
        if let Some(secret) = secret {
            request = request.header("x-gateway-secret", secret);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 401, "{path}");
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["success"], false);
    }
    let health = world.http.get(world.url("/health")).send().await.unwrap();
    assert_eq!(health.status(), 200);
    assert_eq!(world.get("/api/health").await.status(), 200);
}

#[tokio::test]
async fn an_unknown_route_is_told_apart_from_an_unknown_channel() {
    let world = World::start().await;
    for path in ["/api/nope", "/nope", "/api/messages", "/api/sessions/x/y/z"] {
        let answer = world.get(path).await;
        assert_eq!(answer.status(), 404, "{path}");
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(
            answer,
            json!({ "success": false, "error": "Route not found" })
        );
    }
    let mut body = text_body(AURORA, "oi");
    body["channel"] = json!("pixel12 digital");
    let answer = world.post("/api/messages", body).await;
    assert_eq!(answer.status(), 404);
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(
        answer,
        json!({ "success": false, "error": "Canal não encontrado" })
    );
    assert_eq!(world.get("/api/channels/outro").await.status(), 404);
}

#[tokio::test]
async fn a_send_that_is_no_send_is_a_400() {
    let world = World::start().await;
    for body in [
        json!({ "to": AURORA, "text": "oi" }),
        json!({ "channel": CHANNEL, "text": "oi" }),
        json!({ "channel": CHANNEL, "to": AURORA }),
        json!({ "channel": CHANNEL, "to": "(47) 99990-0011", "text": "oi" }),
        json!({ "channel": CHANNEL, "to": AURORA, "text": "oi", "type": "fax" }),
        json!([]),
    ] {
        let answer = world.post("/api/messages", body).await;
        assert_eq!(answer.status(), 400);
    }
    assert!(world.went_out().is_empty());
}

#[tokio::test]
async fn channels_are_listed_created_and_deleted() {
    let world = World::start().await;
    let expected = json!([{ "id": CHANNEL, "name": CHANNEL, "status": "connected" }]);
    assert_eq!(world.json("/api/channels").await["channels"], expected);
    let sessions = world.json("/api/available-sessions").await;
    assert_eq!(sessions["total"], 1);

    let created = world
        .post("/api/channels", json!({ "channel": "novo" }))
        .await;
    let created: Value = created.json().await.unwrap();
    assert_eq!(created["qr_required"], true);
    let shown = world.json("/api/channels/novo").await;
    assert_eq!(shown["channel"]["status"], "qr_required");
    assert!(world.json("/api/channels/novo/qr").await["qr"].is_string());
    let started = world
        .post("/api/channels/novo/start-session", json!({}))
        .await;
    assert_eq!(started.status(), 200);

    let mut body = text_body(AURORA, "oi");
    body["channel"] = json!("novo");
    assert_eq!(
        world.post("/api/messages", body.clone()).await.status(),
        404
    );
    let scanned = json!({ "channel": "novo", "state": "return" });
    assert_eq!(world.post("/_sim/session", scanned).await.status(), 200);
    assert_eq!(world.post("/api/messages", body).await.status(), 200);
    let connected = world.json("/api/channels/novo/qr").await;
    assert_eq!(connected["status"], "CONNECTED");

    let delete = world.http.delete(world.url("/api/channels/novo"));
    let delete = delete.header("x-gateway-secret", SECRET);
    assert_eq!(delete.send().await.unwrap().status(), 200);
    assert_eq!(world.get("/api/channels/novo").await.status(), 404);
}

#[tokio::test]
async fn a_channel_may_have_a_webhook_of_its_own() {
    let world = World::with(|config| config.sessions.push("ImobSites".to_owned())).await;
    let own = Receiver::start().await;
    let registered = world
        .post(
            "/api/channels/ImobSites/webhook",
            json!({ "url": own.url, "secret": "outro-segredo" }),
        )
        .await;
    assert_eq!(registered.status(), 200);
    let mut body = text_body(AURORA, "oi");
    body["channel"] = json!("ImobSites");
    world.post("/api/messages", body).await;
    let events = own.wait_for(4).await;
    assert_eq!(names(&events), ["echo", "ack 1", "ack 2", "ack 3"]);
    assert_eq!(events[0]["session"]["id"], "ImobSites");
    assert_eq!(events[0]["message"]["from"], "554733000002@c.us");
    assert_eq!(own.headers()[0]["x-gateway-secret"], "outro-segredo");
    assert_eq!(world.hooks.events().len(), 0);

    for wrong in [json!({}), json!({ "url": "ftp://x" }), json!({ "url": "" })] {
        assert_eq!(world.post("/api/webhooks", wrong).await.status(), 400);
    }
}
