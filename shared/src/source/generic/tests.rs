use proptest::prelude::*;
use secrecy::SecretString;

use super::*;
use crate::domain::event::KeyOrigin;

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_770_300_000, 0).unwrap()
}

fn read(item: Value) -> Result<IncomingEvent, Vec<Problem>> {
    read_item(item, now())
}

fn fixture(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn normalised(event: &IncomingEvent) -> NormalisedEvent {
    Generic
        .normalise(&StoredEvent {
            source_system: &event.source_system,
            event_type: &event.event_type,
            tenant_id: event.tenant_id,
            payload: event.payload.as_ref(),
            body: b"",
            occurred_at: event.occurred_at,
            received_at: now(),
        })
        .unwrap()
}

fn minimal() -> Value {
    json!({"event_type": "a.b", "source_system": "billing", "payload": {}})
}

/// A minimal item with one member replaced.
fn with(name: &str, value: Value) -> Value {
    let mut item = minimal();
    item[name] = value;
    item
}

fn problems_of(item: Value) -> Vec<(String, &'static str)> {
    read(item)
        .unwrap_err()
        .into_iter()
        .map(|problem| (problem.pointer, problem.code.as_str()))
        .collect()
}

#[test]
fn an_overdue_invoice_keeps_its_callers_key_and_names_its_invoice_and_contact() {
    let event = read(fixture(include_str!(
        "../fixtures/generic/39_api_event_billing_invoice_overdue.json"
    )))
    .unwrap();
    assert_eq!(event.event_type, "billing.invoice.overdue");
    assert_eq!(event.source_system, "billing");
    assert_eq!(event.tenant_id, Some(TenantId(1)));
    let key = event.key.as_ref().unwrap();
    assert_eq!(key.expose(), "billing:invoice:503:overdue_7d:2026-02-05");
    assert_eq!(key.origin(), KeyOrigin::Caller);
    assert_eq!(event.invoice_key.as_deref(), Some("invoice:503"));
    assert_eq!(event.contact_key.as_deref(), Some("tel:554799900011"));
    assert_eq!(
        event.trace_id.as_ref().unwrap().as_str(),
        "7b0d6f0e000040008000000000000039"
    );
    assert_eq!(event.metadata, json!({"emitted_by": "scheduler"}));

    let normalised = normalised(&event);
    assert_eq!(normalised.kind, NormalisedKind::Generic);
    assert_eq!(normalised.occurred_at, now());
    assert_eq!(normalised.text, None);
    let contact = normalised.contact.unwrap();
    assert_eq!(contact.phone.unwrap().expose(), "5547999900011");
    assert_eq!(contact.address, "(47) 99990-0011");
}

#[test]
fn an_event_without_a_key_gets_the_hash_of_its_content() {
    let event = read(fixture(include_str!(
        "../fixtures/generic/40_api_event_billing_invoice_paid_must_not_charge.json"
    )))
    .unwrap();
    let key = event.key.clone().unwrap();
    assert_eq!(key.origin(), KeyOrigin::Content);
    assert!(key.expose().starts_with("sha256:"));
    assert_eq!(event.invoice_key.as_deref(), Some("invoice:501"));
    assert_eq!(normalised(&event).text.unwrap().expose(), "obrigado");
}

#[test]
fn a_tenant_that_the_invoice_contradicts_is_still_read_as_the_caller_said() {
    let event = read(fixture(include_str!(
        "../fixtures/generic/41_api_event_tenant_mismatch.json"
    )))
    .unwrap();
    assert_eq!(event.tenant_id, Some(TenantId(2)));
    assert_eq!(event.invoice_key.as_deref(), Some("invoice:503"));
}

#[test]
fn an_empty_event_type_is_named() {
    let item = fixture(include_str!(
        "../fixtures/generic/42_api_event_missing_fields.json"
    ));
    assert_eq!(problems_of(item), [("/event_type".to_owned(), "empty")]);
}

#[test]
fn an_event_type_carries_no_phone_and_no_cpf() {
    for event_type in ["tel.5547988776655.x", "a.12345678909", "a.b-99990011"] {
        let item = json!({"event_type": event_type, "source_system": "billing", "payload": {}});
        assert_eq!(
            problems_of(item),
            [("/event_type".to_owned(), "invalid_format")]
        );
    }
}

#[test]
fn every_problem_is_told_at_once() {
    let item = json!({
        "event_type": 7, "tenant_id": "1", "idempotency_key": "", "trace_id": "x",
        "correlation_id": "c".repeat(129), "causation_id": "a\nb", "occurred_at": true,
        "payload": null, "metadata": []
    });
    let told = problems_of(item);
    insta::assert_json_snapshot!(told);
}

#[test]
fn each_field_has_its_rules() {
    for (name, value, code) in [
        ("event_type", json!(null), "missing"),
        ("event_type", json!("  "), "empty"),
        ("event_type", json!("a".repeat(101)), "too_long"),
        ("event_type", json!("a..b"), "invalid_format"),
        ("event_type", json!("billing.*"), "invalid_format"),
        ("event_type", json!("a b"), "invalid_format"),
        ("event_type", json!("a\u{0}b"), "nul_character"),
        ("source_system", json!("b".repeat(51)), "too_long"),
        ("source_system", json!("bil ling"), "invalid_format"),
        ("source_system", json!({}), "wrong_type"),
        ("tenant_id", json!(0), "out_of_range"),
        ("tenant_id", json!(-1), "out_of_range"),
        ("tenant_id", json!(u64::MAX), "out_of_range"),
        ("tenant_id", json!(1.5), "wrong_type"),
        ("tenant_id", json!([1]), "wrong_type"),
        ("idempotency_key", json!("k".repeat(256)), "too_long"),
        ("idempotency_key", json!("k\u{7f}"), "invalid_format"),
        ("idempotency_key", json!(1), "wrong_type"),
        ("event_id", json!(1.5), "wrong_type"),
        ("event_id", json!("e".repeat(256)), "too_long"),
        ("trace_id", json!("0".repeat(32)), "invalid_format"),
        ("trace_id", json!("a".repeat(65)), "too_long"),
        ("occurred_at", json!("2026-02-05"), "invalid_format"),
        (
            "occurred_at",
            json!("2026-02-05T10:00:00"),
            "invalid_format",
        ),
        ("occurred_at", json!(0), "out_of_range"),
        ("occurred_at", json!("1999-12-31T23:59:59Z"), "out_of_range"),
        ("occurred_at", json!("2026-02-07T00:00:00Z"), "out_of_range"),
        ("occurred_at", json!(i64::MAX), "invalid_format"),
        ("occurred_at", json!(u64::MAX), "invalid_format"),
        ("occurred_at", json!(1.5), "invalid_format"),
        ("occurred_at", json!({}), "wrong_type"),
        ("payload", json!(null), "wrong_type"),
        ("payload", json!([]), "wrong_type"),
        ("payload", json!("{}"), "wrong_type"),
        ("metadata", json!("x"), "wrong_type"),
    ] {
        let told = problems_of(with(name, value.clone()));
        assert_eq!(told, [(format!("/{name}"), code)], "{name}: {value}");
    }
    for (name, value) in [
        ("event_type", json!("order-item.Created_v2")),
        ("tenant_id", json!(i64::MAX)),
        ("tenant_id", json!(null)),
        ("idempotency_key", json!("é".repeat(255))),
        ("event_id", json!(42)),
        ("trace_id", json!(null)),
        ("occurred_at", json!(1_770_300_000)),
        ("occurred_at", json!(1_770_300_000_123_i64)),
        ("occurred_at", json!("2026-02-05T11:00:00-03:00")),
        ("metadata", json!(null)),
        ("unknown", json!("is ignored")),
    ] {
        assert!(read(with(name, value.clone())).is_ok(), "{name}: {value}");
    }
    assert_eq!(problems_of(json!([])), [(String::new(), "wrong_type")]);
}

#[test]
fn nul_characters_and_enormous_names_are_pointed_at() {
    let mut item = minimal();
    item["payload"] = json!({"a": {"b/c": ["ok", "x\u{0}"]}, "k".repeat(300): 1});
    item["metadata"] = json!({"n\u{0}": 1});
    assert_eq!(
        problems_of(item),
        [
            ("/payload/a/b~1c/1".to_owned(), "nul_character"),
            (format!("/payload/{}…", "k".repeat(64)), "key_too_long"),
            ("/metadata/n\u{fffd}".to_owned(), "nul_character"),
        ]
    );
}

#[test]
fn the_event_id_of_a_source_is_its_key_when_it_gives_no_other() {
    let event = read(with("event_id", json!("ev-7"))).unwrap();
    assert_eq!(event.source_event_id.as_deref(), Some("ev-7"));
    assert_eq!(event.key.unwrap(), Key::caller("ev-7"));
    let mut item = with("event_id", json!("ev-7"));
    item["idempotency_key"] = json!("k-1");
    let event = read(item).unwrap();
    assert_eq!(event.source_event_id.as_deref(), Some("ev-7"));
    assert_eq!(event.key.unwrap(), Key::caller("k-1"));
}

#[test]
fn the_content_key_counts_type_tenant_payload_and_the_given_time_and_nothing_else() {
    let key = |item: Value| read(item).unwrap().key.unwrap();
    let base = key(minimal());
    for (name, value, same) in [
        ("metadata", json!({"a": 1}), true),
        ("correlation_id", json!("c"), true),
        (
            "trace_id",
            json!("7b0d6f0e-0000-4000-8000-000000000039"),
            true,
        ),
        ("payload", json!({"a": 1}), false),
        ("tenant_id", json!(1), false),
        ("event_type", json!("a.c"), false),
        ("occurred_at", json!(1_770_299_000), false),
    ] {
        assert_eq!(key(with(name, value)) == base, same, "{name}");
    }
    assert_eq!(
        key(with("occurred_at", json!(1_770_300_000))),
        key(with("occurred_at", json!("2026-02-05T14:00:00Z")))
    );
}

#[test]
fn only_billing_names_invoices() {
    let invoice = |source: &str, event_type: &str, id: Value| {
        let item = json!({"event_type": event_type, "source_system": source, "payload": {"invoice_id": id}});
        read(item).unwrap().invoice_key
    };
    assert_eq!(
        invoice("billing", "a.b", json!(503)).as_deref(),
        Some("invoice:503")
    );
    assert_eq!(
        invoice("erp", "billing.invoice.paid", json!(" 503 ")).as_deref(),
        Some("invoice:503")
    );
    assert_eq!(invoice("erp", "order.created", json!(503)), None);
    for odd in [
        json!(null),
        json!(""),
        json!(1.5),
        json!({}),
        json!("x".repeat(65)),
    ] {
        assert_eq!(invoice("billing", "a.b", odd), None);
    }
}

#[test]
fn the_recipient_is_the_first_readable_address_and_a_wrong_one_is_not_a_missing_one() {
    let contact = |payload: Value| normalised(&read(with("payload", payload)).unwrap()).contact;
    let phone = |payload: Value| contact(payload).unwrap().phone.unwrap().expose().to_owned();
    assert_eq!(phone(json!({"phone": "(47) 99990-0011"})), "5547999900011");
    assert_eq!(phone(json!({"to": 47_999_900_011_i64})), "5547999900011");
    assert_eq!(phone(json!({"to": "554799900011@c.us"})), "554799900011");
    assert_eq!(
        phone(json!({"phone": "", "phone_normalized": "554799900011"})),
        "554799900011"
    );
    assert_eq!(
        phone(json!({"phone": "123", "to": "47 99990-0011"})),
        "5547999900011"
    );
    let wrong = contact(json!({"phone": "123"})).unwrap();
    assert_eq!((wrong.phone, wrong.contact_key), (None, None));
    assert_eq!(contact(json!({"text": "oi"})), None);
    assert!(
        contact(json!({"to": "120363000000000001@g.us"}))
            .unwrap()
            .is_group
    );
}

#[test]
fn the_bootstrap_key_opens_the_door_in_either_header() {
    let secrets = DoorSecrets::new(Some(SecretString::from("s3cret-value")), None);
    for (name, value) in [
        ("authorization", "Bearer s3cret-value"),
        ("authorization", "s3cret-value"),
        ("x-event-secret", "s3cret-value"),
    ] {
        let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
        assert_eq!(
            Generic.authenticate(&headers, &secrets),
            Ok(()),
            "{name}: {value}"
        );
        assert_eq!(
            Generic.authenticate(&headers, &DoorSecrets::default()),
            Err(AuthError::DoorShut)
        );
    }
    assert_eq!(
        Generic.authenticate(&HeaderMap::new(), &secrets),
        Err(AuthError::Missing)
    );
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[a-z_/~\\PC]{0,8}", inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_item_makes_the_reader_panic(values in prop::collection::vec(any_json(), 11)) {
        let names = [
            "event_type", "source_system", "payload", "tenant_id", "idempotency_key", "event_id",
            "trace_id", "correlation_id", "causation_id", "occurred_at", "metadata",
        ];
        for (name, value) in names.into_iter().zip(values) {
            let refused = read(with(name, value.clone())).err();
            for problem in refused.into_iter().flatten() {
                let place = format!("/{name}");
                prop_assert!(problem.pointer.starts_with(&place), "{problem:?}");
            }
            let _ = read(value);
        }
    }

    #[test]
    fn what_is_accepted_can_be_stored_and_normalised(payload in any_json()) {
        if let Ok(event) = read(with("payload", payload)) {
            prop_assert!(!crate::source::problem::holds_nul(event.payload.as_ref().unwrap()));
            let _ = format!("{:?} {event:?}", normalised(&event));
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(body in any::<Vec<u8>>()) {
        let _ = Generic.read(&body, now());
    }
}
