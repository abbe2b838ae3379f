//! The database can rebuild the broker (design §1.8): work that should have a message there and
//! has none gets a new one. Also the readiness of a worker, which asks the same witnesses.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use prometheus::{IntCounter, IntGauge, Opts, Registry};
use sqlx::{Connection, PgPool};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::consumer::{ConsumerState, ConsumerView};
use super::health::{self, queue_is_empty};
use super::management::Management;
use super::relay::Relay;
use super::session::Session;
use super::topology::Queue;
use crate::domain::channel::Channel;
use crate::domain::ids::{DeliveryId, EventId, ReceiptId, TenantId, TraceId};
use crate::domain::message::{Labels, Work, WorkMessage, WorkQueue};
use crate::runtime::clock::{Clock, SystemClock};
use crate::runtime::ops::{Check, Readiness};
use crate::runtime::telemetry::chain;
use crate::runtime::vitals::{Beat, Vitals};
use crate::store::deliveries::DueDelivery;
use crate::store::outbox::{self, NewMessage};
use crate::store::reconcile::{LostEvent, LostReceipt};
use crate::store::replans::{self, LostReplan};
use crate::store::{StoreResult, pool, reconcile};

/// How often is looked, besides at once after a gap.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How often is looked after a gap, until all that was published before it is accounted for.
const AFTER_GAP_EVERY: Duration = Duration::from_secs(2);
/// How much older than the newest message taken work must be to count as lost.
const MARGIN: Duration = Duration::from_secs(60);
/// The most subjects of one look.
const PAGE: i64 = 1000;

/// What a worker looks after.
#[derive(Clone, Copy, Debug)]
pub enum Subjects {
    /// Events without a routing.
    Events,
    /// Deliveries of a channel without an attempt.
    Deliveries(Channel),
    /// Receipts that were not applied.
    Receipts,
}

impl Subjects {
    const fn queue(self) -> WorkQueue {
        match self {
            Self::Events => WorkQueue::Route,
            Self::Deliveries(channel) => WorkQueue::Deliver(channel),
            Self::Receipts => WorkQueue::Receipts,
        }
    }

    const fn loop_name(self) -> &'static str {
        match self {
            Self::Events => "reconcile_events",
            Self::Deliveries(Channel::Whatsapp) => "reconcile_whatsapp",
            Self::Deliveries(Channel::Chat) => "reconcile_chat",
            Self::Deliveries(Channel::Email) => "reconcile_email",
            Self::Receipts => "reconcile_receipts",
        }
    }
}

/// Looks after one kind of subject.
pub struct Reconciler {
    subjects: Subjects,
    session: Session,
    view: ConsumerView,
    pool: PgPool,
    relay: Relay,
    orphans: IntGauge,
    recovered: IntCounter,
    /// Events have no row that remembers a second dispatch, so this process does.
    again: HashMap<Uuid, Instant>,
    beat: Beat,
}

impl Reconciler {
    /// A reconciler for the subjects of a consumer.
    ///
    /// # Errors
    /// A metric's name is taken on the registry.
    pub fn new(
        subjects: Subjects,
        session: Session,
        view: ConsumerView,
        (pool, relay): (PgPool, Relay),
        (registry, vitals): (&Registry, &Vitals),
    ) -> Result<Self, prometheus::Error> {
        let queue = subjects.queue().name();
        let orphans = IntGauge::with_opts(
            Opts::new(
                "hub_orphans",
                "Work found without a message at the last look; 0 at rest.",
            )
            .const_label("queue", queue),
        )?;
        let recovered = IntCounter::with_opts(
            Opts::new(
                "hub_orphans_recovered_total",
                "Work that got a new message because its own was lost.",
            )
            .const_label("queue", queue),
        )?;
        registry.register(Box::new(orphans.clone()))?;
        registry.register(Box::new(recovered.clone()))?;
        Ok(Self {
            subjects,
            session,
            view,
            pool,
            relay,
            orphans,
            recovered,
            again: HashMap::new(),
            beat: vitals.beat(subjects.loop_name()),
        })
    }

    /// Looks until `stopping`.
    pub async fn run(mut self, stopping: CancellationToken) {
        let mut gaps = self.session.gaps();
        let mut last_look = Instant::now();
        // When the broker may have lost what it had, until all of that time is accounted for.
        let mut gap: Option<DateTime<Utc>> = None;
        loop {
            let pause = if gap.is_some() {
                AFTER_GAP_EVERY
            } else {
                LOOK_EVERY.saturating_sub(last_look.elapsed())
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                changed = gaps.changed() => if changed.is_ok() {
                    gap = Some(SystemClock.now());
                },
                () = stopping.cancelled() => return,
            }
            let looked = match gap {
                Some(at) if last_look.elapsed() < LOOK_EVERY => {
                    self.look_behind(at).await.map(|accounted| {
                        gap = gap.filter(|_| !accounted);
                    })
                }
                _ => {
                    last_look = Instant::now();
                    self.look().await
                }
            };
            match looked {
                Ok(()) => self.beat.now(),
                Err(error) => {
                    tracing::warn!(queue = self.subjects.queue().name(), error = %chain(&error), "lost work cannot be looked for, trying again");
                }
            }
        }
    }

    async fn look(&mut self) -> StoreResult<()> {
        match self.watermark().await {
            Some(mark) => self.recover(mark - MARGIN).await,
            None => Ok(()),
        }
    }

    /// After a gap nothing proves that the broker has kept anything, so nothing published before it
    /// is left a margin. What the queue still has is taken in the order it was published: once
    /// something newer than the gap was taken, whatever is older and not held is lost. Answers
    /// whether that time has come.
    async fn look_behind(&mut self, gap: DateTime<Utc>) -> StoreResult<bool> {
        let Some(mark) = self.watermark().await else {
            return Ok(false);
        };
        self.recover(mark.min(gap)).await?;
        Ok(mark >= gap)
    }

    /// Gives work that was dispatched before that time and has no message a new one.
    async fn recover(&mut self, before: DateTime<Utc>) -> StoreResult<()> {
        let found = match self.subjects {
            Subjects::Events => self.events(before).await? + self.replans(before).await?,
            Subjects::Deliveries(channel) => self.deliveries(channel, before).await?,
            Subjects::Receipts => self.receipts(before).await?,
        };
        self.orphans.set(i64::try_from(found).unwrap_or(i64::MAX));
        if found > 0 {
            self.recovered.inc_by(found as u64);
            tracing::warn!(
                queue = self.subjects.queue().name(),
                found,
                "work without a message got a new one"
            );
        }
        Ok(())
    }

    /// Up to when everything published has been seen: now for an empty queue, else the newest
    /// message taken. Unknown while the broker cannot be asked.
    async fn watermark(&self) -> Option<DateTime<Utc>> {
        let now = SystemClock.now();
        let empty = queue_is_empty(&self.session, Queue::Work(self.subjects.queue()))
            .await
            .ok()?;
        let settled = if empty {
            Some(now)
        } else {
            self.view
                .newest_taken_ms()
                .and_then(DateTime::from_timestamp_millis)
        };
        let held = self
            .view
            .oldest_unsettled_ms()
            .and_then(DateTime::from_timestamp_millis);
        // What this consumer holds unsettled is not lost.
        settled.map(|settled| held.map_or(settled, |held| settled.min(held)))
    }

    async fn events(&mut self, before: DateTime<Utc>) -> StoreResult<usize> {
        self.again.retain(|_, at| at.elapsed() < MARGIN * 2);
        let mut conn = self.pool.acquire().await?;
        let (mut after, mut undecided, mut found) = (Uuid::nil(), false, 0);
        loop {
            let lost = reconcile::lost_events(&mut conn, before, after, PAGE).await?;
            let Some(last) = lost.last() else { break };
            (after, undecided) = (last.id, true);
            let fresh: Vec<_> = lost
                .into_iter()
                .filter(|event| !self.again.contains_key(&event.id))
                .collect();
            let rows =
                outbox::insert(&mut conn, fresh.iter().filter_map(event_message).collect()).await?;
            found += rows.len();
            self.relay.hand_over(rows);
            self.again
                .extend(fresh.iter().map(|event| (event.id, Instant::now())));
        }
        if !undecided {
            reconcile::remember_decided(&mut conn, before).await?;
        }
        Ok(found)
    }

    /// What a redrive asked the router for, and no message asks for any more.
    async fn replans(&self, before: DateTime<Utc>) -> StoreResult<usize> {
        let mut conn = self.pool.acquire().await?;
        let mut tx = conn.begin().await?;
        let deliveries = replans::take_lost_deliveries(&mut tx, before, PAGE).await?;
        let events = replans::take_lost_events(&mut tx, before, PAGE).await?;
        let of_deliveries = deliveries.iter().filter_map(|lost| {
            let work = Work::Replan {
                delivery_id: DeliveryId(lost.subject_id),
                generation: lost.generation,
            };
            replan_message(lost, work)
        });
        let of_events = events.iter().filter_map(|lost| {
            let work = Work::Route {
                event_id: EventId(lost.subject_id),
                run: lost.run,
                generation: lost.generation,
            };
            replan_message(lost, work)
        });
        let messages = of_deliveries.chain(of_events).collect();
        let rows = outbox::insert(&mut tx, messages).await?;
        tx.commit().await?;
        let found = rows.len();
        self.relay.hand_over(rows);
        Ok(found)
    }

    async fn deliveries(&self, channel: Channel, before: DateTime<Utc>) -> StoreResult<usize> {
        let mut conn = self.pool.acquire().await?;
        let mut found = 0;
        loop {
            let mut tx = conn.begin().await?;
            let lost =
                reconcile::take_lost_deliveries(&mut tx, channel.as_str(), before, PAGE).await?;
            let messages = lost
                .iter()
                .filter_map(DueDelivery::message)
                .map(|message| NewMessage::work(&message))
                .collect();
            let rows = outbox::insert(&mut tx, messages).await?;
            tx.commit().await?;
            self.relay.hand_over(rows);
            found += lost.len();
            if lost.is_empty() {
                return Ok(found);
            }
        }
    }

    async fn receipts(&self, before: DateTime<Utc>) -> StoreResult<usize> {
        let mut conn = self.pool.acquire().await?;
        let mut found = 0;
        loop {
            let mut tx = conn.begin().await?;
            let lost = reconcile::take_lost_receipts(&mut tx, before, PAGE).await?;
            let messages = lost.iter().map(receipt_message).collect();
            let rows = outbox::insert(&mut tx, messages).await?;
            tx.commit().await?;
            self.relay.hand_over(rows);
            found += lost.len();
            if lost.is_empty() {
                return Ok(found);
            }
        }
    }
}

fn event_message(event: &LostEvent) -> Option<NewMessage> {
    let labels = Labels {
        event_type: event.event_type.clone(),
        source: event.source_system.clone(),
        tenant_id: event.tenant_id.map(TenantId),
        ..Labels::default()
    };
    let trace_id = event.trace_id.parse().ok()?;
    Some(NewMessage::work(&WorkMessage::route(
        EventId(event.id),
        trace_id,
        labels,
    )))
}

fn replan_message(lost: &LostReplan, work: Work) -> Option<NewMessage> {
    let labels = Labels {
        event_type: lost.event_type.clone(),
        source: lost.source_system.clone(),
        tenant_id: lost.tenant_id.map(TenantId),
        template: lost.template_key.clone(),
        ..Labels::default()
    };
    let message = WorkMessage::new(work, lost.trace_id.parse().ok()?, labels);
    Some(NewMessage::work(&message))
}

fn receipt_message(receipt: &LostReceipt) -> NewMessage {
    let trace_id = receipt
        .trace_id
        .parse()
        .unwrap_or_else(|_| TraceId::generate());
    let work = Work::ApplyReceipt {
        receipt_id: ReceiptId(receipt.id),
        generation: receipt.generation,
    };
    NewMessage::work(&WorkMessage::new(work, trace_id, Labels::default()))
}

/// The readiness of a worker: its database answers, its broker is reached, its queues exist and it
/// consumes them.
#[must_use]
pub fn readiness(
    pool: PgPool,
    (session, management): (Session, Management),
    views: Vec<ConsumerView>,
) -> Readiness {
    let views = Arc::new(views);
    Arc::new(move || {
        let (pool, session, views) = (pool.clone(), session.clone(), Arc::clone(&views));
        let stream_queue = management.check();
        Box::pin(async move {
            let database = pool::ping(&pool).await.err().map(|error| chain(&error));
            let broker = health::check(&session).await;
            let fault = (!broker.is_ready()).then(|| {
                format!(
                    "publishing {}, consuming {}, missing {:?}",
                    broker.publishing.as_str(),
                    broker.consuming.as_str(),
                    broker.missing
                )
            });
            let idle = views
                .iter()
                .filter(|view| view.state() == ConsumerState::Down)
                .count();
            let consumers =
                (idle > 0).then(|| format!("{idle} of {} queues are not consumed", views.len()));
            vec![
                Check::from_fault("database", database),
                Check::from_fault("broker", fault),
                Check::from_fault("consumers", consumers),
                stream_queue,
            ]
        })
    })
}
