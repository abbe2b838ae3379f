//! What a dump shows, and what the doors and the API show all the same.

use posto_tests::world::{CHAT_TOKEN, Leaves, Setup, World, overdue};
use serde_json::json;

use crate::support::{K1, dump, revealed, shown};

/// What a customer, a system and a payment provider wrote.
const MARKERS: [&str; 4] = [
    "Hospedagem MARCADA do site",
    "meu CPF e 123.456.789-09 MARCADO",
    "resposta interna MARCADA",
    "COBRANCA MARCADA",
];

/// The first bytes of a voice note, and how they look in clear.
const VOICE: &str = "T2dnUwACTUFSQ0FETy1WT1otTUFSQ0FEQQ==";
const VOICE_BYTES: &str = "MARCADO-VOZ-MARCADA";

/// One of everything that carries words, through all of it.
async fn walk(world: &World) -> [String; 3] {
    let mut event = overdue("sealed-1");
    event["payload"]["description"] = json!(MARKERS[0]);
    event["payload"]["invoice_url"] = json!("https://pay.example/q9w8e7");
    let billed = world.post(&event).await;
    world
        .until_states(&billed.text("/event_id"), &["read"])
        .await;
    world
        .post_webhook(&json!({"event": "message", "channel": "pixel12digital", "from": "5547999900011",
            "message": {"id": "m1", "from": "5547999900011", "text": MARKERS[1], "timestamp": 1_770_300_960}}))
        .await;
    let noted = world
        .post_as(
            CHAT_TOKEN,
            &json!({"event_type": "chat.message.received", "source_system": "chat", "tenant_id": 1,
                "idempotency_key": "note", "payload": {"order_id": 7, "message": MARKERS[2], "role": "user"}}),
        )
        .await;
    assert_eq!(noted.status, 202, "{}", noted.body);
    // A voice note, as base64.
    world
        .post_webhook(&json!({"event": "message", "channel": "pixel12digital", "from": "5547999900011",
            "message": {"id": "m2", "from": "5547999900011", "text": VOICE, "timestamp": 1_770_300_961}}))
        .await;
    world
        .post_asaas(
            json!({"id": "evt_marked", "event": "PAYMENT_CREATED", "dateCreated": "2026-02-04 10:00:00",
                "payment": {"object": "payment", "id": "pay_marked", "customer": "cus_000000000011", "value": 10,
                    "description": MARKERS[3]}})
            .to_string(),
        )
        .await;
    world
        .until("all of it is decided and on its thread", async |world| {
            world.count("select count(*) from chat_messages").await >= 3
                && world
                    .count("select count(*) from routings where source_system = 'asaas'")
                    .await
                    == 1
        })
        .await;
    [
        billed.text("/trace_id"),
        noted.text("/trace_id"),
        world
            .texts("select trace_id from communication_events where event_type = 'whatsapp.inbound.message'")
            .await
            .remove(0),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_shows_nothing_of_what_was_written_and_the_doors_show_all_of_it() {
    for (payload_keys, is_sealed) in [("", false), (K1, true)] {
        let world = World::start_with(Setup {
            payload_keys: payload_keys.to_owned(),
            owners: true,
            ..Setup::default()
        })
        .await;
        let traces = walk(&world).await;
        let dump = dump(&world).await;
        for marker in MARKERS.into_iter().chain([VOICE_BYTES]) {
            let line = shown(&dump, marker);
            assert_eq!(line.is_none(), is_sealed, "{marker}: {line:?}");
        }
        // Neither a number nor a piece of the rendered text, beside what was looked for above.
        if is_sealed {
            for piece in ["123.456.789", "pay.example/q9w8e7", "MARCAD"] {
                assert_eq!(shown(&dump, piece), None, "{piece}");
            }
        }
        let sent = world.went_out();
        assert!(
            sent.iter().any(|message| message.text.contains(MARKERS[0])),
            "what leaves is in clear"
        );
        for (trace, marker) in traces.iter().zip([MARKERS[0], MARKERS[2], MARKERS[1]]) {
            let story = revealed(&world, trace).await;
            assert!(story.to_string().contains(marker), "{marker} in {story}");
            assert!(!story.to_string().contains("\\u0002PS"), "{story}");
        }
        for (view, column) in [
            ("billing_notifications", "message"),
            ("asaas_webhook_logs", "payload"),
            ("communication_events_status", "payload::text"),
        ] {
            let values = world
                .texts(&format!("select {column} from {view} order by 1"))
                .await;
            assert!(!values.is_empty(), "{view}");
            for value in values {
                assert_eq!(value.is_empty(), is_sealed, "{view}: {value}");
            }
        }
        world.end(Leaves::Nothing).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_placeholder_becomes_its_text_and_an_echo_its_message_where_all_is_sealed() {
    let world = World::start_with(Setup {
        payload_keys: K1.to_owned(),
        ..Setup::default()
    })
    .await;
    let message = |kind: &str, text: Option<&str>| {
        json!({"event": "message", "session": {"id": "Pixel12 Digital"},
            "message": {"id": "false_5547999900011@c.us_3EB0AA", "from": "5547999900011@c.us", "text": text,
                "timestamp": 1_770_300_960},
            "raw": {"payload": {"event": "onmessage", "id": "false_5547999900011@c.us_3EB0AA", "type": kind,
                "from": "5547999900011@c.us", "fromMe": false, "body": text, "t": 1_770_300_960}}})
    };
    world.post_webhook(&message("ciphertext", None)).await;
    world
        .until("the placeholder is there", async |world| {
            world.count("select count(*) from chat_messages").await == 1
        })
        .await;
    world
        .post_webhook(&message("chat", Some("o texto SELADO")))
        .await;
    world
        .until("it has its text", async |world| {
            world
                .count("select count(*) from chat_messages where hub_sealed_with(content) = 'k1'")
                .await
                == 1
        })
        .await;
    assert_eq!(world.count("select count(*) from chat_messages").await, 1);
    let typed = json!({"event": "message", "session": {"id": "Pixel12 Digital"},
        "message": {"id": "true_5547999900011@c.us_3EB0BB", "from": "554733000001@c.us", "to": "5547999900011@c.us",
            "text": "digitado no CELULAR", "fromMe": true, "timestamp": 1_770_300_970},
        "raw": {"payload": {"event": "onselfmessage", "id": "true_5547999900011@c.us_3EB0BB", "type": "chat",
            "from": "554733000001@c.us", "to": "5547999900011@c.us", "fromMe": true, "body": "digitado no CELULAR",
            "t": 1_770_300_970}}});
    world.post_webhook(&typed).await;
    world
        .until("it is on the thread", async |world| {
            world.count("select count(*) from chat_messages").await == 2
        })
        .await;
    let traces = world
        .texts("select trace_id from chat_messages order by id")
        .await;
    for (trace, words) in traces.iter().zip(["o texto SELADO", "digitado no CELULAR"]) {
        let story = revealed(&world, trace).await;
        assert_eq!(story["chat_messages"][0]["content"], words, "{story}");
    }
    assert_eq!(shown(&dump(&world).await, "digitado no CELULAR"), None);
    world.end(Leaves::Nothing).await;
}
