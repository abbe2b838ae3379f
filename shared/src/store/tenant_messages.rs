//! The WhatsApp messages that went to a tenant, whoever sent them.

use std::fmt;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::StoreResult;

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

/// The last messages to a tenant, newest first: those that Posto sent, and those that a person sent and
/// logged.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn last(conn: &mut PgConnection, tenant: i64, limit: i64) -> StoreResult<Vec<SentLine>> {
    let lines = sqlx::query_as!(
        SentLine,
        r#"select sent_at as "sent_at!", event_type as "event_type!", by_hand as "by_hand!", template_id, template,
                  text, phone, invoice_key
           from (
               (select d.sent_at, d.event_type, false as by_hand, d.template_id, d.template_key as template,
                       d.body_text as text, d.recipient as phone, d.invoice_key
                from deliveries d
                where d.tenant_id = $1 and d.channel = 'whatsapp' and d.sent_at is not null
                order by d.sent_at desc limit $2)
               union all
               (select e.received_at, e.event_type, true,
                       case when e.payload ->> 'template_id' ~ '^[0-9]{1,18}$'
                            then (e.payload ->> 'template_id')::bigint end,
                       e.payload ->> 'template_name', e.payload ->> 'message', e.payload ->> 'phone', e.invoice_key
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
    Ok(lines)
}
