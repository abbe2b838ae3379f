//! The samples, and what each must become.

use super::*;

const TEXT: &str = include_str!("../fixtures/whapi/text.json");
const SEVERAL: &str = include_str!("../fixtures/whapi/several.json");
const STATUSES: &str = include_str!("../fixtures/whapi/statuses.json");

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_770_301_000, 0).unwrap()
}

fn read(body: &str) -> Vec<IncomingEvent> {
    match Whapi.read(body.as_bytes(), now()).unwrap() {
        Reading::Events(events) => events,
        other => panic!("events, not {other:?}"),
    }
}

fn normalised(event: &IncomingEvent, received: &str) -> NormalisedEvent {
    let body = match &event.body {
        Body::AsReceived => received.as_bytes(),
        Body::Redacted(bytes) | Body::Lightened { body: bytes, .. } => bytes,
    };
    let stored = StoredEvent {
        source_system: &event.source_system,
        event_type: &event.event_type,
        tenant_id: event.tenant_id,
        payload: event.payload.as_ref(),
        body,
        occurred_at: event.occurred_at,
        received_at: now(),
    };
    Whapi.normalise(&stored).unwrap()
}

fn key(event: &IncomingEvent) -> &str {
    event.key.as_ref().unwrap().expose()
}

#[test]
fn a_text_is_one_event_with_its_sender_its_words_and_its_time() {
    let events = read(TEXT);
    assert_eq!(events.len(), 1);
    let event = &events[0];
    assert_eq!(event.event_type, INBOUND_MESSAGE);
    assert_eq!(
        key(event),
        "whapi:whapi-ch01:inbound:PsqWHAPI00000000001-wFIXTURE:message"
    );
    assert!(!event.redacted_body());
    let read = normalised(event, TEXT);
    assert_eq!(read.channel_account.as_deref(), Some("WHAPI-CH01"));
    assert_eq!(read.direction, Some(Direction::Inbound));
    assert_eq!(
        read.text.as_ref().map(MessageText::expose),
        Some("Bom dia, segue o comprovante?")
    );
    assert_eq!(read.occurred_at.timestamp(), 1_770_300_000);
    let contact = read.contact.unwrap();
    assert_eq!(contact.address, "5547999900011@s.whatsapp.net");
    assert_eq!(contact.contact_key, event.contact_key);
    assert_eq!(contact.name.as_deref(), Some("Aurora"));
    assert!(matches!(
        read.kind,
        NormalisedKind::InboundMessage { key_id: Some(id), content: ContentKind::Text }
            if id == "PsqWHAPI00000000001-wFIXTURE"
    ));
}

#[test]
fn several_in_one_request_are_events_of_their_own_each_with_its_own_part() {
    let events = read(SEVERAL);
    let types: Vec<_> = events.iter().map(|event| &*event.event_type).collect();
    assert_eq!(
        types,
        [INBOUND_MESSAGE, INBOUND_MESSAGE, OUTBOUND_MESSAGE, SYSTEM]
    );
    for event in &events {
        let Body::Redacted(own) = &event.body else {
            panic!("its own part");
        };
        let own: Value = serde_json::from_slice(own).unwrap();
        assert_eq!(Some(&own), event.payload.as_ref());
        assert_eq!(own["messages"].as_array().map(Vec::len), Some(1));
    }
    let image = normalised(&events[0], SEVERAL);
    let media = image.media.unwrap();
    assert_eq!(media.mime.as_deref(), Some("image/jpeg"));
    assert_eq!(media.bytes, Some(48_213));
    assert_eq!(media.message_id.as_deref(), Some("jpeg-FIXTURE0002"));
    assert_eq!(
        image.text.as_ref().map(MessageText::expose),
        Some("Comprovante")
    );
    let group = normalised(&events[1], SEVERAL).contact.unwrap();
    assert!(group.is_group && group.name.is_none());
    let author = group.participant.unwrap();
    assert_eq!(author.jid.expose(), "5547999900022@s.whatsapp.net");
    assert_eq!(author.name.as_deref(), Some("Bruno"));
    let echo = normalised(&events[2], SEVERAL);
    assert!(matches!(echo.kind, NormalisedKind::Echo(_)));
    assert_eq!(echo.contact.unwrap().name, None, "the name is our own");
    let notice = normalised(&events[3], SEVERAL);
    assert!(matches!(notice.kind, NormalisedKind::System { notice } if notice == "system"));
}

#[test]
fn a_status_is_evidence_and_each_level_an_event() {
    let events = read(STATUSES);
    let keys: Vec<_> = events.iter().map(key).collect();
    assert_eq!(
        keys,
        [
            "whapi:whapi-ch01:outbound:PwsWHAPI00000000045-wFIXTURE:ack:delivered",
            "whapi:whapi-ch01:outbound:PwsWHAPI00000000045-wFIXTURE:ack:read",
        ]
    );
    let proves: Vec<_> = events
        .iter()
        .map(|event| match normalised(event, STATUSES).kind {
            NormalisedKind::Ack {
                evidence,
                from_me: true,
                ..
            } => evidence,
            other => panic!("an ack, not {other:?}"),
        })
        .collect();
    assert_eq!(proves, [Some(Evidence::Delivered), Some(Evidence::Read)]);
}

#[test]
fn the_same_message_has_the_same_key_however_it_is_packed() {
    let whole: Value = serde_json::from_str(SEVERAL).unwrap();
    let alone = json!({
        "messages": [whole["messages"][1]], "channel_id": "WHAPI-CH01",
        "event": {"type": "messages", "event": "post"},
    });
    let alone = read(&alone.to_string());
    assert_eq!(key(&alone[0]), key(&read(SEVERAL)[1]));
    assert_eq!(alone[0].body_sha256, read(SEVERAL)[1].body_sha256);
}

#[test]
fn what_nobody_knows_is_one_event_and_what_is_no_json_is_refused() {
    for body in [
        "{}",
        "[]",
        "7",
        r#"{"messages":[]}"#,
        r#"{"messages":[5]}"#,
        r#"{"messages":{"id":"x"}}"#,
        r#"{"health":{"status":{"code":4,"text":"AUTH"}},"event":{"type":"channel","event":"post"}}"#,
        r#"{"messages":[{"id":"a","type":"text"}],"event":{"type":"messages","event":"patch"}}"#,
    ] {
        let events = read(body);
        assert_eq!(events.len(), 1, "{body}");
        assert_eq!(events[0].event_type, UNHANDLED, "{body}");
        assert_eq!(normalised(&events[0], body).kind, NormalisedKind::Unhandled);
    }
    for body in [&b""[..], b"messages=1", b"{\"messages\":["] {
        assert!(Whapi.read(body, now()).unwrap_err()[0].code.is_syntax());
    }
}

#[test]
fn more_than_a_thousand_in_one_request_are_not_taken() {
    let most = json!({"messages": vec![json!({}); MOST_ITEMS]}).to_string();
    assert_eq!(read(&most).len(), MOST_ITEMS);
    let more = json!({"messages": vec![json!({}); MOST_ITEMS + 1]}).to_string();
    let problems = Whapi.read(more.as_bytes(), now()).unwrap_err();
    assert_eq!(problems[0].pointer, "/messages");
}

#[test]
fn a_key_opens_the_door_as_a_bearer_or_in_a_header_of_ours() {
    let secrets = DoorSecrets::new(Some("key".into()), None);
    for (name, value, opens) in [
        ("authorization", "Bearer key", true),
        ("x-event-secret", "key", true),
        ("authorization", "Bearer other", false),
        ("x-webhook-secret", "key", false),
    ] {
        let headers = HeaderMap::from_iter([(
            name.parse::<axum::http::HeaderName>().unwrap(),
            value.parse().unwrap(),
        )]);
        assert_eq!(
            Whapi.authenticate(&headers, &secrets).is_ok(),
            opens,
            "{name}"
        );
        let shut = Whapi.authenticate(&headers, &DoorSecrets::default());
        assert_eq!(shut, Err(AuthError::DoorShut));
    }
}
