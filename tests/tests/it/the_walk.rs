//! The main job: an overdue invoice becomes one message, and comes back read.

use posto_tests::world::{Leaves, Setup, World, overdue};
use serde_json::Value;

fn steps(story: &Value) -> Vec<String> {
    let steps = story["timeline"].as_array().cloned().unwrap_or_default();
    steps
        .iter()
        .filter_map(|step| step["step"].as_str().map(str::to_owned))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overdue_invoice_reaches_whatsapp_once_and_comes_back_read() {
    let world = World::start().await;
    let accepted = world.post(&overdue("walk-1")).await;
    assert_eq!(accepted.status, 202, "{}", accepted.body);
    assert_eq!(accepted.body["status"], "accepted");
    assert_eq!(accepted.body["duplicate"], false);
    let event_id = accepted.text("/event_id");
    assert_eq!(
        accepted.headers["location"],
        format!("/api/events/{event_id}")
    );

    world.until_states(&event_id, &["read"]).await;
    let sent = world.sim.messages();
    assert_eq!(sent.len(), 1, "one message, once");
    assert_eq!(
        sent[0].to, "5547999900011",
        "the address is never rewritten"
    );
    assert!(
        sent[0].text.contains("Hospedagem")
            && sent[0].text.contains("R$ 59,80")
            && sent[0].text.contains("27/01/2026")
    );

    let trace = accepted.text("/trace_id");
    let story = world.story(&trace).await;
    let told = steps(&story);
    for step in [
        "received",
        "routed",
        "queued",
        "claimed",
        "sent",
        "delivered",
        "read",
    ] {
        assert!(
            told.iter().any(|own| own == step),
            "{step} is missing in {told:?}"
        );
    }
    assert_eq!(story["deliveries"][0]["template"], "overdue_7d");
    assert!(
        story["deliveries"][0]["text"]
            .as_str()
            .is_some_and(|text| text.contains("Hospedagem"))
    );
    assert_eq!(
        story["deliveries"][0]["recipient"], "+55 47 9****-0011",
        "masked without the right to see it"
    );
    assert_eq!(story["deliveries"][0]["attempts"][0]["outcome"], "sent");
    assert_eq!(
        story["deliveries"][0]["receipts"].as_array().map(Vec::len),
        Some(4),
        "an echo and three acks"
    );
    let rules = story["routings"][0]["decision"]["rules"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    assert!(
        rules
            .iter()
            .any(|rule| rule["verdict"] == "won" && rule["name"] == "billing-overdue")
    );
    assert!(
        rules.iter().any(|rule| rule["verdict"] == "other_type"),
        "also why the others did not"
    );

    let view = format!(
        "select step from communication_timeline where trace_id = '{trace}' order by at, place"
    );
    assert_eq!(
        world.texts(&view).await,
        told,
        "the view tells the same story"
    );
    let notified = world.texts("select concat_ws(' ', status, delivery_status, template, invoice_id) from billing_notifications").await;
    assert_eq!(notified, ["sent_auto read overdue_7d 503"]);
    let own = world.get(&format!("/api/events/{event_id}")).await;
    assert_eq!(
        (own.status, own.body["status"].as_str()),
        (200, Some("processed"))
    );
    assert_eq!(own.body["deliveries"][0]["state"], "read");
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_posted_while_no_worker_runs_is_kept_and_delivered_when_they_come() {
    let mut world = World::start_with(Setup {
        router: false,
        delivery: false,
        ..Setup::default()
    })
    .await;
    for n in 0..20 {
        assert_eq!(world.post(&overdue(&format!("kept-{n}"))).await.status, 202);
    }
    let status = world
        .texts("select distinct status from communication_events_status")
        .await;
    assert_eq!(status, ["queued"]);
    world.start_router().await.unwrap();
    world
        .until("all are routed", async |world| {
            world.count("select count(*) from deliveries").await == 20
        })
        .await;
    assert_eq!(world.sim.messages().len(), 0);
    world.start_delivery().await.unwrap();
    world
        .until("all are read", async |world| {
            world
                .count("select count(*) from deliveries where state = 'read'")
                .await
                == 20
        })
        .await;
    assert_eq!(world.sim.messages().len(), 20);
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_event_names_its_stage_and_a_stage_without_a_template_is_a_visible_failure() {
    let world = World::start().await;
    let mut staged = overdue("stage-1");
    staged["payload"]["stage"] = "overdue_3d".into();
    let staged = world.post(&staged).await;
    world
        .until_states(&staged.text("/event_id"), &["read"])
        .await;
    let story = world.story(&staged.text("/trace_id")).await;
    assert_eq!(story["deliveries"][0]["template"], "overdue_3d");

    let mut unknown = overdue("stage-2");
    unknown["payload"]["stage"] = "overdue_99d".into();
    let unknown = world.post(&unknown).await;
    world
        .until_states(&unknown.text("/event_id"), &["dead"])
        .await;
    let story = world.story(&unknown.text("/trace_id")).await;
    assert_eq!(story["deliveries"][0]["failure_code"], "template_not_found");
    assert_eq!(story["deliveries"][0]["failure_detail"], "overdue_99d");
    assert_eq!(world.sim.messages().len(), 1, "only the first left");
    world.end(Leaves::Unsettled).await;
}
