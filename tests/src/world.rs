//! A whole Posto in one process, for end-to-end scenarios: the three services as libraries on
//! ports of their own, a database of its own, queues under a random prefix, and the gateway
//! simulator. At the end a world asserts that nothing was left lying about.

pub mod http;
mod keys;
mod look;
mod owners;
pub mod pixelhub;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use secrecy::SecretString;
use serde_json::{Value, json};
use shared::broker::Session;
use shared::runtime::lifecycle::Lifecycle;
use shared::store::credentials::{self, NewCredential};
use shared::store::import::{self, TenantRow};
use shared::store::pool;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};

use tokio::sync::OnceCell;

use crate::gateway_sim::{GatewaySim, SimConfig};

/// The longest that anything in a scenario is waited for.
pub const BOUND: Duration = Duration::from_secs(60);
/// The credential of source `billing`.
pub const BILLING_TOKEN: &str = "billing-token-for-tests-only";
/// The credential of source `chat`, bound to tenant 1.
pub const CHAT_TOKEN: &str = "chat-token-for-tests-only-0001";
/// The operators' token.
pub const ADMIN_TOKEN: &str = "admin-token-for-tests-only";
/// What the gateway sends with its posts.
pub const WEBHOOK_SECRET: &str = "webhook-secret-for-tests-only";
/// What Asaas sends with its posts.
pub const ASAAS_TOKEN: &str = "asaas-webhook-token-for-tests-only";
/// What the gateway expects of us.
pub const GATEWAY_SECRET: &str = "gateway-secret-for-tests-only";

/// How a world differs from the usual one.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The bound of one send.
    pub send_timeout: &'static str,
    /// The wait before the first retry.
    pub retry_base: &'static str,
    /// How long evidence may take before a policy sends once more.
    pub unknown_silence: &'static str,
    /// Whether the router-worker runs from the start.
    pub router: bool,
    /// Whether the delivery-worker runs from the start.
    pub delivery: bool,
    /// Keys of encryption at rest; none: nothing is sealed.
    pub payload_keys: String,
    /// Whether it is known whose the invoices, and the customers at Asaas, of `samples/hub` are.
    pub owners: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            send_timeout: "5s",
            retry_base: "50ms",
            unknown_silence: "1s",
            router: true,
            delivery: true,
            payload_keys: String::new(),
            owners: false,
        }
    }
}

/// What a scenario may leave behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaves {
    /// Nothing: every delivery reached somebody, no letter is dead.
    Nothing,
    /// Deliveries that failed, are held, unknown or dead, as the scenario means them to.
    Unsettled,
    /// Rows that contradict each other, because the scenario wrote them so.
    Contradictions,
}

/// A running Posto.
pub struct World {
    setup: Setup,
    database_url: String,
    database_name: String,
    prefix: String,
    /// A pool of the scenario's own, as the login: no role, no fence.
    pub db: PgPool,
    /// The gateway.
    pub sim: GatewaySim,
    api: String,
    admin: String,
    http: reqwest::Client,
    ingest: Lifecycle,
    router: Option<Lifecycle>,
    /// The delivery-workers, with the addresses of their probes, in the order of their start.
    delivery: Vec<(SocketAddr, Lifecycle)>,
    /// The scenario's own view of the broker, opened by the first look.
    view: OnceCell<(Session, Lifecycle)>,
    /// Where each process serves probes and metrics, by its name; of several the newest.
    ops: BTreeMap<&'static str, SocketAddr>,
}

impl World {
    /// Starts the usual world.
    ///
    /// # Panics
    /// When PostgreSQL or RabbitMQ cannot be used: a scenario that cannot run has failed.
    pub async fn start() -> Self {
        Self::start_with(Setup::default()).await
    }

    /// Starts a world.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub async fn start_with(setup: Setup) -> Self {
        Self::try_start(setup)
            .await
            .expect("because DATABASE_URL and AMQP_URL name servers that work: see ./tests/run")
    }

    async fn try_start(setup: Setup) -> anyhow::Result<Self> {
        let (database_url, database_name) = make_database().await?;
        pool::migrate(&pool::open(&database_args(&database_url), BOUND)?).await?;
        // Not as a role of the services: a scenario looks and tampers behind every fence.
        let db = PgPoolOptions::new().connect(&database_url).await?;
        import_reference_data(&db).await?;
        pixelhub::import(&db).await?;
        if setup.owners {
            owners::import(&db).await?;
        }
        let sim = GatewaySim::start(SimConfig::for_tests(GATEWAY_SECRET)).await?;
        let prefix = format!("t{}.", uuid::Uuid::new_v4().simple());
        let ingest = Lifecycle::default();
        let args = keys::ingest_args(&database_url, &prefix, &setup.payload_keys)?;
        let app = ingest::app::App::start(args, &ingest).await?;
        let (public, admin) = (
            app.public.context("a public listener")?,
            app.admin.context("an admin listener")?,
        );
        sim.register_webhook(
            &format!("http://{public}/api/whatsapp/webhook"),
            Some(WEBHOOK_SECRET),
        )?;
        let mut world = Self {
            view: OnceCell::new(),
            database_url,
            database_name,
            prefix,
            db,
            sim,
            api: format!("http://{public}"),
            admin: format!("http://{admin}"),
            http: reqwest::Client::builder()
                .no_proxy()
                .timeout(BOUND)
                .build()?,
            ingest,
            router: None,
            delivery: Vec::new(),
            ops: BTreeMap::from([("ingest", app.ops)]),
            setup,
        };
        world.until_ready(app.ops).await;
        if world.setup.router {
            world.start_router().await?;
        }
        if world.setup.delivery {
            world.start_delivery().await?;
        }
        Ok(world)
    }

    /// Starts the router-worker.
    ///
    /// # Errors
    /// It cannot start.
    pub async fn start_router(&mut self) -> anyhow::Result<()> {
        let lifecycle = Lifecycle::default();
        let amqp = amqp_url()?;
        let cli = router_worker::cli::Cli::try_parse_from([
            "router-worker",
            "run",
            "--ops-listen",
            "127.0.0.1:0",
            "--database-url",
            &self.database_url,
            "--database-max-connections",
            "6",
            "--amqp-url",
            &amqp,
            "--amqp-prefix",
            &self.prefix,
            "--payload-keys",
            &self.setup.payload_keys,
        ])?;
        let router_worker::cli::Command::Run(args) = cli.command else {
            unreachable!("`run` was parsed")
        };
        let app = router_worker::app::App::start(*args, &lifecycle).await?;
        self.until_ready(app.ops).await;
        self.ops.insert("router-worker", app.ops);
        self.router = Some(lifecycle);
        Ok(())
    }

    /// Starts the delivery-worker; where one runs, another beside it.
    ///
    /// # Errors
    /// It cannot start.
    pub async fn start_delivery(&mut self) -> anyhow::Result<()> {
        let lifecycle = Lifecycle::default();
        let amqp = amqp_url()?;
        let gateway = self.sim.url();
        let cli = delivery_worker::cli::Cli::try_parse_from([
            "delivery-worker",
            "run",
            "--ops-listen",
            "127.0.0.1:0",
            "--database-url",
            &self.database_url,
            "--database-max-connections",
            "6",
            "--amqp-url",
            &amqp,
            "--amqp-prefix",
            &self.prefix,
            "--wpp-gateway-base-url",
            &gateway,
            "--wpp-gateway-secret",
            GATEWAY_SECRET,
            "--outbound-allow",
            "127.0.0.0/8",
            "--event-processing-timeout",
            self.setup.send_timeout,
            "--retry-base",
            self.setup.retry_base,
            "--unknown-silence",
            self.setup.unknown_silence,
            "--payload-keys",
            &self.setup.payload_keys,
        ])?;
        let delivery_worker::cli::Command::Run(args) = cli.command else {
            unreachable!("`run` was parsed")
        };
        let app = delivery_worker::app::App::start(*args, &lifecycle).await?;
        self.until_ready(app.ops).await;
        self.ops.insert("delivery-worker", app.ops);
        self.delivery.push((app.ops, lifecycle));
        Ok(())
    }

    /// Stops the router-worker cleanly.
    pub async fn stop_router(&mut self) {
        if let Some(router) = self.router.take() {
            stop_cleanly(router).await;
        }
    }

    /// Stops the delivery-worker cleanly; of several the one that runs the longest.
    pub async fn stop_delivery(&mut self) {
        if !self.delivery.is_empty() {
            stop_cleanly(self.delivery.remove(0).1).await;
        }
    }

    /// Stops the delivery-worker with these probes cleanly.
    pub async fn stop_delivery_at(&mut self, ops: SocketAddr) {
        let at = self.delivery.iter().position(|it| it.0 == ops);
        if let Some(at) = at {
            stop_cleanly(self.delivery.remove(at).1).await;
        }
    }

    /// The addresses of the delivery-workers' probes and metrics, in the order of their start.
    #[must_use]
    pub fn delivery_ops(&self) -> Vec<SocketAddr> {
        self.delivery.iter().map(|it| it.0).collect()
    }

    /// Where each process serves probes and metrics, or last did.
    #[must_use]
    pub const fn ops(&self) -> &BTreeMap<&'static str, SocketAddr> {
        &self.ops
    }

    /// The prefix of this world's queues.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Ends the world, and asserts that nothing was left lying about.
    ///
    /// # Panics
    /// When messages wait in the outbox, events have no routing, or a delivery is not where the
    /// scenario may leave it.
    pub async fn end(mut self, leaves: Leaves) {
        self.until("the outbox is empty", async |world| {
            world.count("select count(*) from outbox").await == 0
        })
        .await;
        let unrouted = "select count(*) from communication_events e
            where not exists (select 1 from routings r where r.event_id = e.id)";
        if self.router.is_some() {
            self.until("every event has its routing", async |world| {
                world.count(unrouted).await == 0
            })
            .await;
        }
        if leaves != Leaves::Contradictions {
            let ledger = self.admin("/admin/ledger").await.body;
            assert_eq!(ledger["imbalance"], 0, "the ledger closes: {ledger}");
        }
        if leaves == Leaves::Nothing {
            let open =
                "select count(*) from deliveries where state not in ('sent', 'delivered', 'read')";
            assert_eq!(self.count(open).await, 0, "no delivery is left unsettled");
            assert_eq!(
                self.count("select count(*) from dead_letters").await,
                0,
                "no letter is dead"
            );
        }
        for (_, delivery) in self.delivery.drain(..) {
            stop_cleanly(delivery).await;
        }
        if let Some(router) = self.router.take() {
            stop_cleanly(router).await;
        }
        stop_cleanly(self.ingest).await;
        if let Some((_, links)) = self.view.take() {
            stop_cleanly(links).await;
        }
        look::delete_queues(&self.prefix).await;
        self.db.close().await;
        drop_database(&self.database_name).await;
    }
}

async fn stop_cleanly(lifecycle: Lifecycle) {
    lifecycle
        .stop()
        .await
        .expect("because a clean stop ends in its bound");
}

/// The event of the issue: an overdue invoice of tenant 1, with its own key.
#[must_use]
pub fn overdue(key: &str) -> Value {
    json!({
        "event_type": "billing.invoice.overdue",
        "source_system": "billing",
        "tenant_id": 1,
        "idempotency_key": key,
        "payload": {
            "invoice_id": 503,
            "phone": "(47) 99990-0011",
            "customer_name": "Padaria Aurora",
            "description": "Hospedagem",
            "amount": "59.80",
            "due_date": "2026-01-27",
            "invoice_url": "https://pay.example/503"
        }
    })
}

fn server_url() -> anyhow::Result<String> {
    std::env::var("DATABASE_URL").context("DATABASE_URL is not set: run the tests with ./tests/run")
}

fn amqp_url() -> anyhow::Result<String> {
    std::env::var("AMQP_URL").context("AMQP_URL is not set: run the tests with ./tests/run")
}

async fn make_database() -> anyhow::Result<(String, String)> {
    let server = server_url()?;
    let name = format!("posto_world_{}", uuid::Uuid::new_v4().simple());
    let mut conn = PgConnection::connect(&server)
        .await
        .context("PostgreSQL at DATABASE_URL")?;
    sqlx::raw_sql(AssertSqlSafe(format!("create database {name}")))
        .execute(&mut conn)
        .await?;
    conn.close().await?;
    let (base, _) = server
        .rsplit_once('/')
        .context("DATABASE_URL names a database")?;
    Ok((format!("{base}/{name}"), name))
}

async fn drop_database(name: &str) {
    let Ok(server) = server_url() else { return };
    if let Ok(mut conn) = PgConnection::connect(&server).await {
        let _ = sqlx::raw_sql(AssertSqlSafe(format!(
            "drop database if exists {name} with (force)"
        )))
        .execute(&mut conn)
        .await;
    }
}

fn database_args(url: &str) -> pool::DatabaseArgs {
    pool::DatabaseArgs {
        database_url: SecretString::from(url),
        database_max_connections: 4,
        migrate: pool::MigrateAtStart::Check,
    }
}

/// Imports the world of `samples/hub`: T1 and T2, a shared account, and credentials.
///
/// # Errors
/// The database cannot be used.
pub async fn import_reference_data(db: &PgPool) -> anyhow::Result<()> {
    use sha2::Digest as _;

    let mut conn = db.acquire().await?;
    let conn = &mut *conn;
    import::source(conn, "chat").await?;
    import::channel(
        conn,
        "pixel12digital",
        "Pixel12 Digital",
        Some("554733000001"),
    )
    .await?;
    for (id, name, phone, key) in [
        (1, "Padaria Aurora", "(47) 99990-0011", "554799900011"),
        (2, "Marina Teste Souza", "11 98880-0022", "551188800022"),
    ] {
        let row = TenantRow {
            id,
            name: name.to_owned(),
            trade_name: None,
            person_type: "pj".to_owned(),
            phone: Some(phone.to_owned()),
            phone_match_key: Some(key.to_owned()),
            email: None,
        };
        import::tenant(conn, &row).await?;
        import::tenant_channel(conn, id, "pixel12digital", true).await?;
    }
    for (source_system, token, tenants) in [
        ("billing", BILLING_TOKEN, &[][..]),
        ("chat", CHAT_TOKEN, &[1]),
    ] {
        let key = NewCredential {
            source_system,
            label: "for tests",
            secret_sha256: sha2::Sha256::digest(token).into(),
            signing_secret: None,
            hint: "",
            tenants,
            event_types: &[],
            valid_until: None,
            replaces: None,
        };
        credentials::put(conn, &key).await?;
    }
    Ok(())
}
