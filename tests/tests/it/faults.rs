//! What becomes of a send when the gateway misbehaves, in each of the ways of facts §1.3. Whatever
//! it does, nobody gets a message twice.

use std::time::Duration;

use futures_util::future::join_all;
use posto_tests::gateway_sim::{Fault, FaultRule};
use posto_tests::world::{Leaves, Setup, World, overdue};
use serde_json::{Value, json};

struct Case {
    fault: Fault,
    /// Where the delivery ends.
    state: &'static str,
    /// The failure code of its last attempt.
    code: &'static str,
    /// The number of messages that left.
    left: usize,
}

const fn case(fault: Fault, state: &'static str, code: &'static str, left: usize) -> Case {
    Case {
        fault,
        state,
        code,
        left,
    }
}

/// An overdue invoice for somebody else.
fn overdue_for(key: &str, phone: &str) -> Value {
    let mut event = overdue(key);
    event["payload"]["phone"] = json!(phone);
    event
}

fn phone(place: usize) -> String {
    format!("5511988{place:06}")
}

async fn run(world: &World, cases: &[Case]) {
    for (place, case) in cases.iter().enumerate() {
        let rule = FaultRule::new(case.fault).to(&phone(place));
        let silent = matches!(case.fault, Fault::TimeoutAfterSend | Fault::TimeoutBefore);
        world
            .sim
            .set_fault(if silent { rule.delayed(60_000) } else { rule });
    }
    let events: Vec<Value> = (0..cases.len())
        .map(|place| overdue_for(&format!("fault-{place}"), &phone(place)))
        .collect();
    let answers = join_all(events.iter().map(|event| world.post(event))).await;
    for ((place, case), answer) in cases.iter().enumerate().zip(answers) {
        let event_id = answer.text("/event_id");
        let label = format!("{:?}", case.fault);
        world
            .until(&format!("{label} ends {}", case.state), async |world| {
                let query = format!(
                "select d.state from deliveries d join delivery_attempts a on a.delivery_id = d.id
                 where d.event_id = '{event_id}' and a.outcome <> 'open'"
            );
                world.texts(&query).await == [case.state]
            })
            .await;
        let code = format!(
            "select coalesce(a.failure_code, '') from delivery_attempts a join deliveries d on d.id = a.delivery_id
             where d.event_id = '{event_id}' order by a.number desc limit 1"
        );
        assert_eq!(world.texts(&code).await, [case.code], "{label}");
        let left = world
            .went_out()
            .into_iter()
            .filter(|message| message.to == phone(place))
            .count();
        assert_eq!(left, case.left, "{label}");
    }
}

fn impatient() -> Setup {
    Setup {
        send_timeout: "2s",
        ..Setup::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_settles_what_the_answer_left_open() {
    let world = World::start_with(impatient()).await;
    run(
        &world,
        &[
            case(Fault::TimeoutAfterSend, "read", "gateway_timeout", 1),
            case(Fault::Html504Sent, "read", "gateway_html_error", 1),
            case(Fault::Empty200, "read", "empty_response", 1),
            case(Fault::WppconnectTimeout, "read", "engine_timeout", 1),
            case(Fault::ResetAfterSend, "read", "connection_reset", 1),
            case(Fault::CutAnswer, "read", "connection_reset", 1),
            case(
                Fault::NotExistsDelivered,
                "read",
                "number_not_on_whatsapp",
                1,
            ),
            case(Fault::NoIdInAnswer, "read", "", 1),
            case(Fault::MessageIdInAnswer, "read", "", 1),
            case(Fault::AcksBeforeResponse, "read", "", 1),
            case(Fault::DuplicatedWebhooks, "read", "", 1),
            case(Fault::ShuffledWebhooks, "read", "", 1),
        ],
    )
    .await;
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_proves_stays_what_it_is_and_is_not_sent_again() {
    let world = World::start_with(impatient()).await;
    run(
        &world,
        &[
            case(Fault::TimeoutBefore, "unknown", "gateway_timeout", 0),
            case(Fault::Html504NotSent, "unknown", "gateway_html_error", 0),
            case(Fault::ServerErrorJson, "unknown", "gateway_unreadable", 0),
            case(
                Fault::ServerErrorInvalidJson,
                "unknown",
                "gateway_unreadable",
                0,
            ),
            case(Fault::Empty500, "unknown", "gateway_unreadable", 0),
            case(Fault::SuccessFalse, "dead", "gateway_refused", 0),
            case(Fault::NotExists, "failed", "number_not_on_whatsapp", 0),
            case(Fault::InvalidBase64, "dead", "content_rejected", 0),
            case(Fault::AckFailed, "failed", "", 0),
            case(Fault::NoEcho, "sent", "", 1),
            case(Fault::NoAcks, "sent", "", 1),
            case(Fault::OnlyAck1, "sent", "", 1),
        ],
    )
    .await;
    assert_eq!(
        world
            .count("select max(attempt_count)::bigint from deliveries")
            .await,
        1,
        "nothing was tried twice"
    );
    let rejected = "select count(*) from deliveries where failure_code = 'provider_rejected'";
    assert_eq!(world.count(rejected).await, 1, "the ack's failure is told");
    world.end(Leaves::Unsettled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_send_is_tried_three_times_more_and_then_dead_with_a_letter_that_tells_why() {
    let world = World::start().await;
    world
        .sim
        .set_fault(FaultRule::new(Fault::RateLimited).to(&phone(1)).times(2));
    world
        .sim
        .set_fault(FaultRule::new(Fault::RateLimited).to(&phone(2)));
    let soon = world.post(&overdue_for("soon", &phone(1))).await;
    let never = world.post(&overdue_for("never", &phone(2))).await;
    world.until_states(&soon.text("/event_id"), &["read"]).await;
    world
        .until_states(&never.text("/event_id"), &["dead"])
        .await;
    let attempts = async |event: &str| {
        world
            .texts(&format!(
                "select concat_ws(' ', a.number, a.outcome, a.failure_code) from delivery_attempts a
                 join deliveries d on d.id = a.delivery_id where d.event_id = '{event}' order by a.number"
            ))
            .await
    };
    let retry = |number: i32| format!("{number} retry gateway_throttled");
    assert_eq!(
        attempts(&soon.text("/event_id")).await,
        [retry(1), retry(2), "3 sent".to_owned()]
    );
    assert_eq!(
        attempts(&never.text("/event_id")).await,
        [
            retry(1),
            retry(2),
            retry(3),
            "4 failed gateway_throttled".to_owned()
        ]
    );
    let letter = world.texts("select concat_ws(' ', queue, subject_kind, failure_code, failure_class, attempts) from dead_letter_queue").await;
    assert_eq!(
        letter,
        ["hub.deliveries.whatsapp delivery gateway_throttled throttled 4"]
    );
    world.end(Leaves::Unsettled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_or_a_set_up_at_fault_holds_without_burning_and_drains_when_it_is_mended() {
    let faults = [
        (Fault::SessionInactive, "session_down"),
        (Fault::UnauthorizedJson, "gateway_unauthorized"),
        (Fault::ChannelNotFound, "channel_not_found"),
    ];
    join_all(faults.map(|(fault, reason)| held_until_mended(fault, reason))).await;
}

async fn held_until_mended(fault: Fault, reason: &str) {
    let world = World::start().await;
    world.sim.set_fault(FaultRule::new(fault));
    for place in 0..3 {
        world
            .post(&overdue_for(&format!("held-{place}"), &phone(place)))
            .await;
    }
    let held = "select count(*) from deliveries where state = 'held' and retry_count = 0";
    world
        .until(&format!("all are held by {reason}"), async |world| {
            world.count(held).await == 3
        })
        .await;
    let reasons = world
        .texts("select distinct failure_code from deliveries where failure_code is not null")
        .await;
    assert_eq!(reasons, [reason]);
    world.sim.clear_faults();
    let read = "select count(*) from deliveries where state = 'read'";
    world
        .until("all are read", async |world| world.count(read).await == 3)
        .await;
    assert_eq!(world.went_out().len(), 3, "{reason}");
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_templates_policy_sends_once_more_when_no_evidence_comes() {
    let world = World::start_with(Setup {
        send_timeout: "1s",
        ..Setup::default()
    })
    .await;
    world
        .run_sql("update message_templates set unknown_policy = 'resend' where key = 'overdue_7d'")
        .await;
    world.sim.set_fault(
        FaultRule::new(Fault::TimeoutBefore)
            .to(&phone(1))
            .times(1)
            .delayed(60_000),
    );
    // The policy is in force once a delivery carries it.
    let mut accepted = world.post(&overdue_for("policy-0", &phone(1))).await;
    world
        .until("the new policy is in force", async |world| {
            world
                .count("select count(*) from deliveries where unknown_policy = 'resend'")
                .await
                > 0
                || {
                    accepted = world
                        .post(&overdue_for(&uuid::Uuid::new_v4().to_string(), &phone(2)))
                        .await;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    false
                }
        })
        .await;
    world.sim.clear_faults();
    world.sim.set_fault(
        FaultRule::new(Fault::TimeoutBefore)
            .to(&phone(3))
            .times(1)
            .delayed(60_000),
    );
    let lost = world.post(&overdue_for("policy-1", &phone(3))).await;
    world.until_states(&lost.text("/event_id"), &["read"]).await;
    assert_eq!(
        world
            .went_out()
            .into_iter()
            .filter(|message| message.to == phone(3))
            .count(),
        1
    );
    world.end(Leaves::Unsettled).await;
}
