//! What holds for any body.

use proptest::prelude::*;

use super::*;

/// JSON that uses the words of the envelope, so that the reader's branches are met.
fn near_event() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "PAYMENT_RECEIVED",
        "TRANSFER_DONE",
        "NEVER_HEARD_OF",
        "evt_1&2",
        "pay_1",
        "cus_1",
        "tenant:1;invoice:2",
        "2026-02-03 03:10:00",
        "16/10/2024",
        "RECEIVED",
        "a\u{0}b",
        "ação",
        "",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    let name = prop::sample::select(vec![
        "id",
        "event",
        "dateCreated",
        "account",
        "payment",
        "transfer",
        "invoice",
        "customer",
        "externalReference",
        "status",
        "deleted",
        "dueDate",
        "nextDueDate",
        "additionalInfo",
    ]);
    leaf.prop_recursive(4, 48, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name.clone().prop_map(str::to_owned), inner, 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn check(body: &[u8]) {
    let event = event_of(body);
    assert_eq!(event.source_system, NAME);
    assert!(event.event_type.starts_with("asaas."));
    assert!(event.event_type.len() <= 100);
    assert_eq!(event.key.as_ref().unwrap().origin(), KeyOrigin::Natural);
    assert!(!key(&event).contains('\0'));
    assert!(!event.metadata.to_string().contains("\\u0000"));
    assert_eq!(key(&event), key(&event_of(body)), "the key is the body's");
    let normalised = normalised_of(&event, body);
    assert_eq!(normalised.is_err(), event.event_type == UNREADABLE);
}

proptest! {
    #[test]
    fn any_bytes_are_one_event(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        check(&bytes);
    }

    #[test]
    fn any_json_is_one_event(value in near_event()) {
        check(value.to_string().as_bytes());
    }
}
