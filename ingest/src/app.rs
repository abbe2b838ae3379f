//! Wires the process: what is built once, and what runs until the process stops.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use prometheus::Registry;
use shared::broker::management::Management;
use shared::broker::relay::Relay;
use shared::broker::{Session, outbox, witness};
use shared::runtime::batcher::{Batcher, BatcherConfig, WhenUnavailable};
use shared::runtime::clock::{Clock, SystemClock};
use shared::runtime::lifecycle::Lifecycle;
use shared::runtime::ops::{self, Check, Readiness};
use shared::runtime::telemetry::chain;
use shared::runtime::vitals::Vitals;
use shared::sealing::Keyring;
use shared::source::DoorSecrets;
use shared::store::config::DirectoryCache;
use shared::store::{pool, sealing_keys};
use shared::wpp::WppClient;
use sqlx::PgPool;
use tokio::net::TcpListener;

use crate::accept::Accept;
use crate::admin::{self, AdminState};
use crate::api::auth::Bootstrap;
use crate::api::refusals::LogRefusals;
use crate::api::uses::{self, Uses};
use crate::api::{self, ApiState};
use crate::cli::{Listeners, RunArgs};
use crate::guard::{self, Guard};
use crate::ledger::Auditor;
use crate::ledger_metrics::LedgerMetrics;
use crate::metrics::Metrics;
use crate::pixelhub::Upstream;
use crate::resealing::ResealingMetrics;
use crate::retention::{Retention, RetentionMetrics};
use crate::{gateway_webhook, housekeeping, resealing};

/// A caller waits for its answer: a statement that takes longer is answered 503.
const LONGEST_STATEMENT: Duration = Duration::from_secs(10);
/// The most events of one transaction.
const BATCH: usize = 200;
/// Requests to the gateway that register the webhook take no longer than this.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(30);
/// Readiness tells of fewer weeks of partitions ahead than these; without any it fails.
const WEEKS_AHEAD: i64 = 2;

/// A running ingest.
#[derive(Clone, Copy, Debug)]
pub struct App {
    /// Where the public listener really listens.
    pub public: Option<SocketAddr>,
    /// Where the operators' listener really listens.
    pub admin: Option<SocketAddr>,
    /// Where probes and metrics are.
    pub ops: SocketAddr,
}

impl App {
    /// Starts everything; it runs until the lifecycle stops it.
    ///
    /// # Errors
    /// A setting cannot be used, an address is taken, or migrations are pending. A database or a
    /// broker that is down is waited for.
    pub async fn start(args: RunArgs, lifecycle: &Lifecycle) -> anyhow::Result<Self> {
        let seals = args.sealing.keyring()?;
        let db = pool::open(&args.database, LONGEST_STATEMENT)?;
        let upstream = Upstream::new(&args.upstream, &args.outbound)?;
        for remark in args.remarks() {
            tracing::warn!("{remark}");
        }
        let ops_listener = bind(args.ops.ops_listen).await?;
        let public_listener = match args.listeners {
            Listeners::Public | Listeners::All => Some(bind(args.public_listen).await?),
            Listeners::Admin => None,
        };
        let admin_listener = match args.listeners {
            Listeners::Admin | Listeners::All => Some(bind(args.admin_listen).await?),
            Listeners::Public => None,
        };
        pool::await_prepared(&db, args.database.migrate).await?;
        sealing_keys::await_agreed(&db, &seals).await?;

        let registry = Registry::new();
        let metrics = Arc::new(Metrics::new(&registry)?);
        let vitals = Vitals::register(&registry, "ingest", env!("CARGO_PKG_VERSION"))?;
        let ledger_metrics = LedgerMetrics::register(&registry)?;
        let resealing_metrics = ResealingMetrics::register(&registry)?;
        let retention = Retention {
            pool: db.clone(),
            keep: args.keep,
            metrics: RetentionMetrics::register(&registry)?,
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let directory = DirectoryCache::start(db.clone(), lifecycle.stopping()).await?;
        if let Some(remark) = args.remark_about_keys(&directory.get(), clock.now()) {
            tracing::warn!("{remark}");
        }
        let session = Session::start(
            &args.broker.config("ingest")?,
            &lifecycle.links.tasks,
            &lifecycle.links.stop,
        )?;
        let links = (&lifecycle.links.tasks, &lifecycle.links.stop);
        let management = Management::start(&args.broker, &registry, links)?;
        witness::register(&registry, &session, Vec::new())?;
        let relay = outbox::start_relay(&session, db.clone(), &registry, &lifecycle.relay)?;
        let auditor = Auditor::new(db.clone(), session.clone());

        let app = Self {
            public: public_listener
                .as_ref()
                .map(TcpListener::local_addr)
                .transpose()?,
            admin: admin_listener
                .as_ref()
                .map(TcpListener::local_addr)
                .transpose()?,
            ops: ops_listener.local_addr()?,
        };
        let guard = Arc::new(Guard::new(&args.guard, &registry)?);
        let readiness = readiness(db.clone(), session.clone(), management);
        lifecycle.links.tasks.spawn(ops::serve(
            ops_listener,
            registry,
            readiness,
            lifecycle.links.stop.clone(),
        ));
        lifecycle.spawn(housekeeping::clean(
            retention,
            (Arc::clone(&metrics), vitals.beat("clean")),
            lifecycle.stopping(),
        ));
        lifecycle.spawn(housekeeping::audit(
            auditor.clone(),
            ledger_metrics,
            vitals.beat("ledger"),
            lifecycle.stopping(),
        ));
        if seals.active().is_some() {
            lifecycle.spawn(resealing::run(
                db.clone(),
                seals.clone(),
                (resealing_metrics, vitals.beat("reseal")),
                lifecycle.stopping(),
            ));
        }
        lifecycle.spawn(pool::watch(
            db.clone(),
            vitals.database_up(),
            lifecycle.stopping(),
        ));
        if let Some(listener) = public_listener {
            lifecycle.spawn(guard::keep(
                Arc::clone(&guard),
                db.clone(),
                lifecycle.stopping(),
            ));
            let state = api_state(
                &args,
                (db.clone(), seals.clone(), directory),
                (guard, upstream),
                (relay.clone(), clock, Arc::clone(&metrics)),
                lifecycle,
            );
            lifecycle.spawn(serve(listener, api::router(state), lifecycle.clone()));
            register_webhook(&args, lifecycle)?;
        }
        if let Some(listener) = admin_listener {
            let secrets = Arc::new(DoorSecrets::new(args.admin_token.clone(), None));
            let state = AdminState {
                pool: db,
                secrets,
                relay,
                metrics,
                auditor,
                seals,
            };
            lifecycle.spawn(serve(listener, admin::router(state), lifecycle.clone()));
        }
        tracing::info!(public = ?app.public, admin = ?app.admin, ops = %app.ops, "ingest is serving");
        Ok(app)
    }
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))
}

fn api_state(
    args: &RunArgs,
    (db, seals, directory): (PgPool, Keyring, DirectoryCache),
    (guard, upstream): (Arc<Guard>, Upstream),
    (relay, clock, metrics): (Relay, Arc<dyn Clock>, Arc<Metrics>),
    lifecycle: &Lifecycle,
) -> ApiState {
    let batcher = |name| BatcherConfig {
        name,
        max_items: BATCH,
        when_unavailable: WhenUnavailable::Tell,
    };
    let accept = Accept {
        pool: db.clone(),
        relay,
        seals: seals.clone(),
    };
    let refusals = LogRefusals { pool: db.clone() };
    let uses = Arc::new(Uses::default());
    lifecycle.spawn(uses::write(
        Arc::clone(&uses),
        db.clone(),
        lifecycle.stopping(),
    ));
    ApiState {
        accept: Batcher::start(accept, batcher("accept"), &lifecycle.work.tasks),
        refusals: Batcher::start(refusals, batcher("refusals"), &lifecycle.work.tasks),
        pool: db,
        seals,
        directory,
        bootstrap: Arc::new(Bootstrap {
            secrets: args.bootstrap_secrets(),
            sources: args.event_ingestion_sources.clone(),
        }),
        gateway_secrets: Arc::new(args.gateway_secrets()),
        status_secrets: Arc::new(args.status_secrets()),
        uses,
        guard,
        upstream,
        asaas_secrets: Arc::new(args.asaas_secrets()),
        clock,
        metrics,
    }
}

fn register_webhook(args: &RunArgs, lifecycle: &Lifecycle) -> anyhow::Result<()> {
    let (Some(url), Some(secret), Ok(config)) = (
        &args.whatsapp_webhook_url,
        &args.gateway_webhook_secret,
        args.wpp.config(REGISTER_TIMEOUT, &args.outbound),
    ) else {
        return Ok(());
    };
    let client = WppClient::new(&config)?;
    lifecycle.spawn(gateway_webhook::register(
        client,
        url.clone(),
        secret.clone(),
        lifecycle.stopping(),
    ));
    Ok(())
}

/// Serves until the process stops; requests that came before are answered.
async fn serve(listener: TcpListener, router: Router, lifecycle: Lifecycle) {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let served = axum::serve(listener, service)
        .with_graceful_shutdown(lifecycle.stopping().cancelled_owned());
    if let Err(error) = served.await {
        tracing::error!(error = %chain(&error), "a listener ended");
        lifecycle.work.stop.cancel();
    }
}

/// Ready means: what is posted can be stored. The broker's state is told, but a broker that is
/// down is no reason to send callers away: the outbox holds what they post.
fn readiness(db: PgPool, session: Session, management: Management) -> Readiness {
    Arc::new(move || {
        let (db, session) = (db.clone(), session.clone());
        // Told like the broker's state: nothing about it keeps ingest from storing what is posted.
        let stream_queue = Check {
            ok: true,
            ..management.check()
        };
        Box::pin(async move {
            let weeks = async { pool::weeks_ahead(&mut *db.acquire().await?).await }.await;
            let (database, weeks) = match weeks {
                Ok(weeks) => (None, weeks),
                Err(error) => (Some(chain(&error)), WEEKS_AHEAD),
            };
            let partitions = if weeks < WEEKS_AHEAD {
                format!("{weeks} weeks of partitions ahead")
            } else {
                String::new()
            };
            vec![
                Check::from_fault("database", database),
                Check {
                    name: "partitions",
                    ok: weeks >= 1,
                    detail: partitions,
                },
                Check {
                    name: "broker",
                    ok: true,
                    detail: session.publishing().borrow().as_str().to_owned(),
                },
                stream_queue,
            ]
        })
    })
}
