use chrono::{DateTime, Utc};
use proptest::prelude::*;

use super::*;
use crate::domain::event::{IncomingEvent, KeyOrigin};
use crate::domain::ids::TenantId;
use crate::source::generic::read_item;

const STRUCTURED_SAMPLE: &str = include_str!("../fixtures/standards/cloudevents-structured.json");
const BINARY_SAMPLE: &str = include_str!("../fixtures/standards/cloudevents-binary.http");

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_796_000_000, 0).unwrap()
}

fn read(event: Value, mode: Mode) -> Result<IncomingEvent, Vec<Problem>> {
    let native = native(event, "billing", mode)?;
    let event = read_item(native.item, now()).map_err(|problems| in_its_words(problems, mode))?;
    Ok(IncomingEvent {
        key: Some(native.key),
        ..event
    })
}

fn told(event: Value, mode: Mode) -> Vec<(String, &'static str)> {
    read(event, mode)
        .unwrap_err()
        .into_iter()
        .map(|problem| (problem.pointer, problem.code.as_str()))
        .collect()
}

/// The head and the body of a request that was written down.
fn request_of(text: &str) -> (HeaderMap, Value) {
    let (head, body) = text.split_once("\n\n").unwrap();
    let mut headers = HeaderMap::new();
    for line in head.lines().skip(1) {
        let (name, value) = line.split_once(": ").unwrap();
        let name: axum::http::HeaderName = name.parse().unwrap();
        headers.append(name, value.parse().unwrap());
    }
    (headers, serde_json::from_str(body).unwrap())
}

fn sample() -> Value {
    serde_json::from_str(STRUCTURED_SAMPLE).unwrap()
}

fn check_sample(event: &IncomingEvent) {
    assert_eq!(event.event_type, "billing.invoice.overdue");
    assert_eq!(event.source_system, "billing");
    assert_eq!(event.tenant_id, Some(TenantId(42)));
    assert_eq!(
        event.source_event_id.as_deref(),
        Some("inv-1001-overdue-7d")
    );
    let key = event.key.as_ref().unwrap();
    assert_eq!(key.expose(), "ce:/pixelhub/billing:inv-1001-overdue-7d");
    assert_eq!(key.origin(), KeyOrigin::Caller);
    assert_eq!(event.invoice_key.as_deref(), Some("invoice:1001"));
    assert_eq!(
        event.occurred_at.unwrap().to_rfc3339(),
        "2026-11-23T14:00:00+00:00"
    );
    assert_eq!(
        event.payload,
        Some(json!({"invoice_id": 1001, "days_overdue": 7}))
    );
}

#[test]
fn the_structured_sample_is_an_event_of_ours() {
    let event = read(sample(), Mode::Structured).unwrap();
    check_sample(&event);
    assert_eq!(
        event.trace_id.as_ref().unwrap().as_str(),
        "0af7651916cd43dd8448eb211c80319c"
    );
    assert_eq!(
        event.correlation_id.as_deref(),
        Some("c0ffee00-0000-4000-8000-000000000001")
    );
    assert_eq!(
        event.metadata["cloudevent"]["type"],
        "br.com.pixel12.billing.invoice.overdue"
    );
    assert_eq!(
        event.metadata["cloudevent"]["subject"],
        "tenant/42/invoice/1001"
    );
}

#[test]
fn the_binary_sample_is_the_same_with_its_headers_decoded_once() {
    let (headers, body) = request_of(BINARY_SAMPLE);
    assert!(is_binary(&headers));
    let event = read(of_headers(&headers, body).unwrap(), Mode::Binary).unwrap();
    check_sample(&event);
    assert_eq!(
        event.metadata["cloudevent"]["subject"],
        "tenant/42/invoice/1001 (7d)"
    );
}

#[test]
fn the_events_of_the_batch_sample_have_keys_of_their_own() {
    let batch: Vec<Value> =
        serde_json::from_str(include_str!("../fixtures/standards/cloudevents-batch.json")).unwrap();
    let keys: Vec<String> = batch
        .into_iter()
        .map(|event| read(event, Mode::Structured).unwrap())
        .map(|event| event.key.unwrap().expose().to_owned())
        .collect();
    assert_eq!(
        keys,
        [
            "ce:/pixelhub/billing:inv-1001-overdue-7d",
            "ce:/pixelhub/billing:inv-1002-overdue-7d"
        ]
    );
}

#[test]
fn what_is_wrong_is_told_by_its_own_names() {
    let with = |name: &str, value: Value| {
        let mut event = sample();
        event[name] = value;
        event
    };
    for (event, wanted) in [
        (json!([]), vec![("", "wrong_type")]),
        (
            json!({}),
            vec![
                ("/specversion", "invalid_format"),
                ("/id", "missing"),
                ("/source", "missing"),
                ("/type", "missing"),
            ],
        ),
        (
            with("specversion", json!("0.3")),
            vec![("/specversion", "invalid_format")],
        ),
        (with("id", json!("")), vec![("/id", "empty")]),
        (with("id", json!(7)), vec![("/id", "wrong_type")]),
        (
            with("id", json!("x".repeat(256))),
            vec![("/id", "too_long")],
        ),
        (
            with("type", json!("não é")),
            vec![("/type", "invalid_format")],
        ),
        (
            with("tenantid", json!("todos")),
            vec![("/tenantid", "wrong_type")],
        ),
        (
            with("tenantid", json!(-1)),
            vec![("/tenantid", "out_of_range")],
        ),
        (
            with("time", json!("ontem")),
            vec![("/time", "invalid_format")],
        ),
        (with("data", json!([1])), vec![("/data", "wrong_type")]),
        (
            with("data", json!({"a": "\0"})),
            vec![("/data/a", "nul_character")],
        ),
        (
            with("subject", json!("\0")),
            vec![("/subject", "nul_character")],
        ),
        (
            with("datacontenttype", json!("text/plain")),
            vec![("/datacontenttype", "invalid_format")],
        ),
        (
            with("data_base64", json!("AA==")),
            vec![("/data_base64", "wrong_type")],
        ),
    ] {
        let told = told(event, Mode::Structured);
        let told: Vec<_> = told.iter().map(|(p, code)| (p.as_str(), *code)).collect();
        assert_eq!(told, wanted);
    }
    let mut without = sample();
    without.as_object_mut().unwrap().remove("data");
    assert_eq!(
        told(without, Mode::Structured),
        [("/data".to_owned(), "missing")]
    );
    let problems = read(with("type", json!("não é")), Mode::Binary).unwrap_err();
    assert_eq!(problems[0].pointer, "");
    assert!(
        problems[0].detail.starts_with("ce-type is dotted words"),
        "{problems:?}"
    );
    assert_eq!(
        told(with("data", json!({"a": "\0"})), Mode::Binary),
        [("/a".to_owned(), "nul_character")]
    );
}

#[test]
fn the_source_system_is_named_or_the_last_part_of_the_source_that_is_the_callers() {
    let of = |event: Value, own: &[&str]| {
        source_system(&event, |name| own.contains(&name)).map(str::to_owned)
    };
    let event = |source: &str| json!({ "source": source });
    assert_eq!(
        of(event("/pixelhub/billing"), &["billing"]).as_deref(),
        Some("billing")
    );
    assert_eq!(
        of(event("/pixelhub/billing"), &["pixelhub", "billing"]).as_deref(),
        Some("billing")
    );
    assert_eq!(
        of(event("urn:pixelhub"), &["pixelhub"]).as_deref(),
        Some("pixelhub")
    );
    assert_eq!(of(event("/elsewhere"), &["billing"]), None);
    assert_eq!(
        of(
            json!({"source": "/billing", "sourcesystem": "chat"}),
            &["billing"]
        )
        .as_deref(),
        Some("chat"),
        "whether the caller may, somebody else asks"
    );
}

#[test]
fn headers_that_are_no_attributes_are_refused() {
    let (mut headers, body) = request_of(BINARY_SAMPLE);
    headers.insert("ce-subject", "%ff%fe".parse().unwrap());
    assert!(of_headers(&headers, body.clone()).is_err(), "no UTF-8");
    headers.insert("ce-subject", "a%2520b".parse().unwrap());
    let event = of_headers(&headers, body.clone()).unwrap();
    assert_eq!(event["subject"], "a%20b", "decoded once");
    headers.append("ce-subject", "b".parse().unwrap());
    assert!(of_headers(&headers, body.clone()).is_err(), "twice");
    let (mut headers, _) = request_of(BINARY_SAMPLE);
    headers.insert("ce-datacontenttype", "application/json".parse().unwrap());
    assert!(of_headers(&headers, body).is_err());
    headers.remove("ce-id");
    assert!(!is_binary(&headers));
}

#[test]
fn a_traceparent_counts_only_when_all_of_it_is_lawful() {
    let cases: Vec<Value> =
        serde_json::from_str(include_str!("../fixtures/standards/traceparent-cases.json")).unwrap();
    assert_eq!(cases.len(), 7);
    for case in cases {
        let read = trace_of_parent(case["in"].as_str().unwrap());
        let wanted = case["valid"].as_bool().unwrap();
        assert_eq!(read.is_some(), wanted, "{case}");
        if let Some(trace) = read {
            assert_eq!(trace.as_str(), "0af7651916cd43dd8448eb211c80319c");
        }
    }
    for text in [
        "",
        "00",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0é",
    ] {
        assert_eq!(trace_of_parent(text), None, "{text}");
    }
    let bad = json!({"traceparent": "00-x", "specversion": "1.0"});
    assert_eq!(trace_of(&bad), None);
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_of_traces_panic(text in any::<String>()) {
        let _ = trace_of_parent(&text);
    }

    #[test]
    fn no_attributes_make_the_reader_panic(
        members in prop::collection::btree_map(
            prop::sample::select(vec!["specversion", "id", "source", "type", "time", "tenantid", "data", "traceparent"])
                .prop_map(str::to_owned),
            prop_oneof![
                Just(Value::Null),
                any::<i64>().prop_map(Value::from),
                any::<String>().prop_map(Value::from),
                Just(json!("1.0")),
                Just(json!({"a": 1})),
            ],
            0..8,
        )
    ) {
        let event = Value::Object(members.into_iter().collect());
        let _ = source_system(&event, |_| true);
        for mode in [Mode::Structured, Mode::Binary] {
            if let Err(problems) = read(event.clone(), mode) {
                prop_assert!(!problems.is_empty());
            }
        }
    }
}
