//! Services that are killed blindly, stopped, and replaced while events flow.

use std::time::{Duration, Instant};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use crate::rig::{Rig, Which};
use crate::traffic::Batch;

/// Kills one service again and again at moments that nobody chose, while events flow.
async fn killed_blindly(which: Which, seed: u64) {
    let mut rig = Rig::started().await;
    let posts = Batch::of_bills(600)
        .over(Duration::from_secs(9))
        .post(&rig.api);
    let mut chance = StdRng::seed_from_u64(seed);
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(chance.random_range(300..1500))).await;
        rig.service(which).kill();
        rig.service(which).start();
    }
    let since = Instant::now();
    let posted = posts.await.expect("because every post was answered");
    let name = rig.service(which).name();
    rig.verdict(&format!("{name} killed five times blindly"), since, &posted)
        .await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ingest_is_killed_blindly_under_load() {
    killed_blindly(Which::Ingest, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_router_is_killed_blindly_under_load() {
    killed_blindly(Which::Router, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_delivery_worker_is_killed_blindly_under_load() {
    killed_blindly(Which::Deliverer, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_workers_of_each_kind_is_killed_and_the_other_does_the_work() {
    let mut rig = Rig::started_with(2).await;
    let posts = Batch::of_bills(400)
        .over(Duration::from_secs(3))
        .post(&rig.api);
    tokio::time::sleep(Duration::from_secs(1)).await;
    rig.routers[1].kill();
    rig.deliverers[1].kill();
    let since = Instant::now();
    let posted = posts.await.expect("because every post was answered");
    rig.routers.truncate(1);
    rig.deliverers.truncate(1);
    rig.verdict("one of two of each worker killed", since, &posted)
        .await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn brief_a_rolling_restart_of_all_three_under_load_loses_nothing_and_doubts_nothing() {
    let mut rig = Rig::started().await;
    let posts = Batch::of_bills(400)
        .over(Duration::from_secs(8))
        .post(&rig.api);
    for which in [Which::Deliverer, Which::Router, Which::Ingest] {
        tokio::time::sleep(Duration::from_secs(1)).await;
        rig.service(which).stop().await;
        rig.service(which).start();
        rig.until_ready().await;
    }
    let since = Instant::now();
    let posted = posts.await.expect("because every post was answered");
    let told = rig
        .verdict("rolling restart of all three", since, &posted)
        .await;
    assert_eq!(
        (told.unknown, told.proven),
        (0, 0),
        "a clean stop leaves no doubt"
    );
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn brief_a_service_that_still_waits_for_the_database_stops_cleanly_when_it_is_asked_to() {
    let mut rig = Rig::new(1).await;
    rig.refuse_connections(true).await;
    for service in rig.services() {
        service.start();
    }
    rig.until("all have said what they wait for", async |rig| {
        let workers = rig.routers.iter().chain(&rig.deliverers);
        std::iter::once(&rig.ingest)
            .chain(workers)
            .all(|service| service.last_words().contains("WARN"))
    })
    .await;
    rig.end().await;
}
