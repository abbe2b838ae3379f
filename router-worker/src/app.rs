//! Wires the process: what is built once, and what runs until the process stops.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use prometheus::Registry;
use shared::broker::burial::Burial;
use shared::broker::by_hand::ByHand;
use shared::broker::management::Management;
use shared::broker::reconcile::{self, Subjects};
use shared::broker::{ConsumerConfig, Queue, Session, consume, outbox, witness};
use shared::domain::message::WorkQueue;
use shared::runtime::batcher::{Batcher, BatcherConfig, WhenUnavailable};
use shared::runtime::clock::{Clock, SystemClock};
use shared::runtime::lifecycle::Lifecycle;
use shared::runtime::ops;
use shared::runtime::vitals::Vitals;
use shared::store::config::DirectoryCache;
use shared::store::{pool, sealing_keys};
use tokio::net::TcpListener;

use crate::cli::RunArgs;
use crate::consume::RouteHandler;
use crate::metrics::Metrics;
use crate::reconsider::{Asked, Reconsider};
use crate::replan::Replan;
use crate::route::Route;

/// The most events of one transaction.
const BATCH: usize = 200;
/// The most messages that are taken and not acked.
const PREFETCH: u16 = 1000;

/// A running router-worker.
#[derive(Clone, Copy, Debug)]
pub struct App {
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
        let db = pool::open(&args.database, args.event_processing_timeout)?;
        let listener = TcpListener::bind(args.ops.ops_listen)
            .await
            .with_context(|| format!("cannot listen on {}", args.ops.ops_listen))?;
        pool::await_prepared(&db, args.database.migrate).await?;
        sealing_keys::await_agreed(&db, &seals).await?;

        let registry = Registry::new();
        let metrics = Arc::new(Metrics::new(&registry)?);
        let vitals = Vitals::register(&registry, "router-worker", env!("CARGO_PKG_VERSION"))?;
        lifecycle.spawn(pool::watch(
            db.clone(),
            vitals.database_up(),
            lifecycle.stopping(),
        ));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let directory = DirectoryCache::start(db.clone(), lifecycle.stopping()).await?;
        let config = args.broker.config("router-worker")?;
        let session = Session::start(&config, &lifecycle.links.tasks, &lifecycle.links.stop)?;
        let links = (&lifecycle.links.tasks, &lifecycle.links.stop);
        let management = Management::start(&args.broker, &registry, links)?;
        let relay = outbox::start_relay(&session, db.clone(), &registry, &lifecycle.relay)?;
        let app = Self {
            ops: listener.local_addr()?,
        };

        let asked = Asked::default();
        let route = || Route {
            pool: db.clone(),
            relay: relay.clone(),
            directory: directory.clone(),
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
            max_retries: args.max_event_retries.clone(),
            seals: seals.clone(),
            reconsider: asked.clone(),
        };
        let replan = Replan {
            pool: db.clone(),
            relay: relay.clone(),
            directory: directory.clone(),
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
            seals: seals.clone(),
        };
        let reconsider = Reconsider {
            pool: db.clone(),
            directory: directory.clone(),
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
            asked: asked.clone(),
            seals: seals.clone(),
        };
        lifecycle.spawn(reconsider.run(vitals.beat("reconsider"), lifecycle.stopping()));
        let handler = Arc::new(RouteHandler {
            route: Batcher::start(route(), batcher("route", BATCH), &lifecycle.work.tasks),
            alone: Batcher::start(route(), batcher("route_alone", 1), &lifecycle.work.tasks),
            replan: Batcher::start(replan, batcher("replan", BATCH), &lifecycle.work.tasks),
            burial: Burial::new(
                db.clone(),
                relay.clone(),
                Arc::clone(&clock),
                metrics.letters.clone(),
            ),
            by_hand: ByHand::new(db.clone(), relay.clone(), metrics.letters.clone()),
        });
        let name = format!("router-worker@{}", app.ops);
        let consumer = ConsumerConfig::new(Queue::Work(WorkQueue::Route), PREFETCH, &name);
        let view = consumer.view.clone();
        lifecycle.spawn(consume(
            session.clone(),
            consumer,
            handler,
            lifecycle.stopping(),
        ));
        let queue = Queue::Work(WorkQueue::Route);
        witness::register(&registry, &session, vec![(queue, view.clone())])?;
        let reconciler = reconcile::Reconciler::new(
            Subjects::Events,
            session.clone(),
            view.clone(),
            (db.clone(), relay),
            (&registry, &vitals),
        )?;
        lifecycle.spawn(reconciler.run(lifecycle.stopping()));
        let readiness = reconcile::readiness(db, (session, management), vec![view]);
        lifecycle.links.tasks.spawn(ops::serve(
            listener,
            registry,
            readiness,
            lifecycle.links.stop.clone(),
        ));
        tracing::info!(ops = %app.ops, "router-worker is routing");
        Ok(app)
    }
}

const fn batcher(name: &'static str, max_items: usize) -> BatcherConfig {
    BatcherConfig {
        name,
        max_items,
        when_unavailable: WhenUnavailable::Hold,
    }
}
