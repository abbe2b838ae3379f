//! Hot statements look their rows up, however much waits beside them: planned once while the tables are
//! empty, as they are in a service that has just started, and run over a backlog.

use shared::domain::delivery::DeliveryState;
use shared::store::attempts::{self, AttemptResult};
use shared::store::receipts;
use sqlx::pool::PoolConnection;
use sqlx::postgres::Postgres;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use uuid::Uuid;

/// How much waits beside what is looked up.
const BACKLOG: i64 = 500;
/// Far more than a look-up reads, far less than a walk.
const FEW: i64 = 50;

/// A connection with the settings of `pool::open`.
async fn connection(pool: &PgPool) -> PoolConnection<Postgres> {
    let mut conn = pool.acquire().await.expect("a connection");
    sqlx::raw_sql("set enable_seqscan = off; set plan_cache_mode = force_generic_plan")
        .execute(&mut *conn)
        .await
        .expect("the settings");
    conn
}

/// Claimed deliveries, each with an open attempt and an ack that waits for another message's.
async fn backlog(conn: &mut PgConnection) {
    let rows = format!(
        "insert into channels (id, provider_account, display_name, session_state) values ('a', 'A', 'A', 'up');
         insert into routings (id, event_id, trace_id, event_type, source_system, state, decision, processing_time_ms)
             values (gen_random_uuid(), gen_random_uuid(), repeat('a', 32), 'a.b', 'billing', 'routed', '{{}}', 0);
         insert into deliveries (id, routing_id, ordinal, event_id, event_type, source_system, trace_id, channel,
                                 channel_id, lane, recipient, recipient_key, body_text, state, attempt_count)
             select lpad(to_hex(n), 32, '0')::uuid, r.id, n, r.event_id, r.event_type, r.source_system, r.trace_id,
                    'whatsapp', 'a', 'notice', n::text, 'tel:' || n, 'oi', 'claimed', 1
             from generate_series(1, {BACKLOG}) n, routings r;
         insert into delivery_attempts (id, delivery_id, generation, number, trace_id, channel_id, worker, lease_until,
                                        provider_message_id)
             select id, id, 0, 1, trace_id, channel_id, 'test', now() + interval '1 hour', 'key ' || id
             from deliveries;
         insert into receipts (id, event_id, trace_id, kind, channel_id, provider_message_id, provider_at, state)
             select id, id, trace_id, 'ack', channel_id, 'key ' || id, now(), 'unbound' from deliveries",
    );
    sqlx::raw_sql(AssertSqlSafe(rows))
        .execute(conn)
        .await
        .expect("a backlog");
}

/// Rows that this transaction has read so far.
async fn rows_read(conn: &mut PgConnection) -> i64 {
    sqlx::query_scalar::<_, i64>(
        "select coalesce(sum(seq_tup_read + idx_tup_fetch), 0)::bigint from pg_stat_xact_user_tables",
    )
    .fetch_one(conn)
    .await
    .expect("the statistics")
}

fn one() -> Uuid {
    Uuid::from_u128(7)
}

fn sent(id: Uuid) -> AttemptResult {
    AttemptResult {
        attempt_id: id,
        delivery_id: id,
        outcome: "sent",
        conclusion: DeliveryState::Sent,
        failure_code: None,
        http_status: Some(200),
        response_excerpt: None,
        gateway_correlation_id: None,
        provider_message_id: None,
        duration_ms: 1.0,
        retry_after_s: None,
        held_reason: None,
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn the_result_of_a_send_does_not_walk_what_is_claimed(pool: PgPool) {
    let mut conn = connection(&pool).await;
    attempts::record_sent(&mut conn, &[&sent(one())], &["a"])
        .await
        .expect("nothing to record");
    backlog(&mut conn).await;
    let mut tx = conn.begin().await.expect("a transaction");
    let before = rows_read(&mut tx).await;
    let closed = attempts::record_sent(&mut tx, &[&sent(one())], &["a"])
        .await
        .expect("a result");
    let read = rows_read(&mut tx).await - before;
    assert_eq!(closed, [one()]);
    assert!(read < FEW, "{read} rows were read beside {BACKLOG}");
}

#[sqlx::test(migrations = "../migrations")]
async fn the_look_for_early_receipts_does_not_walk_what_waits(pool: PgPool) {
    let mut conn = connection(&pool).await;
    receipts::waiting_for_attempts(&mut conn, &[one()])
        .await
        .expect("nothing waits");
    backlog(&mut conn).await;
    let mut tx = conn.begin().await.expect("a transaction");
    let before = rows_read(&mut tx).await;
    let found = receipts::waiting_for_attempts(&mut tx, &[one()])
        .await
        .expect("a look");
    let read = rows_read(&mut tx).await - before;
    assert_eq!(found, [one()]);
    assert!(read < FEW, "{read} rows were read beside {BACKLOG}");
}
