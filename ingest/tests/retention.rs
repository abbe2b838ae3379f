//! What retention lets go and what it keeps, on a real PostgreSQL with a database for each test: and
//! that nobody waits for it, shown with its transactions held open at every step.

use ingest::retention::{Keep, Report, Retention, RetentionMetrics};
use prometheus::Registry;
use shared::store::retention::{self, Standing, Week};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};

/// The partition of the tests, a week of long ago.
const OLD: &str = "communication_events_2020w10";

/// The old week, with three events that were decided and led to a delivery that was read.
const OLD_WEEK: &str = "
    create table communication_events_2020w10 (like communication_events including all);
    alter table communication_events attach partition communication_events_2020w10
        for values from (hub_uuid_floor('2020-03-02Z')) to (hub_uuid_floor('2020-03-09Z'));
    insert into communication_events (id, source_system, event_type, tenant_id, trace_id, occurred_at, received_at, body)
        select hub_uuid_floor('2020-03-04Z'::timestamptz + make_interval(secs => n)), 'billing', 'a.b', 1,
               repeat('a', 32), now(), now(), '' from generate_series(1, 3) n;
    insert into routings (id, event_id, trace_id, event_type, source_system, tenant_id, state, decision, processing_time_ms)
        select id, id, trace_id, event_type, source_system, tenant_id, 'routed', '{}', 0 from communication_events;
    insert into deliveries (id, routing_id, ordinal, event_id, event_type, source_system, trace_id, channel, state, settled_at)
        select id, id, 0, event_id, event_type, source_system, trace_id, 'whatsapp', 'read', now() from routings;
    insert into delivery_attempts (id, delivery_id, generation, number, trace_id, worker, outcome, lease_until)
        select id, id, 0, 1, trace_id, 'w', 'sent', now() from deliveries;
    insert into receipts (id, event_id, trace_id, kind, channel_id, provider_at, state, delivery_id)
        select id, event_id, trace_id, 'ack', 'number', now(), 'applied', id from deliveries;";

/// What a client does all the time; it must get through within this, whatever retention does.
const PATIENCE: &str = "set lock_timeout = '100ms'";

/// The statements of doors, workers and readers that touch events.
const EVERYDAY: [&str; 5] = [
    "insert into communication_events (id, source_system, event_type, trace_id, occurred_at, received_at, body)
     values (hub_uuid_floor(clock_timestamp()), 'billing', 'a.b', repeat('b', 32), now(), now(), '')",
    "select count(*) from communication_events where trace_id = repeat('b', 32)",
    "select count(*) from communication_events_status where id = hub_uuid_floor(now())",
    "select count(*) from communication_events_status where received_at > now() - interval '1 hour'",
    "select count(*) from communication_timeline where trace_id = repeat('a', 32)",
];

async fn run(conn: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(conn)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
}

async fn run_in(pool: &PgPool, sql: &str) {
    run(&mut pool.acquire().await.expect("a connection"), sql).await;
}

async fn count(pool: &PgPool, what: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from {what}")))
        .fetch_one(pool)
        .await
        .unwrap_or_else(|error| panic!("{what}: {error}"))
}

fn retention(pool: &PgPool, keep: Keep) -> Retention {
    Retention {
        pool: pool.clone(),
        keep,
        metrics: RetentionMetrics::register(&Registry::new()).expect("free names"),
    }
}

const FOUR_WEEKS: Keep = Keep {
    event_retention_weeks: 4,
    history_retention_weeks: 0,
    log_retention_days: 0,
};

async fn turn(pool: &PgPool) -> Report {
    let turn = retention(pool, FOUR_WEEKS).turn().await;
    turn.expect("a turn").expect("nobody else is at it")
}

fn dropped() -> Report {
    Report {
        dropped: vec![OLD.to_owned()],
        ..Report::default()
    }
}

async fn week(conn: &mut PgConnection) -> Week {
    let weeks = retention::weeks(conn, 4).await.expect("weeks");
    weeks.into_iter().next().expect("the old week")
}

async fn standing(pool: &PgPool) -> Standing {
    let mut conn = pool.acquire().await.expect("a connection");
    let week = Week {
        name: OLD.to_owned(),
        first: uuid::Uuid::nil(),
        next: uuid::Uuid::nil(),
        is_old: true,
    };
    retention::standing(&mut conn, &week).await.expect("a look")
}

/// Runs what everybody does all the time; waiting for a lock for 100 ms would be an error.
async fn everybody_gets_through(pool: &PgPool) {
    let mut conn = pool.acquire().await.expect("a connection");
    run(&mut conn, PATIENCE).await;
    for statement in EVERYDAY {
        run(&mut conn, statement).await;
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn an_old_week_goes_when_nothing_unsettled_refers_to_it_and_not_before(pool: PgPool) {
    run_in(&pool, OLD_WEEK).await;
    let first = "(select id from communication_events order by id limit 1)";
    let some = |table: &str| format!("{table} where id = {first}");
    let unsettle: Vec<(&str, String, String)> = vec![
        (
            "an event has no routing",
            format!("update routings set event_id = gen_random_uuid() where event_id = {first}"),
            format!("update routings set event_id = id where id = {first}"),
        ),
        (
            "a delivery is not settled",
            format!("update deliveries set state = 'queued' where id = {first}"),
            String::new(),
        ),
        (
            "a delivery is not settled",
            format!("update deliveries set state = 'held' where id = {first}"),
            String::new(),
        ),
        (
            "a delivery is not settled",
            format!("update deliveries set state = 'claimed' where id = {first}"),
            String::new(),
        ),
        (
            "a delivery is not settled",
            format!("update deliveries set state = 'unknown' where id = {first}"),
            format!("update deliveries set state = 'read' where id = {first}"),
        ),
        (
            "a receipt may still bind",
            format!("update receipts set state = 'pending', created_at = '2020-03-04Z' where id = {first}"),
            String::new(),
        ),
        (
            "a receipt may still bind",
            format!("update receipts set state = 'unbound', created_at = now() where id = {first}"),
            // Nobody binds a receipt after 72 hours.
            format!("update receipts set created_at = now() - interval '73 hours' where id = {first}"),
        ),
        (
            "a dead letter is open",
            format!(
                "insert into dead_letters (id, queue, subject_kind, subject_id, failure_code, failure_class, first_failed_at, last_failed_at)
                 select gen_random_uuid(), 'q', 'event', {first}, 'poison', 'internal', now(), now()"
            ),
            "update dead_letters set state = 'discarded'".to_owned(),
        ),
        (
            "a dead letter is open",
            format!("update dead_letters set state = 'dead', subject_kind = 'delivery', subject_id = (select id from {})", some("deliveries")),
            "update dead_letters set state = 'superseded'".to_owned(),
        ),
        (
            "a dead letter is open",
            format!("update dead_letters set state = 'dead', subject_kind = 'receipt', subject_id = (select id from {})", some("receipts")),
            "update dead_letters set state = 'redriven'".to_owned(),
        ),
        (
            "a message waits in the outbox",
            format!("insert into outbox (target, subject_id, body, available_at) select 'hub.events.route', {first}, '{{}}', now()"),
            "delete from outbox".to_owned(),
        ),
    ];
    for (why, begin, end) in &unsettle {
        run_in(&pool, begin).await;
        let kept = Report {
            kept: vec![(OLD.to_owned(), (*why).to_owned())],
            ..Report::default()
        };
        assert_eq!(turn(&pool).await, kept, "{begin}");
        run_in(&pool, end).await;
    }
    assert_eq!(count(&pool, "communication_events").await, 3);
    assert_eq!(
        count(&pool, "dropped_event_weeks").await,
        0,
        "nothing was decided about it"
    );
    let for_ever = retention(&pool, Keep::default()).turn().await;
    assert_eq!(for_ever.expect("a turn"), Some(Report::default()));
    let long = Keep {
        event_retention_weeks: 1000,
        ..Keep::default()
    };
    let wanted = retention(&pool, long).turn().await.expect("a turn");
    assert_eq!(wanted, Some(Report::default()), "it is wanted for longer");

    assert_eq!(turn(&pool).await, dropped());
    assert_eq!(standing(&pool).await, Standing::Gone);
    let told = "dropped_event_weeks where dropped_at is not null";
    assert_eq!(count(&pool, told).await, 1);
    assert_eq!(count(&pool, "deliveries").await, 3, "what it led to stays");
    assert_eq!(
        turn(&pool).await,
        Report::default(),
        "the weeks of today are not old"
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn the_coming_weeks_are_made_once(pool: PgPool) {
    run_in(
        &pool,
        "do $$ declare last text; begin
             select max(relname) into last from pg_class where relname ~ '^communication_events_[0-9]{4}w[0-9]{2}$';
             execute 'drop table ' || last;
         end $$",
    )
    .await;
    assert_eq!(turn(&pool).await.made, 1);
    assert_eq!(turn(&pool).await.made, 0);
}

#[sqlx::test(migrations = "../migrations")]
async fn of_two_at_once_one_takes_the_turn(pool: PgPool) {
    run_in(&pool, OLD_WEEK).await;
    let mut other = pool.acquire().await.expect("a connection");
    assert!(retention::try_lock(&mut other).await.expect("an answer"));
    let refused = retention(&pool, FOUR_WEEKS).turn().await.expect("a turn");
    assert_eq!(refused, None);
    other.close().await.expect("a close");
    let (one, two) = (retention(&pool, FOUR_WEEKS), retention(&pool, FOUR_WEEKS));
    let (one, two) = tokio::join!(one.turn(), two.turn());
    let dropped: Vec<String> = [one, two]
        .into_iter()
        .filter_map(|turn| turn.expect("a turn"))
        .flat_map(|report| report.dropped)
        .collect();
    assert_eq!(dropped, [OLD]);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_long_reader_postpones_a_drop_and_everybody_else_goes_on(pool: PgPool) {
    run_in(&pool, OLD_WEEK).await;
    // A report that reads for long; its view of the past has the old week in it.
    let mut reader = pool.acquire().await.expect("a connection");
    run(
        &mut reader,
        "begin isolation level repeatable read; select count(*) from communication_events",
    )
    .await;
    let postponed = tokio::join!(turn(&pool), async {
        for _ in 0..20 {
            everybody_gets_through(&pool).await;
        }
    })
    .0;
    assert_eq!(postponed.postponed, [OLD]);
    assert_eq!(standing(&pool).await, Standing::Pending);
    everybody_gets_through(&pool).await;
    let mut seen = "select count(*) from communication_events where trace_id = repeat('a', 32)";
    let old: i64 = sqlx::query_scalar(seen)
        .fetch_one(&mut *reader)
        .await
        .expect("a count");
    assert_eq!(old, 3, "the reader's past is whole");
    run(&mut reader, "commit").await;
    seen = OLD;
    assert_eq!(
        turn(&pool).await.dropped,
        [seen],
        "and the next turn ends it"
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn what_a_process_that_died_left_half_way_is_ended(pool: PgPool) {
    run_in(&pool, OLD_WEEK).await;
    let mut conn = pool.acquire().await.expect("a connection");
    let week = week(&mut conn).await;
    // It died before the first step.
    retention::decide(&mut conn, &week).await.expect("a line");
    run_in(&pool, "update deliveries set state = 'unknown'").await;
    assert_eq!(turn(&pool).await.kept.len(), 1);
    assert_eq!(count(&pool, "dropped_event_weeks").await, 0);

    // It died after the detaching, and something turned out to be unsettled.
    retention::decide(&mut conn, &week).await.expect("a line");
    retention::detach(&mut conn, &week).await.expect("a detach");
    assert_eq!(count(&pool, "communication_events").await, 0);
    assert_eq!(turn(&pool).await.kept.len(), 1);
    assert_eq!(count(&pool, "communication_events").await, 3, "it is back");

    // It died there, and retention was turned off since.
    run_in(&pool, "update deliveries set state = 'read'").await;
    retention::decide(&mut conn, &week).await.expect("a line");
    retention::detach(&mut conn, &week).await.expect("a detach");
    let off = retention(&pool, Keep::default()).turn().await;
    assert_eq!(off.expect("a turn").expect("a report").kept.len(), 1);
    assert_eq!(count(&pool, "communication_events").await, 3, "it is back");

    // It died there, and nothing is against it.
    retention::decide(&mut conn, &week).await.expect("a line");
    retention::detach(&mut conn, &week).await.expect("a detach");
    assert_eq!(turn(&pool).await, dropped());
    assert_eq!(standing(&pool).await, Standing::Gone);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_table_that_somebody_else_detached_is_left_to_them(pool: PgPool) {
    run_in(&pool, OLD_WEEK).await;
    run_in(
        &pool,
        &format!("alter table communication_events detach partition {OLD}"),
    )
    .await;
    assert_eq!(turn(&pool).await, Report::default());
    assert_eq!(standing(&pool).await, Standing::Detached);
}

#[sqlx::test(migrations = "../migrations")]
async fn nobody_waits_for_a_partition_that_is_made_put_back_or_dropped(pool: PgPool) {
    run_in(&pool, OLD_WEEK).await;
    let mut ours = pool.acquire().await.expect("a connection");
    // Each step is done and not yet committed while everybody else goes on.
    run(&mut ours, "begin; select hub_make_event_partitions(12)").await;
    everybody_gets_through(&pool).await;
    run(&mut ours, "commit").await;

    let week = week(&mut ours).await;
    retention::decide(&mut ours, &week).await.expect("a line");
    retention::detach(&mut ours, &week).await.expect("a detach");
    let mut tx = ours.begin().await.expect("a transaction");
    retention::attach_again(&mut tx, &week)
        .await
        .expect("an attach");
    everybody_gets_through(&pool).await;
    tx.commit().await.expect("a commit");

    retention::detach(&mut ours, &week).await.expect("a detach");
    let mut tx = ours.begin().await.expect("a transaction");
    retention::drop_table(&mut tx, &week).await.expect("a drop");
    everybody_gets_through(&pool).await;
    tx.commit().await.expect("a commit");
}

#[sqlx::test(migrations = "../migrations")]
async fn the_second_half_of_a_detaching_keeps_nobody_waiting_either(pool: PgPool) {
    run_in(&pool, OLD_WEEK).await;
    let mut conn = pool.acquire().await.expect("a connection");
    let week = week(&mut conn).await;
    // Somebody's transaction touched the parent and idles: the first half waits for it.
    let mut idle = pool.acquire().await.expect("a connection");
    run(
        &mut idle,
        "begin; select count(*) from communication_events",
    )
    .await;
    retention::prepare(&mut conn).await.expect("settings");
    let error = retention::detach(&mut conn, &week)
        .await
        .expect_err("a wait that is given up");
    assert!(error.is_lock_timeout(), "{error:?}");
    assert_eq!(standing(&pool).await, Standing::Pending);
    everybody_gets_through(&pool).await;
    // Its second half holds the old table against everybody, and nobody asks for it.
    run(&mut idle, "commit").await;
    let held = tokio::join!(
        async {
            let mut other = pool.acquire().await.expect("a connection");
            run(
                &mut other,
                &format!("begin; lock table {OLD} in access exclusive mode"),
            )
            .await;
            everybody_gets_through(&pool).await;
            run(&mut other, "commit").await;
        },
        everybody_gets_through(&pool)
    );
    let ((), ()) = held;
    retention::finalise(&mut conn, &week)
        .await
        .expect("an end of it");
    assert_eq!(standing(&pool).await, Standing::Detached);
}

#[sqlx::test(migrations = "../migrations")]
async fn what_became_of_events_that_are_gone_goes_later_and_whole(pool: PgPool) {
    run_in(&pool, OLD_WEEK).await;
    let keep = Keep {
        history_retention_weeks: 8,
        ..FOUR_WEEKS
    };
    run_in(
        &pool,
        "insert into dead_letters (id, queue, subject_kind, subject_id, failure_code, failure_class, first_failed_at,
                                   last_failed_at, state)
             select gen_random_uuid(), 'q', 'delivery', id, 'template_missing', 'content', now(), now(), 'superseded' from deliveries;
         insert into communication_logs (id, at, level, code, message)
             values (gen_random_uuid(), now() - interval '40 days', 'info', 'a', 'b'),
                    (gen_random_uuid(), now(), 'info', 'a', 'b')",
    )
    .await;
    let off = retention(
        &pool,
        Keep {
            event_retention_weeks: 0,
            ..keep
        },
    )
    .turn()
    .await;
    off.expect("a turn");
    assert_eq!(
        count(&pool, "routings").await,
        3,
        "an event without its decision would be decided again"
    );
    run_in(
        &pool,
        "update deliveries set state = 'unknown' where id = (select id from deliveries order by id desc limit 1)",
    )
    .await;
    retention(&pool, keep).turn().await.expect("a turn");
    assert_eq!(count(&pool, "routings").await, 3, "its week is kept");
    run_in(&pool, "update deliveries set state = 'read'").await;
    assert_eq!(turn(&pool).await, dropped());
    run_in(
        &pool,
        "update deliveries set state = 'unknown' where id = (select id from deliveries order by id desc limit 1);
         update dead_letters set state = 'dead' where subject_id = (select id from deliveries order by id limit 1)",
    )
    .await;
    retention(&pool, keep).turn().await.expect("a turn");
    for table in [
        "routings",
        "deliveries",
        "delivery_attempts",
        "receipts",
        "dead_letters",
    ] {
        assert_eq!(
            count(&pool, table).await,
            2,
            "{table}: one is unknown, one has its letter open"
        );
    }
    assert_eq!(count(&pool, "communication_logs").await, 2);
    let logs = Keep {
        log_retention_days: 30,
        ..Keep::default()
    };
    retention(&pool, logs).turn().await.expect("a turn");
    assert_eq!(count(&pool, "communication_logs").await, 1);
}
