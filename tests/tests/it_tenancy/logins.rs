//! A login that is no superuser: with the right to make roles it does everything by itself; without,
//! it is told what an administrator has to do, and then works.

use ingest::retention::{Keep, Retention, RetentionMetrics};
use posto_tests::world::BOUND;
use secrecy::SecretString;
use shared::store::import;
use shared::store::pool::{self, DatabaseArgs, MigrateAtStart, PoolError};
use shared::store::scope::Scope;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgPool};

/// A database that belongs to a login of its own.
struct Tenement {
    admin: PgPool,
    name: String,
    url: String,
}

impl Tenement {
    /// Makes both; `rights` is what the login may.
    async fn make(rights: &str) -> Self {
        let server = std::env::var("DATABASE_URL").expect("because ./tests/run sets it");
        let admin = PgPoolOptions::new()
            .max_connections(1)
            .connect(&server)
            .await;
        let admin = admin.expect("because the server works");
        let name = format!("login_{}", uuid::Uuid::new_v4().simple());
        let made = Self {
            url: with(&server, &name),
            admin,
            name: name.clone(),
        };
        made.order(&format!(
            "create role {name} login {rights} password '{name}'"
        ))
        .await;
        made.order(&format!("create database {name} owner {name}"))
            .await;
        made
    }

    async fn order(&self, statement: &str) {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
            .execute(&self.admin)
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    fn pool(&self) -> PgPool {
        let args = DatabaseArgs {
            database_url: SecretString::from(self.url.as_str()),
            database_max_connections: 3,
            migrate: MigrateAtStart::Check,
        };
        pool::open(&args, BOUND).expect("because the URL can be read")
    }

    async fn pull_down(self) {
        self.order(&format!("drop database {} with (force)", self.name))
            .await;
        self.order(&format!("drop role {}", self.name)).await;
    }
}

/// The same server, by another login and database.
fn with(server: &str, name: &str) -> String {
    let (_, rest) = server.split_once("://").expect("a URL");
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let host = host.split('/').next().unwrap_or(host);
    format!("postgres://{name}:{name}@{host}/{name}")
}

/// What services do: the CLI imports, retention drops a week, a reader reads.
async fn works(pool: &PgPool) {
    pool::prepare(pool, MigrateAtStart::Check)
        .await
        .expect("because everything is applied");
    import::source(
        &mut pool.acquire().await.expect("a connection"),
        "of-a-login",
    )
    .await
    .expect("because the worker may");
    let mut owner = pool.acquire().await.expect("a connection").detach();
    sqlx::raw_sql(
        "reset role;
         create table communication_events_2012w10 (like communication_events including all);
         alter table communication_events attach partition communication_events_2012w10
             for values from (hub_uuid_floor('2012-03-05 00:00Z')) to (hub_uuid_floor('2012-03-12 00:00Z'));
         select hub_fence_the_rest()",
    )
    .execute(&mut owner)
    .await
    .expect("because the login owns the schema");
    let retention = Retention {
        pool: pool.clone(),
        keep: Keep {
            event_retention_weeks: 4,
            ..Keep::default()
        },
        metrics: RetentionMetrics::register(&prometheus::Registry::new())
            .expect("an empty registry"),
    };
    let report = retention
        .turn()
        .await
        .expect("because the database is well")
        .expect("a turn");
    assert_eq!(report.dropped, ["communication_events_2012w10"]);
    let mut tx = Scope::Agency.read(pool).await.expect("a transaction");
    let sources: i64 = sqlx::query_scalar("select count(*) from sources")
        .fetch_one(&mut *tx)
        .await
        .expect("because the agency may read");
    assert!(sources > 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_may_make_roles_migrates_and_works_by_itself() {
    let tenement = Tenement::make("createrole").await;
    let version: i32 = sqlx::query_scalar("select current_setting('server_version_num')::integer")
        .fetch_one(&tenement.admin)
        .await
        .expect("an answer");
    let pool = tenement.pool();
    let migrated = pool::migrate(&pool).await;
    // From PostgreSQL 16 on, `createrole` grants only roles that the login made itself.
    if version < 160_000 || migrated.is_ok() {
        migrated.expect("because the login may make and grant roles");
        pool::migrate(&pool)
            .await
            .expect("because migrating again changes nothing");
        works(&pool).await;
    }
    pool.close().await;
    tenement.pull_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_may_not_make_roles_is_told_who_can_and_works_once_they_did() {
    let tenement = Tenement::make("nocreaterole").await;
    // They belong to the cluster, and another test may be the first to need them.
    let pool = tenement.pool();
    let refused = pool::migrate(&pool).await;
    let Err(PoolError::Migrate(error)) = refused else {
        panic!("the migration went through: {refused:?}");
    };
    let said = shared::runtime::telemetry::chain(&error);
    assert!(said.contains("may neither make the role"), "{said}");
    assert!(
        said.contains("deploy/postgres/roles.sql"),
        "the way out is told: {said}"
    );
    // What that file does, without psql.
    let makes = "do $$ begin
                     create role posto_migrate; exception when duplicate_object or unique_violation then null;
                 end $$";
    for role in ["posto_migrate", "posto_worker", "posto_reader"] {
        tenement.order(&makes.replace("posto_migrate", role)).await;
        tenement
            .order(&format!("grant {role} to {}", tenement.name))
            .await;
    }
    pool::migrate(&pool)
        .await
        .expect("because the roles are there and granted");
    works(&pool).await;
    // Taken back, a service says what is missing.
    pool.close().await;
    tenement
        .order(&format!("revoke posto_worker from {}", tenement.name))
        .await;
    let pool = tenement.pool();
    let said = pool::prepare(&pool, MigrateAtStart::Off).await;
    assert!(matches!(said, Err(PoolError::Role)), "{said:?}");
    pool.close().await;
    tenement.pull_down().await;
}
