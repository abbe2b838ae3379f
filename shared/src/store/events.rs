//! `communication_events` and `idempotency_keys`: the constraint decides what is new.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::StoreResult;
use super::outbox::HOT_LEASE;
use crate::domain::message::WorkQueue;

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
    pub message: Value,
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
) -> StoreResult<Vec<(Uuid, i64)>> {
    macro_rules! column {
        ($map:expr) => {
            &events.iter().copied().map($map).collect::<Vec<_>>()
        };
    }
    let rows = sqlx::query!(
        r#"
        with input as (
            select * from unnest(
                $1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::double precision[], $6::bytea[],
                $7::text[], $8::bigint[], $9::text[], $10::text[], $11::text[], $12::text[],
                $13::timestamptz[], $14::timestamptz[], $15::jsonb[], $16::bytea[], $17::jsonb[],
                $18::text[], $19::text[], $20::text[], $21::text[], $22::text[], $23::jsonb[]
            ) as i(id, source_system, scope, key, key_ttl_s, body_sha256,
                   event_type, tenant_id, source_event_id, trace_id, correlation_id, causation_id,
                   occurred_at, received_at, metadata, body, payload,
                   provider_message_id, channel_id, direction, contact_key, invoice_key, message)
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
        select $24, id, message, now() + make_interval(secs => $25)
        from input where (id in (select event_id from won)) is true
        returning subject_id, id
        "#,
        column!(|e: &NewEvent| e.id) as &[Uuid],
        column!(|e: &NewEvent| e.source_system.as_str()) as &[&str],
        column!(|e: &NewEvent| e.scope) as &[i64],
        column!(|e: &NewEvent| e.key.as_str()) as &[&str],
        column!(|e: &NewEvent| e.key_ttl_s) as &[f64],
        column!(|e: &NewEvent| e.body_sha256.as_slice()) as &[&[u8]],
        column!(|e: &NewEvent| e.event_type.as_str()) as &[&str],
        column!(|e: &NewEvent| e.tenant_id) as &[Option<i64>],
        column!(|e: &NewEvent| e.source_event_id.as_deref()) as &[Option<&str>],
        column!(|e: &NewEvent| e.trace_id.as_str()) as &[&str],
        column!(|e: &NewEvent| e.correlation_id.as_deref()) as &[Option<&str>],
        column!(|e: &NewEvent| e.causation_id.as_deref()) as &[Option<&str>],
        column!(|e: &NewEvent| e.occurred_at) as &[DateTime<Utc>],
        column!(|e: &NewEvent| e.received_at) as &[DateTime<Utc>],
        column!(|e: &NewEvent| Json(&e.metadata)) as &[Json<&Value>],
        column!(|e: &NewEvent| e.body.as_slice()) as &[&[u8]],
        column!(|e: &NewEvent| e.payload.as_ref().map(Json)) as &[Option<Json<&Value>>],
        column!(|e: &NewEvent| e.provider_message_id.as_deref()) as &[Option<&str>],
        column!(|e: &NewEvent| e.channel_id.as_deref()) as &[Option<&str>],
        column!(|e: &NewEvent| e.direction) as &[Option<&str>],
        column!(|e: &NewEvent| e.contact_key.as_deref()) as &[Option<&str>],
        column!(|e: &NewEvent| e.invoice_key.as_deref()) as &[Option<&str>],
        column!(|e: &NewEvent| Json(&e.message)) as &[Json<&Value>],
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

/// Loads events for routing. The bounds let PostgreSQL skip partitions, which it cannot do for
/// `= any($1)` alone.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn load(conn: &mut PgConnection, ids: &[Uuid]) -> StoreResult<Vec<StoredEvent>> {
    let rows = sqlx::query_as!(
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
