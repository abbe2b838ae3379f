//! Messages that come twice, late, or not as anybody would write them.

use std::time::Instant;

use posto_tests::gateway_sim::{Fault, FaultRule, Settings};
use serde_json::json;

use crate::rig::Rig;
use crate::traffic::Batch;

const EVENTS: u32 = 240;

/// Copies of the work messages of every delivery, for another attempt or generation.
async fn copies(rig: &Rig, generation: &str, attempt: &str) {
    rig.run_sql(&format!(
        "insert into outbox (target, subject_id, body, available_at)
         select 'hub.deliveries.' || channel, id, jsonb_build_object('version', 1, 'kind', 'deliver', 'delivery_id', id,
                'channel', channel, 'generation', {generation}, 'attempt', {attempt}, 'trace_id', trace_id), now()
         from deliveries where channel = 'whatsapp'"
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_come_again_while_their_attempts_are_open() {
    let rig = Rig::started().await;
    rig.sim.set_settings(Settings {
        answer_delay_ms: 1500,
        ..rig.sim.settings()
    });
    let since = Instant::now();
    let posts = Batch::of_bills(EVENTS).post(&rig.api);
    rig.until("many attempts are open", async |rig| {
        rig.number("select count(*) from delivery_attempts where outcome = 'open'")
            .await
            >= Some(32)
    })
    .await;
    copies(&rig, "generation", "attempt_count").await;
    let posted = posts.await.expect("because every post was answered");
    copies(&rig, "generation", "greatest(attempt_count, 1)").await;
    let told = rig
        .verdict("redelivered while the attempt is open", since, &posted)
        .await;
    assert_eq!((told.unknown, told.proven), (0, 0));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_copies_of_older_tries_come_late() {
    let rig = Rig::started().await;
    let throttled = FaultRule {
        retry_after: Some(json!(0)),
        ..FaultRule::new(Fault::RateLimited)
    };
    rig.sim.set_fault(throttled.times(u64::from(EVENTS)));
    let since = Instant::now();
    let posts = Batch::of_bills(EVENTS).post(&rig.api);
    rig.until("retries are under way", async |rig| {
        rig.number("select count(*) from deliveries where retry_count > 0")
            .await
            >= Some(50)
    })
    .await;
    copies(&rig, "generation", "1").await;
    let posted = posts.await.expect("because every post was answered");
    copies(&rig, "generation", "1").await;
    copies(&rig, "generation - 1", "attempt_count + 1").await;
    rig.verdict("stale copies of older tries", since, &posted)
        .await;
    let copies = "select count(*) from delivery_attempts group by delivery_id, generation, number having count(*) > 1";
    assert_eq!(rig.texts(copies).await, [""; 0]);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_among_the_messages_ends_beside_its_queue_and_harms_nobody() {
    let rig = Rig::started().await;
    let since = Instant::now();
    let posts = Batch::of_bills(EVENTS).post(&rig.api);
    rig.run_sql(
        "insert into outbox (target, subject_id, body, available_at)
         select target, gen_random_uuid(), body, now()
         from unnest(array['hub.events.route', 'hub.deliveries.whatsapp', 'hub.deliveries.chat', 'hub.receipts']) target,
              (values ('\"nonsense\"'::jsonb), ('{}'), ('{\"version\": 99, \"kind\": \"dance\"}'), ('[1, 2, 3]'),
                      ('{\"version\": 1, \"kind\": \"route\", \"event_id\": \"nobody\"}')) poison (body)",
    )
    .await;
    for queue in [
        "hub.events.route",
        "hub.deliveries.whatsapp",
        "hub.receipts",
    ] {
        let queue = format!("{}{queue}", rig.prefix);
        rig.servers.publish(&queue, "no JSON at all {").await;
        rig.servers.publish(&queue, "").await;
    }
    let posted = posts.await.expect("because every post was answered");
    rig.until("every poisoned message has its letter", async |rig| {
        rig.number("select count(*) from dead_letters where failure_code = 'message_unreadable'")
            .await
            == Some(26)
    })
    .await;
    rig.verdict("26 poisoned messages", since, &posted).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_misses_a_variable_fails_visibly_and_harms_nobody() {
    let rig = Rig::started().await;
    rig.run_sql(
        "update message_templates set active = false where key = 'overdue_3d';
         insert into message_templates (key, channel, version, body, variables) values
             ('overdue_3d', 'whatsapp', 2, 'Oi, {{ nobody_sends_this }}!', '[{\"name\": \"nobody_sends_this\", \"required\": true}]')",
    )
    .await;
    let since = Instant::now();
    let posts = Batch::of_bills(EVENTS).post(&rig.api);
    let client = crate::rig::client();
    for number in 0..20 {
        let mut event = posto_tests::world::overdue(&format!("incomplete-{number}"));
        event["payload"]["stage"] = json!("overdue_3d");
        event["event_type"] = json!("billing.invoice.pre_due");
        let answer = client
            .post(format!("{}/api/events", rig.api))
            .bearer_auth(posto_tests::world::BILLING_TOKEN)
            .json(&event)
            .send()
            .await
            .expect("because ingest runs");
        assert_eq!(answer.status(), 202);
    }
    let posted = posts.await.expect("because every post was answered");
    rig.until("each has its letter", async |rig| {
        rig.number(
            "select count(*) from dead_letters where failure_code = 'template_variable_missing'",
        )
        .await
            == Some(20)
    })
    .await;
    rig.verdict("a template that misses a variable", since, &posted)
        .await;
    assert_eq!(
        rig.number("select count(*) from deliveries where event_type = 'billing.invoice.pre_due' and state = 'dead' and attempt_count = 0")
            .await,
        Some(20)
    );
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_is_disabled_while_its_jobs_are_in_flight() {
    let rig = Rig::started().await;
    rig.sim.set_settings(Settings {
        answer_delay_ms: 300,
        ..rig.sim.settings()
    });
    let since = Instant::now();
    let posts = Batch::of_bills(EVENTS).post(&rig.api);
    rig.until("some are sent, some are queued", async |rig| {
        rig.number("select count(*) from deliveries where state in ('queued', 'claimed')")
            .await
            >= Some(100)
    })
    .await;
    rig.run_sql("update routing_rules set enabled = false where name = 'billing-overdue'")
        .await;
    let posted = posts.await.expect("because every post was answered");
    rig.until("every event has its decision", async |rig| {
        rig.number("select count(*) from communication_events e where event_type = 'billing.invoice.overdue'
                    and not exists (select 1 from routings r where r.event_id = e.id)")
            .await
            == Some(0)
    })
    .await;
    // What was decided before goes its way; what was decided after says why nothing goes.
    let told =
        "select r.state || ' ' || (select count(*) from deliveries d where d.event_id = r.event_id)
                from routings r where event_type = 'billing.invoice.overdue' group by 1";
    let mut fates = rig.texts(told).await;
    fates.retain(|fate| fate != "routed 1" && fate != "unrouted 0");
    assert_eq!(fates, [""; 0]);
    rig.judge("a rule disabled with its jobs in flight", since, &posted)
        .await;
    rig.end().await;
}
