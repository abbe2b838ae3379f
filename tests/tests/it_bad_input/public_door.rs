//! `POST /api/events` by callers that are known.

use posto_tests::world::http::{Answer, answer};
use posto_tests::world::{BILLING_TOKEN, CHAT_TOKEN, Leaves, Setup, World, overdue};
use serde_json::{Value, json};

use crate::{Large, assert_problem, assert_too_large};

/// Stands in whatever is refused; no answer, no log row and no trace may repeat it.
const MARKER: &str = "SEGREDO-DO-CLIENTE";

const JSON: &str = "application/json";

/// A request that is refused.
struct Case {
    what: String,
    token: &'static str,
    content_type: &'static str,
    body: Vec<u8>,
    status: u16,
    code: &'static str,
    /// The code and the pointer of the first field at fault.
    field: Option<(&'static str, String)>,
}

impl Case {
    fn bytes(what: &str, body: impl Into<Vec<u8>>, status: u16, code: &'static str) -> Self {
        Self {
            what: what.to_owned(),
            token: BILLING_TOKEN,
            content_type: JSON,
            body: body.into(),
            status,
            code,
            field: None,
        }
    }

    /// JSON that cannot be read: 400, the whole body at fault.
    fn syntax(body: impl Into<Vec<u8>>, problem: &'static str) -> Self {
        let body = body.into();
        let start = String::from_utf8_lossy(&body[..body.len().min(24)]).into_owned();
        Self {
            field: Some((problem, "#".to_owned())),
            ..Self::bytes(&start, body, 400, "malformed_json")
        }
    }

    /// A good event but for one member.
    fn field(member: &str, value: Value, problem: &'static str) -> Self {
        let what = format!("{member} = {value}").chars().take(80).collect();
        let mut event = marked();
        event[member] = value;
        Self {
            what,
            field: Some((problem, format!("#/{member}"))),
            ..Self::bytes("", event.to_string(), 422, "invalid_event")
        }
    }

    /// A good event but for a member of its payload.
    fn payload(member: &str, value: Value, problem: &'static str, pointer: &str) -> Self {
        let mut event = marked();
        event["payload"][member] = value;
        Self {
            field: Some((problem, format!("#/payload/{pointer}"))),
            ..Self::bytes(pointer, event.to_string(), 422, "invalid_event")
        }
    }

    /// A good event that this caller may not post.
    fn forbidden(
        token: &'static str,
        (source, tenant): (&str, Value),
        code: &'static str,
        pointer: &str,
    ) -> Self {
        let mut event = marked();
        event["source_system"] = json!(source);
        event["tenant_id"] = tenant;
        Self {
            token,
            field: Some(("forbidden", pointer.to_owned())),
            ..Self::bytes(code, event.to_string(), 403, code)
        }
    }
}

fn marked() -> Value {
    let mut event = overdue("refused");
    event["payload"]["description"] = json!(MARKER);
    event["metadata"] = json!({ "note": MARKER });
    event
}

fn unreadable() -> Vec<Case> {
    let nested = |open: &str, close: &str| open.repeat(10_000) + &close.repeat(10_000);
    let deep_payload = marked()
        .to_string()
        .replace(r#""59.80""#, &nested("[", "]"));
    let huge_number = marked().to_string().replace(r#""59.80""#, "1e999");
    let mut latin1 = marked().to_string().into_bytes();
    let at = latin1
        .windows(7)
        .position(|it| it == b"SEGREDO")
        .expect("because the marker is in it");
    latin1[at] = 0xe7;
    let gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\xae\x05\x00".to_vec();
    vec![
        Case::syntax("", "malformed_json"),
        Case::syntax(" \r\n\t", "malformed_json"),
        Case::syntax("{", "malformed_json"),
        Case::syntax(MARKER, "malformed_json"),
        Case::syntax(format!("{{'a':'{MARKER}'}}"), "malformed_json"),
        Case::syntax(format!("{{\"{MARKER}\":"), "malformed_json"),
        Case::syntax(r#"{"a":NaN}"#, "malformed_json"),
        Case::syntax(r#"{"a":01}"#, "malformed_json"),
        Case::syntax(r#"{"a":"\ud800"}"#, "malformed_json"),
        Case::syntax(r#"{"a":1,}"#, "malformed_json"),
        Case::syntax("{\"a\":\"\0\"}", "malformed_json"),
        Case::syntax(b"\xef\xbb\xbf{}".to_vec(), "malformed_json"),
        Case::syntax(format!("{} {MARKER}", marked()), "trailing_data"),
        Case::syntax(format!("{}{}", marked(), marked()), "trailing_data"),
        Case::syntax(huge_number, "number_out_of_range"),
        Case::syntax(latin1, "invalid_utf8"),
        Case::syntax(b"\xff\xfe{\0}\0".to_vec(), "invalid_utf8"),
        Case::syntax(gzip, "invalid_utf8"),
        Case::syntax(nested("[", "]"), "nested_too_deeply"),
        Case::syntax(nested(r#"{"a":"#, "}"), "nested_too_deeply"),
        Case::syntax("[".repeat(10_000), "nested_too_deeply"),
        Case::syntax(deep_payload, "nested_too_deeply"),
    ]
}

fn wrong_fields() -> Vec<Case> {
    let long = |length: usize| json!("x".repeat(length));
    let mut cases = Vec::new();
    for value in [json!(MARKER), json!(7), json!(null), json!(true)] {
        cases.push(Case {
            field: Some(("wrong_type", "#".to_owned())),
            ..Case::bytes("no object", value.to_string(), 422, "invalid_event")
        });
    }
    for (member, value, problem) in [
        ("event_type", json!(null), "missing"),
        ("event_type", json!(""), "empty"),
        ("event_type", json!(7), "wrong_type"),
        ("event_type", long(101), "too_long"),
        ("event_type", json!("billing..overdue"), "invalid_format"),
        ("event_type", json!("billing.*"), "invalid_format"),
        ("event_type", json!("cobrança"), "invalid_format"),
        ("event_type", json!("a\0b"), "nul_character"),
        ("source_system", json!(null), "missing"),
        ("source_system", json!("bill ing"), "invalid_format"),
        ("source_system", json!(["billing"]), "wrong_type"),
        ("source_system", long(51), "too_long"),
        ("tenant_id", json!("1"), "wrong_type"),
        ("tenant_id", json!(1.5), "wrong_type"),
        ("tenant_id", json!(true), "wrong_type"),
        ("tenant_id", json!({"id": 1}), "wrong_type"),
        ("tenant_id", json!(0), "out_of_range"),
        ("tenant_id", json!(-1), "out_of_range"),
        ("tenant_id", json!(u64::MAX), "out_of_range"),
        ("payload", json!(null), "wrong_type"),
        ("payload", json!(MARKER), "wrong_type"),
        ("payload", json!([MARKER]), "wrong_type"),
        ("metadata", json!(MARKER), "wrong_type"),
        ("metadata", json!([]), "wrong_type"),
        ("idempotency_key", json!(" "), "empty"),
        ("idempotency_key", json!(7), "wrong_type"),
        ("idempotency_key", long(256), "too_long"),
        ("idempotency_key", long(100_000), "too_long"),
        ("idempotency_key", json!("a\0b"), "nul_character"),
        ("idempotency_key", json!("a\nb"), "invalid_format"),
        ("event_id", json!({}), "wrong_type"),
        ("event_id", json!(1.5), "wrong_type"),
        ("event_id", long(256), "too_long"),
        ("trace_id", json!("not-a-trace"), "invalid_format"),
        ("trace_id", json!("0".repeat(32)), "invalid_format"),
        ("trace_id", json!("é".repeat(16)), "invalid_format"),
        ("trace_id", json!(7), "wrong_type"),
        ("trace_id", long(65), "too_long"),
        ("correlation_id", long(129), "too_long"),
        ("correlation_id", json!("a\u{7}b"), "invalid_format"),
        ("causation_id", json!([]), "wrong_type"),
        ("occurred_at", json!(""), "invalid_format"),
        ("occurred_at", json!("yesterday"), "invalid_format"),
        (
            "occurred_at",
            json!("2026-01-01T00:00:00"),
            "invalid_format",
        ),
        (
            "occurred_at",
            json!("2026-02-30T00:00:00Z"),
            "invalid_format",
        ),
        (
            "occurred_at",
            json!("+292277026596-12-04T15:30:07Z"),
            "invalid_format",
        ),
        ("occurred_at", json!("1999-12-31T23:59:59Z"), "out_of_range"),
        ("occurred_at", json!("9999-12-31T23:59:59Z"), "out_of_range"),
        ("occurred_at", json!(0), "out_of_range"),
        ("occurred_at", json!(-1), "out_of_range"),
        ("occurred_at", json!(i64::MAX), "invalid_format"),
        ("occurred_at", json!(i64::MIN), "invalid_format"),
        ("occurred_at", json!(u64::MAX), "invalid_format"),
        ("occurred_at", json!(1e300), "invalid_format"),
        ("occurred_at", json!(true), "wrong_type"),
        ("occurred_at", json!({}), "wrong_type"),
    ] {
        cases.push(Case::field(member, value, problem));
    }
    let key = "k".repeat(257);
    // The pointer stands in a fragment (RFC 6901 §6): what is no ASCII is percent-encoded there.
    let shown = format!("{}%E2%80%A6", "k".repeat(64));
    cases.extend([
        Case::payload(&key, json!(MARKER), "key_too_long", &shown),
        Case::payload(&"k".repeat(100_000), json!(1), "key_too_long", &shown),
        Case::payload("text", json!("a\0b"), "nul_character", "text"),
        Case::payload("a\0b", json!(1), "nul_character", "a%EF%BF%BDb"),
        Case::payload(
            "deep",
            json!([{"x/y": ["\0"]}]),
            "nul_character",
            "deep/0/x~1y/0",
        ),
    ]);
    let mut missing = marked();
    if let Some(event) = missing.as_object_mut() {
        event.remove("payload");
    }
    cases.push(Case {
        field: Some(("missing", "#/payload".to_owned())),
        ..Case::bytes("no payload", missing.to_string(), 422, "invalid_event")
    });
    cases
}

fn refused_otherwise() -> Vec<Case> {
    let good = || marked().to_string();
    let typed = |content_type: &'static str| Case {
        content_type,
        ..Case::bytes(content_type, good(), 415, "unsupported_media_type")
    };
    let unknown = |tenant: i64| {
        let case = Case::field("tenant_id", json!(tenant), "unknown");
        Case {
            code: "unknown_tenant",
            ..case
        }
    };
    let batch = |what: &str, body: String| Case {
        field: Some(("out_of_range", "#".to_owned())),
        ..Case::bytes(what, body, 422, "batch_too_large")
    };
    vec![
        typed("text/plain"),
        typed("application/x-www-form-urlencoded"),
        typed("application/xml"),
        typed("application/jsonp"),
        typed("multipart/form-data; boundary=x"),
        unknown(4711),
        unknown(i64::MAX),
        Case::forbidden(
            BILLING_TOKEN,
            ("asaas", json!(1)),
            "source_forbidden",
            "#/source_system",
        ),
        Case::forbidden(
            BILLING_TOKEN,
            ("nobody", json!(1)),
            "source_forbidden",
            "#/source_system",
        ),
        Case::forbidden(
            CHAT_TOKEN,
            ("chat", json!(2)),
            "tenant_forbidden",
            "#/tenant_id",
        ),
        Case::forbidden(
            CHAT_TOKEN,
            ("chat", json!(4711)),
            "tenant_forbidden",
            "#/tenant_id",
        ),
        Case::forbidden(
            CHAT_TOKEN,
            ("chat", json!(null)),
            "tenant_forbidden",
            "#/tenant_id",
        ),
        Case {
            code: "invalid_event",
            ..batch("an empty batch", "[]".to_owned())
        },
        batch("1001 events", small_events(1001)),
    ]
}

/// A batch that is below the limit of bytes, because its events are small.
fn small_events(events: usize) -> String {
    let event = json!({"event_type": "a.b", "source_system": "billing", "payload": {}});
    Value::from(vec![event; events]).to_string()
}

/// No worker: what is refused needs none, and nothing is accepted.
async fn door_only() -> World {
    World::start_with(Setup {
        router: false,
        delivery: false,
        ..Setup::default()
    })
    .await
}

/// Asserts that the trace of the answer shows the refusal to operators, and nothing of the body.
async fn assert_explained(world: &World, case: &Case, refused: &Answer) {
    let what = &case.what;
    let trace = refused.text("/trace_id");
    let story = world.story(&trace).await;
    assert_eq!(story["events"], json!([]), "{what}");
    let log = &story["logs"][0];
    assert_eq!(log["code"], case.code, "{what}: {story}");
    assert_eq!(log["level"], "warn", "{what}");
    let source = if case.token == CHAT_TOKEN {
        "chat"
    } else {
        "billing"
    };
    assert_eq!(log["source_system"], source, "{what}");
    if let Some((_, pointer)) = &case.field {
        assert_eq!(log["pointer"], pointer.as_str(), "{what}");
    }
    for shown in [story.to_string(), refused.body.to_string()] {
        assert!(!shown.contains(MARKER), "{what} is repeated: {shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_can_be_wrong_has_its_answer_and_its_trace_and_stores_no_event() {
    let world = door_only().await;
    let cases = || {
        unreadable()
            .into_iter()
            .chain(wrong_fields())
            .chain(refused_otherwise())
    };
    let mut posted = 0;
    for case in cases() {
        let refused = world
            .post_bytes(case.token, case.content_type, case.body.clone())
            .await;
        assert_problem(&case.what, &refused, case.status, case.code);
        if let Some((problem, pointer)) = &case.field {
            let first = &refused.body["errors"][0];
            assert_eq!(first["code"], *problem, "{}: {}", case.what, refused.body);
            assert_eq!(first["pointer"], pointer.as_str(), "{}", case.what);
        }
        assert_explained(&world, &case, &refused).await;
        posted += 1;
    }
    for table in ["communication_events", "idempotency_keys", "outbox"] {
        let rows = world.count(&format!("select count(*) from {table}")).await;
        assert_eq!(rows, 0, "nothing is stored in {table}");
    }
    assert_eq!(
        world.count("select count(*) from communication_logs").await,
        posted,
        "one row for each refusal"
    );
    let kept = format!("select count(*) from communication_logs l where l::text like '%{MARKER}%'");
    assert_eq!(world.count(&kept).await, 0, "no row holds what was refused");
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_problem_of_an_event_is_told_at_once_and_of_each_item_of_a_batch() {
    let world = door_only().await;
    let refused = world
        .post(&json!({"tenant_id": "x", "occurred_at": true}))
        .await;
    assert_problem("much at once", &refused, 422, "invalid_event");
    let told: Vec<_> = refused.body["errors"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|error| format!("{} {}", error["code"], error["pointer"]).replace('"', ""))
        .collect();
    for wanted in [
        "missing #/event_type",
        "missing #/source_system",
        "missing #/payload",
        "wrong_type #/tenant_id",
        "wrong_type #/occurred_at",
    ] {
        assert!(
            told.iter().any(|own| own == wanted),
            "{wanted} is missing in {told:?}"
        );
    }

    let mut unknown = marked();
    unknown["tenant_id"] = json!(4711);
    let answer = world.post(&json!([[], 7, unknown, {}])).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let codes: Vec<_> = (0..4)
        .map(|index| answer.text(&format!("/{index}/problem/code")))
        .collect();
    assert_eq!(
        codes,
        [
            "invalid_event",
            "invalid_event",
            "unknown_tenant",
            "invalid_event"
        ]
    );
    let traces: std::collections::BTreeSet<_> = (0..4)
        .map(|index| answer.text(&format!("/{index}/problem/trace_id")))
        .collect();
    let mut logged = 0;
    for trace in traces {
        logged += world.story(&trace).await["logs"]
            .as_array()
            .map_or(0, Vec::len);
    }
    assert_eq!(logged, 4, "each item is explained");
    let events = "select count(*) from communication_events";
    assert_eq!(world.count(events).await, 0);
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_only_strange_is_accepted() {
    let world = door_only().await;
    let with = |member: &str, value: Value| {
        let mut event = overdue(&format!("strange-{}", uuid::Uuid::new_v4()));
        event[member] = value;
        event.to_string()
    };
    let nested = "[".repeat(100) + &"]".repeat(100);
    let strange = [
        with("tenant_id", json!(null)),
        with("unknown_member", json!("a\0b")),
        with(&"k".repeat(100_000), json!(1)),
        with("idempotency_key", json!("é".repeat(255))),
        with("metadata", json!(null)),
        with("trace_id", json!("7B0D6F0E-0000-4000-8000-000000000042")),
        with("event_id", json!(u64::MAX)),
        with("occurred_at", json!(946_684_800)),
        with("occurred_at", json!("2026-02-05T11:00:01-03:00")),
        overdue("nested").to_string().replace(r#""59.80""#, &nested),
        overdue("number")
            .to_string()
            .replace(r#""59.80""#, "123456789012345678901234567890"),
        overdue("emoji")
            .to_string()
            .replace("Hospedagem", "🏠\u{200b}\u{202e}"),
    ];
    for body in strange {
        let start: String = body.chars().take(60).collect();
        let answer = world
            .post_bytes(
                BILLING_TOKEN,
                "Application/JSON ; charset=UTF-8",
                body.into_bytes(),
            )
            .await;
        assert_eq!(answer.status, 202, "{start}: {}", answer.body);
        let own = world
            .get(&format!("/api/events/{}", answer.text("/event_id")))
            .await;
        assert_eq!(own.status, 200, "{start}: {}", own.body);
    }
    let traced = world
        .client()
        .post(format!("{}/api/events", world.api()))
        .bearer_auth(BILLING_TOKEN)
        .header("traceparent", "00-zz-not-a-trace")
        .json(&overdue("traceparent"));
    assert_eq!(
        answer(traced).await.status,
        202,
        "a bad traceparent is ignored"
    );
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_more_than_a_mebibyte_is_refused_whether_or_not_it_says_so() {
    let world = door_only().await;
    let url = format!("{}/api/events", world.api());
    let credential = format!("authorization: Bearer {BILLING_TOKEN}");
    for large in [Large::Declared((1 << 20) + 1), Large::Chunked(2 << 20)] {
        assert_too_large(&url, &credential, large).await;
    }
    let logged = "select count(*) from communication_logs
                  where code = 'body_too_large' and source_system = 'billing' and trace_id is not null";
    assert_eq!(world.count(logged).await, 2);
    let events = "select count(*) from communication_events";
    assert_eq!(world.count(events).await, 0);
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_addresses_and_methods_are_answered_like_everything_else() {
    let world = door_only().await;
    let ask = |method: reqwest::Method, path: &str| {
        world
            .client()
            .request(method, format!("{}{path}", world.api()))
            .bearer_auth(BILLING_TOKEN)
    };
    for path in [
        "/",
        "/api",
        "/api/events/",
        "/api/events/7",
        "/api/events/..%2f..%2fetc",
        "/api/events/%00",
        "/api/events/%ff",
        "/api/events/01a20a91-97e2-761d-a6c6-648318c6ad98",
        "/admin/traces/0af7651916cd43dd8448eb211c80319c",
        "/metrics",
    ] {
        let answer = answer(ask(reqwest::Method::GET, path)).await;
        assert_problem(path, &answer, 404, "not_found");
    }
    for method in [
        reqwest::Method::GET,
        reqwest::Method::PUT,
        reqwest::Method::DELETE,
        reqwest::Method::PATCH,
    ] {
        let answer = answer(ask(method.clone(), "/api/events")).await;
        assert_problem(method.as_str(), &answer, 405, "method_not_allowed");
        assert!(answer.headers.contains_key("allow"), "{method}");
    }
    for path in [
        "/admin/traces/7",
        "/admin/traces/%ff",
        "/admin/events/%00",
        "/admin/events/%ff",
        "/admin/nothing",
    ] {
        assert_problem(path, &world.admin(path).await, 404, "not_found");
    }
    let reveal = "/admin/traces/0af7651916cd43dd8448eb211c80319c?reveal=perhaps";
    let answer = world.admin(reveal).await;
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    world.end(Leaves::Nothing).await;
}
