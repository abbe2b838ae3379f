//! What a batch of decisions makes: `routings`, their `deliveries`, and the messages that let these
//! be tried. One statement, so that a batch costs one round trip and needs no transaction around it.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use serde_json::Value;
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::StoreResult;
use super::deliveries::NewDelivery;
use super::outbox::{HOT_LEASE, MessageJson, NewMessage, OutboxRow};

/// A decision to be stored.
#[derive(Clone, Debug)]
pub struct NewRouting {
    /// Its id.
    pub id: Uuid,
    /// The event decided about.
    pub event_id: Uuid,
    /// 0 is the first.
    pub run: i32,
    /// How often the decision was redriven; above 0 it is written over the one that failed.
    pub generation: i32,
    /// The event's trace.
    pub trace_id: String,
    /// The tenant that the router resolved.
    pub tenant_id: Option<i64>,
    /// The event's type.
    pub event_type: String,
    /// The event's source.
    pub source_system: String,
    /// `routed`, `unrouted` or `failed`.
    pub state: &'static str,
    /// Everything that answers "why".
    pub decision: Value,
    /// Why it failed.
    pub failure_code: Option<&'static str>,
    /// The same for a person; never a value of the payload.
    pub error_message: Option<String>,
    /// How long normalising and deciding took, in milliseconds.
    pub processing_time_ms: f64,
}

/// Decisions to be stored, and what follows from them.
#[derive(Debug, Default)]
pub struct NewPlans<'a> {
    /// Decisions, each the first of its (event, run) unless another process was quicker.
    pub routings: Vec<&'a NewRouting>,
    /// Routings that are stored already and may have deliveries made now: a redrive asked for it.
    pub decided_again: Vec<Uuid>,
    /// What the decisions planned.
    pub deliveries: Vec<&'a NewDelivery>,
    /// The messages of deliveries that wait, each with its delivery's routing.
    pub messages: Vec<(Uuid, NewMessage)>,
}

/// What was stored.
#[derive(Debug, Default)]
pub struct StoredPlans {
    /// The routings that are the first of their (event, run), and those that were decided again.
    /// Nothing may follow from the others.
    pub routings: HashSet<Uuid>,
    /// The messages of their deliveries; publish them after the commit.
    pub messages: Vec<OutboxRow>,
}

/// Stores decisions that are the first of their (event, run), with their deliveries and messages.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn insert(conn: &mut PgConnection, plans: NewPlans<'_>) -> StoreResult<StoredPlans> {
    let NewPlans {
        routings,
        decided_again,
        deliveries,
        messages,
    } = plans;
    if routings.is_empty() && decided_again.is_empty() {
        return Ok(StoredPlans::default());
    }
    macro_rules! column {
        ($rows:ident, $map:expr) => {
            &$rows.iter().map($map).collect::<Vec<_>>()
        };
    }
    let leased_at = Instant::now();
    let rows = sqlx::query!(
        r#"
        with decided as (
            insert into routings (id, event_id, run, trace_id, tenant_id, event_type, source_system, state, decision,
                                  failure_code, error_message, processing_time_ms)
            select * from unnest($1::uuid[], $2::uuid[], $3::integer[], $4::text[], $5::bigint[], $6::text[],
                                 $7::text[], $8::text[], $9::jsonb[], $10::text[], $11::text[],
                                 $12::double precision[])
            on conflict (event_id, run) do nothing
            returning id
        ), lawful as (
            select id from decided union all select unnest($13::uuid[])
        ), made as (
            insert into deliveries (
                id, routing_id, ordinal, event_id, event_type, source_system, trace_id, correlation_id, tenant_id,
                channel, channel_id, lane, rule_id, template_id, template_key, recipient, recipient_key,
                recipient_name, body_text, body_hash, invoice_key, detail, unknown_policy, state, failure_code,
                failure_detail, max_retries, dispatched_at, settled_at)
            select i.*, now(), case when i.state in ('dead', 'failed') then now() end
            from unnest($14::uuid[], $15::uuid[], $16::integer[], $17::uuid[], $18::text[], $19::text[], $20::text[],
                        $21::text[], $22::bigint[], $23::text[], $24::text[], $25::text[], $26::bigint[],
                        $27::bigint[], $28::text[], $29::text[], $30::text[], $31::text[], $32::text[], $33::bytea[],
                        $34::text[], $35::jsonb[], $36::text[], $37::text[], $38::text[], $39::text[], $40::integer[])
                 as i(id, routing_id, ordinal, event_id, event_type, source_system, trace_id, correlation_id,
                      tenant_id, channel, channel_id, lane, rule_id, template_id, template_key, recipient,
                      recipient_key, recipient_name, body_text, body_hash, invoice_key, detail, unknown_policy,
                      state, failure_code, failure_detail, max_retries)
            -- `is true` keeps it a look into a hash table; a join would compare each with each.
            where (i.routing_id in (select id from lawful)) is true
        ), asked as (
            insert into outbox (target, subject_id, body, available_at)
            select m.target, m.subject_id, m.body, now() + make_interval(secs => $45)
            from unnest($41::uuid[], $42::text[], $43::uuid[], $44::jsonb[])
                 with ordinality as m(routing_id, target, subject_id, body, place)
            where (m.routing_id in (select id from lawful)) is true
            order by m.place
            returning id, subject_id
        )
        select id as "subject!", null::bigint as outbox_id from lawful
        union all
        select subject_id, id from asked
        "#,
        column!(routings, |r| r.id) as &[Uuid],
        column!(routings, |r| r.event_id) as &[Uuid],
        column!(routings, |r| r.run) as &[i32],
        column!(routings, |r| r.trace_id.as_str()) as &[&str],
        column!(routings, |r| r.tenant_id) as &[Option<i64>],
        column!(routings, |r| r.event_type.as_str()) as &[&str],
        column!(routings, |r| r.source_system.as_str()) as &[&str],
        column!(routings, |r| r.state) as &[&str],
        column!(routings, |r| Json(&r.decision)) as &[Json<&Value>],
        column!(routings, |r| r.failure_code) as &[Option<&str>],
        column!(routings, |r| r.error_message.as_deref()) as &[Option<&str>],
        column!(routings, |r| r.processing_time_ms) as &[f64],
        &decided_again,
        column!(deliveries, |d| d.id) as &[Uuid],
        column!(deliveries, |d| d.routing_id) as &[Uuid],
        column!(deliveries, |d| d.ordinal) as &[i32],
        column!(deliveries, |d| d.event_id) as &[Uuid],
        column!(deliveries, |d| d.event_type.as_str()) as &[&str],
        column!(deliveries, |d| d.source_system.as_str()) as &[&str],
        column!(deliveries, |d| d.trace_id.as_str()) as &[&str],
        column!(deliveries, |d| d.correlation_id.as_deref()) as &[Option<&str>],
        column!(deliveries, |d| d.tenant_id) as &[Option<i64>],
        column!(deliveries, |d| d.channel.as_str()) as &[&str],
        column!(deliveries, |d| d.channel_id.as_deref()) as &[Option<&str>],
        column!(deliveries, |d| d.lane.as_str()) as &[&str],
        column!(deliveries, |d| d.rule_id) as &[Option<i64>],
        column!(deliveries, |d| d.template_id) as &[Option<i64>],
        column!(deliveries, |d| d.template_key.as_deref()) as &[Option<&str>],
        column!(deliveries, |d| d.recipient.as_deref()) as &[Option<&str>],
        column!(deliveries, |d| d.recipient_key.as_deref()) as &[Option<&str>],
        column!(deliveries, |d| d.recipient_name.as_deref()) as &[Option<&str>],
        column!(deliveries, |d| d.body_text.as_deref()) as &[Option<&str>],
        column!(deliveries, |d| d.body_hash.as_deref()) as &[Option<&[u8]>],
        column!(deliveries, |d| d.invoice_key.as_deref()) as &[Option<&str>],
        column!(deliveries, |d| Json(&d.detail)) as &[Json<&Value>],
        column!(deliveries, |d| d.unknown_policy.as_str()) as &[&str],
        column!(deliveries, |d| d.state.as_str()) as &[&str],
        column!(deliveries, |d| d.failure_code) as &[Option<&str>],
        column!(deliveries, |d| d.failure_detail.as_deref()) as &[Option<&str>],
        column!(deliveries, |d| d.max_retries) as &[i32],
        column!(messages, |m| m.0) as &[Uuid],
        column!(messages, |m| m.1.target.as_str()) as &[&str],
        column!(messages, |m| m.1.subject_id) as &[Uuid],
        column!(messages, |m| Json(&m.1.body)) as &[Json<&MessageJson>],
        HOT_LEASE.as_secs_f64(),
    )
    .fetch_all(conn)
    .await?;
    let mut stored = StoredPlans::default();
    let mut ids = HashMap::with_capacity(messages.len());
    for row in rows {
        match row.outbox_id {
            None => {
                stored.routings.insert(row.subject);
            }
            Some(id) => {
                ids.insert(row.subject, id);
            }
        }
    }
    stored.messages = messages
        .into_iter()
        .filter_map(|(_, message)| {
            Some(OutboxRow {
                id: ids.remove(&message.subject_id)?,
                target: message.target,
                body: message.body,
                headers: None,
                leased_at,
            })
        })
        .collect();
    Ok(stored)
}
