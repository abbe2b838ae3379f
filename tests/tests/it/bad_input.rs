//! Bad input gets a clear answer, with a pointer to the field, and nothing of it is stored.

use posto_tests::world::{BILLING_TOKEN, Leaves, WEBHOOK_SECRET, World, overdue};
use serde_json::{Value, json};

struct Case {
    what: &'static str,
    body: Vec<u8>,
    status: u16,
    code: &'static str,
    pointer: Option<&'static str>,
}

fn case(
    what: &'static str,
    body: impl Into<Vec<u8>>,
    expected: (u16, &'static str, Option<&'static str>),
) -> Case {
    Case {
        what,
        body: body.into(),
        status: expected.0,
        code: expected.1,
        pointer: expected.2,
    }
}

/// The good event with one field changed.
fn with(pointer: &str, value: Value) -> String {
    let mut event = overdue("bad-input");
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer has a slash");
    event.pointer_mut(parent).expect("the parent is there")[name] = value;
    event.to_string()
}

fn without(name: &str) -> String {
    let mut event = overdue("bad-input");
    event
        .as_object_mut()
        .expect("an event is an object")
        .remove(name);
    event.to_string()
}

fn cases() -> Vec<Case> {
    let syntax = (400, "malformed_json", Some("#"));
    let invalid = |pointer| (422, "invalid_event", Some(pointer));
    let deep = format!(
        r#"{{"event_type":"a.b","source_system":"billing","payload":{{"x":{}1{}}}}}"#,
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    vec![
        case("empty", "", syntax),
        case("cut off", r#"{"event_type":"#, syntax),
        case("no JSON", "event_type=x", syntax),
        case("two values", "{} {}", syntax),
        case(
            "invalid UTF-8",
            b"{\"event_type\":\"\xff\xfe\"}".to_vec(),
            syntax,
        ),
        case("half a surrogate", r#"{"event_type":"\ud800"}"#, syntax),
        case("10,000 levels", deep, syntax),
        case(
            "a number beyond doubles",
            with("/payload/amount", json!(1)).replace("\"amount\":1", "\"amount\":1e999"),
            syntax,
        ),
        case("a text", "\"hello\"", invalid("#")),
        case("an empty batch", "[]", (422, "invalid_event", Some("#"))),
        case("no type", without("event_type"), invalid("#/event_type")),
        case(
            "an empty type",
            with("/event_type", json!("")),
            invalid("#/event_type"),
        ),
        case(
            "a type with spaces",
            with("/event_type", json!("a b")),
            invalid("#/event_type"),
        ),
        case(
            "a type that carries a phone",
            with("/event_type", json!("tel.5547988776655.x")),
            invalid("#/event_type"),
        ),
        case(
            "an enormous type",
            with("/event_type", json!("a".repeat(10_000))),
            invalid("#/event_type"),
        ),
        case("no payload", without("payload"), invalid("#/payload")),
        case(
            "a null payload",
            with("/payload", Value::Null),
            invalid("#/payload"),
        ),
        case(
            "a payload that is an array",
            with("/payload", json!([])),
            invalid("#/payload"),
        ),
        case(
            "a tenant that is a text",
            with("/tenant_id", json!("1")),
            invalid("#/tenant_id"),
        ),
        case(
            "a negative tenant",
            with("/tenant_id", json!(-1)),
            invalid("#/tenant_id"),
        ),
        case(
            "half a tenant",
            with("/tenant_id", json!(1.5)),
            invalid("#/tenant_id"),
        ),
        case(
            "an unknown tenant",
            with("/tenant_id", json!(4711)),
            (422, "unknown_tenant", Some("#/tenant_id")),
        ),
        case(
            "an enormous tenant",
            with("/tenant_id", json!(u64::MAX)),
            invalid("#/tenant_id"),
        ),
        case(
            "another source",
            with("/source_system", json!("pixelhub")),
            (403, "source_forbidden", Some("#/source_system")),
        ),
        case(
            "an enormous key",
            with("/idempotency_key", json!("k".repeat(100_000))),
            invalid("#/idempotency_key"),
        ),
        case(
            "a key with a control character",
            with("/idempotency_key", json!("a\u{7}b")),
            invalid("#/idempotency_key"),
        ),
        case(
            "a time before our time",
            with("/occurred_at", json!("0001-01-01T00:00:00Z")),
            invalid("#/occurred_at"),
        ),
        case(
            "a time far ahead",
            with("/occurred_at", json!("9999-12-31T23:59:59Z")),
            invalid("#/occurred_at"),
        ),
        case(
            "a time without a zone",
            with("/occurred_at", json!("2026-01-01T00:00:00")),
            invalid("#/occurred_at"),
        ),
        case(
            "a trace that is none",
            with("/trace_id", json!("nothing")),
            invalid("#/trace_id"),
        ),
        case(
            "a NUL in the payload",
            with("/payload/description", json!("a\u{0}b")),
            invalid("#/payload/description"),
        ),
        case(
            "an enormous member name",
            with("/payload", json!({"k".repeat(10_000): 1})),
            (422, "invalid_event", None),
        ),
        case(
            "metadata that is a text",
            with("/metadata", json!("x")),
            invalid("#/metadata"),
        ),
        case(
            "a body of 2 MiB",
            with("/payload/description", json!("x".repeat(2 << 20))),
            (413, "body_too_large", None),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_body_is_refused_with_its_reason_and_leaves_a_row_on_its_trace() {
    let world = World::start().await;
    for case in cases() {
        let answer = world
            .post_bytes(BILLING_TOKEN, "application/json", case.body)
            .await;
        let what = case.what;
        assert_eq!(
            (answer.status, answer.text("/code").as_str()),
            (case.status, case.code),
            "{what}: {}",
            answer.body
        );
        assert_eq!(
            answer.headers["content-type"], "application/problem+json",
            "{what}"
        );
        assert_eq!(answer.body["status"], case.status, "{what}");
        if let Some(pointer) = case.pointer {
            assert_eq!(answer.text("/errors/0/pointer"), pointer, "{what}");
        }
        let story = world.story(&answer.text("/trace_id")).await;
        let kept = story["logs"].as_array().map(Vec::len);
        assert!(kept >= Some(1), "{what} is kept on its trace: {story}");
        assert_eq!(story["events"], json!([]), "{what} is no event");
    }
    assert_eq!(
        world
            .count("select count(*) from communication_events")
            .await,
        0,
        "nothing is stored"
    );
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_turned_away_and_a_wrong_form_is_told() {
    let world = World::start().await;
    let event = overdue("strange").to_string().into_bytes();
    for token in ["", "wrong", WEBHOOK_SECRET] {
        let answer = world
            .post_bytes(token, "application/json", event.clone())
            .await;
        assert_eq!(
            (answer.status, answer.text("/code").as_str()),
            (401, "unauthenticated")
        );
        assert!(answer.headers.contains_key("www-authenticate"));
    }
    assert_eq!(
        world.count("select count(*) from communication_logs").await,
        0,
        "a stranger leaves only a metric"
    );
    for form in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=utf-16",
        "",
    ] {
        let answer = world.post_bytes(BILLING_TOKEN, form, event.clone()).await;
        assert_eq!(
            (answer.status, answer.text("/code").as_str()),
            (415, "unsupported_media_type"),
            "{form}"
        );
    }
    for (path, status) in [
        ("/api/events", 405),
        ("/nothing", 404),
        ("/api/events/%ff", 404),
        ("/api/events/nothing", 404),
    ] {
        let answer = world.get(path).await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(
            answer.headers["content-type"], "application/problem+json",
            "{path}"
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

#[tokio::test(flavor = "multi_thread")]
async fn the_gateways_door_keeps_what_is_authentic_and_explains_what_it_cannot() {
    let world = World::start().await;
    let post = async |body: Vec<u8>| {
        let request = world
            .client()
            .post(format!("{}/api/whatsapp/webhook", world.api()))
            .header("x-webhook-secret", WEBHOOK_SECRET)
            .body(body);
        posto_tests::world::http::answer(request).await
    };
    let broken = post(b"{".to_vec()).await;
    assert_eq!(
        (broken.status, broken.text("/code").as_str()),
        (400, "malformed_json")
    );
    assert_eq!(
        world.story(&broken.text("/trace_id")).await["logs"][0]["code"],
        "malformed_json"
    );
    let large = post(vec![b' '; 26 << 20]).await;
    assert_eq!(
        (large.status, large.text("/code").as_str()),
        (413, "body_too_large")
    );
    let odd = post(
        br#"{"event":"something.new","session":{"id":"Pixel12 Digital"},"text":"a\u0000b"}"#
            .to_vec(),
    )
    .await;
    assert_eq!(
        (odd.status, odd.text("/code").as_str()),
        (200, "SUCCESS"),
        "{}",
        odd.body
    );
    world
        .until("it is decided", async |world| {
            world.count("select count(*) from routings").await == 1
        })
        .await;
    let kept = world
        .texts("select concat_ws(' ', event_type, payload is null) from communication_events")
        .await;
    assert_eq!(
        kept,
        ["whatsapp.unhandled t"],
        "what jsonb cannot hold is kept as bytes"
    );
    world.end(Leaves::Nothing).await;
}
