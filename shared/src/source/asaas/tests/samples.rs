//! What each sample must become, and what is not among the samples.

use super::*;

#[test]
fn every_sample_becomes_what_its_snapshot_says() {
    for (name, text) in FIXTURES {
        insta::assert_json_snapshot!(*name, summary(text.as_bytes()));
    }
}

#[test]
fn s31_a_charge_is_known_by_its_customer_and_its_own_time() {
    let event = event_of(sample("31_asaas_payment_created_by_customer_id"));
    assert_eq!(event.event_type, "asaas.payment.created");
    assert_eq!(
        key(&event),
        "asaas:PAYMENT_CREATED:evt_fixture00000000000000000000000031&1000031"
    );
    assert_eq!(event.key.as_ref().unwrap().origin(), KeyOrigin::Natural);
    assert_eq!(
        event.invoice_key.as_deref(),
        Some("asaas:pay_fixture000601")
    );
    assert_eq!(
        event.occurred_at.unwrap().to_rfc3339(),
        "2026-01-20T12:00:01+00:00"
    );
    assert_eq!(event.tenant_id, None, "whose it is, the router finds out");
    let books = books_of(sample("31_asaas_payment_created_by_customer_id"));
    assert_eq!(books.customer.as_deref(), Some("cus_000000000022"));
    assert_eq!(books.named_tenant, None);
    assert_eq!(books.charge.unwrap().status, Some(ChargeStatus::Pending));
}

#[test]
fn s33_a_payment_is_paid_whatever_the_event_is_called() {
    let books = books_of(sample("33_asaas_payment_received_known_invoice"));
    assert_eq!(books.named_tenant, Some(TenantId(1)));
    assert_eq!(books.charge.unwrap().status, Some(ChargeStatus::Paid));
}

#[test]
fn one_id_of_two_kinds_is_two_events() {
    let keys: Vec<String> = [
        "access-token-created",
        "balance-value-blocked",
        "subscription-created",
    ]
    .iter()
    .map(|name| key(&event_of(sample(name))).to_owned())
    .collect();
    for (index, own) in keys.iter().enumerate() {
        assert!(
            own.ends_with("evt_6561b631fa5580caadd00bbe3b858607&9193"),
            "{own}"
        );
        assert!(!keys[index + 1..].contains(own), "{own}");
    }
}

#[test]
fn an_event_without_an_id_is_known_by_its_kind_its_thing_and_its_content() {
    let event = event_of(sample("transfer-created-no-id"));
    let own = key(&event);
    assert!(own.starts_with("asaas:TRANSFER_CREATED:777eb7c8-b1a2-4356-8fd8-a1b0644b5282:"));
    assert_eq!(event.key.as_ref().unwrap().origin(), KeyOrigin::Natural);
    let spelt_otherwise = br#"{"transfer":{"status":"DONE","id":"t1"},"event":"TRANSFER_DONE"}"#;
    let again = br#"{ "event": "TRANSFER_DONE", "transfer": {"id": "t1", "status": "DONE"} }"#;
    assert_eq!(key(&event_of(spelt_otherwise)), key(&event_of(again)));
    let changed = br#"{"event":"TRANSFER_DONE","transfer":{"id":"t1","status":"FAILED"}}"#;
    assert_ne!(key(&event_of(changed)), key(&event_of(again)));
}

#[test]
fn the_tenant_of_a_reference_is_read_wherever_it_stands_and_never_out_of_another_number() {
    let named = |reference: Value| {
        let body = json!({"event": "PAYMENT_CREATED", "payment": {"id": "pay_1", "externalReference": reference}});
        books_of(body.to_string().as_bytes()).named_tenant
    };
    for (reference, wanted) in [
        (json!("tenant:42;invoice:1001"), Some(42)),
        (json!("invoice:1001 tenant:42"), Some(42)),
        (json!("tenant:1"), Some(1)),
        (json!("056984"), None),
        (json!("PIXEL_CONTRACT:7_42"), None),
        (json!("subtenant:42"), None),
        (json!("tenant:0"), None),
        (json!("tenant:-1"), None),
        (json!("tenant:"), None),
        (json!("tenant:99999999999999999999"), None),
        (json!(null), None),
        (json!(42), None),
    ] {
        assert_eq!(
            named(reference.clone()),
            wanted.map(TenantId),
            "{reference}"
        );
    }
}

#[test]
fn a_status_says_how_a_charge_stands_and_deletion_overrules_it() {
    let status = |payment: Value| {
        let body = json!({"event": "PAYMENT_UPDATED", "payment": payment});
        books_of(body.to_string().as_bytes()).charge.unwrap().status
    };
    for (word, wanted) in [
        ("PENDING", ChargeStatus::Pending),
        ("AWAITING_RISK_ANALYSIS", ChargeStatus::Pending),
        ("NEVER_HEARD_OF", ChargeStatus::Pending),
        ("CONFIRMED", ChargeStatus::Paid),
        ("RECEIVED", ChargeStatus::Paid),
        ("RECEIVED_IN_CASH", ChargeStatus::Paid),
        ("DUNNING_RECEIVED", ChargeStatus::Paid),
        ("OVERDUE", ChargeStatus::Overdue),
        ("DUNNING_REQUESTED", ChargeStatus::Overdue),
        ("REFUNDED", ChargeStatus::Canceled),
        ("CHARGEBACK_DISPUTE", ChargeStatus::Canceled),
        ("AWAITING_CHARGEBACK_REVERSAL", ChargeStatus::Canceled),
    ] {
        assert_eq!(
            status(json!({"id": "p", "status": word})),
            Some(wanted),
            "{word}"
        );
    }
    for deleted in [json!(true), json!("true"), json!(1)] {
        let payment = json!({"id": "p", "status": "OVERDUE", "deleted": deleted});
        assert_eq!(status(payment), Some(ChargeStatus::Canceled), "{deleted}");
    }
    assert_eq!(
        status(json!({"id": "p", "status": "OVERDUE", "deleted": false})),
        Some(ChargeStatus::Overdue)
    );
    assert_eq!(status(json!({"id": "p"})), None);
}

#[test]
fn a_fiscal_invoice_names_its_charge_and_its_customer() {
    let body = br#"{"id":"evt_1&2","event":"INVOICE_AUTHORIZED","invoice":{"id":"inv_1","payment":"pay_9","customer":"cus_9"}}"#;
    assert_eq!(event_of(body).invoice_key.as_deref(), Some("asaas:pay_9"));
    let books = books_of(body);
    assert_eq!(books.customer.as_deref(), Some("cus_9"));
    assert_eq!(books.charge.unwrap().status, None);
}

#[test]
fn what_is_no_json_is_an_event_all_the_same() {
    for body in [
        &b""[..],
        b"not json",
        br#"{"id":"evt_1","event":"PAYMENT_RECEIVED","#,
        b"\x1f\x8b\x08\x00gzip",
    ] {
        let event = event_of(body);
        assert_eq!(event.event_type, UNREADABLE);
        assert_eq!(event.payload, None);
        assert!(!event.redacted_body(), "the bytes are kept as they came");
        assert_eq!(
            normalised_of(&event, body),
            Err(NormaliseError::PayloadUnreadable)
        );
        assert_eq!(key(&event), key(&event_of(body)));
    }
    for body in [
        &b"[]"[..],
        b"7",
        b"null",
        br#"{"event":7}"#,
        br#"{"event":"A B"}"#,
    ] {
        let event = event_of(body);
        assert_eq!(event.event_type, UNHANDLED);
        assert!(normalised_of(&event, body).is_ok());
    }
}

#[test]
fn half_an_emoji_and_a_nul_do_not_lose_a_payment() {
    let half = br#"{"id":"evt_1","event":"PAYMENT_RECEIVED","payment":{"id":"pay_1","description":"oi \ud83d"}}"#;
    assert_eq!(event_of(half).event_type, "asaas.payment.received");
    let nul = br#"{"id":"evt_1","event":"PAYMENT_RECEIVED","payment":{"id":"pay_1","description":"oi \u0000","status":"RECEIVED"}}"#;
    let event = event_of(nul);
    assert_eq!(event.payload, None, "jsonb refuses it");
    assert_eq!(event.invoice_key.as_deref(), Some("asaas:pay_1"));
    assert_eq!(
        books_of(nul).charge.unwrap().status,
        Some(ChargeStatus::Paid)
    );
}

#[test]
fn either_header_opens_with_either_secret() {
    let door = DoorSecrets::new(Some("new-token".into()), Some("old-token".into()));
    for header in ["asaas-access-token", "x-asaas-access-token"] {
        for (token, opens) in [("new-token", true), ("old-token", true), ("token", false)] {
            let mut headers = HeaderMap::new();
            headers.insert(header, token.parse().unwrap());
            assert_eq!(
                Asaas.authenticate(&headers, &door).is_ok(),
                opens,
                "{header}: {token}"
            );
        }
    }
    assert_eq!(
        Asaas.authenticate(&HeaderMap::new(), &door),
        Err(AuthError::Missing)
    );
}
