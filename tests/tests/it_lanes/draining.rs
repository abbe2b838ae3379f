//! A session that goes down in the middle, and comes back.

use posto_tests::world::{Leaves, Setup};

use crate::numbers::{
    A, assert_each_left_once, bill, post_all, session, standing, until_standing, without_receipts,
    world,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_goes_down_in_the_middle_of_two_hundred_burns_and_doubles_nothing() {
    let world = world(Setup::default()).await;
    without_receipts(&world, 150);
    post_all(&world, (0..200).map(|n| bill(A, "notice", n)).collect()).await;
    world
        .until("some have left", async |world| {
            standing(world, A, "state = 'sent'").await >= 20
        })
        .await;
    session(&world, A, "drop", true).await;
    world
        .until(
            "all are planned, and nothing is on its way",
            async |world| standing(world, A, "state in ('sent', 'held')").await == 200,
        )
        .await;
    let sent = standing(&world, A, "state = 'sent'").await;
    assert!(sent < 200, "it went down in the middle");

    // Nobody is told: it is found by asking. That one goes as a trial first is shown in `it_faults`.
    session(&world, A, "return", true).await;
    until_standing(&world, A, "state = 'sent'", 200).await;
    assert_eq!(standing(&world, A, "retry_count > 0").await, 0);
    assert_each_left_once(&world, 200);
    world.end(Leaves::Nothing).await;
}
