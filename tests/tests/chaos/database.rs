//! What may happen to PostgreSQL. No service is restarted for it.

use std::time::Duration;

use crate::rig::broken;

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
