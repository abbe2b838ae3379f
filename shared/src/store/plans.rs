//! What a batch of decisions makes: `routings`, their `deliveries` and `receipts`, and the messages
//! that let these be tried and applied. One statement, so that a batch costs one round trip and needs
//! no transaction around it.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use serde_json::value::RawValue;
use sqlx::PgConnection;
use uuid::Uuid;

use super::StoreResult;
use super::deliveries::NewDelivery;
use super::outbox::{HOT_LEASE, NewMessage, OutboxRow};
use super::plan_rows::{DeliveryRow, MessageRow, ReceiptRow, RoutingRow};
use super::receipts::NewReceipt;
use crate::sealing::Keyring;

/// The JSON of a decision: written once.
pub type DecisionJson = Box<RawValue>;

/// What is stored for an event about which nothing could be decided.
///
/// # Panics
/// Never: it is JSON.
#[must_use]
pub fn no_decision() -> DecisionJson {
    RawValue::from_string("{}".to_owned()).expect("because an empty object is JSON")
}

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
    pub decision: DecisionJson,
    /// Why it failed.
    pub failure_code: Option<&'static str>,
    /// The same for a person; never a value of the payload.
    pub error_message: Option<String>,
    /// How long normalising and deciding took, in milliseconds.
    pub processing_time_ms: f64,
}

/// When the commit of a statement is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Once it is on disk.
    #[default]
    OnDisk,
    /// At once; it is on disk within a second. Only where the statement is a transaction of its own and
    /// its loss is mended by the reconciler: a crash of PostgreSQL may take it.
    ///
    /// A plain decision is such. PostgreSQL recovers what it has written in the order of the commits: when a
    /// routing is gone, so is everything that saw it, and a claim that is there proves its routing. Its
    /// event, which was on disk before it was answered, has no routing then and gets a new message. Copies
    /// of messages of the lost rows find nothing and are dropped; their outbox ids are not given again. And
    /// nobody is answered on a routing.
    Soon,
}

/// Decisions to be stored, and what follows from them.
#[derive(Debug, Default)]
pub struct NewPlans<'a> {
    /// When the commit is answered.
    pub durability: Durability,
    /// Decisions, each the first of its (event, run) unless another process was quicker.
    pub routings: Vec<&'a NewRouting>,
    /// Routings that are stored already and may have deliveries made now: a redrive asked for it.
    pub decided_again: Vec<Uuid>,
    /// What the decisions planned.
    pub deliveries: Vec<&'a NewDelivery>,
    /// Evidence that the events brought, each with its routing.
    pub receipts: Vec<(Uuid, &'a NewReceipt)>,
    /// The messages of deliveries and receipts that wait, each with its routing.
    pub messages: Vec<(Uuid, NewMessage)>,
}

/// What was stored.
#[derive(Debug, Default)]
pub struct StoredPlans {
    /// The routings that are the first of their (event, run), and those that were decided again.
    /// Nothing may follow from the others.
    pub routings: HashSet<Uuid>,
    /// The messages of what they made; publish them after the commit.
    pub messages: Vec<OutboxRow>,
}

/// Stores decisions that are the first of their (event, run), with what follows from them.
///
/// Invariant: routings and receipts are sorted by event, so that two batches cannot deadlock.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn insert(
    conn: &mut PgConnection,
    plans: NewPlans<'_>,
    seals: &Keyring,
) -> StoreResult<StoredPlans> {
    let NewPlans {
        durability,
        routings,
        decided_again,
        deliveries,
        receipts,
        messages,
    } = plans;
    if routings.is_empty() && decided_again.is_empty() {
        return Ok(StoredPlans::default());
    }
    let leased_at = Instant::now();
    let rows = sqlx::query!(
        r#"
        with decided as (
            insert into routings (id, event_id, run, trace_id, tenant_id, event_type, source_system, state, decision,
                                  failure_code, error_message, processing_time_ms)
            select id, event_id, run, trace_id, tenant_id, event_type, source_system, state, decision, failure_code,
                   error_message, processing_time_ms
            from unnest($1::hub_new_routing[])
            on conflict (event_id, run) do nothing
            returning id
        ), lawful as (
            select id from decided union all select unnest($2::uuid[])
        ), made as (
            insert into deliveries (
                id, routing_id, ordinal, event_id, event_type, source_system, trace_id, correlation_id, tenant_id,
                channel, channel_id, lane, rule_id, template_id, template_key, recipient, recipient_key,
                recipient_name, body_text, body_hash, invoice_key, detail, unknown_policy, state, failure_code,
                failure_detail, max_retries, dispatched_at, settled_at)
            select i.id, i.routing_id, i.ordinal, i.event_id, i.event_type, i.source_system, i.trace_id,
                   i.correlation_id, i.tenant_id, i.channel, i.channel_id, i.lane, i.rule_id, i.template_id,
                   i.template_key, i.recipient, i.recipient_key, i.recipient_name, i.body_text, i.body_hash,
                   i.invoice_key, i.detail, i.unknown_policy, i.state, i.failure_code, i.failure_detail,
                   i.max_retries, now(), case when i.state in ('dead', 'failed') then now() end
            from unnest($3::hub_new_delivery[]) as i
            -- `is true` keeps it a look into a hash table; a join would compare each with each.
            where (i.routing_id in (select id from lawful)) is true
        ), heard as (
            insert into receipts (
                id, event_id, trace_id, kind, channel_id, level, evidence, provider_message_id,
                gateway_correlation_id, delivery_ref, recipient_key, recipient, body_text, body_hash, provider_at)
            select i.id, i.event_id, i.trace_id, i.kind, i.channel_id, i.level, i.evidence, i.provider_message_id,
                   i.gateway_correlation_id, i.delivery_ref, i.recipient_key, i.recipient, i.body_text, i.body_hash,
                   i.provider_at
            from unnest($4::hub_new_receipt[]) as i
            where (i.routing_id in (select id from lawful)) is true
            on conflict (event_id) do nothing
        ), asked as (
            insert into outbox (target, subject_id, body, available_at)
            select m.target, m.subject_id, m.body, now() + make_interval(secs => $6)
            from unnest($5::hub_planned_message[]) with ordinality as m(routing_id, target, subject_id, body, place)
            where (m.routing_id in (select id from lawful)) is true
            order by m.place
            returning id, subject_id
        )
        select id as "subject!", null::bigint as outbox_id from lawful
        where (select set_config('synchronous_commit',
                                 case when $7 then 'off' else current_setting('synchronous_commit') end,
                                 true)) is not null
        union all
        select subject_id, id from asked
        "#,
        &routings
            .iter()
            .map(|routing| RoutingRow::of(routing))
            .collect::<Vec<_>>() as &[RoutingRow<'_>],
        &decided_again,
        &deliveries
            .iter()
            .map(|delivery| DeliveryRow::of(delivery, seals))
            .collect::<Vec<_>>() as &[DeliveryRow<'_>],
        &receipts
            .iter()
            .map(|(routing, receipt)| ReceiptRow::of(*routing, receipt, seals))
            .collect::<Vec<_>>() as &[ReceiptRow<'_>],
        &messages
            .iter()
            .map(|(routing, message)| MessageRow::of(*routing, message))
            .collect::<Vec<_>>() as &[MessageRow<'_>],
        HOT_LEASE.as_secs_f64(),
        durability == Durability::Soon,
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
