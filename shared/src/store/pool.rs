//! The pool of connections, and the schema's version.

use std::time::Duration;

use clap::ValueEnum;
use prometheus::IntGauge;
use secrecy::{ExposeSecret, SecretString};
use sqlx::migrate::{Migrate, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

/// The advisory lock that migrations are made under.
const MIGRATION_LOCK: i64 = 0x706f_7374_6f01;
/// The advisory lock that partitions are made and dropped under.
pub(super) const PARTITION_LOCK: i64 = 0x706f_7374_6f02;
/// The longest statement of a command that is no service.
pub const COMMAND_STATEMENT: Duration = Duration::from_secs(60);
/// How often a process looks whether its database answers.
const WATCH_EVERY: Duration = Duration::from_secs(5);
/// How long to wait for another process that migrates.
const MIGRATION_WAIT: Duration = Duration::from_secs(120);

/// Settings of the database.
#[derive(Clone, Debug, clap::Args)]
pub struct DatabaseArgs {
    /// PostgreSQL, as `postgres://user:password@host:port/database`.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: SecretString,
    /// The most connections of this process.
    #[arg(long, env = "DATABASE_MAX_CONNECTIONS", default_value_t = 16)]
    pub database_max_connections: u32,
    /// What to do about pending migrations at start.
    #[arg(long, env = "MIGRATE", value_enum, default_value_t = MigrateAtStart::Check)]
    pub migrate: MigrateAtStart,
}

/// What to do about pending migrations at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MigrateAtStart {
    /// Apply them.
    Auto,
    /// Refuse to start while one is pending.
    Check,
    /// Do not look.
    Off,
}

/// The database cannot be used as it is.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// The URL cannot be read: mend `DATABASE_URL`.
    #[error("DATABASE_URL cannot be read")]
    Url(#[source] sqlx::Error),
    /// No connection: is the database up?
    #[error("the database cannot be reached")]
    Connect(#[source] sqlx::Error),
    /// Migrations are pending: run `<binary> migrate`.
    #[error(
        "{0} migrations are pending: run `ingest migrate` first (or start with --migrate=auto)"
    )]
    Pending(usize),
    /// A migration failed; nothing of it was kept.
    #[error("a migration failed")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// The login cannot take on the role that the services work as: grant it, as
    /// `deploy/postgres/roles.sql` does.
    #[error(
        "the login of DATABASE_URL is not a member of role posto_worker: let an administrator run deploy/postgres/roles.sql with it"
    )]
    Role,
    /// Another process holds the migration lock for too long.
    #[error("another process has been migrating for too long")]
    Locked,
}

/// Makes a new connection work as `posto_worker`, once there is such a role and the login may: one
/// round trip for each connection. Where it may not, the tables refuse it ([`PoolError::Role`]).
const TAKE_ROLE: &str = "select set_config('role', 'posto_worker', false)
    where case when to_regprocedure('hub_tenants()') is null then false
               when current_setting('server_version_num')::integer < 160000
               then pg_has_role(session_user, 'posto_worker', 'member')
               else pg_has_role(session_user, 'posto_worker', 'set') end";

/// Opens the pool. Connections are made as they are needed, so a database that is down for a
/// moment does not keep the process from starting. They work as `posto_worker` (design §5).
///
/// No statement takes longer than `longest_statement`: one that does is given up by the database,
/// and counts as the database being unwell.
///
/// # Errors
/// Only when the URL cannot be read.
pub fn open(args: &DatabaseArgs, longest_statement: Duration) -> Result<PgPool, PoolError> {
    let options: PgConnectOptions = args
        .database_url
        .expose_secret()
        .parse()
        .map_err(PoolError::Url)?;
    Ok(PgPoolOptions::new()
        .max_connections(args.database_max_connections)
        .acquire_timeout(Duration::from_secs(5))
        .idle_timeout(Duration::from_secs(300))
        .test_before_acquire(false)
        .after_connect(|conn, _| {
            Box::pin(async move { sqlx::raw_sql(TAKE_ROLE).execute(conn).await.map(|_| ()) })
        })
        .connect_lazy_with(options.application_name("posto").options([
            (
                "statement_timeout",
                longest_statement.as_millis().to_string(),
            ),
            // No statement of ours reads enough for compiling it to pay.
            ("jit", "off".to_owned()),
            // Statements are planned once, and mostly while the tables are small: whatever walks a
            // whole table then would still do so when it has grown.
            ("enable_seqscan", "off".to_owned()),
            ("plan_cache_mode", "force_generic_plan".to_owned()),
        ])))
}

/// Brings the schema to what the binary expects, or checks that it is there.
///
/// # Errors
/// See [`PoolError`]; nothing was changed unless a migration had succeeded before.
pub async fn prepare(pool: &PgPool, at_start: MigrateAtStart) -> Result<(), PoolError> {
    match at_start {
        MigrateAtStart::Off => {}
        MigrateAtStart::Auto => migrate(pool).await?,
        MigrateAtStart::Check => match pending(pool).await? {
            0 => {}
            count => return Err(PoolError::Pending(count)),
        },
    }
    check_role(pool).await
}

async fn check_role(pool: &PgPool) -> Result<(), PoolError> {
    let mut conn = pool.acquire().await.map_err(PoolError::Connect)?;
    let taken = sqlx::query_scalar!(
        r#"select current_user = 'posto_worker' or to_regprocedure('hub_tenants()') is null as "taken!""#
    )
    .fetch_one(&mut *conn)
    .await
    .map_err(PoolError::Connect)?;
    if taken { Ok(()) } else { Err(PoolError::Role) }
}

/// As [`prepare`], but waits for a database that is down: a dependency that is away is waited for.
///
/// # Errors
/// Migrations are pending or failed; a person has to act.
pub async fn await_prepared(pool: &PgPool, at_start: MigrateAtStart) -> Result<(), PoolError> {
    loop {
        match prepare(pool, at_start).await {
            Err(PoolError::Connect(error)) => {
                tracing::warn!(error = %crate::runtime::telemetry::chain(&error), "the database cannot be reached, waiting for it");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            other => return other,
        }
    }
}

/// Applies what is pending, makes the partitions of the coming weeks, and puts the fence around what is
/// new. Safe to run at the same time from several processes, and when the database is newer than the
/// binary (a rollback). The login itself does it, as a member of `posto_migrate`.
///
/// # Errors
/// See [`PoolError`].
pub async fn migrate(pool: &PgPool) -> Result<(), PoolError> {
    let mut conn = pool.acquire().await.map_err(PoolError::Connect)?.detach();
    // A migration takes as long as it takes.
    sqlx::raw_sql("reset role; set statement_timeout = 0")
        .execute(&mut conn)
        .await
        .map_err(PoolError::Connect)?;
    lock_migrations(&mut conn).await?;
    let mut migrations = Migrator {
        ..Migrator::DEFAULT
    };
    migrations.migrations = MIGRATIONS.migrations.clone();
    migrations.set_ignore_missing(true).set_locking(false);
    migrations
        .run(&mut conn)
        .await
        .map_err(PoolError::Migrate)?;
    make_partitions(&mut conn)
        .await
        .map_err(PoolError::Connect)?;
    sqlx::query!("select hub_fence_the_rest()")
        .execute(&mut conn)
        .await
        .map_err(PoolError::Connect)?;
    // The lock goes with the connection.
    conn.close().await.map_err(PoolError::Connect)
}

/// A blocking lock would deadlock with an index that is built concurrently, so it is tried.
async fn lock_migrations(conn: &mut PgConnection) -> Result<(), PoolError> {
    let started = tokio::time::Instant::now();
    while started.elapsed() < MIGRATION_WAIT {
        let taken = sqlx::query_scalar!(
            r#"select pg_try_advisory_lock($1) as "taken!""#,
            MIGRATION_LOCK
        )
        .fetch_one(&mut *conn)
        .await
        .map_err(PoolError::Connect)?;
        if taken {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    Err(PoolError::Locked)
}

async fn pending(pool: &PgPool) -> Result<usize, PoolError> {
    let mut conn = pool.acquire().await.map_err(PoolError::Connect)?;
    // Only looked for, never made: the services may not make tables.
    let begun =
        sqlx::query_scalar!(r#"select to_regclass('_sqlx_migrations') is not null as "begun!""#)
            .fetch_one(&mut *conn)
            .await
            .map_err(PoolError::Connect)?;
    if !begun {
        return Ok(MIGRATIONS.iter().count());
    }
    let applied = conn
        .list_applied_migrations("_sqlx_migrations")
        .await
        .map_err(PoolError::Migrate)?;
    Ok(MIGRATIONS
        .iter()
        .filter(|wanted| !applied.iter().any(|done| done.version == wanted.version))
        .count())
}

/// Makes the event partitions of the coming eight weeks; one process at a time, the others go on.
/// Answers how many were made.
///
/// Nobody waits for it: a partition is made as a table of its own and then attached, both in one
/// transaction. The table is empty, so that the check of its rows has nothing to read.
///
/// # Errors
/// The database is unwell; try again at the next turn.
pub async fn make_partitions(conn: &mut PgConnection) -> Result<i32, sqlx::Error> {
    let mut tx = conn.begin().await?;
    let taken = sqlx::query_scalar!(
        r#"select pg_try_advisory_xact_lock($1) as "taken!""#,
        PARTITION_LOCK
    )
    .fetch_one(&mut *tx)
    .await?;
    let mut made = 0;
    if taken {
        made = sqlx::query_scalar!(r#"select hub_make_event_partitions(8) as "made!""#)
            .fetch_one(&mut *tx)
            .await?;
    }
    tx.commit().await?;
    Ok(made)
}

/// Asks the database for an answer, within a short bound.
///
/// # Errors
/// It did not answer: it is unwell.
pub async fn ping(pool: &PgPool) -> Result<(), sqlx::Error> {
    let asked = async {
        let mut conn = pool.acquire().await?;
        sqlx::query_scalar!("select 1").fetch_one(&mut *conn).await
    };
    match tokio::time::timeout(Duration::from_secs(2), asked).await {
        Ok(answer) => answer.map(|_| ()),
        Err(_) => Err(sqlx::Error::PoolTimedOut),
    }
}

/// Keeps `up` at whether the database answers, until `stopping`.
pub async fn watch(pool: PgPool, up: IntGauge, stopping: CancellationToken) {
    loop {
        up.set(i64::from(ping(&pool).await.is_ok()));
        tokio::select! {
            () = tokio::time::sleep(WATCH_EVERY) => {}
            () = stopping.cancelled() => return,
        }
    }
}

/// How many whole weeks of partitions lie ahead; readiness warns below two.
///
/// # Errors
/// The database is unwell.
pub async fn weeks_ahead(conn: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select count(*) as "weeks!" from pg_inherits i join pg_class c on c.oid = i.inhrelid
           where i.inhparent = 'communication_events'::regclass
             and c.relname > 'communication_events_' || to_char(now() at time zone 'utc', 'IYYY"w"IW')"#
    )
    .fetch_one(conn)
    .await
}
