//! From a stored event to what is planned for it: normalise, decide, and the rows that follow.
//! Pure. Whoever decides first, and whoever plans a delivery again, asks here.

use std::borrow::Cow;

use serde_json::Value;
use shared::domain::directory::Directory;
use shared::domain::event::{NormalisedEvent, is_in_shadow};
use shared::domain::ids::TenantId;
use shared::source::{self, NormaliseError};
use shared::store::deliveries::NewDelivery;
use shared::store::events::StoredEvent;
use uuid::Uuid;

use crate::plan::{Plan, Planned, plan};
use crate::recipient::{self, TenantFinding};

/// Normalises an event and decides about it.
///
/// # Errors
/// The stored payload is not what the event's type promises.
pub(crate) fn plan_of(
    event: &StoredEvent,
    directory: &Directory,
) -> Result<(NormalisedEvent, Plan), NormaliseError> {
    let normalised = normalise(event)?;
    let finding = finding_of(event, &normalised, directory);
    // What jsonb could not hold is read from the raw bytes.
    let payload: Cow<'_, Value> = match (&event.payload, &event.body) {
        (Some(payload), _) => Cow::Borrowed(payload),
        (None, body) => Cow::Owned(
            serde_json::from_slice(body.as_deref().unwrap_or_default()).unwrap_or_default(),
        ),
    };
    let mut plan = plan(&normalised, &payload, finding, directory);
    if is_in_shadow(&event.metadata) {
        plan.simulate();
    }
    Ok((normalised, plan))
}

/// Reads a stored event.
///
/// # Errors
/// The stored payload is not what the event's type promises.
pub(crate) fn normalise(event: &StoredEvent) -> Result<NormalisedEvent, NormaliseError> {
    source::of(&event.source_system).normalise(&source::StoredEvent {
        source_system: &event.source_system,
        event_type: &event.event_type,
        tenant_id: event.tenant_id.map(TenantId),
        payload: event.payload.as_ref(),
        body: event.body.as_deref().unwrap_or_default(),
        occurred_at: Some(event.occurred_at),
        received_at: event.received_at,
    })
}

/// Whose an event is.
pub(crate) fn finding_of(
    event: &StoredEvent,
    normalised: &NormalisedEvent,
    directory: &Directory,
) -> TenantFinding {
    recipient::tenant(normalised, event.invoice_owner.map(TenantId), directory)
}

/// The place of a delivery: its own id, its decision and its number there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) id: Uuid,
    pub(crate) routing_id: Uuid,
    pub(crate) ordinal: i32,
    pub(crate) tenant_id: Option<i64>,
    pub(crate) max_retries: i32,
}

/// The row of a planned delivery.
pub(crate) fn new_delivery(event: &StoredEvent, place: Place, planned: Planned) -> NewDelivery {
    let state = planned.state();
    let (failure_code, failure_detail) = planned
        .failure
        .map(|(code, detail)| (code.as_str(), detail))
        .unzip();
    NewDelivery {
        id: place.id,
        routing_id: place.routing_id,
        ordinal: place.ordinal,
        event_id: event.id,
        event_type: event.event_type.clone(),
        source_system: event.source_system.clone(),
        trace_id: event.trace_id.clone(),
        correlation_id: event.correlation_id.clone(),
        tenant_id: place.tenant_id,
        channel: planned.channel.as_str().to_owned(),
        channel_id: planned.channel_id,
        lane: planned.lane,
        rule_id: Some(planned.rule_id),
        template_id: planned.template_id,
        template_key: planned.template_key,
        recipient: planned.recipient,
        recipient_key: planned.recipient_key,
        recipient_name: planned.recipient_name,
        body_text: planned.text,
        body_hash: planned.text_hash,
        invoice_key: event.invoice_key.clone(),
        detail: planned.detail,
        unknown_policy: planned.unknown_policy,
        state,
        failure_code,
        failure_detail,
        max_retries: place.max_retries,
    }
}
