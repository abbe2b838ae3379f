//! What a person sees who looks into a dead queue in the management UI.

use posto_tests::gateway_sim::{Fault, FaultRule};
use posto_tests::world::Leaves;
use serde_json::json;
use shared::broker::Queue;

use crate::management::{self, until_depth};
use crate::support::{WHATSAPP, bill, letters, post, world};

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_tells_why_and_nothing_about_anybody() {
    let world = world().await;
    let mut event = bill(1);
    event["payload"]["phone"] = json!("(47) 98765-4321");
    event["payload"]["customer_name"] = json!("Fulano Marcado");
    event["payload"]["description"] =
        json!("TEXTO-MARCADO cpf 123.456.789-09 fulano.marcado@example.com");
    world.sim.set_fault(FaultRule::new(Fault::RateLimited));
    let (_, trace) = post(&world, &event).await;
    let queue = Queue::Dead(WHATSAPP);
    until_depth(&world, queue, 1).await;
    let letter = management::get(&world, queue, 1).await.remove(0);
    let headers = &letter.headers;
    let delivery = world
        .texts("select id::text from deliveries")
        .await
        .remove(0);
    let wanted = json!({
        "x-letter-id": letters(&world, "dead").await[0],
        "x-generation": 0,
        "x-failure-code": "gateway_throttled",
        "x-failure-class": "throttled",
        "x-attempts": 4,
        "x-trace-id": trace,
        "x-event-type": "billing.invoice.overdue",
        "x-tenant-id": 1,
        "x-channel": "whatsapp",
        "x-template": "overdue_7d",
    });
    for (name, value) in wanted.as_object().unwrap() {
        assert_eq!(&headers[name], value, "{name}");
    }
    for name in ["x-first-at", "x-last-at"] {
        let time = headers[name].as_str().unwrap();
        assert!(
            time.ends_with('Z') && time.starts_with("20"),
            "{name}: {time}"
        );
    }
    assert!(letter.payload.contains(&delivery), "{}", letter.payload);
    let all = format!("{} {}", letter.payload, headers);
    for marker in [
        "98765-4321",
        "987654321",
        "554798765",
        "Fulano",
        "MARCADO",
        "123.456.789-09",
        "12345678909",
        "fulano.marcado@",
    ] {
        assert!(
            !all.contains(marker),
            "{marker} stands in the letter: {all}"
        );
    }
    assert_eq!(
        world.texts("select concat_ws(' ', queue, failure_code, channel, template_key) from dead_letter_queue").await,
        ["hub.deliveries.whatsapp gateway_throttled whatsapp overdue_7d"]
    );
    world.end(Leaves::Unsettled).await;
}
