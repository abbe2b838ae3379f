//! `communication_events` and `idempotency_keys`: the constraint decides what is new.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::StoreResult;
use super::composite::composite;
use super::outbox::{HOT_LEASE, MessageJson};
use crate::domain::message::WorkQueue;
use crate::sealing::{Column, Keyring, Place};

/// An event to be stored, with its key and the message that sends it to the router.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// Made by ingest, kept over a repeat of the transaction.
    pub id: Uuid,
    /// The source whose event it is.
    pub source_system: String,
    /// The tenant of the credential, 0 where it speaks for all.
    pub scope: i64,
    /// The idempotency key, unique within (source, scope) while it lives.
    pub key: String,
    /// How long the key lives, in seconds.
    pub key_ttl_s: f64,
    /// SHA-256 over the canonical body, see `domain::event`.
    pub body_sha256: [u8; 32],
    /// What happened.
    pub event_type: String,
    /// For whom.
    pub tenant_id: Option<i64>,
    /// The id that the source itself gave.
    pub source_event_id: Option<String>,
    /// The trace, 32 hexadecimal digits.
    pub trace_id: String,
    /// Groups events.
    pub correlation_id: Option<String>,
    /// What caused it.
    pub causation_id: Option<String>,
    /// When it happened.
    pub occurred_at: DateTime<Utc>,
    /// When it came.
    pub received_at: DateTime<Utc>,
    /// The caller's remarks.
    pub metadata: Value,
    /// Raw bytes as received.
    pub body: Vec<u8>,
    /// The payload, none when jsonb cannot hold it.
    pub payload: Option<Value>,
    /// The provider's key id of the message.
    pub provider_message_id: Option<String>,
    /// The slug of the channel account.
    pub channel_id: Option<String>,
    /// `inbound` or `outbound`.
    pub direction: Option<&'static str>,
    /// The key of the contact.
    pub contact_key: Option<String>,
    /// The key of the invoice.
    pub invoice_key: Option<String>,
    /// The thin message to the router.
    pub message: MessageJson,
}

/// The event that a key belongs to.
#[derive(Clone, Debug)]
pub struct KeyHolder {
    /// The source of the key.
    pub source_system: String,
    /// The scope of the key.
    pub scope: i64,
    /// The key.
    pub key: String,
    /// The event that came first.
    pub event_id: Uuid,
    /// The hash of its body.
    pub body_sha256: Vec<u8>,
}

/// Stores the events whose keys are new, with an outbox row for each, in one statement.
/// Answers `(event id, outbox id)` for the winners; a concurrent post of a key waits for the first.
///
/// Invariant: `events` holds no two equal keys and is sorted by (source, scope, key).
///
/// # Errors
/// See [`super::StoreError`].
pub async fn insert_new(
    conn: &mut PgConnection,
    events: &[&NewEvent],
    seals: &Keyring,
) -> StoreResult<Vec<(Uuid, i64)>> {
    let kept: Vec<KeptEvent<'_>> = events
        .iter()
        .map(|event| KeptEvent::of(event, seals))
        .collect();
    let events: Vec<EventRow<'_>> = events
        .iter()
        .zip(&kept)
        .map(|(event, kept)| EventRow::of(event, kept))
        .collect();
    let rows = sqlx::query!(
        r#"
        with input as (
            select * from unnest($1::hub_new_event[])
        ), won as (
            insert into idempotency_keys as k (source_system, scope, key, event_id, body_sha256, expires_at)
            select source_system, scope, key, id, body_sha256, now() + make_interval(secs => key_ttl_s)
            from input
            on conflict (source_system, scope, key) do update
                set event_id = excluded.event_id, body_sha256 = excluded.body_sha256,
                    created_at = now(), expires_at = excluded.expires_at
                where k.expires_at < now()
            returning event_id
        ), stored as (
            insert into communication_events (
                id, source_system, event_type, tenant_id, source_event_id, idempotency_key, trace_id,
                correlation_id, causation_id, occurred_at, received_at, metadata, body, payload,
                provider_message_id, channel_id, direction, contact_key, invoice_key)
            select id, source_system, event_type, tenant_id, source_event_id, key, trace_id,
                   correlation_id, causation_id, occurred_at, received_at, metadata, body, payload,
                   provider_message_id, channel_id, direction, contact_key, invoice_key
            -- `is true` keeps it a look into a hash table; a join would compare each with each.
            from input where (id in (select event_id from won)) is true
        )
        insert into outbox (target, subject_id, body, available_at)
        select $2, id, message, now() + make_interval(secs => $3)
        from input where (id in (select event_id from won)) is true
        returning subject_id, id
        "#,
        events as _,
        WorkQueue::Route.name(),
        HOT_LEASE.as_secs_f64(),
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.subject_id, row.id))
        .collect())
}

/// What is kept of an event's body and payload: sealed, where there are keys.
struct KeptEvent<'a> {
    body: Cow<'a, [u8]>,
    payload: Option<Cow<'a, Value>>,
}

impl<'a> KeptEvent<'a> {
    fn of(event: &'a NewEvent, seals: &Keyring) -> Self {
        Self {
            body: seals.seal_bytes(Place::new(Column::EventBody, event.id), &event.body),
            payload: event.payload.as_ref().map(|payload| {
                seals.seal_json(Place::new(Column::EventPayload, event.id), payload)
            }),
        }
    }
}

/// A row of `hub_new_event`.
#[derive(sqlx::Encode)]
struct EventRow<'a> {
    id: Uuid,
    source_system: &'a str,
    scope: i64,
    key: &'a str,
    key_ttl_s: f64,
    body_sha256: &'a [u8],
    event_type: &'a str,
    tenant_id: Option<i64>,
    source_event_id: Option<&'a str>,
    trace_id: &'a str,
    correlation_id: Option<&'a str>,
    causation_id: Option<&'a str>,
    occurred_at: DateTime<Utc>,
    received_at: DateTime<Utc>,
    metadata: Json<&'a Value>,
    body: &'a [u8],
    payload: Option<Json<&'a Value>>,
    provider_message_id: Option<&'a str>,
    channel_id: Option<&'a str>,
    direction: Option<&'a str>,
    contact_key: Option<&'a str>,
    invoice_key: Option<&'a str>,
    message: Json<&'a MessageJson>,
}

composite!(EventRow<'_>, "hub_new_event");

impl<'a> EventRow<'a> {
    fn of(event: &'a NewEvent, kept: &'a KeptEvent<'a>) -> Self {
        Self {
            id: event.id,
            source_system: &event.source_system,
            scope: event.scope,
            key: &event.key,
            key_ttl_s: event.key_ttl_s,
            body_sha256: &event.body_sha256,
            event_type: &event.event_type,
            tenant_id: event.tenant_id,
            source_event_id: event.source_event_id.as_deref(),
            trace_id: &event.trace_id,
            correlation_id: event.correlation_id.as_deref(),
            causation_id: event.causation_id.as_deref(),
            occurred_at: event.occurred_at,
            received_at: event.received_at,
            metadata: Json(&event.metadata),
            body: &kept.body,
            payload: kept.payload.as_deref().map(Json),
            provider_message_id: event.provider_message_id.as_deref(),
            channel_id: event.channel_id.as_deref(),
            direction: event.direction,
            contact_key: event.contact_key.as_deref(),
            invoice_key: event.invoice_key.as_deref(),
            message: Json(&event.message),
        }
    }
}

/// Reads who holds the keys. A second statement on purpose: a CTE of the insert would not see a
/// winner that committed while the insert waited for it.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn key_holders(
    conn: &mut PgConnection,
    keys: &[(String, i64, String)],
) -> StoreResult<Vec<KeyHolder>> {
    let sources: Vec<String> = keys.iter().map(|key| key.0.clone()).collect();
    let scopes: Vec<i64> = keys.iter().map(|key| key.1).collect();
    let names: Vec<String> = keys.iter().map(|key| key.2.clone()).collect();
    let rows = sqlx::query_as!(
        KeyHolder,
        "select k.source_system, k.scope, k.key, k.event_id, k.body_sha256
         from idempotency_keys k
         join unnest($1::text[], $2::bigint[], $3::text[]) as i(source_system, scope, key)
           on k.source_system = i.source_system and k.scope = i.scope and k.key = i.key",
        &sources,
        &scopes,
        &names,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// The trace and correlation of an event, for the answer to a repeated post.
#[derive(Clone, Debug)]
pub struct EventTrace {
    /// The event.
    pub id: Uuid,
    /// Its trace.
    pub trace_id: String,
    /// Its correlation.
    pub correlation_id: Option<String>,
}

/// Reads the traces of events.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn traces_of(conn: &mut PgConnection, ids: &[Uuid]) -> StoreResult<Vec<EventTrace>> {
    let rows = sqlx::query_as!(
        EventTrace,
        "select id, trace_id, correlation_id from communication_events
         where id = any($1) and id >= $2 and id <= $3",
        ids,
        ids.iter().min().copied().unwrap_or_default(),
        ids.iter().max().copied().unwrap_or_default(),
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// A stored event, as the router needs it.
#[derive(Clone, Debug)]
pub struct StoredEvent {
    /// The event.
    pub id: Uuid,
    /// The source whose event it is.
    pub source_system: String,
    /// What happened.
    pub event_type: String,
    /// For whom, where the source said so.
    pub tenant_id: Option<i64>,
    /// The trace.
    pub trace_id: String,
    /// Groups events.
    pub correlation_id: Option<String>,
    /// When it happened.
    pub occurred_at: DateTime<Utc>,
    /// When it came.
    pub received_at: DateTime<Utc>,
    /// The caller's remarks.
    pub metadata: Value,
    /// The payload, none when jsonb could not hold it.
    pub payload: Option<Value>,
    /// The raw bytes, read only where there is no payload.
    pub body: Option<Vec<u8>>,
    /// The slug of the channel account.
    pub channel_id: Option<String>,
    /// The key of the invoice.
    pub invoice_key: Option<String>,
    /// Whose invoice that is, where it is known.
    pub invoice_owner: Option<i64>,
}

impl StoredEvent {
    fn open(&mut self, seals: &Keyring) -> StoreResult<()> {
        if let Some(kept) = self.payload.take() {
            let place = Place::new(Column::EventPayload, self.id);
            self.payload = Some(seals.open_json(place, kept)?);
        }
        if let Some(kept) = self.body.take() {
            self.body = Some(seals.open_bytes(Place::new(Column::EventBody, self.id), kept)?);
        }
        Ok(())
    }
}

/// Loads events for routing. The bounds let PostgreSQL skip partitions, which it cannot do for
/// `= any($1)` alone.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn load(
    conn: &mut PgConnection,
    ids: &[Uuid],
    seals: &Keyring,
) -> StoreResult<Vec<StoredEvent>> {
    let mut rows = sqlx::query_as!(
        StoredEvent,
        "select id, source_system, event_type, tenant_id, trace_id, correlation_id, occurred_at, received_at,
                metadata, payload, case when payload is null then body end as body, channel_id, invoice_key,
                (select i.tenant_id from billing_invoices i
                 where i.invoice_key = e.invoice_key or i.asaas_key = e.invoice_key limit 1) as invoice_owner
         from communication_events e where id = any($1) and id >= $2 and id <= $3",
        ids,
        ids.iter().min().copied().unwrap_or_default(),
        ids.iter().max().copied().unwrap_or_default(),
    )
    .fetch_all(conn)
    .await?;
    for row in &mut rows {
        row.open(seals)?;
    }
    Ok(rows)
}

/// Throws out keys that have expired; answers how many.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn delete_expired_keys(conn: &mut PgConnection, limit: i64) -> StoreResult<u64> {
    let done = sqlx::query!(
        "delete from idempotency_keys
         where (source_system, scope, key) in (select source_system, scope, key from idempotency_keys
                                               where expires_at < now() order by expires_at
                                               for update skip locked limit $1)",
        limit,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
