//! Never doubled: the constraint decides, also under concurrency.

use std::collections::HashSet;

use futures_util::future::join_all;
use posto_tests::world::{Leaves, World, overdue};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_concurrent_posts_of_one_key_are_one_event_and_one_message() {
    let world = World::start().await;
    let event = overdue("one-key");
    let answers = join_all((0..1000).map(|_| world.post(&event))).await;
    assert!(
        answers.iter().all(|answer| answer.status == 202),
        "all are accepted"
    );
    let ids: HashSet<String> = answers
        .iter()
        .map(|answer| answer.text("/event_id"))
        .collect();
    let traces: HashSet<String> = answers
        .iter()
        .map(|answer| answer.text("/trace_id"))
        .collect();
    assert_eq!(
        (ids.len(), traces.len()),
        (1, 1),
        "all have the id and the trace of the first"
    );
    let first = answers
        .iter()
        .filter(|answer| answer.body["duplicate"] == false)
        .count();
    assert_eq!(first, 1, "and only the first is no duplicate");
    world
        .until_states(ids.iter().next().unwrap(), &["read"])
        .await;
    assert_eq!(
        world
            .count("select count(*) from communication_events where source_system = 'billing'")
            .await,
        1
    );
    assert_eq!(world.count("select count(*) from deliveries").await, 1);
    assert_eq!(world.sim.messages().len(), 1);
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_events_at_once_with_their_own_keys_are_a_thousand_messages() {
    let world = World::start().await;
    let events: Vec<_> = (0..1000)
        .map(|n| overdue(&format!("own-key-{n}")))
        .collect();
    let answers = join_all(events.iter().map(|event| world.post(event))).await;
    assert!(
        answers
            .iter()
            .all(|answer| answer.status == 202 && answer.body["duplicate"] == false)
    );
    world
        .until("all are read", async |world| {
            world
                .count("select count(*) from deliveries where state = 'read'")
                .await
                == 1000
        })
        .await;
    let messages = world.sim.messages();
    let deliveries: HashSet<_> = messages
        .iter()
        .map(|message| message.request_id.clone())
        .collect();
    assert_eq!(
        (messages.len(), deliveries.len()),
        (1000, 1000),
        "each exactly once"
    );
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_type_tenant_and_payload_make_another_body() {
    let world = World::start().await;
    let first = world.post(&overdue("same")).await;
    let id = first.text("/event_id");

    let mut same = overdue("same");
    same["metadata"] = json!({"emitted_by": "retry"});
    same["trace_id"] = json!("7b0d6f0e-0000-4000-8000-000000000039");
    same["correlation_id"] = json!("another");
    same["occurred_at"] = json!("2026-01-01T00:00:00Z");
    let reordered = r#"{"payload":{"invoice_url":"https://pay.example/503","due_date":"2026-01-27","amount":"59.80",
        "description":"Hospedagem","customer_name":"Padaria Aurora","phone":"(47) 99990-0011","invoice_id":503},
        "idempotency_key":"same","tenant_id":1,"source_system":"billing","event_type":"billing.invoice.overdue"}"#;
    for answer in [
        world.post(&same).await,
        world
            .post_bytes(
                posto_tests::world::BILLING_TOKEN,
                "application/json",
                reordered.into(),
            )
            .await,
    ] {
        assert_eq!(
            (
                answer.status,
                answer.text("/event_id"),
                &answer.body["duplicate"]
            ),
            (202, id.clone(), &json!(true))
        );
    }

    let mut other = overdue("same");
    other["payload"]["amount"] = json!("60.00");
    let refused = world.post(&other).await;
    assert_eq!(
        (refused.status, refused.text("/code")),
        (422, "idempotency_key_reused".to_owned())
    );
    assert_eq!(refused.headers["content-type"], "application/problem+json");
    world.until_states(&id, &["read"]).await;
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_event_id_is_the_key_and_a_post_without_any_is_known_by_its_content() {
    let world = World::start().await;
    let mut by_id = overdue("unused");
    by_id.as_object_mut().unwrap().remove("idempotency_key");
    let mut keyless = by_id.clone();
    by_id["event_id"] = json!("billing-77");
    let (first, again) = (world.post(&by_id).await, world.post(&by_id).await);
    assert_eq!(
        (first.text("/event_id"), &again.body["duplicate"]),
        (again.text("/event_id"), &json!(true))
    );
    let kept = world
        .texts("select source_event_id from communication_events where source_system = 'billing' and source_event_id is not null")
        .await;
    assert_eq!(kept, ["billing-77"]);

    keyless["payload"]["invoice_id"] = json!(504);
    let (first, again) = (world.post(&keyless).await, world.post(&keyless).await);
    assert_eq!(
        (first.text("/event_id"), &again.body["duplicate"]),
        (again.text("/event_id"), &json!(true))
    );
    world
        .until("both are read", async |world| {
            world
                .count("select count(*) from deliveries where state = 'read'")
                .await
                == 2
        })
        .await;
    assert_eq!(world.sim.messages().len(), 2);
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_has_a_result_for_each_item_and_a_bad_one_harms_no_other() {
    let world = World::start().await;
    let mut batch: Vec<_> = (0..98).map(|n| overdue(&format!("batch-{n}"))).collect();
    batch.insert(
        50,
        json!({"event_type": "", "source_system": "billing", "payload": {"x": 1}}),
    );
    batch.push(overdue("batch-0"));
    let answer = world.post(&json!(batch)).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let results = answer.body.as_array().cloned().unwrap_or_default();
    assert_eq!(results.len(), 100);
    assert_eq!(results[50]["status"], "refused");
    assert_eq!(
        results[50]["problem"]["errors"][0]["pointer"],
        "#/50/event_type"
    );
    assert_eq!(
        results[99]["event_id"], results[0]["event_id"],
        "one key, one event"
    );
    let repeats = [&results[0], &results[99]]
        .iter()
        .filter(|result| result["duplicate"] == true)
        .count();
    assert_eq!(repeats, 1, "and one of the two is the repeat");
    assert!(
        results
            .iter()
            .enumerate()
            .all(|(n, result)| n == 50 || result["status"] == "accepted")
    );
    world
        .until("98 are read", async |world| {
            world
                .count("select count(*) from deliveries where state = 'read'")
                .await
                == 98
        })
        .await;
    assert_eq!(world.sim.messages().len(), 98);
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_expired_is_a_new_one() {
    let world = World::start().await;
    let first = world.post(&overdue("old")).await;
    world
        .run_sql(
            "update idempotency_keys set expires_at = now() - interval '1 day' where key = 'old'",
        )
        .await;
    let second = world.post(&overdue("old")).await;
    assert_ne!(first.text("/event_id"), second.text("/event_id"));
    assert_eq!(second.body["duplicate"], false);
    world
        .until_states(&second.text("/event_id"), &["read"])
        .await;
    world.end(Leaves::Nothing).await;
}
