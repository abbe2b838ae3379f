//! Reads the whole story of an event or a trace, for whoever asks why.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::StoreResult;
pub use super::trace_notes::{ChatStory, LogStory, chat_of_trace, logs_of_trace};
use crate::sealing::{Column, Keyring, Place};

/// The most rows of each kind that one story shows.
pub const MOST_ROWS: i64 = 500;

/// An event with what became of it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct EventStory {
    /// The event.
    pub event_id: Uuid,
    /// Its source.
    pub source_system: String,
    /// Its type.
    pub event_type: String,
    /// Its tenant.
    pub tenant_id: Option<i64>,
    /// The id that the source gave.
    pub source_event_id: Option<String>,
    /// Its key.
    pub idempotency_key: Option<String>,
    /// Its trace.
    pub trace_id: String,
    /// Groups events.
    pub correlation_id: Option<String>,
    /// What caused it.
    pub causation_id: Option<String>,
    /// When it happened.
    pub occurred_at: DateTime<Utc>,
    /// When it came.
    pub received_at: DateTime<Utc>,
    /// `queued`, `processing`, `processed` or `failed`.
    pub status: String,
    /// When everything that it led to was settled.
    pub processed_at: Option<DateTime<Utc>>,
    /// How long the decision took.
    pub processing_time_ms: Option<f64>,
    /// The failure's code, where one stands.
    pub error_message: Option<String>,
    /// Retries used.
    pub retry_count: i32,
    /// Retries there are.
    pub max_retries: Option<i32>,
    /// When the next one is due.
    pub next_retry_at: Option<DateTime<Utc>>,
    /// The caller's remarks.
    pub metadata: Value,
    /// The payload.
    pub payload: Option<Value>,
    /// Its row was dropped when it was old: what is shown is what its decision kept.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dropped: bool,
}

impl EventStory {
    fn open(&mut self, seals: &Keyring) -> StoreResult<()> {
        if let Some(kept) = self.payload.take() {
            let place = Place::new(Column::EventPayload, self.event_id);
            self.payload = Some(seals.open_json(place, kept)?);
        }
        Ok(())
    }
}

/// A stored decision.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RoutingStory {
    /// The decision.
    pub routing_id: Uuid,
    /// The event.
    pub event_id: Uuid,
    /// 0 is the first.
    pub run: i32,
    /// How often it was redriven.
    pub generation: i32,
    /// `routed`, `unrouted` or `failed`.
    pub state: String,
    /// The tenant that was resolved.
    pub tenant_id: Option<i64>,
    /// Rules tried and why not.
    pub decision: Value,
    /// Why it failed.
    pub failure_code: Option<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// A delivery.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct DeliveryStory {
    /// The delivery.
    pub delivery_id: Uuid,
    /// The decision that planned it.
    pub routing_id: Uuid,
    /// The event.
    pub event_id: Uuid,
    /// The way out.
    pub channel: String,
    /// The sending account.
    pub channel_account: Option<String>,
    /// The rule that won.
    pub rule_id: Option<i64>,
    /// The template.
    pub template: Option<String>,
    /// The recipient's address.
    pub recipient: Option<String>,
    /// The rendered text.
    pub text: Option<String>,
    /// Where it stands.
    pub state: String,
    /// Why it is held.
    pub held_reason: Option<String>,
    /// Why it failed.
    pub failure_code: Option<String>,
    /// The same, for a person.
    pub failure_detail: Option<String>,
    /// How often it was redriven.
    pub generation: i32,
    /// Attempts made.
    pub attempt_count: i32,
    /// Retries used.
    pub retry_count: i32,
    /// Retries there are.
    pub max_retries: i32,
    /// When the next attempt is due.
    pub next_retry_at: Option<DateTime<Utc>>,
    /// What becomes of an unknown outcome.
    pub unknown_policy: String,
    /// When it was planned.
    pub created_at: DateTime<Utc>,
    /// When it left.
    pub sent_at: Option<DateTime<Utc>>,
    /// When the device had it.
    pub delivered_at: Option<DateTime<Utc>>,
    /// When it was read.
    pub read_at: Option<DateTime<Utc>>,
    /// Its attempts.
    #[serde(default)]
    pub attempts: Vec<AttemptStory>,
    /// The evidence that came back.
    #[serde(default)]
    pub receipts: Vec<ReceiptStory>,
}

/// An attempt.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct AttemptStory {
    /// The attempt.
    pub attempt_id: Uuid,
    /// Its delivery.
    #[serde(skip)]
    pub delivery_id: Uuid,
    /// Its number.
    pub number: i32,
    /// The generation.
    pub generation: i32,
    /// What it came to.
    pub outcome: String,
    /// Why it failed.
    pub failure_code: Option<String>,
    /// The HTTP status.
    pub http_status: Option<i32>,
    /// What the provider answered, shortened and scrubbed.
    pub response_excerpt: Option<String>,
    /// The provider's key id.
    pub provider_message_id: Option<String>,
    /// The gateway's id of the send.
    pub gateway_correlation_id: Option<String>,
    /// When it began.
    pub claimed_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// How long the request took.
    pub duration_ms: Option<f64>,
}

/// A receipt.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ReceiptStory {
    /// The receipt.
    pub receipt_id: Uuid,
    /// The event that brought it.
    pub event_id: Uuid,
    /// Its delivery.
    #[serde(skip)]
    pub delivery_id: Option<Uuid>,
    /// `echo` or `ack`.
    pub kind: String,
    /// The provider's level.
    pub level: Option<i32>,
    /// What it proves.
    pub evidence: Option<String>,
    /// `pending`, `applied`, `unbound` or `ignored`.
    pub state: String,
    /// What it did.
    pub effect: Option<String>,
    /// When it happened.
    pub provider_at: DateTime<Utc>,
    /// When it was applied.
    pub applied_at: Option<DateTime<Utc>>,
}

/// One step of a timeline.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Step {
    /// When.
    pub at: DateTime<Utc>,
    /// What.
    pub step: String,
    /// More about it.
    pub detail: Option<String>,
    /// The event.
    pub event_id: Option<Uuid>,
    /// The delivery.
    pub delivery_id: Option<Uuid>,
}

/// The event of that id, if it is of one of the tenants that the reader may see; none named is all.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn find_event(
    conn: &mut PgConnection,
    id: Uuid,
    only_tenants: &[i64],
    seals: &Keyring,
) -> StoreResult<Option<EventStory>> {
    let mut row = sqlx::query_as!(
        EventStory,
        r#"select id as "event_id!", source_system as "source_system!", event_type as "event_type!", tenant_id,
                  source_event_id, idempotency_key, trace_id as "trace_id!", correlation_id, causation_id,
                  occurred_at as "occurred_at!", received_at as "received_at!", status as "status!", processed_at,
                  processing_time_ms, error_message, retry_count as "retry_count!", max_retries, next_retry_at,
                  metadata as "metadata!",
                  -- As it is kept: what the view has is in clear, or null.
                  (select e.payload from communication_events e where e.id = communication_events_status.id) as payload,
                  false as "dropped!"
           from communication_events_status
           where id = $1 and (cardinality($2::bigint[]) = 0 or tenant_id = any($2))"#,
        id,
        only_tenants,
    )
    .fetch_optional(conn)
    .await?;
    if let Some(row) = &mut row {
        row.open(seals)?;
    }
    Ok(row)
}

/// The events of a trace, oldest first.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn events_of_trace(
    conn: &mut PgConnection,
    trace_id: &str,
    seals: &Keyring,
) -> StoreResult<Vec<EventStory>> {
    let mut rows = sqlx::query_as!(
        EventStory,
        r#"select id as "event_id!", source_system as "source_system!", event_type as "event_type!", tenant_id,
                  source_event_id, idempotency_key, trace_id as "trace_id!", correlation_id, causation_id,
                  occurred_at as "occurred_at!", received_at as "received_at!", status as "status!", processed_at,
                  processing_time_ms, error_message, retry_count as "retry_count!", max_retries, next_retry_at,
                  metadata as "metadata!",
                  (select e.payload from communication_events e where e.id = communication_events_status.id) as payload,
                  false as "dropped!"
           from communication_events_status where trace_id = $1 order by id limit $2"#,
        trace_id,
        MOST_ROWS,
    )
    .fetch_all(conn)
    .await?;
    for row in &mut rows {
        row.open(seals)?;
    }
    Ok(rows)
}

/// The decisions about events.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn routings_of(
    conn: &mut PgConnection,
    events: &[Uuid],
) -> StoreResult<Vec<RoutingStory>> {
    let rows = sqlx::query_as!(
        RoutingStory,
        "select id as routing_id, event_id, run, generation, state, tenant_id, decision, failure_code, created_at
         from routings where event_id = any($1) order by event_id, run limit $2",
        events,
        MOST_ROWS,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// The deliveries of events, with their attempts and receipts.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn deliveries_of(
    conn: &mut PgConnection,
    events: &[Uuid],
    seals: &Keyring,
) -> StoreResult<Vec<DeliveryStory>> {
    let rows = sqlx::query!(
        "select d.id, d.routing_id, d.event_id, d.channel, d.channel_id, d.rule_id, d.template_key, d.recipient,
                d.body_text, d.state, d.held_reason, d.failure_code, d.failure_detail, d.generation, d.attempt_count,
                d.retry_count, d.max_retries, d.next_attempt_at, d.unknown_policy, d.created_at, d.sent_at,
                d.delivered_at, d.read_at
         from routings r join deliveries d on d.routing_id = r.id
         where r.event_id = any($1) order by d.id limit $2",
        events,
        MOST_ROWS,
    )
    .fetch_all(&mut *conn)
    .await?;
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    let mut attempts = attempts_of(conn, &ids).await?;
    let mut receipts = receipts_of(conn, &ids).await?;
    let text = |row: Uuid, kept: Option<String>| {
        let place = Place::new(Column::DeliveryText, row);
        kept.map(|kept| seals.open_text(place, kept)).transpose()
    };
    rows.into_iter()
        .map(|row| {
            Ok(DeliveryStory {
                delivery_id: row.id,
                routing_id: row.routing_id,
                event_id: row.event_id,
                channel: row.channel,
                channel_account: row.channel_id,
                rule_id: row.rule_id,
                template: row.template_key,
                recipient: row.recipient,
                text: text(row.id, row.body_text)?,
                state: row.state,
                held_reason: row.held_reason,
                failure_code: row.failure_code,
                failure_detail: row.failure_detail,
                generation: row.generation,
                attempt_count: row.attempt_count,
                retry_count: row.retry_count,
                max_retries: row.max_retries,
                next_retry_at: row.next_attempt_at,
                unknown_policy: row.unknown_policy,
                created_at: row.created_at,
                sent_at: row.sent_at,
                delivered_at: row.delivered_at,
                read_at: row.read_at,
                attempts: attempts
                    .extract_if(.., |attempt| attempt.delivery_id == row.id)
                    .collect(),
                receipts: receipts
                    .extract_if(.., |receipt| receipt.delivery_id == Some(row.id))
                    .collect(),
            })
        })
        .collect()
}

async fn attempts_of(
    conn: &mut PgConnection,
    deliveries: &[Uuid],
) -> StoreResult<Vec<AttemptStory>> {
    let rows = sqlx::query_as!(
        AttemptStory,
        "select id as attempt_id, delivery_id, number, generation, outcome, failure_code, http_status,
                response_excerpt, provider_message_id, gateway_correlation_id, claimed_at, finished_at, duration_ms
         from delivery_attempts where delivery_id = any($1) order by claimed_at, number limit $2",
        deliveries,
        MOST_ROWS,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

async fn receipts_of(
    conn: &mut PgConnection,
    deliveries: &[Uuid],
) -> StoreResult<Vec<ReceiptStory>> {
    let rows = sqlx::query_as!(
        ReceiptStory,
        "select id as receipt_id, event_id, delivery_id, kind, level, evidence, state, effect, provider_at, applied_at
         from receipts where delivery_id = any($1) order by created_at, id limit $2",
        deliveries,
        MOST_ROWS,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// Receipts that an event of this trace brought, bound or not.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn receipts_of_trace(
    conn: &mut PgConnection,
    trace_id: &str,
) -> StoreResult<Vec<ReceiptStory>> {
    let rows = sqlx::query_as!(
        ReceiptStory,
        "select id as receipt_id, event_id, delivery_id, kind, level, evidence, state, effect, provider_at, applied_at
         from receipts where event_id in (select id from communication_events where trace_id = $1)
         order by created_at, id limit $2",
        trace_id,
        MOST_ROWS,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// The steps of a trace in the order they happened.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn timeline(conn: &mut PgConnection, trace_id: &str) -> StoreResult<Vec<Step>> {
    let rows = sqlx::query_as!(
        Step,
        r#"select at as "at!", step as "step!", detail, event_id, delivery_id
           from communication_timeline where trace_id = $1 order by at, place limit $2"#,
        trace_id,
        MOST_ROWS,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}
