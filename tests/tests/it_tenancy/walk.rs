//! Every route of both listeners, asked by a credential of tenant 1 about something of tenant 2, and
//! about something that does not exist: the same status, the same bytes, the same statements.

use posto_tests::world::{CHAT_TOKEN, Leaves, World};
use reqwest::Method;
use serde_json::{Value, json};

use crate::statements::Statements;
use crate::strangers::{self, Ids, TRIES, chat};
use ingest::routes::{self, Route};

/// The trace that every request names, so that answers can be compared.
const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// What is asked of a route.
struct Ask {
    /// What it is about, for whoever reads a failure.
    about: &'static str,
    /// The path, and the body of a post.
    path: String,
    body: Option<Value>,
    /// How it is answered, whosever the thing is.
    status: u16,
    /// What is answered to everybody, whatever they name: nothing is read for it.
    is_fixed: bool,
}

impl Ask {
    fn get(about: &'static str, path: String, status: u16) -> Self {
        Self {
            about,
            path,
            body: None,
            status,
            is_fixed: false,
        }
    }

    /// A document about the listener itself.
    fn document(path: String) -> Self {
        Self {
            is_fixed: true,
            ..Self::get("nothing", path, 200)
        }
    }

    fn post(about: &'static str, path: &str, body: Value, status: u16) -> Self {
        Self {
            about,
            path: path.to_owned(),
            body: Some(body),
            status,
            is_fixed: false,
        }
    }
}

/// What a route is asked about these ids.
///
/// # Panics
/// For a route that has no case here: whoever adds one says what a foreign id does there.
fn asks(route: &Route, ids: &Ids, round: usize) -> Vec<Ask> {
    let path = route.path.as_str();
    let with = |id: &str| {
        let (before, rest) = path.split_once('{').expect("because the route has an id");
        let (_, after) = rest.split_once('}').expect("because the id ends");
        format!("{before}{id}{after}")
    };
    let event_key = &ids.event_keys[round];
    let caused = |mut event: Value| {
        event["causation_id"] = json!(ids.event.to_string());
        event
    };
    // What a gateway or Asaas would tell of somebody's messages and charges.
    let told = json!({"event": "message.ack", "correlation_id": ids.delivery, "id": ids.event_keys[0],
                      "payment": {"id": format!("pay_{}", ids.invoice)}});
    let reason = json!({"reason": "to see", "outcome": "delivered"});
    match (route.method.as_str(), path) {
        ("GET", "/openapi.json" | "/docs") => {
            vec![Ask::document(format!("{path}?id={}", ids.event))]
        }
        ("POST", "/api/events") => vec![
            Ask::post("a tenant", path, chat(ids.tenant, "strange"), 403),
            Ask::post(
                "a tenant, in a batch",
                path,
                json!([chat(ids.tenant, "strange")]),
                202,
            ),
            // Keys are each tenant's own: somebody else's is as good as new.
            Ask::post("an event's key", path, caused(chat(1, event_key)), 202),
        ],
        ("GET", "/api/events/{id}") => vec![
            Ask::get("an event", with(&ids.event.to_string()), 404),
            Ask::get(
                "an event that names no tenant",
                with(&ids.found_out.to_string()),
                404,
            ),
            Ask::get("a dropped event", with(&ids.dropped.to_string()), 404),
        ],
        (
            "GET",
            "/api/whatsapp/webhook"
            | "/webhook/whatsapp/delivery-status"
            | "/webhook/asaas"
            | "/webhook/whapi_cloud",
        ) => {
            vec![Ask::get("nothing", format!("{path}?id={}", ids.event), 200)]
        }
        // Providers' doors: a source's credential does not open them.
        (
            "POST",
            "/api/whatsapp/webhook"
            | "/webhook/whatsapp/delivery-status"
            | "/webhook/asaas"
            | "/webhook/whapi_cloud",
        ) => {
            vec![Ask::post("a message", path, told, 401)]
        }
        // PixelHub's addresses: another source's credential opens none, whatever it names.
        ("GET", "/chat/order") => {
            vec![Ask::get(
                "an order",
                format!("{path}?order_id={}", ids.order),
                403,
            )]
        }
        ("GET", "/chat/messages") => {
            vec![Ask::get(
                "a chat",
                format!("{path}?thread_id={}", ids.thread),
                403,
            )]
        }
        ("POST", "/chat/message") => vec![Ask::post(
            "a chat",
            path,
            json!({"thread_id": ids.thread, "message": "oi"}),
            403,
        )],
        ("GET", "/tenants/whatsapp-timeline-ajax") => {
            vec![Ask::get(
                "a tenant",
                format!("{path}?tenant_id={}", ids.tenant),
                403,
            )]
        }
        ("POST", "/tenants/whatsapp-generic-log") => vec![Ask::post(
            "a tenant",
            path,
            json!({"tenant_id": ids.tenant, "phone": "11988800022", "message": "oi"}),
            403,
        )],
        // The operators' listener: a source's credential does not open it, whatever it names.
        ("GET", "/admin/traces/{trace_id}") => vec![Ask::get("a trace", with(&ids.trace), 401)],
        ("GET", "/admin/events/{id}") => {
            vec![Ask::get("an event", with(&ids.event.to_string()), 401)]
        }
        (
            "GET",
            "/admin/channels" | "/admin/sources" | "/admin/ip-blocks" | "/admin/modules"
            | "/admin/ledger",
        ) => {
            vec![Ask::get("all of them", path.to_owned(), 401)]
        }
        ("GET", "/admin/dead-letters" | "/admin/dead-letters/groups") => {
            vec![Ask::get(
                "a tenant's letters",
                format!("{path}?tenant_id={}", ids.tenant),
                401,
            )]
        }
        ("POST", "/admin/dead-letters/redrive" | "/admin/dead-letters/discard") => {
            vec![Ask::post(
                "a letter",
                path,
                json!({"ids": [ids.letter]}),
                401,
            )]
        }
        ("GET", "/admin/deliveries") => {
            vec![Ask::get(
                "deliveries",
                format!("{path}?after={}", ids.delivery),
                401,
            )]
        }
        ("POST", "/admin/deliveries/{id}/settle") => {
            vec![Ask::post(
                "a delivery",
                &with(&ids.unknown.to_string()),
                reason,
                401,
            )]
        }
        ("GET", "/admin/keys") => vec![Ask::get(
            "keys",
            format!("{path}?source={}", ids.source),
            401,
        )],
        ("POST", "/admin/keys") => {
            vec![Ask::post(
                "a tenant",
                path,
                json!({"source": "chat", "tenants": [ids.tenant]}),
                401,
            )]
        }
        ("POST", "/admin/keys/{id}/rotate" | "/admin/keys/{id}/revoke") => {
            vec![Ask::post("a key", &with(&ids.key.to_string()), reason, 401)]
        }
        ("POST", "/admin/sources/{name}/networks") => {
            vec![Ask::post(
                "a source",
                &with(&ids.source),
                json!({"any": true}),
                401,
            )]
        }
        ("PUT", "/admin/modules/{module}") => {
            vec![Ask::post(
                "a tenant",
                &with("chat"),
                json!({"mode": "off", "tenant_id": ids.tenant}),
                401,
            )]
        }
        ("POST", "/admin/ip-blocks/lift") => {
            vec![Ask::post(
                "an address",
                path,
                json!({"address": ids.address}),
                401,
            )]
        }
        _ => panic!(
            "{} {path} has no case: say what somebody else's id does there",
            route.method
        ),
    }
}

/// An answer, with what the caller itself named taken out, and the ids that Posto made for it.
async fn answer(world: &World, base: &str, method: &str, ask: &Ask, ids: &Ids) -> (u16, String) {
    let method: Method = method.parse().expect("a method");
    let mut request = world
        .client()
        .request(method, format!("{base}{}", ask.path))
        .bearer_auth(CHAT_TOKEN)
        .header("traceparent", TRACE);
    if let Some(body) = &ask.body {
        request = request
            .header("content-type", "application/json")
            .body(body.to_string());
    }
    let response = request.send().await.expect("because the listeners are up");
    let status = response.status().as_u16();
    let mut headers: Vec<String> = response
        .headers()
        .iter()
        .map(|(name, value)| format!("{name}: {value:?}"))
        .filter(|line| !line.starts_with("date:"))
        .collect();
    headers.sort();
    let body = response.text().await.expect("because the body is text");
    let mut text = format!("{}\n\n{body}", headers.join("\n"));
    let made: Value = serde_json::from_str(&body).unwrap_or_default();
    for pointer in ["/event_id", "/0/trace_id", "/0/problem/trace_id"] {
        if let Some(id) = made.pointer(pointer).and_then(Value::as_str) {
            text = text.replace(id, "{made}");
        }
    }
    let named = if ask.is_fixed {
        Vec::new()
    } else {
        ids.texts()
    };
    for id in named {
        text = text.replace(&id, "{named}");
    }
    (status, text)
}

/// Asks about what is somebody else's and about what is nobody's. Processes do things of their own at
/// any moment, so what differs is asked again; a difference that is ours is there each time.
async fn compare(world: &World, base: &str, route: &Route, foreign: &Ids, heard: &Statements) {
    let nobody = Ids::of_nobody();
    for (which, ask) in asks(route, foreign, 0).iter().enumerate() {
        let place = format!("{} {}, {}", route.method, route.path, ask.about);
        let mut last = None;
        for round in 0..TRIES {
            let of = async |ids: &Ids| {
                let ask = asks(route, ids, round).swap_remove(which);
                heard.take();
                let answered = answer(world, base, &route.method, &ask, ids).await;
                (answered, heard.take())
            };
            let (theirs, nobodys) = (of(foreign).await, of(&nobody).await);
            assert_eq!(theirs.0, nobodys.0, "{place}: the answer tells them apart");
            assert_eq!(theirs.0.0, ask.status, "{place}: {}", theirs.0.1);
            assert!(
                !theirs.0.1.contains("\"duplicate\":true"),
                "{place}: {}",
                theirs.0.1
            );
            if theirs.1 == nobodys.1 && (theirs.1.is_empty() || !ask.is_fixed) {
                last = None;
                break;
            }
            last = Some((theirs.1, nobodys.1));
        }
        if let Some((theirs, nobodys)) = last {
            panic!("{place}: the statements tell them apart:\n{theirs:#?}\n{nobodys:#?}");
        }
    }
}

// On one thread, so that every statement is heard.
#[tokio::test]
async fn on_every_route_a_foreign_id_is_answered_like_one_that_does_not_exist() {
    let (world, foreign) = strangers::world().await;
    let before = strangers::fingerprint(&world).await;
    let heard = Statements::listen();
    let admin = world.admin_url().to_owned();
    let (public, operators) = (routes::public(), routes::admin());
    assert!(
        public.len() > 5 && operators.len() > 10,
        "the lists are the routers' own"
    );
    for (base, routes) in [(world.api(), &public), (admin.as_str(), &operators)] {
        for route in routes {
            compare(&world, base, route, &foreign, &heard).await;
        }
    }
    // The ear works: what tenant 1 may read is read with statements.
    let own = world
        .post_as(CHAT_TOKEN, &chat(1, "own"))
        .await
        .text("/event_id");
    heard.take();
    let url = format!("{}/api/events/{own}", world.api());
    let request = world.client().get(url).bearer_auth(CHAT_TOKEN);
    assert_eq!(posto_tests::world::http::answer(request).await.status, 200);
    let read = heard.take();
    assert!(
        read.iter()
            .any(|said| said.contains("from communication_events_status")),
        "{read:?}"
    );
    drop(heard);
    assert_eq!(
        strangers::fingerprint(&world).await,
        before,
        "nothing of tenant 2 was changed"
    );
    world.end(Leaves::Contradictions).await;
}
