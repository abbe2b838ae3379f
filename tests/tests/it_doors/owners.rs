//! Whose an event is: found by every way that names a tenant, never guessed, and found out later
//! without anything being sent.

use posto_tests::world::{Leaves, World, overdue};
use serde_json::json;

use crate::asaas::{charge, world_with_owners};

async fn until_tenants(world: &World, wanted: &[&str]) {
    let query = "select concat_ws('|', e.source_event_id, coalesce(r.tenant_id, 0), r.decision -> 'tenant' ->> 'how')
         from routings r join communication_events e on e.id = r.event_id order by e.source_event_id";
    let mut last = Vec::new();
    world
        .until(&format!("the tenants are {wanted:?}"), async |world| {
            last = world.texts(query).await;
            last == wanted
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_knows_is_kept_shown_and_found_out_when_the_map_changes() {
    let world = World::start().await;
    let post = async |body: String| assert_eq!(world.post_asaas(body).await.status, 200);
    post(charge(
        "PAYMENT_CREATED",
        "a",
        json!({"id": "pay_a", "customer": "cus_new"}),
    ))
    .await;
    post(charge("PAYMENT_SPLIT_DONE", "b", json!({"id": "pay_a"}))).await;
    post(charge(
        "PAYMENT_CREATED",
        "c",
        json!({"id": "pay_c", "customer": "cus_other"}),
    ))
    .await;
    until_tenants(
        &world,
        &[
            "evt_a&1|0|unresolved",
            "evt_b&1|0|unresolved",
            "evt_c&1|0|unresolved",
        ],
    )
    .await;
    world
        .until("the number of those that wait is told", async |world| {
            (world.metric("router-worker", "hub_events_unresolved").await - 3.0).abs() < 0.5
        })
        .await;
    // A rule that would send is in force by then: what is found out late sends nothing all the same.
    world
        .run_sql(
            "insert into routing_rules (name, event_type, channel, template, priority)
                 values ('send-it', 'asaas.payment.*', 'whatsapp', 'overdue_7d', 1);
             insert into tenant_asaas_ids (kind, asaas_id, tenant_id) values ('customer', 'cus_new', 2);",
        )
        .await;
    until_tenants(
        &world,
        &[
            "evt_a&1|2|asaas_customer",
            "evt_b&1|2|invoice",
            "evt_c&1|0|unresolved",
        ],
    )
    .await;
    let log = world
        .texts("select concat_ws('|', status, tenant_id) from asaas_webhook_logs order by source_event_id")
        .await;
    assert_eq!(log, ["processed|2", "processed|2", "processed"]);
    let lines = world
        .count("select count(*) from communication_logs where code = 'tenant_resolved' and tenant_id = 2")
        .await;
    assert_eq!(lines, 2, "each leaves a line on its trace");
    assert_eq!(world.count("select count(*) from deliveries").await, 0);
    assert_eq!(
        world
            .count("select count(*) from routings where run > 0")
            .await,
        0
    );
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invoice_of_another_tenant_is_accepted_quarantined_and_redriven_once_it_is_mended() {
    let world = world_with_owners().await;
    let mut event = overdue("mismatch");
    event["tenant_id"] = json!(2);
    let accepted = world.post(&event).await;
    assert_eq!(accepted.status, 202, "{}", accepted.body);
    let (id, trace) = (accepted.text("/event_id"), accepted.text("/trace_id"));
    world
        .until("it is quarantined", async |world| {
            world.count("select count(*) from dead_letter_queue").await == 1
        })
        .await;
    let letter = world
        .texts("select concat_ws('|', queue, subject_kind, failure_code) from dead_letter_queue")
        .await;
    assert_eq!(letter, ["hub.events.route|event|tenant_mismatch"]);
    let story = world.story(&trace).await;
    assert_eq!(story["routings"][0]["state"], "failed");
    assert_eq!(story["routings"][0]["failure_code"], "tenant_mismatch");
    assert_eq!(
        story["routings"][0]["decision"]["tenant"]["candidates"],
        json!([1, 2]),
        "an operator sees whose it might be"
    );
    let seen = world.get(&format!("/api/events/{id}")).await;
    assert_eq!(seen.body["status"], "failed");
    assert_eq!(
        seen.body["routings"][0]["decision"]["tenant"]["candidates"],
        json!([]),
        "the caller does not learn whose invoice it named"
    );
    assert_eq!(world.count("select count(*) from deliveries").await, 0);
    assert!(
        world
            .metric(
                "router-worker",
                "hub_events_routed_total{outcome=\"failed\"}"
            )
            .await
            > 0.5
    );

    world
        .run_sql("update billing_invoices set tenant_id = 2 where invoice_key = 'invoice:503'")
        .await;
    let letter_id = world
        .texts("select letter_id::text from dead_letter_queue")
        .await
        .remove(0);
    let redriven = world
        .order(
            "/admin/dead-letters/redrive",
            &json!({"ids": [letter_id], "actor": "Ana"}),
        )
        .await;
    assert_eq!(redriven.status, 200, "{}", redriven.body);
    world.until_states(&id, &["read"]).await;
    assert_eq!(world.sim.messages().len(), 1);
    world.end(Leaves::Unsettled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_charge_of_two_tenants_is_nobodys_until_a_person_has_looked() {
    let world = world_with_owners().await;
    let payment =
        json!({"id": "pay_x", "customer": "cus_000000000011", "externalReference": "tenant:2"});
    assert_eq!(
        world
            .post_asaas(charge("PAYMENT_RECEIVED", "x", payment))
            .await
            .status,
        200
    );
    until_tenants(&world, &["evt_x&1|0|tenant_mismatch"]).await;
    let row = world
        .texts("select concat_ws('|', status, error_message) from asaas_webhook_logs")
        .await;
    assert_eq!(
        row,
        ["failed|what the event names belongs to different tenants"]
    );
    world.end(Leaves::Unsettled).await;
}
