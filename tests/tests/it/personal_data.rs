//! Personal data stays home: in no log line, in no broker message.

use std::io::Write;
use std::sync::{Arc, Mutex};

use posto_tests::world::{
    ADMIN_TOKEN, BILLING_TOKEN, GATEWAY_SECRET, Leaves, Setup, WEBHOOK_SECRET, World, overdue,
};
use serde_json::json;
use shared::runtime::telemetry::{self, TelemetryArgs};

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0
            .lock()
            .expect("because nobody panics with the lock")
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_marker_pushed_through_the_whole_path_stands_in_no_log_and_no_message() {
    let captured = Captured::default();
    let writer = captured.clone();
    let filter = "trace,sqlx=info,hyper=info,lapin=info,tower=info".to_owned();
    telemetry::start_to(&TelemetryArgs { log_filter: filter }, move || {
        writer.clone()
    });

    let mut world = World::start_with(Setup {
        delivery: false,
        ..Setup::default()
    })
    .await;
    let mut event = overdue("marked");
    event["payload"]["phone"] = json!("(47) 98765-4321");
    event["payload"]["customer_name"] = json!("Fulano Marcado");
    event["payload"]["description"] =
        json!("TEXTO-MARCADO cpf 123.456.789-09 fulano.marcado@example.com");
    let accepted = world.post(&event).await;
    let mut refused = event.clone();
    refused["tenant_id"] = json!("TEXTO-MARCADO");
    assert_eq!(world.post(&refused).await.status, 422);
    world
        .until("it waits in the broker", async |world| {
            world.count("select count(*) from outbox").await == 0
                && world.count("select count(*) from deliveries").await == 1
        })
        .await;
    let in_broker = peek(&format!("{}hub.deliveries.whatsapp", world.prefix())).await;
    assert!(
        in_broker.contains("delivery_id"),
        "there is a message to look at: {in_broker}"
    );

    world.start_delivery().await.unwrap();
    world
        .until_states(&accepted.text("/event_id"), &["read"])
        .await;
    world
        .post_webhook(&json!({"event": "message", "channel": "pixel12digital", "from": "5547987654321",
            "message": {"id": "m1", "from": "5547987654321", "text": "TEXTO-MARCADO meu cpf 12345678909", "timestamp": 1_770_300_960}}))
        .await;
    world
        .until("the answer is on its thread", async |world| {
            world.count("select count(*) from chat_messages").await == 1
        })
        .await;
    let story = world.story(&accepted.text("/trace_id")).await.to_string();
    world.end(Leaves::Nothing).await;

    let logs = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
    assert!(
        logs.contains("event.accepted") && logs.contains("delivery.attempted"),
        "the path was logged"
    );
    for marker in [
        "TEXTO-MARCADO",
        "98765-4321",
        "987654321",
        "87654321",
        "123.456.789",
        "12345678909",
        "fulano.marcado",
        "Fulano Marcado",
        BILLING_TOKEN,
        ADMIN_TOKEN,
        WEBHOOK_SECRET,
        GATEWAY_SECRET,
    ] {
        let line = logs.lines().find(|line| line.contains(marker));
        assert_eq!(line, None, "{marker} stands in a log line");
        assert!(
            !in_broker.contains(marker),
            "{marker} stands in a broker message"
        );
    }
    for marker in [
        "98765-4321",
        "987654321",
        "123.456.789-09",
        "fulano.marcado@",
    ] {
        assert!(
            !story.contains(marker),
            "{marker} is shown to somebody without the right to see it"
        );
    }
}

/// The messages of a queue, as the management UI shows them; they stay where they are.
async fn peek(queue: &str) -> String {
    let management = std::env::var("RABBITMQ_MANAGEMENT_URL").expect("because ./tests/run sets it");
    let client = reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("because no option is set");
    let asked = json!({"count": 10, "ackmode": "ack_requeue_true", "encoding": "auto"});
    let response = client
        .post(format!("{management}/api/queues/%2F/{queue}/get"))
        .json(&asked)
        .send()
        .await
        .expect("because the management API is up");
    response.text().await.expect("because the answer is text")
}
