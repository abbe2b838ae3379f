//! A Posto of its own for one trial: a fresh database, fresh queues, and every service a process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};

use super::arrivals::Gateway;
use super::post::Target;
use super::processes::Watched;
use crate::service::{Program, Service, free_address};
use crate::world::{
    ADMIN_TOKEN, BILLING_TOKEN, GATEWAY_SECRET, WEBHOOK_SECRET, import_reference_data,
};

/// The longest wait for a service to be ready, or for the ledger to come to rest.
const BOUND: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Sends of one delivery-worker at one time. The usual number is what a real gateway bears; here the
/// worker is measured, not the gateway.
const CONCURRENCY: u16 = 256;

/// The servers that a trial uses.
#[derive(Clone, Debug)]
pub struct Servers {
    /// PostgreSQL; the role may create databases.
    pub database_url: String,
    /// RabbitMQ.
    pub amqp_url: String,
    /// RabbitMQ's management plugin, with its credentials.
    pub management_url: String,
}

/// Where the services' executables are.
#[derive(Clone, Debug)]
pub enum Programs {
    /// One executable each, in this folder.
    Folder(PathBuf),
    /// One for all three services, told by its first argument, and the simulator's.
    One {
        /// That of the services.
        service: PathBuf,
        /// That of the simulator.
        gateway_sim: PathBuf,
    },
}

impl Programs {
    /// Migrates a database with the program that will use it.
    fn migrate(&self, database_url: &str) -> anyhow::Result<()> {
        let ingest = self.of("ingest");
        let arguments = ingest
            .arguments
            .iter()
            .filter(|argument| **argument != "run");
        let output = std::process::Command::new(&ingest.path)
            .args(arguments)
            .arg("migrate")
            .env("DATABASE_URL", database_url)
            .output()
            .with_context(|| format!("{}", ingest.path.display()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ingest migrate: {said}");
        Ok(())
    }

    fn of(&self, name: &'static str) -> Program {
        let (path, arguments) = match (self, name) {
            (Self::Folder(folder), "gateway-sim") => (folder.join(name), Vec::new()),
            (Self::Folder(folder), _) => (folder.join(name), vec!["run"]),
            (Self::One { gateway_sim, .. }, "gateway-sim") => (gateway_sim.clone(), Vec::new()),
            (Self::One { service, .. }, _) => (service.clone(), vec![name, "run"]),
        };
        Program {
            name,
            path,
            arguments,
        }
    }
}

/// How many of each worker there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Workers {
    /// router-workers
    pub routers: usize,
    /// delivery-workers
    pub deliverers: usize,
}

/// See the module.
#[derive(Debug)]
pub struct Fleet {
    /// The trial's own connection to its database.
    pub db: PgPool,
    /// The simulator.
    pub gateway: Gateway,
    http: reqwest::Client,
    servers: Servers,
    database: String,
    prefix: String,
    logs: PathBuf,
    api: String,
    admin: String,
    sim: Service,
    ingest: Service,
    workers: Vec<Service>,
}

impl Fleet {
    /// Everything started but the workers.
    ///
    /// # Errors
    /// A server cannot be used, or a program is not where it should be.
    pub async fn start(
        servers: &Servers,
        programs: &Programs,
        workers: Workers,
        logs: &Path,
    ) -> anyhow::Result<Self> {
        let database = format!("posto_load_{}", uuid::Uuid::new_v4().simple());
        execute(
            &servers.database_url,
            &format!("create database {database}"),
        )
        .await?;
        let (base, _) = servers
            .database_url
            .rsplit_once('/')
            .context("the address names a database")?;
        let url = format!("{base}/{database}");
        // As the login, behind every fence.
        let db = PgPoolOptions::new().max_connections(2).connect_lazy(&url)?;
        programs.migrate(&url)?;
        import_reference_data(&db).await?;
        let logs = logs.join(&database);
        std::fs::create_dir_all(&logs)?;
        let prefix = format!("l{}.", uuid::Uuid::new_v4().simple());
        let (public, admin, gateway) = (free_address(), free_address(), free_address());
        let api = format!("http://{public}");
        let common = vec![
            ("DATABASE_URL", url),
            ("AMQP_URL", servers.amqp_url.clone()),
            ("AMQP_PREFIX", prefix.clone()),
        ];
        let with = |more: Vec<(&'static str, String)>| [common.clone(), more].concat();
        let sim = Service::new(
            programs.of("gateway-sim"),
            &logs,
            vec![
                ("SIM_LISTEN", gateway.to_string()),
                ("WPP_GATEWAY_SECRET", GATEWAY_SECRET.to_owned()),
                ("SIM_WEBHOOK_URL", format!("{api}/api/whatsapp/webhook")),
                ("SIM_WEBHOOK_SECRET", WEBHOOK_SECRET.to_owned()),
            ],
        );
        let ingest = Service::new(
            programs.of("ingest"),
            &logs,
            with(vec![
                ("PUBLIC_LISTEN", public.to_string()),
                ("ADMIN_LISTEN", admin.to_string()),
                ("POSTO_ADMIN_TOKEN", ADMIN_TOKEN.to_owned()),
                (
                    "PIXELHUB_WHATSAPP_WEBHOOK_SECRET",
                    WEBHOOK_SECRET.to_owned(),
                ),
            ]),
        );
        let gateway = format!("http://{gateway}");
        let sending = with(vec![
            ("WPP_GATEWAY_BASE_URL", gateway.clone()),
            ("OUTBOUND_ALLOW", "127.0.0.0/8".to_owned()),
            ("WPP_GATEWAY_SECRET", GATEWAY_SECRET.to_owned()),
            ("DELIVERY_CONCURRENCY", CONCURRENCY.to_string()),
        ]);
        let router = |_| Service::new(programs.of("router-worker"), &logs, common.clone());
        let deliverer = |_| Service::new(programs.of("delivery-worker"), &logs, sending.clone());
        let http = client()?;
        let mut fleet = Self {
            db,
            gateway: Gateway::new(http.clone(), gateway),
            http,
            servers: servers.clone(),
            database,
            prefix,
            api,
            admin: format!("http://{admin}"),
            sim,
            ingest,
            workers: (0..workers.routers)
                .map(router)
                .chain((0..workers.deliverers).map(deliverer))
                .collect(),
            logs,
        };
        fleet.sim.start();
        fleet.ingest.start();
        fleet.until_ready(&[fleet.ingest.ops()]).await?;
        Ok(fleet)
    }

    /// Starts the workers; does not wait for them.
    pub fn start_workers(&mut self) {
        for worker in &mut self.workers {
            worker.start();
        }
    }

    /// Waits until the workers are ready.
    ///
    /// # Errors
    /// One is not, within the bound.
    pub async fn workers_ready(&self) -> anyhow::Result<()> {
        let ops: Vec<_> = self.workers.iter().map(Service::ops).collect();
        self.until_ready(&ops).await
    }

    /// Where to post to.
    #[must_use]
    pub fn target(&self) -> Target {
        Target {
            url: self.api.clone(),
            token: BILLING_TOKEN.to_owned(),
        }
    }

    /// The services and servers that run, for their cost.
    ///
    /// # Errors
    /// A server does not tell its process, or it runs elsewhere.
    pub async fn watched(&self) -> anyhow::Result<Vec<Watched>> {
        let mut watched = vec![
            Watched {
                name: "load tool",
                pid: std::process::id(),
                tree: false,
                counted: false,
            },
            Watched {
                name: "gateway simulator",
                pid: self.sim.pid(),
                tree: false,
                counted: false,
            },
            Watched {
                name: "ingest",
                pid: self.ingest.pid(),
                tree: false,
                counted: true,
            },
            Watched {
                name: "PostgreSQL",
                pid: self.postmaster().await?,
                tree: true,
                counted: true,
            },
            Watched {
                name: "RabbitMQ",
                pid: self.broker().await?,
                tree: true,
                counted: true,
            },
        ];
        watched.extend(self.watched_workers());
        Ok(watched)
    }

    /// The workers that run.
    #[must_use]
    pub fn watched_workers(&self) -> Vec<Watched> {
        let running = self.workers.iter().filter(|worker| worker.runs());
        running
            .map(|worker| Watched {
                name: worker.name(),
                pid: worker.pid(),
                tree: false,
                counted: true,
            })
            .collect()
    }

    /// Whoever started the process that serves our connection.
    async fn postmaster(&self) -> anyhow::Result<u32> {
        let backend: i32 = sqlx::query_scalar("select pg_backend_pid()")
            .fetch_one(&self.db)
            .await?;
        let status = std::fs::read_to_string(format!("/proc/{backend}/status"))
            .context("PostgreSQL runs elsewhere")?;
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        Ok(parent.context("a process has a parent")?.trim().parse()?)
    }

    /// The plugin does not know it in the first seconds after a start.
    async fn broker(&self) -> anyhow::Result<u32> {
        let url = format!("{}/api/nodes", self.servers.management_url);
        let begun = Instant::now();
        loop {
            let nodes: Value = self
                .http
                .get(&url)
                .send()
                .await?
                .error_for_status()?
                .json()
                .await?;
            if let Some(pid) = nodes.pointer("/0/os_pid").and_then(Value::as_str) {
                return Ok(pid.parse()?);
            }
            ensure!(
                begun.elapsed() < BOUND,
                "the broker does not tell its process"
            );
            tokio::time::sleep(LOOK_EVERY * 10).await;
        }
    }

    /// Waits until nothing is under way, and answers the ledger of that moment.
    ///
    /// # Errors
    /// It does not come to rest within the bound.
    pub async fn at_rest(&self) -> anyhow::Result<Value> {
        let begun = Instant::now();
        loop {
            let waiting: i64 = sqlx::query_scalar("select count(*) from outbox")
                .fetch_one(&self.db)
                .await?;
            if waiting == 0 {
                return self.ledger().await;
            }
            ensure!(
                begun.elapsed() < BOUND,
                "{waiting} messages stay in the outbox"
            );
            tokio::time::sleep(LOOK_EVERY * 10).await;
        }
    }

    async fn ledger(&self) -> anyhow::Result<Value> {
        let request = self
            .http
            .get(format!("{}/admin/ledger", self.admin))
            .bearer_auth(ADMIN_TOKEN);
        Ok(request.send().await?.error_for_status()?.json().await?)
    }

    /// Waits until a query that counts rows (`what`, `how_many`) answers just this, and answers it.
    ///
    /// # Errors
    /// It does not come to that within the bound: the message tells what there is instead.
    pub async fn until_rows(
        &self,
        query: &str,
        expected: &BTreeMap<String, i64>,
    ) -> anyhow::Result<BTreeMap<String, i64>> {
        let begun = Instant::now();
        loop {
            let rows: Vec<(String, i64)> = sqlx::query_as(AssertSqlSafe(query.to_owned()))
                .fetch_all(&self.db)
                .await?;
            let rows = rows.into_iter().collect();
            if rows == *expected {
                return Ok(rows);
            }
            ensure!(
                begun.elapsed() < BOUND,
                "expected {expected:?}, there are {rows:?}"
            );
            tokio::time::sleep(LOOK_EVERY * 10).await;
        }
    }

    /// The one number that a query answers.
    ///
    /// # Errors
    /// The query is none, or the database is away.
    pub async fn number(&self, query: &str) -> anyhow::Result<i64> {
        Ok(sqlx::query_scalar(AssertSqlSafe(query.to_owned()))
            .fetch_one(&self.db)
            .await?)
    }

    /// Runs statements on the trial's database.
    ///
    /// # Errors
    /// One fails.
    pub async fn run_sql(&self, statements: &str) -> anyhow::Result<()> {
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))
            .execute(&self.db)
            .await?;
        Ok(())
    }

    async fn until_ready(&self, ops: &[std::net::SocketAddr]) -> anyhow::Result<()> {
        let begun = Instant::now();
        for ops in ops {
            loop {
                let probe = self.http.get(format!("http://{ops}/readyz")).send().await;
                if probe.is_ok_and(|answer| answer.status().is_success()) {
                    break;
                }
                ensure!(
                    begun.elapsed() < BOUND,
                    "a service is not ready; its log is in {}",
                    self.logs.display()
                );
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    }

    /// Ends every process and leaves nothing behind but the logs.
    ///
    /// # Errors
    /// A server cannot be used any more.
    pub async fn end(mut self) -> anyhow::Result<()> {
        for worker in self.workers.iter_mut().filter(|worker| worker.runs()) {
            worker.stop().await;
        }
        self.ingest.stop().await;
        self.sim.stop().await;
        self.db.close().await;
        for what in ["queues", "exchanges"] {
            self.delete_all(what).await?;
        }
        execute(
            &self.servers.database_url,
            &format!("drop database {} with (force)", self.database),
        )
        .await?;
        std::fs::remove_dir_all(&self.logs)?;
        Ok(())
    }

    async fn delete_all(&self, what: &str) -> anyhow::Result<()> {
        let base = format!("{}/api/{what}/%2F", self.servers.management_url);
        let all: Vec<Value> = self
            .http
            .get(&base)
            .send()
            .await?
            .error_for_status()?
            .json()
            .await?;
        for name in all
            .iter()
            .filter_map(|it| it["name"].as_str())
            .filter(|name| name.starts_with(&self.prefix))
        {
            self.http.delete(format!("{base}/{name}")).send().await?;
        }
        Ok(())
    }
}

fn client() -> anyhow::Result<reqwest::Client> {
    // The workspace builds reqwest without one; an error means that it is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Ok(reqwest::Client::builder()
        .no_proxy()
        .timeout(BOUND)
        .build()?)
}

async fn execute(server: &str, statement: &str) -> anyhow::Result<()> {
    let mut conn = PgConnection::connect(server).await.context("PostgreSQL")?;
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
        .execute(&mut conn)
        .await?;
    Ok(conn.close().await?)
}
