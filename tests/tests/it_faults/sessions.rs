//! What would meet every message of the account holds the account: nothing is burnt.

use posto_tests::gateway_sim::{Fault, FaultRule};
use posto_tests::world::http::answer;
use posto_tests::world::{Leaves, World};
use serde_json::{Value, json};

use crate::bills::{assert_nobody_got_two, post, post_against};

/// Faults that hold the account, with the code that says why.
const CASES: &[(Fault, &str)] = &[
    (Fault::SessionInactive, "session_down"),
    // Its usual text is that of a session which is not active, in the member `message` (E8).
    (Fault::ErrorInField, "session_down"),
    (Fault::UnauthorizedJson, "gateway_unauthorized"),
    (Fault::Forbidden, "gateway_unauthorized"),
    (Fault::UnauthorizedBasicHtml, "gateway_proxy_unauthorized"),
    (Fault::ChannelNotFound, "channel_not_found"),
    (Fault::RouteNotFound, "gateway_route_not_found"),
];

pub(crate) fn faults() -> Vec<Fault> {
    CASES.iter().map(|(fault, _)| *fault).collect()
}

/// What the gateway posts when the session is there again.
fn back(minute: usize) -> Value {
    json!({
        "spec_version": "1.0", "event": "connection.update",
        "session": {"id": "Pixel12 Digital", "name": "Pixel12 Digital"},
        "message": null, "ack": null, "connection": {"status": "connected"},
        "raw": {"provider": "wppconnect", "payload": {
            "event": "status-find", "session": "Pixel12 Digital", "status": "inChat"}},
        "event_id": uuid::Uuid::new_v4(), "correlation_id": uuid::Uuid::new_v4(),
        "timestamp": format!("2026-02-05T14:{minute:02}:00.000Z")
    })
}

/// Drops or returns the session at the gateway.
async fn session(world: &World, state: &str, silent: bool) {
    let asked = json!({"channel": "Pixel12 Digital", "state": state, "silent": silent});
    let request = world
        .client()
        .post(format!("{}/_sim/session", world.sim.url()))
        .json(&asked);
    assert_eq!(answer(request).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_the_account_holds_it_with_its_code_until_the_account_is_back() {
    let world = World::start().await;
    for (index, (fault, code)) in CASES.iter().enumerate() {
        let number = 600 + 2 * u32::try_from(index).unwrap();
        let first = post_against(&world, number, FaultRule::new(*fault).times(1)).await;
        first
            .until(&world, &format!("held {code} ({code}) [held {code}]"))
            .await;
        let second = post(&world, number + 1).await;
        second.until(&world, "held (session_down) []").await;
        let shown = world.admin("/admin/channels").await.body;
        assert_eq!(shown["channels"][0]["session"], "down");
        assert_eq!(shown["channels"][0]["held"], 2);

        world.post_webhook(&back(index)).await;
        first
            .until(&world, &format!("read [held {code}, sent]"))
            .await;
        second.until(&world, "read [sent]").await;
        for bill in [&first, &second] {
            assert_eq!(bill.count(&world, "d.retry_count").await, 0, "{fault:?}");
            assert_eq!(
                bill.messages(&world).last(),
                Some(&true),
                "{fault:?} was met once"
            );
        }
    }
    assert_nobody_got_two(&world);
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_gone_holds_everything_and_drains_when_its_webhook_comes() {
    let world = World::start().await;
    session(&world, "drop", true).await;
    let first = post(&world, 630).await;
    first
        .until(
            &world,
            "held session_down (session_down) [held session_down]",
        )
        .await;
    let mut later = Vec::new();
    for number in 631..641 {
        later.push(post(&world, number).await);
    }
    for bill in &later {
        bill.until(&world, "held (session_down) []").await;
    }
    assert_eq!(world.sim.messages().len(), 0);
    session(&world, "return", false).await;
    first.until(&world, "read [held session_down, sent]").await;
    for bill in &later {
        bill.until(&world, "read [sent]").await;
        assert_eq!(bill.messages(&world), [true]);
    }
    let burnt = "select count(*) from deliveries where retry_count > 0";
    assert_eq!(world.count(burnt).await, 0);
    assert_nobody_got_two(&world);
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_returns_in_silence_is_found_by_asking_and_one_goes_as_a_trial() {
    let world = World::start().await;
    session(&world, "drop", true).await;
    let first = post(&world, 650).await;
    first
        .until(
            &world,
            "held session_down (session_down) [held session_down]",
        )
        .await;
    let second = post(&world, 651).await;
    let third = post(&world, 652).await;
    for bill in [&second, &third] {
        bill.until(&world, "held (session_down) []").await;
    }
    session(&world, "return", true).await;
    first.until(&world, "read [held session_down, sent]").await;
    for bill in [&second, &third] {
        bill.until(&world, "read [sent]").await;
    }
    let sent = world.sim.messages();
    assert_eq!(sent.len(), 3);
    assert_eq!(
        sent[0].to,
        crate::bills::phone(650),
        "the oldest is the trial"
    );
    assert_nobody_got_two(&world);
    world.end(Leaves::Nothing).await;
}
