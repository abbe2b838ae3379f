//! One process at a time releases what an account holds.

use std::net::SocketAddr;

use posto_tests::world::{Leaves, Setup, World};

use crate::numbers::{
    A, assert_each_left_once, bill, down, metrics, post_all, session, standing, until_standing,
    without_receipts, world,
};

/// Three hundred that the number holds, and two delivery-workers.
async fn two_workers_and_a_backlog() -> World {
    let mut world = world(Setup::default()).await;
    world
        .start_delivery()
        .await
        .expect("because a second delivery-worker can start");
    without_receipts(&world, 300);
    down(&world, A).await;
    post_all(&world, (0..300).map(|n| bill(A, "notice", n)).collect()).await;
    until_standing(&world, A, "state = 'held'", 300).await;
    world
}

/// Who releases, as `fence holder`.
async fn leader(world: &World) -> String {
    world
        .texts("select fence || ' ' || holder from release_leases")
        .await
        .join(", ")
}

/// Waits until some have left, and most have not.
async fn until_it_drains(world: &World) {
    world
        .until("it drains", async |world| {
            standing(world, A, "state = 'sent'").await >= 30
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_leader_stops_the_other_goes_on_at_once() {
    let mut world = two_workers_and_a_backlog().await;
    session(&world, A, "return", false).await;
    until_it_drains(&world).await;
    let first = leader(&world).await;
    let ops: SocketAddr = first
        .strip_prefix("1 delivery-worker@")
        .and_then(|rest| rest.split('/').next()?.parse().ok())
        .unwrap_or_else(|| panic!("no first reign of one of ours: {first}"));
    assert!(
        metrics(&world, ops)
            .await
            .contains("hub_release_leader{channel_account=\"pixel12digital\"} 1")
    );
    world.stop_delivery_at(ops).await;
    until_standing(&world, A, "state = 'sent'", 300).await;
    let second = leader(&world).await;
    assert!(
        second.starts_with("2 ") && !second.contains(&ops.to_string()),
        "{second}"
    );
    assert_each_left_once(&world, 300);
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_died_is_replaced_when_its_lease_ends_and_not_before() {
    let world = two_workers_and_a_backlog().await;
    world
        .run_sql(&format!(
            "insert into release_leases (channel_id, holder, fence, lease_until)
             values ('{}', 'one that died', 7, now() + interval '2 s')
             on conflict (channel_id) do update
             set holder = excluded.holder, fence = excluded.fence, lease_until = excluded.lease_until",
            A.slug
        ))
        .await;
    let end = world
        .texts("select lease_until::text from release_leases")
        .await
        .remove(0);
    session(&world, A, "return", false).await;
    until_standing(&world, A, "state = 'sent'", 300).await;
    let early = format!("dispatched_at < '{end}'");
    assert_eq!(standing(&world, A, &early).await, 0);
    assert!(
        leader(&world).await.starts_with("8 "),
        "{}",
        leader(&world).await
    );
    assert_each_left_once(&world, 300);
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_deposed_in_the_middle_releases_no_more() {
    let world = two_workers_and_a_backlog().await;
    session(&world, A, "return", false).await;
    until_it_drains(&world).await;
    let window = world
        .texts(
            "update release_leases set holder = 'another', fence = fence + 1, lease_until = now() + interval '1500 ms'
             returning format('dispatched_at > %L and dispatched_at < %L', clock_timestamp(), lease_until)",
        )
        .await
        .remove(0);
    until_standing(&world, A, "state = 'sent'", 300).await;
    assert_eq!(standing(&world, A, &window).await, 0, "{window}");
    assert!(
        leader(&world).await.starts_with("3 "),
        "{}",
        leader(&world).await
    );
    assert_each_left_once(&world, 300);
    world.end(Leaves::Nothing).await;
}
