//! `POST /api/events` in the forms of the standards: CloudEvents 1.0, `Idempotency-Key`,
//! `traceparent`; with the samples of `samples/protocols/standards`.

use posto_tests::world::http::{Answer, answer};
use posto_tests::world::{BILLING_TOKEN, CHAT_TOKEN, Leaves, Setup, World, overdue};
use serde_json::{Value, json};

const STRUCTURED: &str =
    include_str!("../../../shared/src/source/fixtures/standards/cloudevents-structured.json");
const BATCH: &str =
    include_str!("../../../shared/src/source/fixtures/standards/cloudevents-batch.json");
const BINARY: &str =
    include_str!("../../../shared/src/source/fixtures/standards/cloudevents-binary.http");
const TRACEPARENTS: &str =
    include_str!("../../../shared/src/source/fixtures/standards/traceparent-cases.json");

/// A world with tenant 42, of which the samples tell.
async fn door_only() -> World {
    let world = World::start_with(Setup {
        router: false,
        delivery: false,
        ..Setup::default()
    })
    .await;
    world
        .run_sql("insert into tenants (id, name) values (42, 'Cliente 42')")
        .await;
    world
}

async fn post(world: &World, headers: &[(&str, &str)], body: String) -> Answer {
    let mut request = world
        .client()
        .post(format!("{}/api/events", world.api()))
        .bearer_auth(BILLING_TOKEN)
        .body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    answer(request).await
}

async fn post_event(world: &World, body: &str) -> Answer {
    let headers = [(
        "content-type",
        "application/cloudevents+json; charset=utf-8",
    )];
    post(world, &headers, body.to_owned()).await
}

async fn stored(world: &World) -> i64 {
    world
        .count("select count(*) from communication_events")
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloudevent_is_one_event_structured_binary_and_in_a_batch() {
    let world = door_only().await;
    let first = post_event(&world, STRUCTURED).await;
    assert_eq!(first.status, 202, "{}", first.body);
    assert_eq!(first.text("/trace_id"), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(
        first.text("/correlation_id"),
        "c0ffee00-0000-4000-8000-000000000001"
    );
    let location = format!("/api/events/{}", first.text("/event_id"));
    assert_eq!(
        first.headers.get("location").map(|value| value.as_bytes()),
        Some(location.as_bytes())
    );

    // The same (source, id), this time with headers; without its own `Idempotency-Key`.
    let (head, body) = BINARY.split_once("\n\n").unwrap_or_default();
    let headers: Vec<(&str, &str)> = head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
        .filter(|(name, _)| !["Host", "Authorization", "Idempotency-Key"].contains(name))
        .collect();
    let again = post(&world, &headers, body.to_owned()).await;
    assert_eq!(
        (again.status, &again.body["duplicate"]),
        (202, &json!(true)),
        "{}",
        again.body
    );
    assert_eq!(again.text("/event_id"), first.text("/event_id"));

    let batch_type = [("content-type", "application/cloudevents-batch+json")];
    let batch = post(&world, &batch_type, BATCH.to_owned()).await;
    assert_eq!(batch.status, 202);
    assert_eq!(batch.text("/0/event_id"), first.text("/event_id"));
    assert_eq!(batch.body[0]["duplicate"], true);
    assert_eq!(batch.body[1]["duplicate"], false);
    assert_eq!(stored(&world).await, 2);
    let empty = post(&world, &batch_type, "[]".to_owned()).await;
    assert_eq!((empty.status, empty.body), (202, json!([])));

    let row = world
        .texts("select concat_ws('|', event_type, source_system, tenant_id, source_event_id, invoice_key, idempotency_key, metadata -> 'cloudevent' ->> 'source') from communication_events order by id")
        .await;
    assert_eq!(
        row[0],
        "billing.invoice.overdue|billing|42|inv-1001-overdue-7d|invoice:1001|ce:/pixelhub/billing:inv-1001-overdue-7d|/pixelhub/billing"
    );
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloudevent_that_is_none_is_told_in_its_own_words() {
    let world = door_only().await;
    let mut event: Value = serde_json::from_str(STRUCTURED).unwrap_or_default();
    event["specversion"] = json!("2.0");
    event["id"] = json!("");
    let refused = post_event(&world, &event.to_string()).await;
    assert_eq!(
        (refused.status, refused.text("/code")),
        (422, "invalid_event".to_owned())
    );
    let pointers: Vec<&str> = refused.body["errors"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|error| error["pointer"].as_str())
        .collect();
    assert_eq!(pointers, ["#/specversion", "#/id"]);

    let mut event: Value = serde_json::from_str(STRUCTURED).unwrap_or_default();
    event["tenantid"] = json!("4711");
    let unknown = post_event(&world, &event.to_string()).await;
    assert_eq!(
        (unknown.status, unknown.text("/code")),
        (422, "unknown_tenant".to_owned())
    );
    event["tenantid"] = json!("42");
    event["sourcesystem"] = json!("pixelhub");
    let foreign = post_event(&world, &event.to_string()).await;
    assert_eq!(
        (foreign.status, foreign.text("/code")),
        (403, "source_forbidden".to_owned())
    );

    for content_type in [
        "application/cloudevents+avro",
        "text/xml",
        "application/cloudevents+json; charset=latin1",
    ] {
        let refused = post(
            &world,
            &[("content-type", content_type)],
            STRUCTURED.to_owned(),
        )
        .await;
        assert_eq!(
            (refused.status, refused.text("/code")),
            (415, "unsupported_media_type".to_owned())
        );
    }
    let not_a_list = post(
        &world,
        &[("content-type", "application/cloudevents-batch+json")],
        STRUCTURED.to_owned(),
    )
    .await;
    assert_eq!(
        (not_a_list.status, not_a_list.text("/code")),
        (422, "invalid_event".to_owned())
    );
    assert_eq!(stored(&world).await, 0);
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_the_header_comes_first_quoted_or_bare() {
    let world = door_only().await;
    let json_type = ("content-type", "application/json");
    let mut event = overdue("body-key");
    let first = post(
        &world,
        &[json_type, ("idempotency-key", "\"header-key\"")],
        event.to_string(),
    )
    .await;
    assert_eq!(
        (first.status, &first.body["duplicate"]),
        (202, &json!(false)),
        "{}",
        first.body
    );
    event["idempotency_key"] = json!("another-body-key");
    let bare = post(
        &world,
        &[json_type, ("idempotency-key", "header-key")],
        event.to_string(),
    )
    .await;
    assert_eq!(bare.text("/event_id"), first.text("/event_id"));
    event["payload"]["amount"] = json!("1.00");
    let reused = post(
        &world,
        &[json_type, ("idempotency-key", "header-key")],
        event.to_string(),
    )
    .await;
    assert_eq!(
        (reused.status, reused.text("/code")),
        (422, "idempotency_key_reused".to_owned())
    );
    assert_eq!(reused.text("/existing_event_id"), first.text("/event_id"));

    // Before the id of a webhook, and that before the event's own (source, id).
    let ce_type = ("content-type", "application/cloudevents+json");
    let by_webhook = post(
        &world,
        &[ce_type, ("webhook-id", "msg_1")],
        STRUCTURED.to_owned(),
    )
    .await;
    assert_eq!(by_webhook.body["duplicate"], false);
    let by_source_and_id = post(&world, &[ce_type], STRUCTURED.to_owned()).await;
    assert_eq!(
        by_source_and_id.body["duplicate"], false,
        "another key, another event"
    );
    let keys = world
        .texts("select idempotency_key from communication_events order by id")
        .await;
    assert_eq!(
        keys,
        [
            "header-key",
            "msg_1",
            "ce:/pixelhub/billing:inv-1001-overdue-7d"
        ]
    );

    for bad in ["\"open", "", "\"\""] {
        let refused = post(
            &world,
            &[json_type, ("idempotency-key", bad)],
            overdue("x").to_string(),
        )
        .await;
        assert_eq!(
            (refused.status, refused.text("/code")),
            (400, "invalid_header".to_owned()),
            "{bad}"
        );
    }
    assert_eq!(stored(&world).await, 3);

    let batch = json!([overdue("a"), overdue("b")]).to_string();
    for duplicate in [false, true] {
        let told = post(
            &world,
            &[json_type, ("idempotency-key", "batch-key")],
            batch.clone(),
        )
        .await;
        assert_eq!(told.body[0]["duplicate"], duplicate);
        assert_eq!(
            told.body[1]["duplicate"], duplicate,
            "each item has a key of its own"
        );
    }
    assert_eq!(stored(&world).await, 5);
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_traceparent_is_joined_when_it_is_lawful_and_never_a_reason_to_refuse() {
    let world = door_only().await;
    let cases: Vec<Value> = serde_json::from_str(TRACEPARENTS).unwrap_or_default();
    assert_eq!(cases.len(), 7);
    for (number, case) in cases.iter().enumerate() {
        let parent = case["in"].as_str().unwrap_or_default();
        let headers = [
            ("content-type", "application/json"),
            ("traceparent", parent),
        ];
        let accepted = post(
            &world,
            &headers,
            overdue(&format!("trace-{number}")).to_string(),
        )
        .await;
        assert_eq!(accepted.status, 202, "{case}");
        assert_eq!(
            accepted.text("/trace_id") == "0af7651916cd43dd8448eb211c80319c",
            case["valid"] == true,
            "{case}"
        );
    }
    // The event's own trace comes before the hop's.
    let headers = [
        ("content-type", "application/cloudevents+json"),
        (
            "traceparent",
            "00-11111111111111111111111111111111-b7ad6b7169203331-01",
        ),
    ];
    let accepted = post(&world, &headers, STRUCTURED.to_owned()).await;
    assert_eq!(
        accepted.text("/trace_id"),
        "0af7651916cd43dd8448eb211c80319c"
    );
    let mut event: Value = serde_json::from_str(STRUCTURED).unwrap_or_default();
    event["id"] = json!("bad-trace");
    event["traceparent"] = json!("00-NOT-A-TRACE-01");
    let accepted = post(&world, &headers, event.to_string()).await;
    assert_eq!(
        accepted.text("/trace_id"),
        "11111111111111111111111111111111"
    );
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_outside_the_credential_is_403_whether_it_exists_or_not() {
    let world = door_only().await;
    let mut answers = Vec::new();
    for tenant in [42, 4711] {
        let event = json!({"event_type": "chat.message.received", "source_system": "chat", "tenant_id": tenant,
            "payload": {"order_id": 1, "text": "oi"}});
        let mut refused = world.post_as(CHAT_TOKEN, &event).await;
        assert_eq!(
            (refused.status, refused.text("/code")),
            (403, "tenant_forbidden".to_owned())
        );
        refused.body["trace_id"] = Value::Null;
        answers.push(refused.body);
    }
    assert_eq!(answers[0], answers[1]);
    let put = answer(world.client().put(format!("{}/api/events", world.api()))).await;
    assert_eq!(put.status, 405);
    assert_eq!(
        put.headers.get("allow").map(|value| value.as_bytes()),
        Some(&b"POST"[..])
    );
    let bare = answer(world.client().post(format!("{}/api/events", world.api()))).await;
    assert_eq!(bare.status, 401);
    assert!(bare.headers.contains_key("www-authenticate"));
    assert_eq!(stored(&world).await, 0);
    world.end(Leaves::Nothing).await;
}
