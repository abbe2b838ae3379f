//! What holds for any body.

use proptest::prelude::*;

use super::*;

/// JSON that uses the words of the envelope, so that the reader's branches are met.
fn near_envelope() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "message",
        "message.ack",
        "connection.update",
        "message.sent",
        "onmessage",
        "onack",
        "qrcode",
        "true_5511999990001@c.us_3EB0",
        "120363000000000001@g.us",
        "1@lid",
        "chat",
        "ciphertext",
        "image",
        "read",
        "/9j/AAECAwQFBgcICQoL",
        "oi\u{0}",
        "",
        "s",
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
        "event",
        "session",
        "id",
        "name",
        "message",
        "raw",
        "payload",
        "from",
        "to",
        "text",
        "timestamp",
        "t",
        "ack",
        "level",
        "status",
        "connection",
        "key",
        "fromMe",
        "remoteJid",
        "chatId",
        "type",
        "body",
        "author",
        "sender",
        "notifyName",
        "data",
        "metadata",
        "qrcode",
        "_serialized",
        "mimetype",
        "size",
        "caption",
        "channel",
    ]);
    leaf.prop_recursive(5, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name.clone().prop_map(str::to_owned), inner, 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn no_json_is_an_error_and_all_that_is_kept_can_be_stored(
        mut value in near_envelope(), event in "message|message.ack|message.sent|connection.update|onmessage",
    ) {
        if let Some(members) = value.as_object_mut() {
            members.insert("event".to_owned(), event.into());
        }
        let body = value.to_string();
        let reading = WppGateway.read(body.as_bytes(), now()).unwrap();
        if let Reading::Events(events) = reading {
            let event = &events[0];
            let texts = [
                event.source_event_id.as_deref(), event.correlation_id.as_deref(),
                event.provider_message_id.as_deref(), event.channel_account.as_deref(),
                event.contact_key.as_deref(), Some(key(event)),
            ];
            for text in texts.into_iter().flatten() {
                prop_assert!(!text.contains('\0') && text.chars().count() <= 255, "{text:?}");
            }
            prop_assert!(!event.payload.as_ref().is_some_and(holds_nul));
            prop_assert!(!holds_nul(&event.metadata));
            let read = normalised_of(event, body.as_bytes());
            prop_assert!(!read.text.as_ref().is_some_and(|text| text.expose().contains('\0')));
            let _ = format!("{event:?} {read:?}");
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in any::<Vec<u8>>(), text in "[\\[\\]{}\",:\\\\ud8-9a-f]{0,40}") {
        let _ = WppGateway.read(&bytes, now());
        let _ = WppGateway.read(text.as_bytes(), now());
    }
}
