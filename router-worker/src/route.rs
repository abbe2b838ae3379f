//! The use case: load → normalise → decide → commit, a batch in one transaction. Idempotent by
//! (event, run): a decision that is stored already is never made again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;
use shared::broker::dead;
use shared::broker::relay::Relay;
use shared::domain::channel::PerChannel;
use shared::domain::delivery::DeliveryState;
use shared::domain::event::NormalisedEvent;
use shared::domain::ids::{DeliveryId, EventId, ReceiptId, RoutingId, TenantId};
use shared::domain::message::{Labels, Work, WorkMessage};
use shared::failpoint;
use shared::runtime::batcher::BatchJob;
use shared::runtime::clock::Clock;
use shared::sealing::Keyring;
use shared::store::config::DirectoryCache;
use shared::store::deliveries::NewDelivery;
use shared::store::events::{self, StoredEvent};
use shared::store::invoices::{self, OwnedCharge};
use shared::store::logs::{self, NewLog};
use shared::store::outbox::{self, NewMessage};
use shared::store::plans::{self, Durability, NewPlans, NewRouting};
use shared::store::receipts::NewReceipt;
use shared::store::{StoreError, replans, sessions};
use sqlx::{Connection, PgConnection, PgPool};
use uuid::Uuid;

use crate::decide::{Place, new_delivery, plan_of};
use crate::hearing::{Evidence, heard_of};
use crate::letters;
use crate::metrics::Metrics;
use crate::plan::{Planned, QUARANTINED};
use crate::recipient::TenantFinding;
use crate::reconsider::Asked;

/// A work message that asks for a decision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RouteRequest {
    pub(crate) event_id: EventId,
    pub(crate) run: i32,
    /// Above 0: a redrive asks for another decision in the place of the one that failed.
    pub(crate) generation: i32,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Routed {
    /// The decision is stored, now or before.
    Stored,
    /// There is no such event.
    NoSuchEvent,
}

/// The batch job that routes.
pub(crate) struct Route {
    pub(crate) pool: PgPool,
    pub(crate) relay: Relay,
    pub(crate) directory: DirectoryCache,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) max_retries: PerChannel<i32>,
    pub(crate) seals: Keyring,
    /// Told when it was learnt whose a charge is.
    pub(crate) reconsider: Asked,
}

/// One event's decision and all that follows from it.
struct Decided {
    routing: NewRouting,
    deliveries: Vec<NewDelivery>,
    receipt: Option<NewReceipt>,
    session: Option<(String, &'static str, String)>,
    heard: Option<(String, &'static str)>,
    learnt: Option<OwnedCharge>,
    received_at: chrono::DateTime<chrono::Utc>,
    occurred_at: chrono::DateTime<chrono::Utc>,
}

impl BatchJob for Route {
    type Item = RouteRequest;
    type Done = Routed;
    type Error = StoreError;

    async fn run(&self, items: &[RouteRequest]) -> Result<Vec<Routed>, StoreError> {
        failpoint!(RouteBegun);
        let mut ids: Vec<Uuid> = items.iter().map(|item| item.event_id.0).collect();
        ids.sort_unstable();
        ids.dedup();
        let mut conn = self.pool.acquire().await?;
        let found: HashMap<Uuid, StoredEvent> = events::load(&mut conn, &ids, &self.seals)
            .await?
            .into_iter()
            .map(|event| (event.id, event))
            .collect();
        let mut asked = HashSet::new();
        // In the order in which they were accepted, and so are the ids of what they lead to: replies
        // leave in the order of their ids.
        let mut order: Vec<&RouteRequest> = items.iter().collect();
        order.sort_by_key(|item| (item.event_id.0, item.run, item.generation));
        let mut decided: Vec<Decided> = order
            .into_iter()
            .filter(|item| asked.insert((item.event_id, item.run, item.generation)))
            .filter_map(|item| Some(self.decide(found.get(&item.event_id.0)?, item)))
            .collect();
        // Most batches are one statement, which is its own transaction.
        let (rows, new) = if decided.iter().all(Decided::is_plain) {
            failpoint!(RouteWritten);
            self.commit(&mut conn, &mut decided, Durability::Soon)
                .await?
        } else {
            let mut tx = conn.begin().await?;
            let committed = self
                .commit(&mut tx, &mut decided, Durability::OnDisk)
                .await?;
            failpoint!(RouteWritten);
            tx.commit().await?;
            committed
        };
        failpoint!(RouteCommitted);
        self.metrics.letters.recorded(&rows);
        self.relay.hand_over(rows);
        failpoint!(RouteOffered);
        for decided in decided
            .iter()
            .filter(|decided| new.contains(&decided.routing.id))
        {
            self.log(decided);
        }
        Ok(items
            .iter()
            .map(|item| {
                if found.contains_key(&item.event_id.0) {
                    Routed::Stored
                } else {
                    Routed::NoSuchEvent
                }
            })
            .collect())
    }
}

impl Route {
    fn decide(&self, event: &StoredEvent, request: &RouteRequest) -> Decided {
        let begun = Instant::now();
        let mut routing = NewRouting {
            id: RoutingId::generate().0,
            event_id: event.id,
            run: request.run,
            generation: request.generation,
            trace_id: event.trace_id.clone(),
            tenant_id: event.tenant_id,
            event_type: event.event_type.clone(),
            source_system: event.source_system.clone(),
            state: "failed",
            decision: plans::no_decision(),
            failure_code: None,
            error_message: None,
            processing_time_ms: 0.0,
        };
        let mut deliveries = Vec::new();
        let mut receipt = None;
        let mut session = None;
        let mut heard = None;
        let mut learnt = None;
        let directory = self.directory.get();
        match plan_of(event, &directory) {
            Ok((normalised, plan)) => {
                heard = heard_of(&normalised, &directory);
                if let Some(code) = plan.failure() {
                    routing.failure_code = Some(code.as_str());
                    routing.error_message = Some(QUARANTINED.to_owned());
                } else {
                    routing.tenant_id = plan.tenant.tenant.map(|tenant| tenant.0);
                }
                learnt = learnt_of(event, &plan.tenant);
                routing.state = plan.state();
                routing.decision = plan.decision();
                deliveries = self.deliveries(event, &routing, plan.deliveries);
                receipt = plan
                    .evidence
                    .map(|evidence| new_receipt(event, &normalised, evidence));
                session = plan.session;
            }
            Err(error) => {
                routing.failure_code = Some(error.code().as_str());
                routing.error_message = Some(error.to_string());
            }
        }
        routing.processing_time_ms = begun.elapsed().as_secs_f64() * 1000.0;
        Decided {
            routing,
            deliveries,
            receipt,
            session,
            heard,
            learnt,
            received_at: event.received_at,
            occurred_at: event.occurred_at,
        }
    }

    fn deliveries(
        &self,
        event: &StoredEvent,
        routing: &NewRouting,
        planned: Vec<Planned>,
    ) -> Vec<NewDelivery> {
        let place = |ordinal: usize, planned: &Planned| Place {
            id: DeliveryId::generate().0,
            routing_id: routing.id,
            ordinal: i32::try_from(ordinal).unwrap_or(i32::MAX),
            tenant_id: routing.tenant_id,
            max_retries: self.max_retries.of(planned.channel),
        };
        planned
            .into_iter()
            .enumerate()
            .map(|(ordinal, planned)| new_delivery(event, place(ordinal, &planned), planned))
            .collect()
    }

    /// Writes the decisions that are the first of their event, or take the place of one that
    /// failed, and what follows from those alone.
    async fn commit(
        &self,
        conn: &mut PgConnection,
        decided: &mut [Decided],
        durability: Durability,
    ) -> Result<(Vec<outbox::OutboxRow>, HashSet<Uuid>), StoreError> {
        decided.sort_by_key(|decided| decided.routing.event_id);
        let again: Vec<&NewRouting> = decided
            .iter()
            .map(|decided| &decided.routing)
            .filter(|routing| routing.generation > 0)
            .collect();
        let again = replans::decide_again(conn, &again).await?;
        for decided in decided.iter_mut() {
            decided.take_the_place_of(&again);
        }
        let plans = NewPlans {
            durability,
            routings: decided
                .iter()
                .map(|decided| &decided.routing)
                .filter(|routing| routing.generation == 0)
                .collect(),
            decided_again: again.iter().map(|(id, ..)| *id).collect(),
            deliveries: decided
                .iter()
                .flat_map(|decided| &decided.deliveries)
                .collect(),
            receipts: decided
                .iter()
                .filter_map(|decided| Some((decided.routing.id, decided.receipt.as_ref()?)))
                .collect(),
            messages: decided.iter().flat_map(Decided::messages).collect(),
        };
        let stored = plans::insert(conn, plans, &self.seals).await?;
        let (new, mut rows) = (stored.routings, stored.messages);
        let mut order: Vec<&Decided> = decided.iter().collect();
        order.retain(|decided| new.contains(&decided.routing.id));
        self.change_sessions(conn, &order).await?;
        let planned: Vec<&NewDelivery> = order
            .iter()
            .flat_map(|decided| &decided.deliveries)
            .collect();
        self.learn(conn, &order).await?;

        let now = self.clock.now();
        let failed: Vec<&NewRouting> = order
            .iter()
            .map(|decided| &decided.routing)
            .filter(|routing| routing.state == "failed")
            .collect();
        let mut letters = letters::of_deliveries(&planned, now);
        letters.extend(letters::of_decisions(&failed, now));
        let letters = dead::record(conn, &letters).await?;
        rows.extend(outbox::insert(conn, letters).await?);
        Ok((rows, new))
    }

    /// In the order of the accounts, so that two batches cannot deadlock; the last word of a
    /// batch counts.
    async fn change_sessions(
        &self,
        conn: &mut PgConnection,
        order: &[&Decided],
    ) -> Result<(), StoreError> {
        let mut changes: Vec<&Decided> = order
            .iter()
            .copied()
            .filter(|decided| decided.session.is_some())
            .collect();
        changes.sort_by(|a, b| {
            a.session
                .as_ref()
                .map(|s| &s.0)
                .cmp(&b.session.as_ref().map(|s| &s.0))
        });
        for decided in changes {
            let Some((account, state, reason)) = &decided.session else {
                continue;
            };
            if sessions::apply_event(conn, account, (state, reason), decided.occurred_at).await? {
                let level = if *state == "down" { "error" } else { "info" };
                let log = NewLog {
                    level,
                    trace_id: Some(decided.routing.trace_id.clone()),
                    source_system: Some(decided.routing.source_system.clone()),
                    event_id: Some(decided.routing.event_id),
                    channel_id: Some(account.clone()),
                    code: format!("session_{state}"),
                    message: format!("the gateway reports the session as {state}"),
                    context: json!({"reason": reason}),
                    ..NewLog::default()
                };
                logs::insert(conn, &[log]).await?;
                if *state == "down" {
                    tracing::error!(
                        trace_id = decided.routing.trace_id,
                        channel = account,
                        "a session went down: its sends are held"
                    );
                } else {
                    tracing::info!(
                        trace_id = decided.routing.trace_id,
                        channel = account,
                        "a session is back: its sends are released"
                    );
                }
            }
        }
        Ok(())
    }

    /// Keeps whose the charges are, sorted, so that two batches cannot deadlock.
    async fn learn(&self, conn: &mut PgConnection, order: &[&Decided]) -> Result<(), StoreError> {
        let mut charges: Vec<&OwnedCharge> = order
            .iter()
            .filter_map(|decided| decided.learnt.as_ref())
            .collect();
        charges.sort_unstable();
        charges.dedup_by(|a, b| a.asaas_key == b.asaas_key);
        if invoices::learn(conn, &charges).await? > 0 {
            self.reconsider.ask();
        }
        Ok(())
    }

    fn log(&self, decided: &Decided) {
        let routing = &decided.routing;
        self.metrics.routed(routing.state, &decided.deliveries);
        if let Some((account, kind)) = &decided.heard {
            self.metrics.heard(account, kind);
        }
        let age = (self.clock.now() - decided.received_at)
            .to_std()
            .unwrap_or_default();
        self.metrics.route_latency.observe(age.as_secs_f64());
        tracing::info!(
            trace_id = routing.trace_id,
            tenant.id = routing.tenant_id,
            source = routing.source_system,
            event.id = %routing.event_id,
            event.type = routing.event_type,
            routing.id = %routing.id,
            deliveries = decided.deliveries.len(),
            outcome = routing.state,
            failure.code = routing.failure_code,
            duration_ms = routing.processing_time_ms,
            "event.routed"
        );
    }
}

impl Decided {
    /// Nothing follows from it but deliveries and receipts: one statement writes all of it.
    fn is_plain(&self) -> bool {
        self.routing.generation == 0
            && self.session.is_none()
            && self.learnt.is_none()
            && self.routing.state != "failed"
            && self
                .deliveries
                .iter()
                .all(|delivery| delivery.state != DeliveryState::Dead)
    }

    /// The messages that it asks for, each with its routing.
    fn messages(&self) -> impl Iterator<Item = (Uuid, NewMessage)> {
        let attempts = self
            .deliveries
            .iter()
            .filter(|delivery| delivery.state == DeliveryState::Queued)
            .filter_map(|delivery| Some(NewMessage::work(&work_message(delivery)?)));
        let application = self.receipt.iter().filter_map(receipt_message);
        attempts
            .chain(application)
            .map(|message| (self.routing.id, message))
    }

    /// A decision that a redrive asked for keeps the row of the one that failed.
    fn take_the_place_of(&mut self, stored: &[(Uuid, Uuid, i32)]) {
        let own = stored
            .iter()
            .find(|(_, event, run)| *event == self.routing.event_id && *run == self.routing.run);
        if let (Some((id, ..)), true) = (own, self.routing.generation > 0) {
            self.routing.id = *id;
            for delivery in &mut self.deliveries {
                delivery.routing_id = *id;
            }
        }
    }
}

/// Whose a charge is, where the event told it first.
pub(crate) fn learnt_of(event: &StoredEvent, finding: &TenantFinding) -> Option<OwnedCharge> {
    let asaas_key = event.invoice_key.as_deref()?;
    let is_new = event.invoice_owner.is_none() && asaas_key.starts_with("asaas:");
    Some(OwnedCharge {
        asaas_key: asaas_key.to_owned(),
        tenant_id: finding.tenant.filter(|_| is_new)?.0,
    })
}

pub(crate) fn work_message(delivery: &NewDelivery) -> Option<WorkMessage> {
    let work = Work::Deliver {
        delivery_id: DeliveryId(delivery.id),
        channel: delivery.channel.parse().ok()?,
        generation: 0,
        attempt: 1,
    };
    let labels = Labels {
        event_type: delivery.event_type.clone(),
        source: delivery.source_system.clone(),
        tenant_id: delivery.tenant_id.map(TenantId),
        template: delivery.template_key.clone(),
        account: delivery.channel_id.clone(),
        lane: Some(delivery.lane.clone()),
    };
    Some(WorkMessage::new(
        work,
        delivery.trace_id.parse().ok()?,
        labels,
    ))
}

fn receipt_message(receipt: &NewReceipt) -> Option<NewMessage> {
    let trace_id = receipt.trace_id.parse().ok()?;
    Some(NewMessage::work(&WorkMessage::apply_receipt(
        ReceiptId(receipt.id),
        trace_id,
    )))
}

fn new_receipt(
    event: &StoredEvent,
    normalised: &NormalisedEvent,
    evidence: Evidence,
) -> NewReceipt {
    NewReceipt {
        id: ReceiptId::generate().0,
        event_id: event.id,
        trace_id: event.trace_id.clone(),
        kind: evidence.kind,
        channel_id: evidence.channel_id,
        level: evidence.level,
        evidence: evidence.proves.map(|proves| match proves {
            shared::domain::delivery::Evidence::ProviderFailed => "provider_failed",
            shared::domain::delivery::Evidence::Sent => "sent",
            shared::domain::delivery::Evidence::Delivered => "delivered",
            shared::domain::delivery::Evidence::Read => "read",
        }),
        provider_message_id: evidence.key_id,
        gateway_correlation_id: evidence.correlation_id,
        delivery_ref: evidence.delivery_ref,
        recipient_key: evidence.recipient_key,
        recipient: evidence.recipient,
        body_text: evidence.text,
        body_hash: evidence.text_hash,
        provider_at: normalised.occurred_at,
    }
}
