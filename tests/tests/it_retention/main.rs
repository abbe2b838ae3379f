//! Retention while everything works (issue: partitions made ahead and dropped under load): the doors
//! stay open, deliveries flow, nobody waits for a lock that retention holds, nothing unsettled goes.

mod lock_watch;
mod old_weeks;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ingest::retention::{Keep, Retention, RetentionMetrics};
use posto_tests::world::{Leaves, World, overdue};
use serde_json::json;
use shared::store::retention::APPLICATION_NAME;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions as _, PgConnection};

use crate::lock_watch::{LockWatch, Seen};
use crate::old_weeks::{EVENTS_OF_A_WEEK, SETTLED, run};

/// Connections that post all the time.
const CONNECTIONS: usize = 30;
/// How often weeks are put in, made ahead and dropped, at the least.
const ROUNDS: usize = 12;
/// How long it goes on, at the least.
const LOAD: Duration = Duration::from_secs(6);
/// One post in so many leads to a message.
const ONE_IN: u64 = 25;
/// What nobody may wait for.
const LONGEST_WAIT_MS: f64 = 100.0;

/// What the load did.
#[derive(Default)]
struct Load {
    over: AtomicBool,
    posted: AtomicU64,
    with_message: AtomicU64,
    probed: AtomicU64,
}

impl Load {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }
}

/// Posts through the public door until the load is over; every post must be accepted.
async fn post(world: &World, load: &Load) {
    while load.goes_on() {
        let number = load.posted.fetch_add(1, Ordering::Relaxed);
        let key = format!("load-{number}");
        let event = if number.is_multiple_of(ONE_IN) {
            load.with_message.fetch_add(1, Ordering::Relaxed);
            overdue(&key)
        } else {
            json!({"event_type": "load.tick", "source_system": "billing", "tenant_id": 1,
                   "idempotency_key": key, "payload": {"number": number}})
        };
        let answer = world.post(&event).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

/// Writes and reads as doors, workers and operators do, and fails at once if any of it waits for a
/// lock for 100 ms: the database says so itself.
async fn probe(mut conn: PgConnection, load: &Load) {
    run(&mut conn, "set lock_timeout = '100ms'").await;
    while load.goes_on() {
        run(
            &mut conn,
            "begin;
             insert into communication_events (id, source_system, event_type, trace_id, occurred_at, received_at, body)
                 values (hub_uuid_floor(clock_timestamp()), 'probe', 'a.b', repeat('b', 32), now(), now(), '');
             select count(*) from communication_events where trace_id = repeat('b', 32);
             select count(*) from communication_events_status where trace_id = repeat('a', 32);
             select count(*) from communication_timeline where trace_id = repeat('a', 32);
             rollback",
        )
        .await;
        load.probed.fetch_add(1, Ordering::Relaxed);
    }
}

fn options(world: &World, name: &str) -> PgConnectOptions {
    let options = world.db.connect_options().as_ref().clone();
    options.application_name(name)
}

async fn connect(world: &World, name: &str) -> PgConnection {
    let connected = options(world, name).connect().await;
    connected.expect("because the world's own pool connects")
}

fn retention(world: &World) -> Retention {
    let pool = PgPoolOptions::new().connect_lazy_with(options(world, "ingest"));
    let keep = Keep {
        event_retention_weeks: 4,
        ..Keep::default()
    };
    let metrics = RetentionMetrics::register(&prometheus::Registry::new());
    Retention {
        pool,
        keep,
        metrics: metrics.expect("because the registry is empty"),
    }
}

/// Puts old weeks in, makes weeks ahead and lets two processes drop what is old, again and again.
async fn rotate(world: &World, load: &Load) -> BTreeSet<String> {
    let (one, two) = (retention(world), retention(world));
    let mut hand = connect(world, APPLICATION_NAME).await;
    let mut dropped = BTreeSet::new();
    let begun = Instant::now();
    for round in 1.. {
        if round > ROUNDS && begun.elapsed() > LOAD {
            break;
        }
        old_weeks::put_in(
            &mut hand,
            &format!("2012w{:02}", round % 50 + 1),
            500,
            SETTLED,
        )
        .await;
        run(
            &mut hand,
            &format!("select hub_make_event_partitions({})", 8 + round),
        )
        .await;
        let (one, two) = tokio::join!(one.turn(), two.turn());
        for report in [one, two] {
            let report = report.expect("because the database is well");
            dropped.extend(report.into_iter().flat_map(|report| report.dropped));
        }
    }
    load.over.store(true, Ordering::Relaxed);
    dropped
}

/// A watch that sees nothing proves nothing: a wait that is made on purpose is told.
async fn assert_the_watch_sees(world: &World) {
    let watch = LockWatch::start(options(world, "watch"));
    let mut holder = connect(world, APPLICATION_NAME).await;
    let mut waiter = connect(world, "waiter").await;
    run(
        &mut holder,
        "begin; lock table communication_events in access exclusive mode",
    )
    .await;
    tokio::join!(
        run(&mut waiter, "select count(*) from communication_events"),
        async {
            world
                .until("the wait is seen", async |_| {
                    watch.seen().behind_retention > LONGEST_WAIT_MS
                })
                .await;
            run(&mut holder, "commit").await;
        }
    );
    assert!(watch.end().on_tables > LONGEST_WAIT_MS);
}

/// What was measured is a result, and said.
#[expect(clippy::print_stdout, reason = "figures of a test that passes")]
fn tell(seen: &Seen, load: &Load, dropped: usize) {
    println!(
        "longest lock wait behind retention {:.1} ms, for a table {:.1} ms, of any kind {:.1} ms; retention itself \
         waited {:.1} ms; longest time without a look {:.1} ms; {} posts, {} probes, {dropped} weeks dropped",
        seen.behind_retention,
        seen.on_tables,
        seen.of_any_kind,
        seen.of_retention,
        seen.blind,
        load.posted.load(Ordering::Relaxed),
        load.probed.load(Ordering::Relaxed),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn weeks_come_and_go_under_load_without_a_lock_wait_and_nothing_unsettled_goes() {
    let world = World::start().await;
    let mut hand = connect(&world, "hand").await;
    let settled: Vec<String> = (1..=10).map(|week| format!("2015w{week:02}")).collect();
    for week in &settled {
        old_weeks::put_in(&mut hand, week, EVENTS_OF_A_WEEK, SETTLED).await;
    }
    let unsettled = old_weeks::put_in_unsettled(&mut hand).await;
    // Their messages still wait: these are decided while their week is old already.
    old_weeks::put_in(&mut hand, "2017w01", 20, old_weeks::IN_THE_OUTBOX).await;
    run(&mut hand, "analyze").await;

    assert_the_watch_sees(&world).await;
    let load = Load::default();
    let watch = LockWatch::start(options(&world, "watch"));
    let posts = futures_util::future::join_all((0..CONNECTIONS).map(|_| post(&world, &load)));
    let (dropped, ..) = tokio::join!(
        rotate(&world, &load),
        posts,
        probe(connect(&world, "probe").await, &load),
        probe(connect(&world, "probe").await, &load),
    );

    let seen = watch.end();
    tell(&seen, &load, dropped.len());
    assert!(
        seen.behind_retention < LONGEST_WAIT_MS,
        "somebody waited for retention"
    );
    assert!(
        seen.on_tables < LONGEST_WAIT_MS,
        "somebody waited for a table"
    );

    for week in &settled {
        assert!(
            dropped.contains(&old_weeks::table(week)),
            "{week} is settled and still there"
        );
    }
    for (week, why) in &unsettled {
        let name = old_weeks::table(week);
        assert!(!dropped.contains(&name), "{week} was dropped: {why}");
        assert_eq!(
            world.count(&format!("select count(*) from {name}")).await,
            50
        );
    }

    let posted = load.posted.load(Ordering::Relaxed);
    let accepted = "select count(*) from communication_events where idempotency_key like 'load-%'";
    assert_eq!(
        world.count(accepted).await,
        i64::try_from(posted).unwrap_or_default()
    );
    let messages = i64::try_from(load.with_message.load(Ordering::Relaxed)).unwrap_or_default();
    world
        .until("every message was read", async |world| {
            let read = "select count(*) from deliveries where event_type = 'billing.invoice.overdue' and state = 'read'";
            world.count(read).await == messages
        })
        .await;
    world
        .until("what waited in the outbox is decided", async |world| {
            let decided = "select count(*) from routings r join dropped_event_weeks w
                on r.event_id >= w.first_id and r.event_id < w.next_id
                where w.partition = 'communication_events_2017w01' and w.dropped_at is not null";
            let still =
                "select count(*) from communication_events e join routings r on r.event_id = e.id
                where e.idempotency_key like '2017w01-%'";
            world.count(decided).await + world.count(still).await == 20
        })
        .await;

    for (_, why) in &unsettled {
        run(&mut hand, why.settle).await;
    }
    let last = retention(&world).turn().await;
    let last = last
        .expect("because the database is well")
        .expect("because nobody else is at it");
    assert_eq!(last.kept, []);
    for (week, why) in &unsettled {
        let name = old_weeks::table(week);
        assert!(
            last.dropped.contains(&name),
            "{week} is settled by now: {why}"
        );
    }
    let dead = "select count(*) from dead_letters where state = 'dead'";
    assert_eq!(
        world.count(dead).await,
        0,
        "nothing asked for an event that is gone"
    );
    old_weeks::assert_explained(&world, &settled[0]).await;
    world.end(Leaves::Unsettled).await;
}
