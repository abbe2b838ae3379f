//! The internal chat: a delivery becomes a message on one of our own threads.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared::store::attempts::ClaimedDelivery;
use shared::store::chat::{NewChatMessage, ThreadRef};

/// What the router writes in a chat delivery's `detail`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ChatDetail {
    #[serde(default)]
    thread_id: Option<i64>,
    #[serde(default)]
    order_id: Option<i64>,
    #[serde(default = "user")]
    role: String,
    #[serde(default = "hub")]
    origin: String,
    #[serde(default)]
    message_id: Option<String>,
    #[serde(default)]
    occurred_at: Option<DateTime<Utc>>,
    #[serde(default)]
    metadata: serde_json::Map<String, serde_json::Value>,
}

fn user() -> String {
    "user".to_owned()
}

fn hub() -> String {
    "hub".to_owned()
}

/// The chat message that a claimed delivery stands for; `None` when it names no thread.
pub(crate) fn message(delivery: &ClaimedDelivery) -> Option<NewChatMessage> {
    let detail: ChatDetail = serde_json::from_value(delivery.detail.clone()).ok()?;
    let thread = match (
        detail.thread_id,
        detail.order_id,
        &delivery.channel_id,
        &delivery.recipient_key,
    ) {
        (Some(thread), ..) => ThreadRef::Existing(thread),
        (None, Some(order), ..) => ThreadRef::Order(order),
        (None, None, Some(channel_id), Some(contact_key)) => ThreadRef::Contact {
            channel_id: channel_id.clone(),
            contact_key: contact_key.clone(),
        },
        _ => return None,
    };
    Some(NewChatMessage {
        thread,
        role: detail.role,
        origin: detail.origin,
        content: delivery.body_text.clone()?,
        message_id: detail.message_id,
        delivery_id: Some(delivery.id),
        event_id: delivery.event_id,
        trace_id: delivery.trace_id.clone(),
        correlation_id: delivery.correlation_id.clone(),
        source_system: delivery.source_system.clone(),
        occurred_at: detail.occurred_at.unwrap_or(delivery.created_at),
        contact_address: delivery.recipient.clone(),
        contact_name: delivery.recipient_name.clone(),
        customer_id: delivery.tenant_id,
        metadata: serde_json::Value::Object(detail.metadata),
    })
}
