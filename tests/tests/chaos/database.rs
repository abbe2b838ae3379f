//! What may happen to PostgreSQL. No service is restarted for it.

use std::time::{Duration, Instant};

use crate::rig::Rig;
use crate::traffic::Batch;

async fn broken(scenario: &str, break_it: impl AsyncFnOnce(&Rig)) {
    let mut rig = Rig::started().await;
    let pids = rig.pids();
    let posts = Batch::of_bills(300)
        .over(Duration::from_secs(4))
        .post(&rig.api);
    tokio::time::sleep(Duration::from_secs(2)).await;
    break_it(&rig).await;
    let since = Instant::now();
    let posted = posts.await.expect("because every post was answered");
    rig.verdict(scenario, since, &posted).await;
    assert!(rig.services().all(|service| service.lives()));
    assert_eq!(rig.pids(), pids, "no service was restarted");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn brief_the_database_is_restarted() {
    broken("PostgreSQL restarted", async |rig| {
        rig.servers.restart_postgres()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_is_killed_and_comes_back() {
    broken("PostgreSQL killed and started", async |rig| {
        rig.servers.kill_postgres();
        rig.servers.start_postgres();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_refuses_connections_for_a_while() {
    broken("database refuses connections for 20 s", async |rig| {
        rig.refuse_connections(true).await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        rig.refuse_connections(false).await;
    })
    .await;
}
