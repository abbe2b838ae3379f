//! Wires the process: what is built once, and what runs until the process stops.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use prometheus::Registry;
use shared::broker::burial::Burial;
use shared::broker::by_hand::ByHand;
use shared::broker::management::Management;
use shared::broker::reconcile::{self, Subjects};
use shared::broker::relay::Relay;
use shared::broker::tidy::Tidy;
use shared::broker::{ConsumerConfig, ConsumerView, Queue, Session, consume, outbox, witness};
use shared::domain::channel::Channel;
use shared::domain::message::WorkQueue;
use shared::runtime::batcher::{Batcher, BatcherConfig, WhenUnavailable};
use shared::runtime::clock::{Clock, SystemClock};
use shared::runtime::lifecycle::Lifecycle;
use shared::runtime::ops;
use shared::runtime::vitals::Vitals;
use shared::sealing::Keyring;
use shared::store::{pool, sealing_keys};
use shared::wpp::WppClient;
use sqlx::PgPool;
use tokio::net::TcpListener;

use crate::cli::RunArgs;
use crate::consume::{ChatHandler, IntakeHandler, ReceiptHandler, WhatsappHandler};
use crate::deliver::{Claim, DeliverChat, WhatsappSender, lease};
use crate::early::EarlyReceipts;
use crate::metrics::Metrics;
use crate::reaper::Reaper;
use crate::receipt::ApplyReceipts;
use crate::record::Record;
use crate::release::Releaser;
use crate::retry::RetryPolicy;
use crate::slots::Slots;
use crate::{dispatch, session};

/// No batch of ours takes longer while the database is well.
const LONGEST_STATEMENT: Duration = Duration::from_secs(30);
/// The most items of one transaction.
const BATCH: usize = 200;
/// The most messages of one queue that are taken and not acked.
const PREFETCH: u16 = 1000;
/// The most of them that wait for a place to send from: half, so that the other half is always
/// there for what can be claimed or held at once.
const WAITING: usize = PREFETCH as usize / 2;

/// A running delivery-worker.
#[derive(Clone, Copy, Debug)]
pub struct App {
    /// Where probes and metrics are.
    pub ops: SocketAddr,
}

/// What all parts share.
struct Parts {
    args: RunArgs,
    db: PgPool,
    session: Session,
    relay: Relay,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    client: WppClient,
    receipts: Batcher<ApplyReceipts>,
    seals: Keyring,
    worker: String,
}

impl App {
    /// Starts everything; it runs until the lifecycle stops it.
    ///
    /// # Errors
    /// A setting cannot be used, an address is taken, or migrations are pending. A database, a
    /// broker or a gateway that is down is waited for.
    pub async fn start(args: RunArgs, lifecycle: &Lifecycle) -> anyhow::Result<Self> {
        let seals = args.sealing.keyring()?;
        let db = pool::open(&args.database, LONGEST_STATEMENT)?;
        let client = WppClient::new(
            &args
                .wpp
                .config(args.event_processing_timeout, &args.outbound)?,
        )?;
        let listener = TcpListener::bind(args.ops.ops_listen)
            .await
            .with_context(|| format!("cannot listen on {}", args.ops.ops_listen))?;
        pool::await_prepared(&db, args.database.migrate).await?;
        sealing_keys::await_agreed(&db, &seals).await?;

        let registry = Registry::new();
        let metrics = Arc::new(Metrics::new(&registry)?);
        let vitals = Vitals::register(&registry, "delivery-worker", env!("CARGO_PKG_VERSION"))?;
        lifecycle.spawn(pool::watch(
            db.clone(),
            vitals.database_up(),
            lifecycle.stopping(),
        ));
        let config = args.broker.config("delivery-worker")?;
        let session = Session::start(&config, &lifecycle.links.tasks, &lifecycle.links.stop)?;
        let links = (&lifecycle.links.tasks, &lifecycle.links.stop);
        let management = Management::start(&args.broker, &registry, links)?;
        let relay = outbox::start_relay(&session, db.clone(), &registry, &lifecycle.relay)?;
        let apply = ApplyReceipts {
            pool: db.clone(),
            relay: relay.clone(),
            metrics: Arc::clone(&metrics),
            seals: seals.clone(),
        };
        let receipts = Batcher::start(apply, batcher("receipts"), &lifecycle.work.tasks);
        let app = Self {
            ops: listener.local_addr()?,
        };
        let parts = Parts {
            worker: format!("delivery-worker@{}", app.ops),
            args,
            db: db.clone(),
            session: session.clone(),
            relay,
            clock: Arc::new(SystemClock),
            metrics,
            client,
            receipts,
            seals,
        };
        let views = start_consumers(&parts, lifecycle);
        start_loops(&parts, &views, (&registry, &vitals), lifecycle)?;
        witness::register(&registry, &session, views.clone())?;
        let views = views.into_iter().map(|view| view.1).collect();
        let readiness = reconcile::readiness(db, (session, management), views);
        lifecycle.links.tasks.spawn(ops::serve(
            listener,
            registry,
            readiness,
            lifecycle.links.stop.clone(),
        ));
        tracing::info!(ops = %app.ops, "delivery-worker is delivering");
        Ok(app)
    }
}

const fn batcher(name: &'static str) -> BatcherConfig {
    BatcherConfig {
        name,
        max_items: BATCH,
        when_unavailable: WhenUnavailable::Hold,
    }
}

/// Starts all consumers; answers their views, that of the letters' intake among them.
fn start_consumers(parts: &Parts, lifecycle: &Lifecycle) -> Vec<(Queue, ConsumerView)> {
    let burial = Burial::new(
        parts.db.clone(),
        parts.relay.clone(),
        Arc::clone(&parts.clock),
        parts.metrics.letters.clone(),
    );
    let by_hand = ByHand::new(
        parts.db.clone(),
        parts.relay.clone(),
        parts.metrics.letters.clone(),
    );
    let tasks = &lifecycle.work.tasks;
    let mut views = Vec::new();
    let mut config = |queue: Queue| {
        let config = ConsumerConfig::new(queue, PREFETCH, &parts.worker);
        views.push((queue, config.view.clone()));
        config
    };
    let whatsapp = Arc::new(WhatsappHandler {
        sender: sender(parts, lifecycle),
        burial: burial.clone(),
        by_hand: by_hand.clone(),
    });
    let chat = DeliverChat {
        pool: parts.db.clone(),
        worker: parts.worker.clone(),
        relay: parts.relay.clone(),
        clock: Arc::clone(&parts.clock),
        metrics: Arc::clone(&parts.metrics),
        seals: parts.seals.clone(),
    };
    let chat = Arc::new(ChatHandler {
        chat: Batcher::start(chat, batcher("chat"), tasks),
        burial: burial.clone(),
        by_hand: by_hand.clone(),
    });
    let receipts = Arc::new(ReceiptHandler {
        receipts: parts.receipts.clone(),
        burial: burial.clone(),
        by_hand,
    });
    let session = || parts.session.clone();
    let stop = || lifecycle.stopping();
    tasks.spawn(consume(
        session(),
        config(Queue::Work(WorkQueue::Deliver(Channel::Whatsapp))),
        whatsapp,
        stop(),
    ));
    tasks.spawn(consume(
        session(),
        config(Queue::Work(WorkQueue::Deliver(Channel::Chat))),
        chat,
        stop(),
    ));
    tasks.spawn(consume(
        session(),
        config(Queue::Work(WorkQueue::Receipts)),
        receipts,
        stop(),
    ));
    let intake = config(Queue::Intake);
    tasks.spawn(consume(
        session(),
        intake,
        Arc::new(IntakeHandler { burial }),
        stop(),
    ));
    views
}

fn sender(parts: &Parts, lifecycle: &Lifecycle) -> WhatsappSender {
    let tasks = &lifecycle.work.tasks;
    let lease = lease(parts.args.event_processing_timeout);
    let claim = Claim {
        pool: parts.db.clone(),
        worker: parts.worker.clone(),
        lease,
        seals: parts.seals.clone(),
    };
    let record = Record {
        pool: parts.db.clone(),
        relay: parts.relay.clone(),
        clock: Arc::clone(&parts.clock),
        metrics: Arc::clone(&parts.metrics),
        early: EarlyReceipts::start(parts.db.clone(), parts.receipts.clone(), tasks),
    };
    WhatsappSender {
        client: parts.client.clone(),
        claim: Batcher::start(claim, batcher("claim"), tasks),
        record: Batcher::start(record, batcher("record"), tasks),
        policy: RetryPolicy {
            base: parts.args.retry_base.of(Channel::Whatsapp),
            longest: parts.args.retry_longest.of(Channel::Whatsapp),
        },
        slots: Slots::new(usize::from(parts.args.delivery_concurrency), WAITING),
        tasks: tasks.clone(),
        stopping: lifecycle.stopping(),
        metrics: Arc::clone(&parts.metrics),
    }
}

fn start_loops(
    parts: &Parts,
    views: &[(Queue, ConsumerView)],
    (registry, vitals): (&Registry, &Vitals),
    lifecycle: &Lifecycle,
) -> anyhow::Result<()> {
    let (db, relay) = (|| parts.db.clone(), || parts.relay.clone());
    let stop = || lifecycle.stopping();
    lifecycle.spawn(dispatch::run(db(), relay(), vitals.beat("due"), stop()));
    let releaser = Releaser::new(db(), relay(), Arc::clone(&parts.metrics), &parts.worker);
    lifecycle.spawn(releaser.run(vitals.beat("release"), stop()));
    lifecycle.spawn(dispatch::bind_late(
        db(),
        parts.receipts.clone(),
        vitals.beat("bind"),
        stop(),
    ));
    let reaper = Reaper {
        pool: db(),
        relay: relay(),
        clock: Arc::clone(&parts.clock),
        metrics: Arc::clone(&parts.metrics),
        silence: parts.args.unknown_silence,
        beat: vitals.beat("reaper"),
    };
    lifecycle.spawn(reaper.run(stop()));
    let tidy = Tidy::new(parts.session.clone(), db(), parts.metrics.letters.clone());
    lifecycle.spawn(tidy.run(stop()));
    lifecycle.spawn(session::run(
        db(),
        parts.client.clone(),
        Arc::clone(&parts.metrics),
        vitals.beat("sessions"),
        stop(),
    ));
    for (queue, view) in views {
        let subjects = match queue {
            Queue::Work(WorkQueue::Deliver(channel)) => Subjects::Deliveries(*channel),
            Queue::Work(WorkQueue::Receipts) => Subjects::Receipts,
            Queue::Work(WorkQueue::Route) | Queue::Dead(_) | Queue::Intake => continue,
        };
        let reconciler = reconcile::Reconciler::new(
            subjects,
            parts.session.clone(),
            view.clone(),
            (db(), relay()),
            (registry, vitals),
        )?;
        lifecycle.spawn(reconciler.run(stop()));
    }
    Ok(())
}
