//! The ledger: at rest everything is accounted for and nothing contradicts itself; and each thing
//! that may be wrong is found by its name, with the row.

use posto_tests::world::{Leaves, Setup, World};
use serde_json::Value;

use crate::walk::walk;

async fn look(world: &World) -> Value {
    let answer = world.admin("/admin/ledger").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

/// The ids that a finding shows.
fn ids(ledger: &Value, finding: &str) -> Vec<String> {
    let wrong = ledger["wrong"].as_array().cloned().unwrap_or_default();
    wrong
        .iter()
        .filter(|row| row["finding"] == finding)
        .flat_map(|row| row["ids"].as_array().cloned().unwrap_or_default())
        .filter_map(|id| id.as_str().map(str::to_owned))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn at_rest_every_event_and_delivery_is_accounted_for_and_nothing_contradicts_itself() {
    let world = World::start().await;
    walk(&world).await;
    let events = world
        .count("select count(*) from communication_events")
        .await;
    world
        .until("every event is routed", async |world| {
            look(world).await["events"]["unrouted"] == 0
        })
        .await;
    let events_now = world
        .count("select count(*) from communication_events")
        .await;
    let ledger = look(&world).await;
    assert_eq!(ledger["balanced"], true, "{ledger}");
    assert_eq!(ledger["imbalance"], 0, "{ledger}");
    let total = ledger["events"]["total"].as_i64().expect("a number");
    assert!((events..=events_now).contains(&total), "{ledger}");
    let states = ledger["deliveries"].as_object().expect("an object");
    assert_eq!(states.len(), 12, "every state is told: {ledger}");
    let counted: i64 = states.values().filter_map(Value::as_i64).sum();
    assert_eq!(
        counted,
        world.count("select count(*) from deliveries").await
    );
    assert_eq!(ledger["deliveries"]["read"], 1, "{ledger}");
    assert_eq!(ledger["deliveries"]["dead"], 1, "{ledger}");
    assert_eq!(
        ledger["dead_letters"][0]["failure_code"],
        "template_variable_missing"
    );
    world.end(Leaves::Unsettled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_contradicts_itself_is_found_by_name_with_its_row() {
    /// What is wrong, how it is made, and which row shows it.
    const WRONGS: [(&str, &str, &str); 11] = [
        (
            "claim_without_attempt",
            "update deliveries set state = 'claimed', settled_at = null where state = 'read'",
            "select id::text from deliveries where state = 'claimed'",
        ),
        (
            "queued_and_never_dispatched",
            "update deliveries set state = 'queued', settled_at = null, next_attempt_at = null,
                    dispatched_at = null where state = 'claimed'",
            "select id::text from deliveries where state = 'queued'",
        ),
        (
            "attempt_without_claim",
            "update delivery_attempts set outcome = 'open', lease_until = now() + interval '1 hour'
             where delivery_id = (select id from deliveries where state = 'queued')",
            "select id::text from delivery_attempts where outcome = 'open'",
        ),
        (
            "attempt_never_asked_for",
            "update delivery_attempts set number = 9 where outcome = 'open'",
            "select id::text from delivery_attempts where outcome = 'open'",
        ),
        (
            "attempt_past_lease",
            "update delivery_attempts set lease_until = now() - interval '1 minute' where outcome = 'open'",
            "select id::text from delivery_attempts where outcome = 'open'",
        ),
        (
            "two_open_attempts",
            "insert into delivery_attempts (id, delivery_id, generation, number, trace_id, worker, lease_until)
             select gen_random_uuid(), delivery_id, generation, 10, trace_id, 'test', now() + interval '1 hour'
             from delivery_attempts where outcome = 'open'",
            "select distinct delivery_id::text from delivery_attempts where outcome = 'open'",
        ),
        (
            "held_without_account",
            "update deliveries set state = 'held', channel_id = 'nobody' where state = 'queued'",
            "select id::text from deliveries where state = 'held'",
        ),
        (
            "sent_without_time",
            "update deliveries set state = 'sent', sent_at = null, settled_at = now() where state = 'held'",
            "select id::text from deliveries where state = 'sent'",
        ),
        (
            "settled_without_time",
            "update deliveries set settled_at = null where state = 'sent'",
            "select id::text from deliveries where state = 'sent'",
        ),
        (
            "dead_without_letter",
            "delete from dead_letters",
            "select id::text from deliveries where state = 'dead'",
        ),
        (
            "plan_without_delivery",
            "delete from delivery_attempts; delete from deliveries where state = 'dead'",
            "select r.id::text from routings r where r.state = 'routed'
             and not exists (select 1 from deliveries d where d.routing_id = r.id)
             and jsonb_array_length(r.decision -> 'deliveries') > 0",
        ),
    ];
    let mut world = World::start().await;
    walk(&world).await;
    world.stop_delivery().await;
    assert_eq!(look(&world).await["balanced"], true);
    for (finding, wrong, row) in WRONGS {
        world.run_sql(wrong).await;
        let expected = world.texts(row).await;
        assert_eq!(expected.len().max(1), expected.len(), "{finding} was made");
        world
            .until(
                &format!("{finding} is found as {expected:?}"),
                async |world| {
                    let ledger = look(world).await;
                    let found = ids(&ledger, finding);
                    !ledger["balanced"].as_bool().unwrap_or_default()
                        && expected.iter().all(|id| found.contains(id))
                },
            )
            .await;
    }
    world
        .run_sql(
            "update routings set decision = jsonb_set(decision, '{deliveries}', '[]')
             where id in (select routing_id from deliveries)",
        )
        .await;
    assert!(!ids(&look(&world).await, "delivery_without_plan").is_empty());
    world.end(Leaves::Contradictions).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn work_whose_message_the_broker_lost_is_found_unless_it_still_waits_there() {
    let setup = Setup {
        router: false,
        delivery: false,
        ..Setup::default()
    };
    let world = World::start_with(setup).await;
    let posted = world.post(&posto_tests::world::overdue("lost-1")).await;
    world
        .until("the message left the outbox", async |world| {
            world.count("select count(*) from outbox").await == 0
        })
        .await;
    let ledger = look(&world).await;
    assert_eq!(ledger["events"]["unrouted"], 1, "{ledger}");
    assert_eq!(
        ledger["waiting"][0]["queue"], "hub.events.route",
        "{ledger}"
    );
    assert_eq!(ledger["balanced"], true, "waiting is not wrong: {ledger}");
    // An event of ten minutes ago that has no routing and no message: its queue holds another one.
    let lost = world
        .texts(
            "insert into communication_events
                 (id, source_system, event_type, trace_id, occurred_at, received_at, body)
             select (left(hub_uuid_floor(now() - interval '10 minutes')::text, 14)
                     || '7000-8000-000000000001')::uuid,
                    source_system, event_type, trace_id, occurred_at, received_at, body
             from communication_events returning id::text",
        )
        .await;
    assert_eq!(
        look(&world).await["balanced"],
        true,
        "the queue is not empty"
    );
    world.purge("hub.events.route").await;
    world
        .until("the lost event is told", async |world| {
            ids(&look(world).await, "message_lost") == lost
        })
        .await;
    assert_eq!(posted.status, 202);
    world.run_sql("delete from communication_events").await;
    world.end(Leaves::Contradictions).await;
}
