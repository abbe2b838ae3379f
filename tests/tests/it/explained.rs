//! Always explained: also what matched nothing, what could not be rendered, what was refused.

use posto_tests::world::{Leaves, World, overdue};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_matches_nothing_says_which_rules_were_tried_and_why_not() {
    let world = World::start().await;
    let event = json!({
        "event_type": "billing.invoice.paid", "source_system": "billing", "tenant_id": 1,
        "payload": {"invoice_id": 501, "phone": "(47) 99990-0011", "text": "obrigado"}, "metadata": {}
    });
    let accepted = world.post(&event).await;
    let trace = accepted.text("/trace_id");
    world
        .until("it is decided", async |world| {
            world.count("select count(*) from routings").await == 1
        })
        .await;
    let story = world.story(&trace).await;
    assert_eq!(story["routings"][0]["state"], "unrouted");
    let rules = story["routings"][0]["decision"]["rules"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let enabled = world
        .count("select count(*) from routing_rules where enabled")
        .await;
    assert_eq!(
        i64::try_from(rules.len()),
        Ok(enabled),
        "every enabled rule was tried"
    );
    assert!(
        rules.iter().all(|rule| rule["verdict"] == "other_type"),
        "a sibling never matches: {rules:?}"
    );
    assert_eq!(story["deliveries"], json!([]));
    assert_eq!(world.sim.messages().len(), 0);
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_variable_that_misses_is_named_and_nothing_leaves() {
    let world = World::start().await;
    let mut event = overdue("gap");
    event["payload"].as_object_mut().unwrap().remove("due_date");
    event["payload"].as_object_mut().unwrap().remove("amount");
    let accepted = world.post(&event).await;
    world
        .until_states(&accepted.text("/event_id"), &["dead"])
        .await;
    let story = world.story(&accepted.text("/trace_id")).await;
    assert_eq!(
        story["deliveries"][0]["failure_code"],
        "template_variable_missing"
    );
    assert_eq!(story["deliveries"][0]["failure_detail"], "due_date, amount");
    let letters = world.texts("select concat_ws(' ', queue, failure_code, channel, template_key) from dead_letter_queue").await;
    assert_eq!(
        letters,
        ["hub.deliveries.whatsapp template_variable_missing whatsapp overdue_7d"]
    );
    assert_eq!(world.sim.messages().len(), 0);
    world.end(Leaves::Unsettled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_event_is_found_by_the_trace_that_it_named() {
    let world = World::start().await;
    let mut event = overdue("refused");
    event["tenant_id"] = json!(4711);
    event["trace_id"] = json!("7b0d6f0e-0000-4000-8000-000000000042");
    let refused = world.post(&event).await;
    assert_eq!(
        (refused.status, refused.text("/code")),
        (422, "unknown_tenant".to_owned())
    );
    assert_eq!(refused.text("/errors/0/pointer"), "#/tenant_id");
    let story = world.story("7b0d6f0e-0000-4000-8000-000000000042").await;
    assert_eq!(story["logs"][0]["code"], "unknown_tenant");
    assert_eq!(story["logs"][0]["pointer"], "#/tenant_id");
    assert_eq!(story["logs"][0]["source_system"], "billing");
    assert_eq!(story["timeline"][0]["step"], "logged");
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_take_effect_at_once_and_every_channel_has_its_own_winner() {
    let world = World::start().await;
    world
        .run_sql(
            "insert into routing_rules (name, event_type, channel, template, condition, priority) values
                 ('big-first', 'billing.invoice.overdue', 'whatsapp', 'overdue_15d', 'payload.amount | float > 100', 5),
                 ('note-it', 'billing.*', 'chat', null, null, 50)",
        )
        .await;
    let wins = async |key: &str, amount: &str| {
        let mut event = overdue(key);
        event["payload"]["amount"] = amount.into();
        event["payload"]["order_id"] = 9.into();
        event["payload"]["message"] = "cobrança".into();
        let accepted = world.post(&event).await;
        let id = accepted.text("/event_id");
        world
            .until("it is decided", async |world| {
                world
                    .count(&format!(
                        "select count(*) from routings where event_id = '{id}'"
                    ))
                    .await
                    == 1
            })
            .await;
        world.texts(&format!("select concat_ws(' ', channel, template_key) from deliveries where event_id = '{id}' order by channel")).await
    };
    world
        .until("the new rules are in force", async |_| {
            wins(&uuid::Uuid::new_v4().to_string(), "500.00").await
                == ["chat", "whatsapp overdue_15d"]
        })
        .await;
    assert_eq!(
        wins("small", "59.80").await,
        ["chat", "whatsapp overdue_7d"]
    );
    world
        .until("all arrived", async |world| {
            world
                .count("select count(*) from deliveries where state not in ('read', 'delivered')")
                .await
                == 0
        })
        .await;
    world.end(Leaves::Nothing).await;
}
