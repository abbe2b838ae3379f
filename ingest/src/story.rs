//! The answer to "what became of it, and why": an event or a trace with everything that followed.

use schemars::JsonSchema;
use serde::Serialize;
use shared::domain::ids::{EventId, TenantId, TraceId};
use shared::domain::mask;
use shared::sealing::Keyring;
use shared::store::audit::{self, AuditStory};
use shared::store::dead_letter_search::{self, LetterStory};
use shared::store::scope::Scope;
use shared::store::traces::{
    self, ChatStory, DeliveryStory, EventStory, LogStory, ReceiptStory, RoutingStory, Step,
};
use shared::store::{StoreError, dropped};
use sqlx::PgPool;
use uuid::Uuid;

/// The most letters that one story shows.
const MOST_LETTERS: i64 = 500;

/// An event with what it led to.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct OneEvent {
    #[serde(flatten)]
    pub(crate) event: EventStory,
    pub(crate) routings: Vec<RoutingStory>,
    pub(crate) deliveries: Vec<DeliveryStory>,
}

/// A trace with all that belongs to it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct Trace {
    pub(crate) trace_id: TraceId,
    pub(crate) events: Vec<EventStory>,
    pub(crate) routings: Vec<RoutingStory>,
    pub(crate) deliveries: Vec<DeliveryStory>,
    pub(crate) receipts: Vec<ReceiptStory>,
    pub(crate) chat_messages: Vec<ChatStory>,
    pub(crate) logs: Vec<LogStory>,
    pub(crate) dead_letters: Vec<LetterStory>,
    pub(crate) audit: Vec<AuditStory>,
    pub(crate) timeline: Vec<Step>,
}

/// Reads an event's story, if it is of one of the reader's tenants; none named is all.
///
/// # Errors
/// The database is unwell.
pub(crate) async fn of_event(
    (pool, seals): (&PgPool, &Keyring),
    id: EventId,
    tenants: &[TenantId],
) -> Result<Option<OneEvent>, StoreError> {
    let mut conn = Scope::of(tenants).read(pool).await?;
    let tenants: Vec<i64> = tenants.iter().map(|tenant| tenant.0).collect();
    let own = |tenant: Option<i64>| {
        tenants.is_empty() || tenant.is_some_and(|tenant| tenants.contains(&tenant))
    };
    let event = match traces::find_event(&mut conn, id.0, &tenants, seals).await? {
        Some(event) => Some(event),
        None => dropped::find(&mut conn, Some(id.0), None, 1)
            .await?
            .into_iter()
            .find(|event| own(event.tenant_id)),
    };
    let Some(event) = event else {
        return Ok(None);
    };
    let routings = traces::routings_of(&mut conn, &[id.0]).await?;
    let deliveries = traces::deliveries_of(&mut conn, &[id.0], seals).await?;
    Ok(Some(OneEvent {
        event,
        routings,
        deliveries,
    }))
}

/// Reads a trace's story; none when nothing carries the trace.
///
/// # Errors
/// The database is unwell.
pub(crate) async fn of_trace(
    (pool, seals): (&PgPool, &Keyring),
    trace_id: &TraceId,
) -> Result<Option<Trace>, StoreError> {
    let mut conn = Scope::Agency.read(pool).await?;
    let text = trace_id.as_str();
    let mut events = dropped::find(&mut conn, None, Some(text), traces::MOST_ROWS).await?;
    events.extend(traces::events_of_trace(&mut conn, text, seals).await?);
    let logs = traces::logs_of_trace(&mut conn, text).await?;
    if events.is_empty() && logs.is_empty() {
        return Ok(None);
    }
    let ids: Vec<Uuid> = events.iter().map(|event| event.event_id).collect();
    Ok(Some(Trace {
        trace_id: trace_id.clone(),
        routings: traces::routings_of(&mut conn, &ids).await?,
        deliveries: traces::deliveries_of(&mut conn, &ids, seals).await?,
        receipts: traces::receipts_of_trace(&mut conn, text).await?,
        chat_messages: traces::chat_of_trace(&mut conn, text, seals).await?,
        dead_letters: dead_letter_search::of_trace(&mut conn, text, MOST_LETTERS).await?,
        audit: audit::of_trace(&mut conn, text).await?,
        timeline: traces::timeline(&mut conn, text).await?,
        events,
        logs,
    }))
}

impl OneEvent {
    /// As somebody may see it who has no right to personal data. Whose else the event might be is
    /// for operators alone: a source must not learn whose an invoice is by naming it.
    pub(crate) fn masked(mut self) -> Self {
        mask_event(&mut self.event);
        for routing in &mut self.routings {
            if let Some(candidates) = routing.decision.pointer_mut("/tenant/candidates") {
                *candidates = Vec::<i64>::new().into();
            }
        }
        self.deliveries.iter_mut().for_each(mask_delivery);
        self
    }
}

impl Trace {
    /// As somebody may see it who has no right to personal data.
    pub(crate) fn masked(mut self) -> Self {
        self.events.iter_mut().for_each(mask_event);
        self.deliveries.iter_mut().for_each(mask_delivery);
        for message in &mut self.chat_messages {
            message.content = mask::mask_text(&message.content);
        }
        self
    }
}

fn mask_event(event: &mut EventStory) {
    event.payload = event.payload.as_ref().map(mask::mask_json);
    event.metadata = mask::mask_json(&event.metadata);
    event.source_event_id = event.source_event_id.as_deref().map(mask::mask_text);
    event.correlation_id = event.correlation_id.as_deref().map(mask::mask_text);
    event.idempotency_key = event.idempotency_key.as_deref().map(mask::mask_text);
}

fn mask_delivery(delivery: &mut DeliveryStory) {
    delivery.recipient = delivery.recipient.as_deref().map(|recipient| {
        if delivery.channel == "whatsapp" {
            mask::mask_phone(recipient)
        } else {
            mask::mask_text(recipient)
        }
    });
    delivery.failure_detail = delivery.failure_detail.as_deref().map(mask::mask_text);
    delivery.text = delivery.text.as_deref().map(mask::mask_text);
}
