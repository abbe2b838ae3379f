//! The shapes and traps that no sample shows alone.

use secrecy::SecretString;

use super::*;
use crate::domain::delivery::Evidence;
use crate::domain::event::{KeyOrigin, SessionState};

#[test]
fn a_lonely_unavailable_says_nothing_about_the_session() {
    let (event, read) = of(json!({"event": "connection.update", "session": {"id": "s"},
        "connection": {"status": "unavailable"}}));
    assert_eq!(event.event_type, CONNECTION_UPDATE);
    assert!(matches!(
        read.kind,
        NormalisedKind::Session {
            state: SessionState::Other,
            ..
        }
    ));
}

#[test]
fn acks_are_read_from_every_shape_of_id_and_level() {
    let level = |name: &str| match told(name).1.kind {
        NormalisedKind::Ack {
            level,
            from_me,
            evidence,
            ..
        } => (level, from_me, evidence),
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(level("message-ack"), (Some(3), true, Some(Evidence::Read)));
    assert_eq!(
        level("onack-delivered"),
        (Some(2), true, Some(Evidence::Delivered))
    );
    assert_eq!(
        level("onack-of-received-message"),
        (Some(3), false, None),
        "we read theirs"
    );
    for (body, wanted) in [
        (json!({"messageId": "3EB0", "status": "delivered"}), Some(2)),
        (
            json!({"messageId": "true_5511@c.us_3EB0", "status": "READ"}),
            Some(3),
        ),
        (
            json!({"event": "message.ack", "ack": {"messageId": "3EB0", "status": "played"}}),
            Some(4),
        ),
        (
            json!({"event": "ack", "message": {"id": "3EB0"}, "ack": -1}),
            Some(-1),
        ),
        (
            json!({"event": "status", "message": {"id": "3EB0"}, "status": "sent"}),
            Some(1),
        ),
        (
            json!({"event": "onack", "id": {"fromMe": true, "remote": "5511999990001@c.us", "id": "3EB0"}, "ack": "2"}),
            Some(2),
        ),
        (
            json!({"event": "message.ack", "ack": {"messageId": "3EB0", "status": "teleported"}}),
            None,
        ),
    ] {
        let (event, read) = of(body.clone());
        assert_eq!(event.event_type, DELIVERY_ACK, "{body}");
        assert_eq!(event.provider_message_id.as_deref(), Some("3EB0"), "{body}");
        assert!(
            matches!(read.kind, NormalisedKind::Ack { level, .. } if level == wanted),
            "{body}"
        );
    }
    for body in [
        json!({"event": "message.ack", "ack": {"level": 2}}),
        json!({"event": "message.ack", "message": {"id": "3EB0"}}),
        json!({"messageId": "3EB0", "status": "ok"}),
    ] {
        assert_eq!(of(body.clone()).0.event_type, UNHANDLED, "{body}");
    }
}

#[test]
fn qr_and_pairing_codes_are_never_kept() {
    for (name, code) in [
        ("qrcode", "iVBORw0KGgo"),
        ("qrcode", "2@AbCd"),
        ("phonecode", "ABCD-1234"),
    ] {
        let (event, _) = told(name);
        assert_eq!(event.event_type, CONNECTION_UPDATE);
        let Body::Redacted(bytes) = &event.body else {
            panic!("{name} keeps its body");
        };
        assert!(!String::from_utf8_lossy(bytes).contains(code), "{name}");
        assert!(!event.payload.unwrap().to_string().contains(code), "{name}");
    }
    assert!(!event_of(sample("onmessage-chat")).redacted_body());
}

#[test]
fn a_repeated_delivery_of_a_thing_has_its_key_again_though_the_wrapper_names_it_anew() {
    for (name, text) in FIXTURES {
        let mut again: Value = serde_json::from_str(text).unwrap();
        again["event_id"] = json!("ffffffff-0000-4000-8000-00000000ffff");
        again["correlation_id"] = json!("ffffffff-0000-4000-8000-00000000eeee");
        let first = WppGateway.read(text.as_bytes(), now()).unwrap();
        let second = WppGateway
            .read(again.to_string().as_bytes(), now())
            .unwrap();
        let keys = |reading: Reading| match reading {
            Reading::Events(events) => events.into_iter().map(|event| event.key).collect(),
            Reading::Drop(_) => Vec::new(),
        };
        assert_eq!(keys(first), keys(second), "{name}");
    }
}

#[test]
fn session_direction_kind_and_level_are_part_of_the_key() {
    let mut keys = std::collections::BTreeSet::new();
    let mut count = 0;
    for session in ["A b", "c"] {
        for (event, engine) in [
            ("message", json!({"fromMe": false, "type": "chat"})),
            ("message", json!({"fromMe": false, "type": "ciphertext"})),
            (
                "message",
                json!({"fromMe": false, "type": "e2e_notification"}),
            ),
            ("message", json!({"fromMe": true, "type": "chat"})),
            ("message.sent", json!({"fromMe": true, "type": "chat"})),
            ("message.ack", json!({"ack": 1})),
            ("message.ack", json!({"ack": 2})),
        ] {
            let (event, _) = of(json!({"event": event, "session": {"id": session},
                "message": {"id": "3EB0", "from": "5511999990001@c.us"}, "raw": {"payload": engine}}));
            keys.insert(key(&event).to_owned());
            count += 1;
        }
    }
    assert_eq!(keys.len(), count, "{keys:?}");
    let (upper, _) = of(
        json!({"event": "message", "sessionId": "A B", "message": {"id": "x", "from": "1@lid"}}),
    );
    let (lower, _) =
        of(json!({"event": "message", "channel": "ab", "message": {"id": "x", "from": "1@lid"}}));
    assert_eq!(upper.key, lower.key);
}

#[test]
fn the_name_of_our_own_session_is_never_a_contacts_name() {
    let (_, read) = of(
        json!({"event": "message", "session": {"id": "Pixel12 Digital", "name": "Pixel"},
        "message": {"id": "false_5511999990001@c.us_3EB0", "from": "5511999990001@c.us", "text": "oi"},
        "raw": {"payload": {"notifyName": "pixel12digital", "sender": {"verifiedName": " PIXEL ", "name": "Carlos"}}}}),
    );
    assert_eq!(read.contact.unwrap().name.as_deref(), Some("Carlos"));
}

#[test]
fn baileys_keys_and_ids_of_our_deliveries_are_read() {
    let (event, read) = of(json!({"event": "message.sent", "channel": "s",
        "metadata": {"delivery_id": "0198c0de-0000-7000-8000-000000000001"},
        "message": {"key": {"remoteJid": "5511999990001:7@s.whatsapp.net", "id": "3EB0", "fromMe": true},
            "message": {"conversation": "oi"}, "messageTimestamp": 1_770_300_000}}));
    assert_eq!(key(&event), "wpp:s:out:3EB0:sent");
    assert_eq!(event.contact_key.as_deref(), Some("tel:551199990001"));
    assert_eq!(words(&read), Some("oi"));
    let NormalisedKind::Echo(sent) = read.kind else {
        panic!("an echo");
    };
    assert_eq!(
        sent.delivery_id.unwrap().to_string(),
        "0198c0de-0000-7000-8000-000000000001"
    );
}

#[test]
fn whatever_is_json_but_unknown_is_stored_as_unhandled_by_its_content() {
    for body in [
        "null",
        "[]",
        "[1,2]",
        "\"oi\"",
        "7",
        "{}",
        r#"{"event":null}"#,
        r#"{"event":"onupdatelabel"}"#,
        r#"{"event":"message"}"#,
        r#"{"event":"message","message":"text"}"#,
        r#"{"event":{"a":1}}"#,
    ] {
        let (event, read) = story(body.as_bytes());
        assert_eq!(event.event_type, UNHANDLED, "{body}");
        assert_eq!(
            event.key.as_ref().unwrap().origin(),
            KeyOrigin::Content,
            "{body}"
        );
        assert_eq!(read.kind, NormalisedKind::Unhandled, "{body}");
    }
    for name in ["incomingcall", "onreactionmessage"] {
        assert_eq!(told(name).0.event_type, UNHANDLED, "{name}");
    }
    assert_eq!(told("onrevokedmessage").0.event_type, SYSTEM);
}

#[test]
fn what_no_value_can_hold_is_stored_by_its_bytes() {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(500), "]".repeat(500));
    let (event, read) = story(deep.as_bytes());
    assert_eq!(
        (event.event_type.as_str(), &event.payload),
        (UNHANDLED, &None)
    );
    assert_eq!(read.kind, NormalisedKind::Unhandled);
    let refused = WppGateway.read(b"<html>", now()).unwrap_err();
    assert_eq!(refused.len(), 1);
}

#[test]
fn a_message_with_a_nul_is_kept_by_its_bytes_and_still_read() {
    let body = br#"{"event":"message","session":{"id":"s"},"message":{"id":"3EB0","from":"5511999990001@c.us","text":"oi\u0000!"}}"#;
    let (event, read) = story(body);
    assert_eq!(event.payload, None);
    assert_eq!(event.event_type, INBOUND_MESSAGE);
    assert_eq!(words(&read), Some("oi!"));
    let half = br#"{"event":"message","session":{"id":"s"},"message":{"id":"3EB0","from":"5511999990001@c.us","text":"oi \ud83d"}}"#;
    assert_eq!(words(&story(half).1), Some("oi \u{fffd}"));
}

#[test]
fn absurd_times_are_not_believed() {
    for at in [
        json!(0),
        json!(99_999_999_999_999_i64),
        json!("ontem"),
        json!(-5),
    ] {
        let (event, read) = of(
            json!({"event": "message", "message": {"id": "a", "from": "1@lid", "timestamp": at}}),
        );
        assert_eq!(event.occurred_at, None);
        assert_eq!(read.occurred_at, now());
    }
}

#[test]
fn printing_an_event_shows_nothing_personal() {
    for (name, text) in FIXTURES {
        if let Ok(Reading::Events(_)) = WppGateway.read(text.as_bytes(), now()) {
            let (event, read) = told(name);
            let printed = format!("{event:?} {read:?}");
            for clear in [
                "554799900011",
                "5521977700099",
                "111122223333444",
                "5511999990001",
                "boleto",
                "comprovante",
                "Aurora",
                "Cliente",
                "ABCD-1234",
            ] {
                assert!(!printed.contains(clear), "{name}: {printed}");
            }
        }
    }
}

#[test]
fn the_secret_comes_in_either_header_and_without_one_configured_the_door_is_shut() {
    let secrets = DoorSecrets::new(
        Some(SecretString::from("s1")),
        Some(SecretString::from("s0")),
    );
    let with = |name: &'static str, value: &'static str| {
        HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])
    };
    for headers in [
        with("x-webhook-secret", "s1"),
        with("x-gateway-secret", "s1"),
        with("x-gateway-secret", "s0"),
    ] {
        assert_eq!(WppGateway.authenticate(&headers, &secrets), Ok(()));
        assert_eq!(
            WppGateway.authenticate(&headers, &DoorSecrets::default()),
            Err(AuthError::DoorShut)
        );
    }
    for (headers, wanted) in [
        (with("x-webhook-secret", "no"), AuthError::Wrong),
        (with("x-webhook-secret", ""), AuthError::Missing),
        (with("authorization", "s1"), AuthError::Missing),
    ] {
        assert_eq!(WppGateway.authenticate(&headers, &secrets), Err(wanted));
    }
}
