//! Letters about what cannot be tried at all: it is dead from the start, and a person finds it
//! where all dead letters are.

use chrono::{DateTime, Utc};
use shared::broker::dead::Letter;
use shared::domain::delivery::DeliveryState;
use shared::domain::ids::{EventId, LetterId, TenantId};
use shared::domain::message::{Labels, Work, WorkMessage};
use shared::store::deliveries::NewDelivery;
use shared::store::plans::NewRouting;

use crate::route::work_message;

/// The letters about deliveries that were planned dead.
pub(crate) fn of_deliveries(
    planned: &[&NewDelivery],
    now: DateTime<Utc>,
) -> Vec<(Letter, WorkMessage)> {
    planned
        .iter()
        .filter(|delivery| delivery.state == DeliveryState::Dead)
        .filter_map(|delivery| {
            let message = work_message(delivery)?;
            let letter = Letter {
                id: LetterId::generate(),
                generation: 0,
                code: delivery.failure_code?.parse().ok()?,
                attempts: 0,
                first_at: now,
                last_at: now,
                trace_id: message.trace_id.clone(),
                event_type: Some(delivery.event_type.clone()),
                tenant_id: delivery.tenant_id.map(TenantId),
                channel: delivery.channel.parse().ok(),
                template: delivery.template_key.clone(),
            };
            Some((letter, message))
        })
        .collect()
}

/// The letters about events that could not be decided, or may not be: redriven, they are decided
/// again in place.
pub(crate) fn of_decisions(
    routings: &[&NewRouting],
    now: DateTime<Utc>,
) -> Vec<(Letter, WorkMessage)> {
    routings
        .iter()
        .filter_map(|routing| {
            let work = Work::Route {
                event_id: EventId(routing.event_id),
                run: routing.run,
                generation: routing.generation,
            };
            let labels = Labels {
                event_type: routing.event_type.clone(),
                source: routing.source_system.clone(),
                tenant_id: routing.tenant_id.map(TenantId),
                ..Labels::default()
            };
            let message = WorkMessage::new(work, routing.trace_id.parse().ok()?, labels);
            let letter = Letter {
                id: LetterId::generate(),
                generation: routing.generation,
                code: routing.failure_code?.parse().ok()?,
                attempts: 0,
                first_at: now,
                last_at: now,
                trace_id: message.trace_id.clone(),
                event_type: Some(routing.event_type.clone()),
                tenant_id: routing.tenant_id.map(TenantId),
                channel: None,
                template: None,
            };
            Some((letter, message))
        })
        .collect()
}
