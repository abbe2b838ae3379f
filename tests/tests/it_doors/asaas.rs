//! What Asaas posts becomes what `samples/hub` and `samples/protocols` say.

use posto_tests::world::{Leaves, Setup, World};
use serde_json::{Value, json};

macro_rules! samples {
    ($($name:literal),+ $(,)?) => {
        /// Every sample, by its name.
        const SAMPLES: &[(&str, &str)] = &[
            $(($name, include_str!(concat!("../../../shared/src/source/fixtures/asaas/", $name, ".json")))),+
        ];
    };
}

samples! {
    "31_asaas_payment_created_by_customer_id",
    "32_asaas_payment_overdue_known_invoice",
    "33_asaas_payment_received_known_invoice",
    "access-token-created",
    "balance-value-blocked",
    "bill-paid-no-id",
    "internal-transfer-debit",
    "payment-overdue-boleto",
    "payment-received",
    "payment-received-in-cash-undone",
    "payment-split-done",
    "pix-automatic-authorization-activated-no-id",
    "subscription-created",
    "transfer-created-no-id",
}

/// A world that knows whose the samples' invoices and customers are.
pub(crate) async fn world_with_owners() -> World {
    World::start_with(Setup {
        owners: true,
        ..Setup::default()
    })
    .await
}

async fn until_decided(world: &World, count: i64) {
    world
        .until("every event is decided", async |world| {
            world.count("select count(*) from routings").await == count
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sample_is_stored_once_however_often_and_in_whatever_order_it_comes() {
    let mut ends = Vec::new();
    for turn in 0..3 {
        let world = world_with_owners().await;
        let mut order: Vec<&str> = SAMPLES.iter().map(|sample| sample.1).collect();
        if turn > 0 {
            order.reverse();
            order.rotate_left(turn * 5);
            order.extend(order.clone());
        }
        for body in &order {
            let answer = world.post_asaas(*body).await;
            assert_eq!(
                (answer.status, &answer.body),
                (200, &json!({"success": true}))
            );
        }
        let stored = i64::try_from(SAMPLES.len()).unwrap();
        assert_eq!(
            world
                .count("select count(*) from communication_events")
                .await,
            stored
        );
        until_decided(&world, stored).await;
        // What comes before its customer is known is found out once it is.
        world
            .until("those of unknown customers are left", async |world| {
                world
                    .count("select count(*) from routings where decision -> 'tenant' ->> 'how' = 'unresolved' and event_type like 'asaas.payment.%'")
                    .await
                    == 4
            })
            .await;
        ends.push(
            world
                .texts(
                    "select concat_ws('|', event, event_type,
                             case when source_event_id is not null then occurred_at at time zone 'utc' end, tenant_id, invoice_key, status, attempts)
                     from asaas_webhook_logs order by 1",
                )
                .await,
        );
        assert_eq!(world.sim.messages().len(), 0, "nothing leaves by itself");
        world.end(Leaves::Nothing).await;
    }
    assert_eq!(ends[0], ends[1], "shuffled and twice");
    assert_eq!(ends[0], ends[2], "shuffled otherwise and twice");
    let paid = "PAYMENT_RECEIVED|asaas.payment.received|2026-02-04 19:45:03|1|asaas:pay_fixture000501|processed|1";
    assert!(ends[0].contains(&paid.to_owned()), "{:#?}", ends[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_that_the_team_knows_tells_what_became_of_each_webhook() {
    let world = world_with_owners().await;
    let body = SAMPLES[0].1;
    world.post_asaas(body).await;
    until_decided(&world, 1).await;
    let row = world
        .texts("select concat_ws('|', event, status, tenant_id, attempts, processed_at is not null, length(trace_id), payload::jsonb -> 'payment' ->> 'id') from asaas_webhook_logs")
        .await;
    assert_eq!(
        row,
        ["PAYMENT_CREATED|processed|2|1|t|32|pay_fixture000601"]
    );
    let trace = world
        .texts("select trace_id from asaas_webhook_logs")
        .await
        .remove(0);
    let story = world.story(&trace).await;
    assert_eq!(story["routings"][0]["state"], "routed");
    assert_eq!(
        story["routings"][0]["decision"]["tenant"],
        json!({"id": 2, "how": "asaas_customer", "candidates": []})
    );
    assert_eq!(
        story["routings"][0]["decision"]["charge"],
        json!({"status": "pending", "due": "2026-02-10"})
    );
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_event_stands_before_the_one_that_came_first_by_its_own_time() {
    let world = world_with_owners().await;
    let (overdue, received) = (SAMPLES[1].1, SAMPLES[2].1);
    world.post_asaas(received).await;
    world.post_asaas(overdue).await;
    let by_own_time = world
        .texts("select event from asaas_webhook_logs where invoice_key = 'asaas:pay_fixture000501' order by occurred_at")
        .await;
    assert_eq!(by_own_time, ["PAYMENT_OVERDUE", "PAYMENT_RECEIVED"]);
    let groups = world
        .count("select count(distinct correlation_id) from communication_events")
        .await;
    assert_eq!(groups, 1, "one charge is one group");
    world.end(Leaves::Nothing).await;
}

/// A charge of a customer, as Asaas tells of it.
pub(crate) fn charge(event: &str, id: &str, payment: Value) -> String {
    json!({"id": format!("evt_{id}&1"), "event": event, "dateCreated": "2026-02-03 03:10:00", "payment": payment})
        .to_string()
}
