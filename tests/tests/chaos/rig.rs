//! What a scenario works with: servers that it may break, a gateway, and the three services as
//! real processes over a database and queues of their own.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use posto_tests::gateway_sim::{GatewaySim, SimConfig};
use posto_tests::service::{Program, Service, free_address};
use posto_tests::world::{ADMIN_TOKEN, GATEWAY_SECRET, WEBHOOK_SECRET, import_reference_data};
use secrecy::SecretString;
use shared::store::pool;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};

use crate::servers::Servers;
use crate::traffic::Batch;

/// The longest that anything is waited for. A claimed send is concluded after its lease, which is
/// the send's own bound (2 s here) and 15 s.
pub(crate) const BOUND: Duration = Duration::from_secs(100);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// See the module.
pub(crate) struct Rig {
    pub(crate) servers: Servers,
    pub(crate) db: PgPool,
    database: String,
    pub(crate) prefix: String,
    pub(crate) sim: GatewaySim,
    pub(crate) api: String,
    /// The operators' listener of ingest.
    pub(crate) admin: String,
    pub(crate) ingest: Service,
    pub(crate) routers: Vec<Service>,
    pub(crate) deliverers: Vec<Service>,
}

/// Which service a scenario means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Ingest,
    Router,
    Deliverer,
}

impl Rig {
    /// Everything built, the services not started.
    pub(crate) async fn new(workers: usize) -> Self {
        let servers = Servers::up();
        let database = format!("chaos_{}", uuid::Uuid::new_v4().simple());
        execute(
            &servers.database_url,
            &format!("create database {database}"),
        )
        .await;
        let url = of_database(&servers.database_url, &database);
        let services = pool::open(
            &pool::DatabaseArgs {
                database_url: SecretString::from(url.clone()),
                database_max_connections: 4,
                migrate: pool::MigrateAtStart::Check,
            },
            BOUND,
        )
        .expect("because the address is one");
        pool::migrate(&services)
            .await
            .expect("because the database is new");
        // As the login, behind every fence.
        let db = PgPoolOptions::new()
            .max_connections(4)
            .connect_lazy(&url)
            .expect("because the address is one");
        import_reference_data(&db)
            .await
            .expect("because the database is new");
        let sim = GatewaySim::start(SimConfig::for_tests(GATEWAY_SECRET))
            .await
            .expect("because it takes a free port");
        let prefix = format!("c{}.", uuid::Uuid::new_v4().simple());
        let (public, admin) = (free_address(), free_address());
        let api = format!("http://{public}");
        sim.register_webhook(&format!("{api}/api/whatsapp/webhook"), Some(WEBHOOK_SECRET))
            .expect("because the address is one");
        let logs = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(&database);
        std::fs::create_dir_all(&logs).expect("because cargo made the folder around it");
        let common = || {
            vec![
                ("DATABASE_URL", url.clone()),
                ("DATABASE_MAX_CONNECTIONS", "6".to_owned()),
                ("AMQP_URL", servers.amqp_url.clone()),
                ("AMQP_PREFIX", prefix.clone()),
            ]
        };
        let mut doors = common();
        doors.extend([
            ("PUBLIC_LISTEN", public.to_string()),
            ("ADMIN_LISTEN", admin.to_string()),
            ("POSTO_ADMIN_TOKEN", ADMIN_TOKEN.to_owned()),
            (
                "PIXELHUB_WHATSAPP_WEBHOOK_SECRET",
                WEBHOOK_SECRET.to_owned(),
            ),
        ]);
        let mut sending = common();
        sending.extend([
            ("WPP_GATEWAY_BASE_URL", sim.url()),
            ("OUTBOUND_ALLOW", "127.0.0.0/8".to_owned()),
            ("WPP_GATEWAY_SECRET", GATEWAY_SECRET.to_owned()),
            ("EVENT_PROCESSING_TIMEOUT", "2s".to_owned()),
            ("RETRY_BASE", "200ms".to_owned()),
        ]);
        Self {
            ingest: Service::new(program("ingest"), &logs, doors),
            routers: (0..workers)
                .map(|_| Service::new(program("router-worker"), &logs, common()))
                .collect(),
            deliverers: (0..workers)
                .map(|_| Service::new(program("delivery-worker"), &logs, sending.clone()))
                .collect(),
            servers,
            db,
            database,
            prefix,
            sim,
            api,
            admin: format!("http://{admin}"),
        }
    }

    /// Everything built and started, one of each worker.
    pub(crate) async fn started() -> Self {
        Self::started_with(1).await
    }

    /// The same with that many of each worker.
    pub(crate) async fn started_with(workers: usize) -> Self {
        let mut rig = Self::new(workers).await;
        for service in rig.services() {
            service.start();
        }
        rig.until_ready().await;
        rig
    }

    /// Every service.
    pub(crate) fn services(&mut self) -> impl Iterator<Item = &mut Service> {
        std::iter::once(&mut self.ingest)
            .chain(&mut self.routers)
            .chain(&mut self.deliverers)
    }

    /// The (first) service of a kind.
    pub(crate) fn service(&mut self, which: Which) -> &mut Service {
        match which {
            Which::Ingest => &mut self.ingest,
            Which::Router => &mut self.routers[0],
            Which::Deliverer => &mut self.deliverers[0],
        }
    }

    /// The pids of all services, to prove that none was restarted.
    pub(crate) fn pids(&mut self) -> Vec<u32> {
        self.services().map(|service| service.pid()).collect()
    }

    /// Waits until every service says that it is ready: a worker is when it consumes all its queues.
    pub(crate) async fn until_ready(&self) {
        let workers = self.routers.iter().chain(&self.deliverers);
        let all = std::iter::once(&self.ingest).chain(workers);
        let addresses: Vec<_> = all.map(Service::ops).collect();
        let client = client();
        for ops in addresses {
            self.until("every service is ready", async |_| {
                let probe = client.get(format!("http://{ops}/readyz")).send().await;
                probe.is_ok_and(|answer| answer.status().is_success())
            })
            .await;
        }
    }

    /// Waits until a condition holds.
    ///
    /// # Panics
    /// When it does not hold within [`BOUND`].
    pub(crate) async fn until(&self, what: &str, mut holds: impl AsyncFnMut(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self).await {
            assert!(
                begun.elapsed() < BOUND,
                "waited {BOUND:?} in vain until {what}\n{}\n{}",
                self.state().await,
                self.last_words()
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The one number that a query answers; `None` while the database does not answer.
    pub(crate) async fn number(&self, query: &str) -> Option<i64> {
        let query = AssertSqlSafe(query.to_owned());
        sqlx::query_scalar(query).fetch_one(&self.db).await.ok()
    }

    /// The texts that a query answers, one column.
    pub(crate) async fn texts(&self, query: &str) -> Vec<String> {
        let query = AssertSqlSafe(query.to_owned());
        let rows: Vec<Option<String>> = sqlx::query_scalar(query)
            .fetch_all(&self.db)
            .await
            .unwrap_or_default();
        rows.into_iter().map(Option::unwrap_or_default).collect()
    }

    /// Runs a statement on the scenario's own database.
    pub(crate) async fn run_sql(&self, statement: &str) {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
            .execute(&self.db)
            .await
            .expect("because the statement is a scenario's own");
    }

    /// Lets the database refuse connections, those that are open included, or take them again.
    pub(crate) async fn refuse_connections(&self, refuse: bool) {
        let database = &self.database;
        let statement = if refuse {
            format!(
                "alter database {database} allow_connections false;
                 select pg_terminate_backend(pid) from pg_stat_activity where datname = '{database}'"
            )
        } else {
            format!("alter database {database} allow_connections true")
        };
        execute(&self.servers.database_url, &statement).await;
    }

    /// Where everything stands, for a scenario that failed.
    async fn state(&self) -> String {
        self.texts(
            "select concat('deliveries ', channel, ' ', state, ' ', held_reason, ': ', count(*)) from deliveries group by channel, state, held_reason
             union all select concat('attempts ', outcome, ' ', failure_code, ': ', count(*)) from delivery_attempts group by outcome, failure_code
             union all select concat('receipts ', kind, ' ', state, ': ', count(*)) from receipts group by kind, state
             union all select concat('outbox ', target, ': ', count(*)) from outbox group by target
             union all select concat('letters ', queue, ' ', failure_code, ' ', state, ': ', count(*)) from dead_letters group by queue, failure_code, state
             union all select concat('events without routing: ', count(*)) from communication_events e
                 where not exists (select 1 from routings r where r.event_id = e.id)",
        )
        .await
        .join("\n")
    }

    fn last_words(&self) -> String {
        let workers = self.routers.iter().chain(&self.deliverers);
        let all = std::iter::once(&self.ingest).chain(workers);
        all.map(Service::last_words).collect::<Vec<_>>().join("\n")
    }

    /// Ends everything and leaves nothing behind.
    pub(crate) async fn end(mut self) {
        for service in self.services() {
            service.stop().await;
        }
        self.db.close().await;
        self.servers.delete_queues(&self.prefix).await;
        self.servers.delete_exchanges(&self.prefix).await;
        let database = &self.database;
        execute(
            &self.servers.database_url,
            &format!("drop database {database} with (force)"),
        )
        .await;
        let logs = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(database);
        let _kept_when_it_cannot_be_removed = std::fs::remove_dir_all(logs);
    }
}

/// A service, from the one executable that has failpoints.
fn program(name: &'static str) -> Program {
    Program {
        name,
        path: PathBuf::from(env!("CARGO_BIN_EXE_service")),
        arguments: vec![name, "run"],
    }
}

/// Lets events flow for some seconds, breaks a server in the middle, and judges; no service may be
/// restarted for it. `break_it` answers when the fault is over.
pub(crate) async fn broken(scenario: &str, break_it: impl AsyncFnOnce(&Rig)) {
    broken_over(scenario, Duration::from_secs(4), break_it).await;
}

/// The same with as many events over that time.
pub(crate) async fn broken_over(scenario: &str, time: Duration, break_it: impl AsyncFnOnce(&Rig)) {
    let mut rig = Rig::started().await;
    let pids = rig.pids();
    let posts = Batch::of_bills(300).over(time).post(&rig.api);
    tokio::time::sleep(Duration::from_secs(2)).await;
    break_it(&rig).await;
    let since = Instant::now();
    let posted = posts.await.expect("because every post was answered");
    rig.verdict(scenario, since, &posted).await;
    assert!(rig.services().all(|service| service.lives()));
    assert_eq!(rig.pids(), pids, "no service was restarted");
    rig.end().await;
}

/// A client for posts and probes.
pub(crate) fn client() -> reqwest::Client {
    // The workspace builds reqwest without one; an error means that it is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(10))
        .build()
        .expect("because no option can be refused")
}

fn of_database(server: &str, database: &str) -> String {
    let (base, _) = server
        .rsplit_once('/')
        .expect("because the address names a database");
    format!("{base}/{database}")
}

async fn execute(server: &str, statements: &str) {
    let mut conn = PgConnection::connect(server)
        .await
        .expect("because the server was started");
    // One by one: some of them cannot run in a transaction.
    for statement in statements.split(';') {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
            .execute(&mut conn)
            .await
            .expect("because the statement is ours");
    }
    conn.close().await.expect("because it is open");
}
