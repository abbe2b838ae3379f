//! The WhatsApp messages that went to a tenant, whoever sent them.

use std::fmt;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::StoreResult;
use crate::sealing::{Column, Keyring, Place};

/// A message that left.
#[derive(Clone)]
pub struct SentLine {
    /// When.
    pub sent_at: DateTime<Utc>,
    /// What happened.
    pub event_type: String,
    /// Whether a person sent it, and somebody told Posto so.
    pub by_hand: bool,
    /// Posto's number of the template, or the number that whoever sent it gave.
    pub template_id: Option<i64>,
    /// The template's key, or the name that whoever sent it gave.
    pub template: Option<String>,
    /// The text.
    pub text: Option<String>,
    /// The address as it was given.
    pub phone: Option<String>,
    /// `invoice:503`
    pub invoice_key: Option<String>,
}

impl fmt::Debug for SentLine {
    /// Neither text nor address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SentLine")
            .field("sent_at", &self.sent_at)
            .field("event_type", &self.event_type)
            .field("by_hand", &self.by_hand)
            .finish_non_exhaustive()
    }
}

/// A row of either: a delivery with its text, or a logged message with its payload.
struct SentRow {
    id: Uuid,
    sent_at: DateTime<Utc>,
    event_type: String,
    template_id: Option<i64>,
    template: Option<String>,
    text: Option<String>,
    phone: Option<String>,
    invoice_key: Option<String>,
    payload: Option<Value>,
}

impl SentRow {
    /// Opens what is sealed. Any source may log a message, so its payload may say anything.
    fn open(self, seals: &Keyring) -> StoreResult<SentLine> {
        let Some(kept) = self.payload else {
            let place = Place::new(Column::DeliveryText, self.id);
            return Ok(SentLine {
                sent_at: self.sent_at,
                event_type: self.event_type,
                by_hand: false,
                template_id: self.template_id,
                template: self.template,
                text: self
                    .text
                    .map(|kept| seals.open_text(place, kept))
                    .transpose()?,
                phone: self.phone,
                invoice_key: self.invoice_key,
            });
        };
        let payload = seals.open_json(Place::new(Column::EventPayload, self.id), kept)?;
        let text = |field: &str| match &payload[field] {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        };
        Ok(SentLine {
            sent_at: self.sent_at,
            event_type: self.event_type,
            by_hand: true,
            template_id: text("template_id").and_then(|number| number.parse().ok()),
            template: text("template_name"),
            text: text("message"),
            phone: text("phone"),
            invoice_key: self.invoice_key,
        })
    }
}

/// The last messages to a tenant, newest first: those that Posto sent, and those that a person sent and
/// logged.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn last(
    conn: &mut PgConnection,
    seals: &Keyring,
    tenant: i64,
    limit: i64,
) -> StoreResult<Vec<SentLine>> {
    let rows = sqlx::query_as!(
        SentRow,
        r#"select id as "id!", sent_at as "sent_at!", event_type as "event_type!", template_id, template, text, phone,
                  invoice_key, payload
           from (
               (select d.id, d.sent_at, d.event_type, d.template_id, d.template_key as template,
                       d.body_text as text, d.recipient as phone, d.invoice_key, null::jsonb as payload
                from deliveries d
                where d.tenant_id = $1 and d.channel = 'whatsapp' and d.sent_at is not null
                order by d.sent_at desc limit $2)
               union all
               (select e.id, e.received_at, e.event_type, null, null, null, null, e.invoice_key,
                       coalesce(e.payload, '{}')
                from communication_events e
                where e.tenant_id = $1 and e.event_type = 'whatsapp.message.logged'
                order by e.received_at desc limit $2)
           ) sent
           order by sent_at desc limit $2"#,
        tenant,
        limit,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(|row| row.open(seals)).collect()
}
