//! What the services work as, and what that may not do.

use posto_tests::world::{Leaves, World};
use shared::store::pool;
use shared::store::scope::Scope;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::strangers::services_pool;

async fn who(conn: &mut PgConnection) -> String {
    sqlx::query_scalar(
        "select current_user || ' ' || coalesce(current_setting('hub.tenants', true), '')",
    )
    .fetch_one(conn)
    .await
    .expect("an answer")
}

/// The SQLSTATE that a statement is refused with; `None` when it is not.
async fn refused(conn: &mut PgConnection, statement: &str) -> Option<String> {
    let run = sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
        .execute(conn)
        .await;
    let error = run.err()?;
    let code = error.as_database_error().and_then(|error| error.code());
    Some(code.unwrap_or_default().into_owned())
}

/// Insufficient privilege; also a row that a policy does not let in.
const FORBIDDEN: &str = "42501";

#[tokio::test(flavor = "multi_thread")]
async fn a_service_works_as_worker_answers_as_reader_and_forgets_for_whom_with_the_transaction() {
    let world = World::start().await;
    let pool = services_pool(&world);
    let mut conn = pool.acquire().await.expect("a connection");
    assert_eq!(who(&mut conn).await, "posto_worker ");
    drop(conn);
    let scope = Scope::Tenants(vec![1, 2]);
    let mut reading = scope.read(&pool).await.expect("a transaction");
    assert_eq!(who(&mut reading).await, "posto_reader {1,2}");
    let insert = "insert into communication_logs (id, level, code, message, tenant_id) values (gen_random_uuid(), 'info', 'x', 'x', 1)";
    assert_eq!(
        refused(&mut reading, insert).await.as_deref(),
        Some("25006"),
        "it only reads"
    );
    drop(reading);
    let mut writing = scope.write(&pool).await.expect("a transaction");
    assert_eq!(refused(&mut writing, insert).await, None);
    writing.commit().await.expect("a commit");
    for _ in 0..4 {
        let mut conn = pool.acquire().await.expect("a connection");
        assert_eq!(who(&mut conn).await, "posto_worker ");
    }
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_role_of_the_services_may_do_what_its_work_does_not_ask_for() {
    let world = World::start().await;
    let bypassing = "select count(*) from pg_roles where rolname in ('posto_migrate', 'posto_worker', 'posto_reader')
                     and (rolbypassrls or rolsuper or rolcanlogin)";
    assert_eq!(world.count(bypassing).await, 0);
    let pool = services_pool(&world);
    let log = |tenant: &str| {
        format!(
            "insert into communication_logs (id, level, code, message, tenant_id) values (gen_random_uuid(), 'info', 'x', 'x', {tenant})"
        )
    };
    for statement in [
        "update communication_events set payload = '{}'",
        "delete from communication_events",
        "update audit_log set actor = 'nobody'",
        "delete from audit_log",
        "update outbox set body = '{}'",
        "insert into routing_rules (name, event_type, channel) values ('x', 'x', 'none')",
        "drop table outbox",
        "alter table deliveries disable row level security",
        "create table mine (x integer)",
        "truncate deliveries",
    ] {
        let mut conn = pool.acquire().await.expect("a connection");
        let code = refused(&mut conn, statement).await;
        assert_eq!(
            code.as_deref(),
            Some(FORBIDDEN),
            "posto_worker: {statement}"
        );
    }
    let other = log("2");
    let nobodys = log("null");
    for statement in [
        "select hash_key from installation",
        "select key from idempotency_keys",
        "delete from deliveries",
        "insert into routings (id) values (gen_random_uuid())",
        "insert into audit_log (id, actor, action, subject_kind) values (gen_random_uuid(), 'x', 'x', 'x')",
        other.as_str(),
        nobodys.as_str(),
    ] {
        let scope = Scope::Tenants(vec![1]);
        let mut tx = scope.write(&pool).await.expect("a transaction");
        let code = refused(&mut tx, statement).await;
        assert_eq!(
            code.as_deref(),
            Some(FORBIDDEN),
            "posto_reader of tenant 1: {statement}"
        );
    }
    // Migrating again changes nothing, and takes nobody's right away.
    pool::migrate(&pool)
        .await
        .expect("because nothing is pending");
    world.end(Leaves::Nothing).await;
}
