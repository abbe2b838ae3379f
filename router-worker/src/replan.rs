//! Plans a delivery again that was redriven: today's rules, templates and reference data over the
//! same event, written over the same row. Never a second delivery (design §3).

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::json;
use shared::broker::dead::{self, Letter};
use shared::broker::relay::Relay;
use shared::domain::channel::Channel;
use shared::domain::delivery::DeliveryState;
use shared::domain::failure::FailureCode;
use shared::domain::ids::{DeliveryId, LetterId, TenantId};
use shared::domain::message::{Labels, Work, WorkMessage};
use shared::runtime::batcher::BatchJob;
use shared::runtime::clock::Clock;
use shared::sealing::Keyring;
use shared::store::StoreError;
use shared::store::audit::{self, Author, NewAudit};
use shared::store::config::DirectoryCache;
use shared::store::deliveries::NewDelivery;
use shared::store::events::{self, StoredEvent};
use shared::store::outbox::{self, NewMessage};
use shared::store::replans::{self, WaitingDelivery};
use sqlx::{Connection, PgConnection, PgPool};
use uuid::Uuid;

use crate::decide::{Place, new_delivery, plan_of};
use crate::metrics::Metrics;
use crate::plan::QUARANTINED;

/// A work message that asks for a delivery to be planned again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplanRequest {
    pub(crate) delivery_id: DeliveryId,
    pub(crate) generation: i32,
}

/// The batch job that plans again.
pub(crate) struct Replan {
    pub(crate) pool: PgPool,
    pub(crate) relay: Relay,
    pub(crate) directory: DirectoryCache,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) seals: Keyring,
}

impl BatchJob for Replan {
    type Item = ReplanRequest;
    type Done = ();
    type Error = StoreError;

    async fn run(&self, items: &[ReplanRequest]) -> Result<Vec<()>, StoreError> {
        let mut wanted: Vec<(Uuid, i32)> = items
            .iter()
            .map(|item| (item.delivery_id.0, item.generation))
            .collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut conn = self.pool.acquire().await?;
        let mut tx = conn.begin().await?;
        let waiting = replans::lock_waiting(&mut tx, &wanted).await?;
        let rows = self.plan_all(&mut tx, &waiting).await?;
        tx.commit().await?;
        self.metrics.letters.recorded(&rows);
        self.relay.hand_over(rows);
        Ok(vec![(); items.len()])
    }
}

impl Replan {
    async fn plan_all(
        &self,
        conn: &mut PgConnection,
        waiting: &[WaitingDelivery],
    ) -> Result<Vec<outbox::OutboxRow>, StoreError> {
        if waiting.is_empty() {
            return Ok(Vec::new());
        }
        let mut events: Vec<Uuid> = waiting.iter().map(|delivery| delivery.event_id).collect();
        events.sort_unstable();
        events.dedup();
        let events: HashMap<Uuid, StoredEvent> = events::load(conn, &events, &self.seals)
            .await?
            .into_iter()
            .map(|event| (event.id, event))
            .collect();
        let plans: Vec<NewDelivery> = waiting
            .iter()
            .map(|delivery| self.plan(delivery, events.get(&delivery.event_id)))
            .collect();
        replans::store_plans(conn, &plans.iter().collect::<Vec<_>>(), &self.seals).await?;
        let author = Author {
            actor: "posto",
            reason: None,
        };
        audit::insert(
            conn,
            author,
            &plans.iter().zip(waiting).map(line).collect::<Vec<_>>(),
        )
        .await?;
        let mut messages: Vec<NewMessage> = Vec::new();
        let mut letters: Vec<(Letter, WorkMessage)> = Vec::new();
        for (plan, delivery) in plans.iter().zip(waiting) {
            let Some(message) = message(plan, delivery) else {
                continue;
            };
            match plan.state {
                DeliveryState::Queued => messages.push(NewMessage::work(&message)),
                DeliveryState::Dead => {
                    letters.extend(self.letter(plan, delivery, &message).map(|l| (l, message)));
                }
                _ => {}
            }
            tracing::info!(
                trace_id = plan.trace_id,
                tenant.id = plan.tenant_id,
                event.id = %plan.event_id,
                delivery.id = %plan.id,
                outcome = plan.state.as_str(),
                failure.code = plan.failure_code,
                "delivery.replanned"
            );
        }
        messages.extend(dead::record(conn, &letters).await?);
        outbox::insert(conn, messages).await
    }

    /// What today's configuration makes of the delivery. One rule wins per channel, so the channel
    /// tells which of the planned is this one.
    fn plan(&self, delivery: &WaitingDelivery, event: Option<&StoredEvent>) -> NewDelivery {
        let place = |tenant_id| Place {
            id: delivery.id,
            routing_id: delivery.routing_id,
            ordinal: delivery.ordinal,
            tenant_id,
            max_retries: delivery.max_retries,
        };
        let Some(event) = event else {
            return failed(delivery, FailureCode::SubjectNotFound, "the event is gone");
        };
        let plan = match plan_of(event, &self.directory.get()) {
            Ok((_, plan)) => plan,
            Err(error) => return failed(delivery, error.code(), &error.to_string()),
        };
        if let Some(code) = plan.failure() {
            return failed(delivery, code, QUARANTINED);
        }
        let tenant_id = plan.tenant.tenant.map(|tenant| tenant.0);
        let own = plan
            .deliveries
            .into_iter()
            .find(|planned| planned.channel.as_str() == delivery.channel);
        match own {
            Some(planned) => new_delivery(event, place(tenant_id), planned),
            // Rules were changed since: what nobody wants any more does not leave.
            None => NewDelivery {
                state: DeliveryState::Suppressed,
                failure_code: None,
                failure_detail: Some("today's rules plan nothing on this channel".to_owned()),
                ..bare(delivery)
            },
        }
    }

    fn letter(
        &self,
        plan: &NewDelivery,
        delivery: &WaitingDelivery,
        message: &WorkMessage,
    ) -> Option<Letter> {
        Some(Letter {
            id: LetterId::generate(),
            generation: delivery.generation,
            code: plan.failure_code?.parse().ok()?,
            attempts: delivery.attempt_count,
            first_at: delivery.created_at,
            last_at: self.clock.now(),
            trace_id: message.trace_id.clone(),
            event_type: Some(plan.event_type.clone()),
            tenant_id: plan.tenant_id.map(TenantId),
            channel: plan.channel.parse().ok(),
            template: plan.template_key.clone(),
        })
    }
}

fn failed(delivery: &WaitingDelivery, code: FailureCode, detail: &str) -> NewDelivery {
    NewDelivery {
        state: DeliveryState::Dead,
        failure_code: Some(code.as_str()),
        failure_detail: Some(detail.to_owned()),
        ..bare(delivery)
    }
}

/// The delivery with nothing planned.
fn bare(delivery: &WaitingDelivery) -> NewDelivery {
    NewDelivery {
        id: delivery.id,
        routing_id: delivery.routing_id,
        ordinal: delivery.ordinal,
        event_id: delivery.event_id,
        event_type: delivery.event_type.clone(),
        source_system: delivery.source_system.clone(),
        trace_id: delivery.trace_id.clone(),
        correlation_id: delivery.correlation_id.clone(),
        tenant_id: delivery.tenant_id,
        channel: delivery.channel.clone(),
        channel_id: None,
        lane: "notice".to_owned(),
        rule_id: None,
        template_id: None,
        template_key: delivery.template_key.clone(),
        recipient: None,
        recipient_key: None,
        recipient_name: None,
        body_text: None,
        body_hash: None,
        invoice_key: delivery.invoice_key.clone(),
        detail: json!({}),
        unknown_policy: "park".to_owned(),
        state: DeliveryState::Dead,
        failure_code: None,
        failure_detail: None,
        max_retries: delivery.max_retries,
    }
}

fn message(plan: &NewDelivery, delivery: &WaitingDelivery) -> Option<WorkMessage> {
    let channel: Channel = plan.channel.parse().ok()?;
    let work = Work::Deliver {
        delivery_id: DeliveryId(plan.id),
        channel,
        generation: delivery.generation,
        attempt: delivery.attempt_count + 1,
    };
    let labels = Labels {
        event_type: plan.event_type.clone(),
        source: plan.source_system.clone(),
        tenant_id: plan.tenant_id.map(TenantId),
        template: plan.template_key.clone(),
        account: plan.channel_id.clone(),
        lane: Some(plan.lane.clone()),
    };
    Some(WorkMessage::new(work, plan.trace_id.parse().ok()?, labels))
}

fn line((plan, delivery): (&NewDelivery, &WaitingDelivery)) -> NewAudit {
    NewAudit {
        action: "replanned",
        subject_kind: "delivery",
        subject_id: Some(plan.id),
        trace_id: Some(plan.trace_id.clone()),
        detail: json!({
            "outcome": plan.state.as_str(),
            "failure_code": plan.failure_code,
            "rule_id": plan.rule_id,
            "template": plan.template_key,
            "generation": delivery.generation,
        }),
    }
}
