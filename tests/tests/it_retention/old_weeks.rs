//! Weeks of long ago, full of events that led to something.

use std::fmt;

use posto_tests::world::World;
use sqlx::{AssertSqlSafe, PgConnection};

/// The events of one settled week.
pub(crate) const EVENTS_OF_A_WEEK: i32 = 5_000;

/// Every event was decided, and a fifth of them was sent and read.
pub(crate) const SETTLED: &str = "
    insert into routings (id, event_id, trace_id, event_type, source_system, tenant_id, state, decision, processing_time_ms)
        select id, id, trace_id, event_type, source_system, tenant_id, 'routed', '{}', 0 from TABLE;
    insert into deliveries (id, routing_id, ordinal, event_id, event_type, source_system, trace_id, tenant_id, channel,
                            channel_id, state, created_at, sent_at, read_at, settled_at)
        select id, id, 0, id, event_type, source_system, trace_id, tenant_id, 'whatsapp', 'old', 'read', received_at,
               received_at, received_at, received_at
        from TABLE where metadata ->> 'fifth' = 'true';
    insert into delivery_attempts (id, delivery_id, generation, number, trace_id, channel_id, worker, outcome, claimed_at,
                                   lease_until, finished_at)
        select id, id, 0, 1, trace_id, channel_id, 'w', 'sent', created_at, created_at, created_at
        from deliveries where id in (select id from TABLE);
    insert into receipts (id, event_id, trace_id, kind, channel_id, level, evidence, provider_at, state, delivery_id,
                          created_at, applied_at)
        select id, id, trace_id, 'ack', channel_id, 3, 'read', created_at, 'applied', id, created_at, created_at
        from deliveries where id in (select id from TABLE)";

/// No event was decided yet, and their messages wait to be published.
pub(crate) const IN_THE_OUTBOX: &str = "
    insert into outbox (target, subject_id, body, available_at)
        select 'hub.events.route', id,
               jsonb_build_object('version', 1, 'kind', 'route', 'event_id', id, 'run', 0, 'trace_id', trace_id),
               now()
        from TABLE";

/// Something that keeps a week, and how it is settled.
#[derive(Clone, Copy)]
pub(crate) struct Unsettled {
    what: &'static str,
    begin: &'static str,
    /// The statement that settles it.
    pub(crate) settle: &'static str,
}

impl fmt::Display for Unsettled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

/// What no worker settles by itself meanwhile.
const UNSETTLED: &[Unsettled] = &[
    Unsettled {
        what: "a delivery is held",
        begin: "update deliveries set state = 'held', held_reason = 'channel_disabled', settled_at = null where id = FIRST",
        settle: "update deliveries set state = 'cancelled', settled_at = now() where channel_id = 'old' and state = 'held'",
    },
    Unsettled {
        what: "an outcome is unknown",
        begin: "update deliveries set state = 'unknown', settled_at = null where id = FIRST",
        settle: "update deliveries set state = 'failed', settled_at = now() where channel_id = 'old' and state = 'unknown'",
    },
    Unsettled {
        what: "a retry is far away",
        begin: "update deliveries set state = 'queued', next_attempt_at = now() + interval '1 day', settled_at = null where id = FIRST",
        settle: "update deliveries set state = 'cancelled', next_attempt_at = null, settled_at = now() where channel_id = 'old' and state = 'queued'",
    },
    Unsettled {
        what: "an attempt is open",
        begin: "update deliveries set state = 'claimed', settled_at = null where id = FIRST;
                update delivery_attempts set outcome = 'open', lease_until = now() + interval '1 day' where id = FIRST",
        settle: "update delivery_attempts set outcome = 'sent' where channel_id = 'old' and outcome = 'open';
                 update deliveries set state = 'sent', settled_at = now() where channel_id = 'old' and state = 'claimed'",
    },
    Unsettled {
        what: "a receipt may still bind",
        begin: "update receipts set state = 'unbound', created_at = now(), delivery_id = null where id = FIRST",
        settle: "update receipts set state = 'ignored' where channel_id = 'old' and state = 'unbound'",
    },
    Unsettled {
        what: "an event's letter is open",
        begin: "insert into dead_letters (id, queue, subject_kind, subject_id, failure_code, failure_class, first_failed_at, last_failed_at)
                values (FIRST, 'hub.events.route', 'event', FIRST, 'poison', 'internal', now(), now())",
        settle: "update dead_letters set state = 'discarded' where subject_kind = 'event'",
    },
    Unsettled {
        what: "a delivery's letter is open",
        begin: "update deliveries set state = 'dead' where id = FIRST;
                insert into dead_letters (id, queue, subject_kind, subject_id, failure_code, failure_class, first_failed_at, last_failed_at)
                values (FIRST, 'hub.deliveries.whatsapp', 'delivery', FIRST, 'poison', 'internal', now(), now())",
        settle: "update dead_letters set state = 'discarded' where subject_kind = 'delivery'",
    },
];

/// The table of a week.
pub(crate) fn table(week: &str) -> String {
    format!("communication_events_{week}")
}

pub(crate) async fn run(conn: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(conn)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// Puts an old week in, with so many events, and what they led to.
pub(crate) async fn put_in(conn: &mut PgConnection, week: &str, events: i32, led_to: &str) {
    let name = table(week);
    run(
        conn,
        &format!(
            "begin;
             create table {name} (like communication_events including all);
             insert into {name} (id, source_system, event_type, tenant_id, idempotency_key, trace_id, occurred_at,
                                 received_at, metadata, body, payload)
                 select hub_uuid_floor(at), 'billing', 'old.event', 1, '{week}-' || n, md5('{week}' || n), at, at,
                        jsonb_build_object('fifth', n % 5 = 0), repeat('x', 200)::bytea, '{{\"a\": 1}}'
                 from generate_series(1, {events}) n
                 cross join lateral (select to_date('{week}', 'IYYY\"w\"IW')::timestamp at time zone 'utc'
                                            + make_interval(secs => n) as at) t;
             alter table {name} add constraint in_its_week check (
                 id is not null and id >= hub_uuid_floor(to_date('{week}', 'IYYY\"w\"IW')::timestamp at time zone 'utc')
                 and id < hub_uuid_floor(to_date('{week}', 'IYYY\"w\"IW')::timestamp at time zone 'utc' + interval '1 week'));
             {};
             do $$ declare starts timestamptz := to_date('{week}', 'IYYY\"w\"IW')::timestamp at time zone 'utc'; begin
                 execute format('alter table communication_events attach partition {name} for values from (%L) to (%L)',
                                hub_uuid_floor(starts), hub_uuid_floor(starts + interval '1 week'));
             end $$;
             commit",
            led_to.replace("TABLE", &name)
        ),
    )
    .await;
}

/// Puts in a week for each thing that keeps one; answers them.
pub(crate) async fn put_in_unsettled(conn: &mut PgConnection) -> Vec<(String, Unsettled)> {
    let mut weeks = Vec::new();
    for (number, unsettled) in (1..).zip(UNSETTLED) {
        let week = format!("2016w{number:02}");
        put_in(conn, &week, 50, SETTLED).await;
        let first = format!(
            "(select id from {} where metadata ->> 'fifth' = 'true' order by id limit 1)",
            table(&week)
        );
        run(conn, &unsettled.begin.replace("FIRST", &first)).await;
        weeks.push((week, *unsettled));
    }
    weeks
}

/// Asserts that an event whose week was dropped still tells what became of it.
pub(crate) async fn assert_explained(world: &World, week: &str) {
    let trace = world
        .texts(&format!("select md5('{week}' || 5)"))
        .await
        .remove(0);
    let story = world.story(&trace).await;
    assert_eq!(story["events"][0]["dropped"], true, "{story}");
    assert_eq!(story["events"][0]["status"], "processed");
    assert_eq!(story["routings"][0]["state"], "routed");
    assert_eq!(story["deliveries"][0]["state"], "read");
    assert_eq!(story["deliveries"][0]["receipts"][0]["evidence"], "read");
    let id = story["events"][0]["event_id"].as_str().unwrap_or_default();
    let event = world.get(&format!("/api/events/{id}")).await;
    assert_eq!((event.status, &event.body["dropped"]), (200, &true.into()));
    assert_eq!(event.body["payload"], serde_json::Value::Null);
}
