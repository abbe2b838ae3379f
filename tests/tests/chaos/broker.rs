//! What may happen to RabbitMQ. No service is restarted for it.

use std::time::{Duration, Instant};

use crate::rig::{Rig, broken, broken_over};
use crate::traffic::Batch;

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_closes_all_connections() {
    broken("all AMQP connections closed by the broker", async |rig| {
        // The management API lists a connection some seconds after it was opened.
        rig.until("the connections are known and closed", async |rig| {
            rig.servers.close_connections().await >= 6
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn brief_the_broker_is_killed_and_comes_back() {
    broken("RabbitMQ killed and started", async |rig| {
        rig.servers.kill_rabbitmq().await;
        rig.servers.start_rabbitmq();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_is_killed_again_and_again_as_soon_as_it_is_back() {
    broken_over(
        "RabbitMQ killed five times, each time as soon as all is ready",
        Duration::from_secs(40),
        async |rig| {
            for _ in 0..5 {
                rig.servers.kill_rabbitmq().await;
                rig.servers.start_rabbitmq();
                rig.until_ready().await;
            }
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn brief_the_queues_are_deleted_underneath() {
    broken("all queues deleted underneath", async |rig| {
        rig.until("the queues are gone", async |rig| {
            rig.servers.delete_queues(&rig.prefix).await >= 10
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_loses_its_data() {
    broken("RabbitMQ killed, its data wiped, started", async |rig| {
        rig.servers.wipe_rabbitmq();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_runs_out_of_memory_for_a_while() {
    let time = Duration::from_secs(20);
    broken_over("memory alarm for 20 s", time, async |rig| {
        rig.servers.alarm(true);
        // A row that can leave does so in an instant.
        let stuck = "select count(*) from outbox where created_at < now() - interval '3 s'";
        rig.until("the alarm holds messages back", async |rig| {
            rig.number(stuck).await > Some(0)
        })
        .await;
        tokio::time::sleep(time).await;
        assert!(rig.number(stuck).await > Some(0), "the alarm is still on");
        rig.servers.alarm(false);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ingest_accepts_while_the_broker_is_down() {
    let mut rig = Rig::started().await;
    let pids = rig.pids();
    rig.servers.kill_rabbitmq().await;
    let posted = Batch::of_bills(300)
        .post(&rig.api)
        .await
        .expect("because every post was answered");
    assert_eq!(rig.sim.messages().len(), 0, "nothing can leave meanwhile");
    rig.servers.start_rabbitmq();
    let since = Instant::now();
    rig.verdict("broker down while ingest accepts", since, &posted)
        .await;
    assert_eq!(rig.pids(), pids, "no service was restarted");
    rig.end().await;
}
