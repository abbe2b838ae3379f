//! What went to a tenant: logged by hand, sent by Posto, and shown together.

use posto_tests::world::http::answer;
use posto_tests::world::{Leaves, World, overdue};
use serde_json::{Value, json};

use crate::rig::{SERVER, get, post, prepare};

const LOG: &str = "/tenants/whatsapp-generic-log";

fn log(message: &str) -> Value {
    json!({"tenant_id": 1, "phone_raw": "(47) 99990-0011", "message": message, "template_id": 12})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_by_hand_is_logged_once_beside_what_posto_sent() {
    let world = World::start().await;
    prepare(&world).await;
    let sent = world.post(&overdue("timeline")).await;
    world.until_states(&sent.text("/event_id"), &["read"]).await;

    let form = || {
        world
            .client()
            .post(format!("{}{LOG}", world.api()))
            .bearer_auth(SERVER)
            .header("content-type", "application/x-www-form-urlencoded")
            .body("tenant_id=1&phone_raw=(47)+99990-0011&message=Ol%C3%A1!+Segue+o+contrato.")
    };
    for request in [form(), form()] {
        let logged = answer(request).await;
        assert_eq!(
            (logged.status, logged.body),
            (200, json!({"success": true}))
        );
    }
    for _ in 0..2 {
        let logged = post(&world, Some(SERVER), LOG, &log("Bom dia")).await;
        assert_eq!(logged.status, 200, "{}", logged.body);
    }
    // The same words under keys of their own are two messages.
    for key in ["a", "b", "b"] {
        let request = world
            .client()
            .post(format!("{}{LOG}", world.api()))
            .bearer_auth(SERVER)
            .header("idempotency-key", key)
            .json(&log("Boa tarde"));
        assert_eq!(answer(request).await.status, 200);
    }

    let rows = world
        .texts(
            "select concat_ws('|', tenant_id, template_id, phone, message, status, source_system)
             from whatsapp_generic_logs order by created_at, id",
        )
        .await;
    assert_eq!(
        rows,
        [
            "1|(47) 99990-0011|Olá! Segue o contrato.|sent_manual|pixelhub",
            "1|12|(47) 99990-0011|Bom dia|sent_manual|pixelhub",
            "1|12|(47) 99990-0011|Boa tarde|sent_manual|pixelhub",
            "1|12|(47) 99990-0011|Boa tarde|sent_manual|pixelhub",
        ]
    );
    let told = get(
        &world,
        Some(SERVER),
        "/tenants/whatsapp-timeline-ajax?tenant_id=1",
    )
    .await;
    assert_eq!(told.status, 200, "{}", told.body);
    let timeline = told.body["timeline"].as_array().expect("a list").clone();
    assert_eq!(told.body["success"], true);
    assert_eq!(told.body["lastContact"], timeline[0]);
    assert_eq!(timeline.len(), 5, "{timeline:?}");
    let times: Vec<&str> = timeline
        .iter()
        .filter_map(|item| item["sent_at"].as_str())
        .collect();
    assert!(
        times.is_sorted_by(|a, b| a >= b),
        "the newest first: {times:?}"
    );
    let oldest = &timeline[4];
    assert_eq!(
        (&oldest["source"], &oldest["invoice_id"], &oldest["stage"]),
        (&json!("billing"), &json!(503), &json!("overdue_7d"))
    );
    assert_eq!(oldest["phone"], "5547999900011");
    let first = &timeline[3];
    assert_eq!(
        (&first["source"], &first["message_full"], &first["stage"]),
        (
            &json!("generic"),
            &json!("Olá! Segue o contrato."),
            &Value::Null
        )
    );
    assert_eq!(timeline[2]["template_id"], 12);
    assert_eq!(world.went_out().len(), 1, "nothing that was logged is sent");
    let other = get(
        &world,
        Some(SERVER),
        "/tenants/whatsapp-timeline-ajax?tenant_id=2",
    )
    .await;
    assert_eq!(
        other.body,
        json!({"success": true, "timeline": [], "lastContact": null})
    );
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_timeline_shows_the_ten_newest() {
    let world = World::start().await;
    prepare(&world).await;
    for number in 0..12 {
        let logged = post(
            &world,
            Some(SERVER),
            LOG,
            &log(&format!("mensagem {number}")),
        )
        .await;
        assert_eq!(logged.status, 200);
    }
    let told = get(
        &world,
        Some(SERVER),
        "/tenants/whatsapp-timeline-ajax?tenant_id=1",
    )
    .await;
    let texts: Vec<&str> = told.body["timeline"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|item| item["message"].as_str())
        .collect();
    let wanted: Vec<String> = (2..12)
        .rev()
        .map(|number| format!("mensagem {number}"))
        .collect();
    assert_eq!(texts, wanted);
    world.end(Leaves::Nothing).await;
}
