//! What becomes of an unknown outcome that no evidence settles: the template's policy.

use posto_tests::gateway_sim::{Fault, FaultRule};
use posto_tests::world::{Leaves, Setup, World};

use crate::bills::{assert_nobody_got_two, phone, post_stage};

const PARK: &str = "overdue_7d";
const IF_SILENT: &str = "overdue_3d";
const RESEND: &str = "overdue_15d";

const ONCE: &str = "unknown gateway_timeout [unknown gateway_timeout]";
const TWICE: &str = "unknown gateway_timeout [unknown gateway_timeout, unknown gateway_timeout]";

/// A world whose templates have a policy each before the router reads them.
async fn world(unknown_silence: &'static str) -> World {
    let mut world = World::start_with(Setup {
        send_timeout: "500ms",
        unknown_silence,
        router: false,
        ..Setup::default()
    })
    .await;
    world
        .run_sql(&format!(
            "update message_templates set unknown_policy = 'resend_if_silent' where key = '{IF_SILENT}';
             update message_templates set unknown_policy = 'resend' where key = '{RESEND}'"
        ))
        .await;
    world
        .start_router()
        .await
        .expect("because the router can start");
    world
}

/// Nothing leaves and no answer comes.
fn lost(number: u32) -> FaultRule {
    FaultRule::new(Fault::TimeoutBefore).to(&phone(number))
}

/// A bill that is sent again by its policy: when its second message has come back read, the same
/// silence has long passed for whatever was unknown before it was posted.
async fn let_the_silence_pass(world: &World, number: u32) {
    world.sim.set_fault(lost(number).times(1));
    let clock = post_stage(world, number, RESEND).await;
    clock
        .until(world, "read [unknown gateway_timeout, sent]")
        .await;
    assert_eq!(clock.messages(world), [false, true]);
    assert_eq!(
        clock.count(world, "d.retry_count").await,
        1,
        "a resend burns a retry"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_parked_is_never_resent_and_what_may_be_resent_only_while_its_budget_lasts() {
    let world = world("1s").await;
    world.sim.set_fault(lost(400));
    world.sim.set_fault(lost(401));
    let parked = post_stage(&world, 400, PARK).await;
    let stubborn = post_stage(&world, 401, RESEND).await;
    parked.until(&world, ONCE).await;
    let given_up = "unknown gateway_timeout [unknown gateway_timeout, unknown gateway_timeout, \
                    unknown gateway_timeout, unknown gateway_timeout]";
    stubborn.until(&world, given_up).await;
    let_the_silence_pass(&world, 402).await;
    assert_eq!(parked.fate(&world).await, ONCE, "a person decides");
    assert_eq!(parked.messages(&world), [false]);
    assert_eq!(
        stubborn.fate(&world).await,
        given_up,
        "three retries and no more"
    );
    assert_eq!(stubborn.messages(&world), [false; 4]);
    assert_nobody_got_two(&world);
    world.end(Leaves::Unsettled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_counts_only_while_echoes_of_others_are_heard_and_only_once() {
    let world = world("3s").await;
    world.sim.set_fault(lost(410));
    world.sim.set_fault(lost(411));

    // Nobody else's echo is heard: the silence proves nothing.
    let unheard = post_stage(&world, 410, IF_SILENT).await;
    unheard.until(&world, ONCE).await;
    let_the_silence_pass(&world, 412).await;
    assert_eq!(unheard.fate(&world).await, ONCE);

    // Another message's echo is heard meanwhile: this one did not leave.
    let silent = post_stage(&world, 411, IF_SILENT).await;
    silent.until(&world, ONCE).await;
    let other = post_stage(&world, 413, PARK).await;
    other.until(&world, "read [sent]").await;
    silent.until(&world, TWICE).await;
    let another = post_stage(&world, 414, PARK).await;
    another.until(&world, "read [sent]").await;
    let_the_silence_pass(&world, 415).await;
    assert_eq!(silent.fate(&world).await, TWICE, "once more, not for ever");
    assert_eq!(silent.messages(&world), [false, false]);
    assert_eq!(unheard.messages(&world), [false]);
    assert_nobody_got_two(&world);
    world.end(Leaves::Unsettled).await;
}

/// Found by the model of the protocol (`docs/protocol-model.md`).
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_after_the_resend_died_settles_the_letter_too() {
    let mut world = World::start_with(Setup {
        send_timeout: "25s",
        router: false,
        ..Setup::default()
    })
    .await;
    world
        .run_sql(&format!(
            "update message_templates set unknown_policy = 'resend' where key = '{RESEND}'"
        ))
        .await;
    world
        .start_router()
        .await
        .expect("because the router can start");
    // The first request gets its good answer late and nobody hears an echo; the second is refused.
    world
        .sim
        .register_webhook("http://127.0.0.1:9/", None)
        .expect("because the address is one");
    let slow = FaultRule::new(Fault::SlowAnswer).to(&phone(420));
    world.sim.set_fault(slow.times(1).delayed(15_000));
    let bill = post_stage(&world, 420, RESEND).await;
    bill.until(&world, "claimed [open]").await;
    world
        .until("the request is out", async |world| {
            !bill.messages(world).is_empty()
        })
        .await;
    world.sim.set_fault(
        FaultRule::new(Fault::InvalidBase64)
            .to(&phone(420))
            .times(1),
    );
    // As if the sender had stood still for as long as its lease.
    world
        .run_sql("update delivery_attempts set lease_until = now() where outcome = 'open'")
        .await;
    let letters = async |state: &str| {
        world
            .count(&format!(
                "select count(*) from dead_letters where state = '{state}'"
            ))
            .await
    };
    let died = "dead content_rejected [unknown lease_expired, failed content_rejected]";
    bill.until(&world, died).await;
    assert_eq!(letters("dead").await, 1);
    bill.until(&world, "sent [sent, failed content_rejected]")
        .await;
    assert_eq!((letters("dead").await, letters("superseded").await), (0, 1));
    world.end(Leaves::Unsettled).await;
}
