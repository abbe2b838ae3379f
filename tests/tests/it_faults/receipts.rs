//! A good answer, and webhooks that misbehave.

use posto_tests::gateway_sim::{AckShape, EchoEvent, Fault, FaultRule, Settings};
use posto_tests::world::{Leaves, World};

use crate::bills::{assert_nobody_got_two, phone, post};

const ALL_FOUR: &str = "3 ack applied, 1 echo applied";

/// The faults that one send meets, where it ends, whether its message went out, and its receipts.
const CASES: &[(&[Fault], &str, bool, &str)] = &[
    (&[], "read [sent]", true, ALL_FOUR),
    (
        &[Fault::AckFailed],
        "failed provider_rejected [sent]",
        false,
        "1 ack applied, 1 echo applied",
    ),
    (
        &[Fault::OnlyAck1],
        "sent [sent]",
        true,
        "1 ack applied, 1 echo applied",
    ),
    (&[Fault::NoAcks], "sent [sent]", true, "1 echo applied"),
    // Without its echo nothing ties the key of the acks to the send.
    (&[Fault::NoEcho], "sent [sent]", true, "3 ack unbound"),
    (
        &[Fault::NoEcho, Fault::MessageIdInAnswer],
        "read [sent]",
        true,
        "3 ack applied",
    ),
    (&[Fault::AcksBeforeResponse], "read [sent]", true, ALL_FOUR),
    (
        &[Fault::AcksBeforeResponse, Fault::ShuffledWebhooks],
        "read [sent]",
        true,
        ALL_FOUR,
    ),
    (&[Fault::DuplicatedWebhooks], "read [sent]", true, ALL_FOUR),
    (&[Fault::ShuffledWebhooks], "read [sent]", true, ALL_FOUR),
    (
        &[Fault::DuplicatedWebhooks, Fault::ShuffledWebhooks],
        "read [sent]",
        true,
        ALL_FOUR,
    ),
    (&[Fault::LateWebhooks], "read [sent]", true, ALL_FOUR),
    (&[Fault::SlowAnswer], "read [sent]", true, ALL_FOUR),
];

pub(crate) fn faults() -> Vec<Fault> {
    CASES
        .iter()
        .flat_map(|(faults, ..)| faults.iter().copied())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_that_miss_repeat_or_overtake_each_other_end_where_the_evidence_leads() {
    let world = World::start().await;
    let mut bills = Vec::new();
    // Several customers each: the order of what is shuffled differs from message to message.
    let thrice = CASES.iter().flat_map(|case| [case; 3]);
    for (number, (faults, fate, went_out, receipts)) in (500..).zip(thrice) {
        for fault in *faults {
            world
                .sim
                .set_fault(FaultRule::new(*fault).to(&phone(number)));
        }
        let bill = post(&world, number).await;
        bills.push((bill, faults, fate, went_out, receipts));
    }
    for (bill, faults, fate, went_out, receipts) in &bills {
        let what = format!("{faults:?} has left `{receipts}`");
        world
            .until(&what, async |world| {
                bill.receipts(world).await == **receipts
            })
            .await;
        bill.until(&world, fate).await;
        assert_eq!(bill.messages(&world), [**went_out], "{faults:?}");
    }
    // Nothing more comes: each planned webhook was delivered, and each of them was looked at.
    let planned: usize = world
        .sim
        .messages()
        .iter()
        .map(|message| message.webhooks.len())
        .sum();
    world
        .until("all webhooks were told and looked at", async |world| {
            world.sim.webhook_stats().delivered == planned as u64
                && world
                    .count("select count(*) from receipts where state = 'pending'")
                    .await
                    == 0
        })
        .await;
    for (bill, faults, fate, _, receipts) in &bills {
        assert_eq!(bill.fate(&world).await, **fate, "{faults:?}");
        assert_eq!(bill.receipts(&world).await, **receipts, "{faults:?}");
    }
    let fallen = "select count(*) from receipts where effect like 'read -> %' or effect like 'delivered -> sent%'";
    assert_eq!(world.count(fallen).await, 0, "nothing falls");
    assert_nobody_got_two(&world);
    world.end(Leaves::Unsettled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_shape_of_echo_and_ack_is_understood() {
    let world = World::start().await;
    let usual = world.sim.settings();
    let mut number = 560;
    for ack_shape in [AckShape::String, AckShape::Object, AckShape::Mixed] {
        for echo_event in [EchoEvent::MessageSent, EchoEvent::Message] {
            world.sim.set_settings(Settings {
                ack_shape,
                echo_event,
                acks: vec![1, 2, 3, 4],
                ..usual.clone()
            });
            let bill = post(&world, number).await;
            bill.until(&world, "read [sent]").await;
            world
                .until(
                    &format!("{ack_shape:?} and {echo_event:?} are applied"),
                    async |world| bill.receipts(world).await == "4 ack applied, 1 echo applied",
                )
                .await;
            number += 1;
        }
    }
    assert_eq!(world.count("select count(*) from chat_messages").await, 0);
    world.end(Leaves::Nothing).await;
}
