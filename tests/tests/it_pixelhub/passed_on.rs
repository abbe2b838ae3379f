//! A module that is off is PixelHub's: requests go on to it as they came, and its answers come back.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use posto_tests::world::http::answer;
use posto_tests::world::{Leaves, World};
use serde_json::json;
use tokio::net::TcpListener;

use crate::door::{Door, database_url, door_only};
use crate::rig::{ORDER_77, SERVER, prepare, switch};

const LOG: &str = "/tenants/whatsapp-generic-log";

/// What PixelHub was asked.
#[derive(Clone, Debug)]
struct Asked {
    line: String,
    cookie: Option<String>,
    credentials: bool,
    forwarded_for: Option<String>,
    body: String,
}

type Seen = Arc<Mutex<Vec<Asked>>>;

/// A small PixelHub: a redirect with a cookie, JSON at the timeline.
async fn pixelhub() -> (String, Seen) {
    let seen = Seen::default();
    let router = Router::new()
        .fallback(answered)
        .with_state(Arc::clone(&seen));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("because it is bound");
    tokio::spawn(async move { axum::serve(listener, router).await });
    (format!("http://{address}"), seen)
}

async fn answered(State(seen): State<Seen>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let text = |name: &str| {
        let value = parts.headers.get(name)?;
        value.to_str().ok().map(str::to_owned)
    };
    let body = to_bytes(body, 1 << 20).await.expect("a body");
    let asked = Asked {
        line: format!("{} {}", parts.method, parts.uri),
        cookie: text("cookie"),
        credentials: ["authorization", "x-event-secret", "x-order-token"]
            .iter()
            .any(|name| parts.headers.contains_key(*name)),
        forwarded_for: text("x-forwarded-for"),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    seen.lock().expect("nobody panicked").push(asked);
    match parts.uri.path() {
        "/hub/tenants/whatsapp-timeline-ajax" => {
            axum::Json(json!({"success": true, "timeline": ["of PixelHub"]})).into_response()
        }
        _ => (
            http_status(302),
            [
                ("location", "/login?from=log"),
                ("set-cookie", "PHPSESSID=2"),
            ],
            "moved",
        )
            .into_response(),
    }
}

fn http_status(code: u16) -> axum::http::StatusCode {
    axum::http::StatusCode::from_u16(code).expect("because it is one")
}

fn plain_client() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("because no option is wrong")
}

/// Waits until a door serves the module of tenants so.
async fn until_mode(world: &World, door: &Door, tenant: i64, served_here: bool) {
    let address = format!(
        "{}/tenants/whatsapp-timeline-ajax?tenant_id={tenant}",
        door.public
    );
    world
        .until("the door follows the switch", async |world| {
            let request = world.client().get(&address).bearer_auth(SERVER);
            let told = answer(request).await;
            (told.status == 200
                && told.body["lastContact"].is_null()
                && told.body["timeline"] == json!([]))
                == served_here
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn off_passes_requests_on_and_back_again_to_live_they_are_postos() {
    let world = door_only().await;
    prepare(&world).await;
    let (base, seen) = pixelhub().await;
    let base = format!("{base}/hub/");
    let settings = [
        "--pixelhub-base-url",
        &base,
        "--outbound-allow",
        "127.0.0.0/8",
    ];
    let door = Door::open(&world, &settings).await;
    assert_eq!(
        switch(&world, "tenants", json!({"mode": "off"}))
            .await
            .status,
        200
    );
    until_mode(&world, &door, 1, false).await;
    seen.lock().expect("nobody panicked").clear();

    let client = plain_client();
    let request = client
        .post(format!("{}{LOG}?a=1&b=%20x", door.public))
        .bearer_auth(SERVER)
        .header("cookie", "PHPSESSID=1")
        .header("x-order-token", "secret-of-ours")
        .header("content-type", "application/x-www-form-urlencoded")
        .body("tenant_id=1&message=Ol%C3%A1");
    let response = request.send().await.expect("an answer");
    assert_eq!(response.status(), 302);
    assert_eq!(response.headers()["location"], "/login?from=log");
    assert_eq!(response.headers()["set-cookie"], "PHPSESSID=2");
    assert_eq!(response.text().await.expect("a body"), "moved");
    let asked = seen.lock().expect("nobody panicked").clone();
    assert_eq!(asked.len(), 1, "once: {asked:?}");
    assert_eq!(
        asked[0].line,
        "POST /hub/tenants/whatsapp-generic-log?a=1&b=%20x"
    );
    assert_eq!(asked[0].cookie.as_deref(), Some("PHPSESSID=1"));
    assert_eq!(asked[0].body, "tenant_id=1&message=Ol%C3%A1");
    assert_eq!(asked[0].forwarded_for.as_deref(), Some("127.0.0.1"));
    assert!(!asked[0].credentials, "our credentials stay here");
    let series = "hub_pixelhub_passed_on_total{outcome=\"answered\"} ";
    assert!(door.metric(&world, series).await > 0.5);

    // Its sessions are PixelHub's to judge: no credential of ours is asked for.
    let bare = client.get(format!(
        "{}/tenants/whatsapp-timeline-ajax?tenant_id=1",
        door.public
    ));
    let told = answer(bare).await;
    assert_eq!(
        (told.status, &told.body["timeline"]),
        (200, &json!(["of PixelHub"]))
    );
    let looped = client
        .get(format!("{}/tenants/whatsapp-timeline-ajax", door.public))
        .header("x-posto-passed-on", "1");
    let told = answer(looped).await;
    assert_eq!(
        (told.status, told.text("/code")),
        (502, "pixelhub_unavailable".to_owned())
    );
    assert_eq!(
        world
            .count("select count(*) from communication_events")
            .await,
        0
    );

    // Back: for one tenant first, then for all.
    assert_eq!(
        switch(&world, "tenants", json!({"mode": "live", "tenant_id": 1}))
            .await
            .status,
        200
    );
    until_mode(&world, &door, 1, true).await;
    until_mode(&world, &door, 2, false).await;
    assert_eq!(
        switch(&world, "tenants", json!({"mode": "live"}))
            .await
            .status,
        200
    );
    until_mode(&world, &door, 2, true).await;
    door.close().await;
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_is_passed_on_for_the_tenant_of_its_order() {
    let world = door_only().await;
    prepare(&world).await;
    let (base, seen) = pixelhub().await;
    let settings = [
        "--pixelhub-base-url",
        &base,
        "--outbound-allow",
        "127.0.0.0/8",
    ];
    let door = Door::open(&world, &settings).await;
    let order = json!({"mode": "off", "tenant_id": 1, "actor": "Ana"});
    assert_eq!(switch(&world, "chat", order).await.status, 200);
    let client = plain_client();
    let page = async |query: &str| {
        let request = client.get(format!("{}/chat/order{query}", door.public));
        request.send().await.expect("an answer").status().as_u16()
    };
    let own = format!("?token={ORDER_77}");
    world
        .until("the chat of tenant 1 is PixelHub's", async |_| {
            page(&own).await == 302
        })
        .await;
    let other = format!("?token={}", crate::rig::ORDER_88);
    assert_eq!(page(&other).await, 200, "tenant 2's is Posto's");
    assert_eq!(page("?order_id=77").await, 302);
    let lines: Vec<String> = seen
        .lock()
        .expect("nobody panicked")
        .iter()
        .map(|asked| asked.line.clone())
        .collect();
    assert!(
        lines
            .iter()
            .all(|line| !line.contains(crate::rig::ORDER_88)),
        "{lines:?}"
    );
    door.close().await;
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn off_without_pixelhub_is_told_and_so_is_one_that_cannot_be_reached() {
    let world = door_only().await;
    prepare(&world).await;
    let bare = Door::open(&world, &[]).await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = format!(
        "http://{}",
        nobody.local_addr().expect("because it is bound")
    );
    drop(nobody);
    let settings = [
        "--pixelhub-base-url",
        &address,
        "--outbound-allow",
        "127.0.0.0/8",
    ];
    let dead = Door::open(&world, &settings).await;

    // By the command line, as an operator does it.
    let database = database_url(&world);
    let arguments = [
        "ingest",
        "admin",
        "module",
        "set",
        "tenants",
        "--mode",
        "off",
        "--actor",
        "Ana",
        "--reason",
        "PixelHub takes it back",
        "--database-url",
        &database,
    ];
    ingest::process::run(arguments.map(Into::into))
        .await
        .expect("because the order is a good one");
    for (door, status, code) in [
        (&bare, 503, "module_off"),
        (&dead, 502, "pixelhub_unavailable"),
    ] {
        until_mode(&world, door, 1, false).await;
        let request = world
            .client()
            .post(format!("{}{LOG}", door.public))
            .bearer_auth(SERVER)
            .json(&json!({"tenant_id": 1, "phone_raw": "(47) 99990-0011", "message": "oi"}));
        let told = answer(request).await;
        assert_eq!((told.status, told.text("/code")), (status, code.to_owned()));
        assert_eq!(told.headers["content-type"], "application/problem+json");
    }
    let lines = world
        .texts("select concat_ws('|', actor, reason, detail ->> 'to') from audit_log where action = 'module_switched'")
        .await;
    assert_eq!(lines, ["Ana|PixelHub takes it back|off"]);
    assert_eq!(
        world
            .count("select count(*) from communication_events")
            .await,
        0
    );
    bare.close().await;
    dead.close().await;
    world.end(Leaves::Nothing).await;
}
