//! An operator settles what nobody knows.

use posto_tests::gateway_sim::{Fault, FaultRule, Settings};
use posto_tests::world::{Leaves, Setup, World};
use serde_json::{Value, json};

use crate::support::{audit, bill, messages_to, post};

async fn world() -> World {
    let world = World::start_with(Setup {
        send_timeout: "500ms",
        ..Setup::default()
    })
    .await;
    world.sim.set_settings(Settings {
        echo: false,
        acks: Vec::new(),
        ..world.sim.settings()
    });
    world
}

/// Posts a bill whose send ends in silence; answers its delivery and its trace.
async fn unknown(world: &World, number: u32) -> (String, String) {
    world
        .sim
        .set_fault(FaultRule::new(Fault::TimeoutBefore).times(1));
    let (event, trace) = post(world, &bill(number)).await;
    world.until_states(&event, &["unknown"]).await;
    let query = format!("select id::text from deliveries where event_id = '{event}'");
    (world.texts(&query).await.remove(0), trace)
}

async fn settle(world: &World, delivery: &str, order: Value) -> posto_tests::world::http::Answer {
    world
        .order(&format!("/admin/deliveries/{delivery}/settle"), &order)
        .await
}

async fn state(world: &World, delivery: &str) -> String {
    let query =
        format!("select concat_ws(' ', state, generation) from deliveries where id = '{delivery}'");
    world.texts(&query).await.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_unknown_is_found_and_settled_each_way_and_told_on_its_trace() {
    let world = world().await;
    let mut all = Vec::new();
    for number in 0..3 {
        all.push(unknown(&world, number).await);
    }
    let first = world.admin("/admin/deliveries?state=unknown&limit=2").await;
    let page = first.body["deliveries"].as_array().unwrap();
    assert_eq!(page.len(), 2);
    let masked = page[0]["recipient"].as_str().unwrap();
    assert!(!masked.contains("99990"), "{masked}");
    let next = first.text("/next");
    let rest = world
        .admin(&format!(
            "/admin/deliveries?state=unknown&limit=2&after={next}"
        ))
        .await;
    assert_eq!(rest.body["deliveries"].as_array().unwrap().len(), 1);
    assert_eq!(rest.body["next"], Value::Null);

    let delivered =
        json!({"outcome": "delivered", "reason": "seen on the phone", "actor": "maria"});
    let failed =
        json!({"outcome": "not_delivered", "reason": "the customer has nothing", "actor": "maria"});
    let again = json!({"outcome": "not_delivered", "resend": true, "reason": "not on the phone", "actor": "maria"});
    assert_eq!(
        settle(&world, &all[0].0, delivered.clone()).await.body["state"],
        "delivered"
    );
    assert_eq!(
        settle(&world, &all[1].0, failed).await.body["state"],
        "failed"
    );
    assert_eq!(
        settle(&world, &all[2].0, again).await.body["state"],
        "queued"
    );
    world
        .until("the third is sent again", async |world| {
            state(world, &all[2].0).await == "sent 1"
        })
        .await;
    assert_eq!(state(&world, &all[0].0).await, "delivered 0");
    assert_eq!(state(&world, &all[1].0).await, "failed 0");
    assert_eq!(messages_to(&world, 2), [false, true]);
    assert_eq!(
        audit(&world).await,
        [
            "maria settled_by_hand delivery delivered",
            "maria settled_by_hand delivery not_delivered",
            "maria settled_by_hand delivery not_delivered"
        ]
    );
    let twice = settle(&world, &all[0].0, delivered).await;
    assert_eq!(
        (twice.status, twice.text("/code")),
        (409, "not_unknown".to_owned())
    );
    let story = world.story(&all[0].1).await;
    assert_eq!(story["audit"][0]["reason"], "seen on the phone");
    assert!(story["timeline"].to_string().contains("settled_by_hand"));
    world.end(Leaves::Unsettled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_that_comes_later_has_the_last_word() {
    let world = world().await;
    let (delivery, _) = unknown(&world, 5).await;
    let order = json!({"outcome": "not_delivered", "reason": "the customer has nothing"});
    assert_eq!(settle(&world, &delivery, order).await.status, 200);
    let echo = json!({
        "event": "message.sent", "session": {"id": "Pixel12 Digital"},
        "metadata": {"delivery_id": delivery},
        "message": {"id": "true_5547999900005@c.us_LATE", "to": "5547999900005@c.us", "fromMe": true,
                    "from": "554733000001@c.us", "type": "chat", "body": "tarde"},
    });
    assert_eq!(world.post_webhook(&echo).await.status, 200);
    world
        .until("the evidence lifts it", async |world| {
            state(world, &delivery).await == "sent 0"
        })
        .await;
    world.end(Leaves::Unsettled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_cannot_be_carried_out_is_told_why() {
    let world = world().await;
    let nobody = uuid::Uuid::new_v4().to_string();
    let order = json!({"outcome": "delivered", "reason": "seen"});
    assert_eq!(settle(&world, &nobody, order).await.status, 404);
    assert_eq!(settle(&world, "nonsense", json!({})).await.status, 404);
    let cases = [
        (json!({}), "#/outcome"),
        (json!({"outcome": "perhaps", "reason": "x"}), "#/outcome"),
        (json!({"outcome": "delivered"}), "#/reason"),
        (
            json!({"outcome": "delivered", "reason": "x", "resend": true}),
            "#/resend",
        ),
        (
            json!({"outcome": "delivered", "reason": "x", "force": true}),
            "#/force",
        ),
        (json!({"outcome": "delivered", "reason": 7}), "#/reason"),
    ];
    for (order, pointer) in cases {
        let refused = settle(&world, &nobody, order.clone()).await;
        assert_eq!(refused.status, 422, "{order}");
        assert_eq!(refused.text("/errors/0/pointer"), pointer, "{order}");
    }
    let unread = world.admin("/admin/deliveries?state=sent").await;
    assert_eq!(
        (unread.status, unread.text("/code")),
        (400, "invalid_query".to_owned())
    );
    world.end(Leaves::Nothing).await;
}
