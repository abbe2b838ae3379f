//! The message had left, whatever the answer said: echo and acks come late and tell.

use posto_tests::gateway_sim::{EchoEvent, Fault, FaultRule, Settings};
use posto_tests::world::{Leaves, Setup, WEBHOOK_SECRET, World};

use crate::bills::{assert_nobody_got_two, overdue_of, phone, post_against, post_event};

/// Nobody listens there, so webhooks wait until the right address is registered.
const NOWHERE: &str = "http://127.0.0.1:9/";

/// Faults whose message left, what was believed first, and what is known in the end.
const CASES: &[(Fault, &str, &str)] = &[
    (
        Fault::TimeoutAfterSend,
        "unknown gateway_timeout [unknown gateway_timeout]",
        "read [unknown gateway_timeout]",
    ),
    (
        Fault::ResetAfterSend,
        "unknown connection_reset [unknown connection_reset]",
        "read [unknown connection_reset]",
    ),
    (
        Fault::CutAnswer,
        "unknown connection_reset [unknown connection_reset]",
        "read [unknown connection_reset]",
    ),
    (
        Fault::Html504Sent,
        "unknown gateway_html_error [unknown gateway_html_error]",
        "read [unknown gateway_html_error]",
    ),
    (
        Fault::Empty200,
        "unknown empty_response [unknown empty_response]",
        "read [unknown empty_response]",
    ),
    (
        Fault::WppconnectTimeout,
        "unknown engine_timeout [unknown engine_timeout]",
        "read [unknown engine_timeout]",
    ),
    // Incident 34: "does not exist" was said of a message that was delivered.
    (
        Fault::NotExistsDelivered,
        "failed number_not_on_whatsapp [failed number_not_on_whatsapp]",
        "read [failed number_not_on_whatsapp]",
    ),
    (Fault::NoIdInAnswer, "sent [sent]", "read [sent]"),
];

pub(crate) fn faults() -> Vec<Fault> {
    CASES.iter().map(|(fault, ..)| *fault).collect()
}

fn setup() -> Setup {
    Setup {
        send_timeout: "2s",
        ..Setup::default()
    }
}

/// Lets the webhooks that waited come.
fn listen(world: &World) {
    world
        .sim
        .register_webhook(
            &format!("{}/api/whatsapp/webhook", world.api()),
            Some(WEBHOOK_SECRET),
        )
        .expect("because the address is one");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_echo_with_its_text_finds_the_send_whose_answer_was_lost_and_acks_follow_it() {
    let world = World::start_with(setup()).await;
    world.sim.set_settings(Settings {
        echo_event: EchoEvent::Message,
        ..world.sim.settings()
    });
    world.sim.register_webhook(NOWHERE, None).unwrap();
    let mut bills = Vec::new();
    for (number, (fault, first, last)) in (200..).zip(CASES) {
        let bill = post_against(&world, number, FaultRule::new(*fault)).await;
        bills.push((bill, first, last));
    }
    for (bill, first, _) in &bills {
        bill.until(&world, first).await;
    }
    listen(&world);
    for (bill, _, last) in &bills {
        bill.until(&world, last).await;
        world
            .until("its receipts are applied", async |world| {
                bill.receipts(world).await == "3 ack applied, 1 echo applied"
            })
            .await;
        assert_eq!(bill.messages(&world), [true]);
        assert_eq!(bill.count(&world, "d.retry_count").await, 0);
        let confirmed = "num_nonnulls(d.sent_at, d.delivered_at, d.read_at, d.settled_at)";
        assert_eq!(bill.count(&world, confirmed).await, 4);
    }
    assert_eq!(
        world.count("select count(*) from chat_messages").await,
        0,
        "nothing of ours is taken for typed on the phone"
    );
    assert_nobody_got_two(&world);
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_echo_without_its_text_binds_to_the_only_send_it_may_be_of_and_one_of_two_to_none() {
    let world = World::start_with(setup()).await;
    for number in [300, 301] {
        world
            .sim
            .set_fault(FaultRule::new(Fault::TimeoutAfterSend).to(&phone(number)));
    }
    // Sample 11: an echo without a text, and its correlation id was lost with the answer.
    let textless = crate::bills::post(&world, 300).await;
    textless
        .until(&world, "read [unknown gateway_timeout]")
        .await;
    world.sim.set_settings(Settings {
        echo_event: EchoEvent::Message,
        ..world.sim.settings()
    });
    let unknown = "unknown gateway_timeout [unknown gateway_timeout]";
    // An echo that came between the two would have one send to choose from, and choose right.
    world.sim.register_webhook(NOWHERE, None).unwrap();
    let mut twin = overdue_of(301);
    let first = post_event(&world, 301, &twin).await;
    twin["idempotency_key"] = "its-twin".into();
    let second = post_event(&world, 301, &twin).await;
    for bill in [&first, &second] {
        bill.until(&world, unknown).await;
    }
    listen(&world);
    world
        .until("all evidence was looked at", async |world| {
            first.receipts(world).await == "6 ack unbound, 2 echo unbound"
        })
        .await;
    for bill in [&first, &second] {
        assert_eq!(bill.fate(&world).await, unknown, "a person decides");
    }
    assert_eq!(textless.messages(&world), [true]);
    assert_eq!(
        first.messages(&world),
        [true, true],
        "one for each of the two bills"
    );
    assert_eq!(world.count("select count(*) from chat_messages").await, 0);
    world.end(Leaves::Unsettled).await;
}
