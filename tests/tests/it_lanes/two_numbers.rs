//! Two numbers and a thousand messages: what becomes of one does not delay the other.

use posto_tests::gateway_sim::{Fault, FaultRule};
use posto_tests::world::{Leaves, Setup, World};

use crate::numbers::{
    A, B, assert_each_left_once, assert_released_in_order, bill, down, metrics, post_all, session,
    standing, until_standing, without_receipts, world,
};

/// How many of its 64 places to send from a process gives one number that is alone.
const SHARE: i64 = 48;

/// So many for each number, in turn; those of the first in all lanes.
async fn post_for_both(world: &World, many: u32) {
    let lane = |n: u32| match n % 10 {
        0 => "reply",
        1..=3 => "bulk",
        _ => "notice",
    };
    let events = (0..many).flat_map(|n| [bill(A, lane(n), n), bill(B, "notice", n)]);
    post_all(world, events.collect()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_is_down_delays_nobody_and_drains_in_order_when_it_returns() {
    let world = world(Setup::default()).await;
    without_receipts(&world, 0);
    down(&world, A).await;
    post_for_both(&world, 500).await;
    until_standing(&world, B, "state = 'sent'", 500).await;
    until_standing(&world, A, "held_reason = 'session_down'", 500).await;
    let tried = format!(
        "select count(*) from delivery_attempts where channel_id = '{}'",
        A.slug
    );
    assert_eq!(world.count(&tried).await, 0, "nothing was burnt on it");
    assert_each_left_once(&world, 500);

    session(&world, A, "return", false).await;
    until_standing(&world, A, "state = 'sent'", 500).await;
    assert_released_in_order(&world, A).await;
    assert_each_left_once(&world, 1000);
    assert_eq!(world.count(&tried).await, 500, "one attempt each");
    let metrics = metrics(&world, world.delivery_ops()[0]).await;
    for (lane, many) in [("reply", 50), ("bulk", 150)] {
        let line = format!("hub_deliveries_released_total{{lane=\"{lane}\"}} {many}\n");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_whose_sends_hang_takes_no_place_that_the_other_needs() {
    let world = world(Setup {
        send_timeout: "30s",
        ..Setup::default()
    })
    .await;
    without_receipts(&world, 0);
    let mut slow = FaultRule::new(Fault::SlowAnswer).delayed(6_000);
    slow.channel = Some(A.name.to_owned());
    world.sim.set_fault(slow);
    post_for_both(&world, 250).await;
    until_standing(&world, B, "state = 'sent'", 250).await;
    // Of A's there are 48 on their way at a time, for six seconds each: had B's had to wait behind
    // them, all of A's would be gone by now.
    let gone = world.went_out().len() - 250;
    assert!(gone < 200, "{gone} of the slow number have left before");
    let open = format!(
        "select count(*) from delivery_attempts where channel_id = '{}' and outcome = 'open'",
        A.slug
    );
    assert!(world.count(&open).await <= SHARE);

    world.sim.clear_faults();
    until_standing(&world, A, "state = 'sent'", 250).await;
    assert_eq!(standing(&world, A, "retry_count > 0").await, 0);
    assert_each_left_once(&world, 500);
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_overtakes_the_bulk_of_its_number() {
    let world = world(Setup {
        send_timeout: "30s",
        ..Setup::default()
    })
    .await;
    without_receipts(&world, 1_000);
    post_all(&world, (0..400).map(|n| bill(A, "bulk", n)).collect()).await;
    world
        .until("it is too much for the number", async |world| {
            standing(world, A, "held_reason = 'account_busy'").await >= 50
        })
        .await;
    post_all(&world, vec![bill(A, "notice", 400), bill(A, "reply", 401)]).await;
    until_standing(&world, A, "lane <> 'bulk' and state = 'sent'", 2).await;
    without_receipts(&world, 0);
    until_standing(&world, A, "state = 'sent'", 402).await;
    let order = world.went_out();
    let place = |customer: &str| order.iter().position(|it| it.text.ends_with(customer));
    let (notice, reply) = (place(" 400"), place(" 401"));
    assert!(reply.is_some_and(|place| place < 300), "{reply:?}");
    assert!(notice.is_some_and(|place| place < 300), "{notice:?}");
    assert_each_left_once(&world, 402);
    world.end(Leaves::Nothing).await;
}
