//! A walk that leaves a trace in every metric.

use posto_tests::world::{CHAT_TOKEN, World, overdue};
use serde_json::json;

/// A bill that is read, a message on a thread, a bill that cannot be rendered, a copy, a refusal
/// and a contact's presence.
pub(crate) async fn walk(world: &World) {
    let bill = world.post(&overdue("metrics-1")).await;
    assert_eq!(bill.status, 202, "{}", bill.body);
    assert_eq!(world.post(&overdue("metrics-1")).await.status, 202);
    let said = json!({
        "event_type": "chat.message.received",
        "source_system": "chat",
        "tenant_id": 1,
        "idempotency_key": "metrics-2",
        "payload": {"order_id": 7, "role": "system", "message": "Pedido recebido"}
    });
    assert_eq!(world.post_as(CHAT_TOKEN, &said).await.status, 202);
    let mut unfit = overdue("metrics-3");
    let payload = unfit["payload"].as_object_mut().expect("an object");
    payload.remove("amount");
    let unfit = world.post(&unfit).await;
    assert_eq!(unfit.status, 202, "{}", unfit.body);
    assert_eq!(world.post(&json!({"event_type": 1})).await.status, 422);
    let presence = json!({
        "event": "connection.update",
        "session": {"id": "pixel12digital"},
        "connection": {"id": "5547999900011@c.us", "state": "available"}
    });
    assert_eq!(world.post_webhook(&presence).await.status, 200);
    world.until_states(&bill.text("/event_id"), &["read"]).await;
    world
        .until_states(&unfit.text("/event_id"), &["dead"])
        .await;
    world
        .until("the message is on its thread", async |world| {
            world.count("select count(*) from chat_messages").await > 0
        })
        .await;
}
