//! What the gateway does to 240 messages at once: answers that lie, are lost or come late. Nothing is
//! sent again blindly; evidence settles what it can.

use std::time::Instant;

use posto_tests::gateway_sim::{Fault, FaultRule, Settings};

use crate::rig::Rig;
use crate::traffic::Batch;
use crate::verdict::Told;

const EVENTS: u32 = 240;

/// All messages meet the same fault.
async fn meets(scenario: &str, rule: FaultRule) -> Told {
    let rig = Rig::started().await;
    rig.sim.set_fault(rule);
    let since = Instant::now();
    let posted = Batch::of_bills(EVENTS)
        .post(&rig.api)
        .await
        .expect("because every post was answered");
    let told = rig.verdict(scenario, since, &posted).await;
    rig.end().await;
    told
}

/// Evidence settled every one of them.
fn assert_all_proven(told: &Told) {
    assert_eq!((told.unknown, told.proven), (0, i64::from(EVENTS)));
}

#[tokio::test(flavor = "multi_thread")]
async fn brief_the_gateway_times_out_after_the_messages_went_out() {
    let rule = FaultRule::new(Fault::TimeoutAfterSend);
    assert_all_proven(&meets("gateway timeout after the message went out", rule).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_answers_504_in_html_after_the_messages_went_out() {
    let rule = FaultRule::new(Fault::Html504Sent);
    assert_all_proven(&meets("504 HTML, message went out", rule).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_reset_after_the_write() {
    let rule = FaultRule::new(Fault::ResetAfterSend);
    assert_all_proven(&meets("connection reset after the write", rule).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_come_before_the_answer() {
    let rule = FaultRule::new(Fault::AcksBeforeResponse);
    let told = meets("acks before the send's answer", rule).await;
    // The answers wait for our own door to take the acks: on a busy machine some come too late, and
    // are proven by those very acks.
    assert_eq!(told.unknown, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_lost_and_nothing_left() {
    let told = meets(
        "504 HTML, nothing went out",
        FaultRule::new(Fault::Html504NotSent),
    )
    .await;
    assert_eq!(
        told.unknown, EVENTS as usize,
        "a person or a policy decides"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_and_echoes_are_lost() {
    let rig = Rig::started().await;
    rig.sim.set_settings(Settings {
        echo: false,
        acks: Vec::new(),
        ..rig.sim.settings()
    });
    rig.sim.set_fault(FaultRule::new(Fault::TimeoutAfterSend));
    let since = Instant::now();
    let posted = Batch::of_bills(EVENTS)
        .post(&rig.api)
        .await
        .expect("because every post was answered");
    let told = rig
        .verdict("answer and all evidence lost", since, &posted)
        .await;
    assert_eq!(told.unknown, EVENTS as usize, "nobody can know");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn echoes_are_lost() {
    let rig = Rig::started().await;
    rig.sim.set_settings(Settings {
        echo: false,
        ..rig.sim.settings()
    });
    let since = Instant::now();
    let posted = Batch::of_bills(EVENTS)
        .post(&rig.api)
        .await
        .expect("because every post was answered");
    let told = rig.verdict("echo lost, answer good", since, &posted).await;
    assert_eq!((told.unknown, told.proven), (0, 0));
    rig.end().await;
}
