//! What a batch of decisions makes: `routings`, their `deliveries`, and the messages that let these
//! be tried. One statement, so that a batch costs one round trip and needs no transaction around it.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use serde_json::Value;
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::StoreResult;
use super::composite::composite;
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
        ), asked as (
            insert into outbox (target, subject_id, body, available_at)
            select m.target, m.subject_id, m.body, now() + make_interval(secs => $5)
            from unnest($4::hub_planned_message[]) with ordinality as m(routing_id, target, subject_id, body, place)
            where (m.routing_id in (select id from lawful)) is true
            order by m.place
            returning id, subject_id
        )
        select id as "subject!", null::bigint as outbox_id from lawful
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
            .map(|delivery| DeliveryRow::of(delivery))
            .collect::<Vec<_>>() as &[DeliveryRow<'_>],
        &messages
            .iter()
            .map(|(routing, message)| MessageRow::of(*routing, message))
            .collect::<Vec<_>>() as &[MessageRow<'_>],
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

/// `hub_new_routing`
#[derive(sqlx::Encode)]
struct RoutingRow<'a> {
    id: Uuid,
    event_id: Uuid,
    run: i32,
    trace_id: &'a str,
    tenant_id: Option<i64>,
    event_type: &'a str,
    source_system: &'a str,
    state: &'static str,
    decision: Json<&'a Value>,
    failure_code: Option<&'static str>,
    error_message: Option<&'a str>,
    processing_time_ms: f64,
}

composite!(RoutingRow<'_>, "hub_new_routing");

impl<'a> RoutingRow<'a> {
    fn of(routing: &'a NewRouting) -> Self {
        Self {
            id: routing.id,
            event_id: routing.event_id,
            run: routing.run,
            trace_id: &routing.trace_id,
            tenant_id: routing.tenant_id,
            event_type: &routing.event_type,
            source_system: &routing.source_system,
            state: routing.state,
            decision: Json(&routing.decision),
            failure_code: routing.failure_code,
            error_message: routing.error_message.as_deref(),
            processing_time_ms: routing.processing_time_ms,
        }
    }
}

/// `hub_new_delivery`
#[derive(sqlx::Encode)]
struct DeliveryRow<'a> {
    id: Uuid,
    routing_id: Uuid,
    ordinal: i32,
    event_id: Uuid,
    event_type: &'a str,
    source_system: &'a str,
    trace_id: &'a str,
    correlation_id: Option<&'a str>,
    tenant_id: Option<i64>,
    channel: &'a str,
    channel_id: Option<&'a str>,
    lane: &'a str,
    rule_id: Option<i64>,
    template_id: Option<i64>,
    template_key: Option<&'a str>,
    recipient: Option<&'a str>,
    recipient_key: Option<&'a str>,
    recipient_name: Option<&'a str>,
    body_text: Option<&'a str>,
    body_hash: Option<&'a [u8]>,
    invoice_key: Option<&'a str>,
    detail: Json<&'a Value>,
    unknown_policy: &'a str,
    state: &'static str,
    failure_code: Option<&'static str>,
    failure_detail: Option<&'a str>,
    max_retries: i32,
}

composite!(DeliveryRow<'_>, "hub_new_delivery");

impl<'a> DeliveryRow<'a> {
    fn of(delivery: &'a NewDelivery) -> Self {
        Self {
            id: delivery.id,
            routing_id: delivery.routing_id,
            ordinal: delivery.ordinal,
            event_id: delivery.event_id,
            event_type: &delivery.event_type,
            source_system: &delivery.source_system,
            trace_id: &delivery.trace_id,
            correlation_id: delivery.correlation_id.as_deref(),
            tenant_id: delivery.tenant_id,
            channel: &delivery.channel,
            channel_id: delivery.channel_id.as_deref(),
            lane: &delivery.lane,
            rule_id: delivery.rule_id,
            template_id: delivery.template_id,
            template_key: delivery.template_key.as_deref(),
            recipient: delivery.recipient.as_deref(),
            recipient_key: delivery.recipient_key.as_deref(),
            recipient_name: delivery.recipient_name.as_deref(),
            body_text: delivery.body_text.as_deref(),
            body_hash: delivery.body_hash.as_deref(),
            invoice_key: delivery.invoice_key.as_deref(),
            detail: Json(&delivery.detail),
            unknown_policy: &delivery.unknown_policy,
            state: delivery.state.as_str(),
            failure_code: delivery.failure_code,
            failure_detail: delivery.failure_detail.as_deref(),
            max_retries: delivery.max_retries,
        }
    }
}

/// `hub_planned_message`
#[derive(sqlx::Encode)]
struct MessageRow<'a> {
    routing_id: Uuid,
    target: &'a str,
    subject_id: Uuid,
    body: Json<&'a MessageJson>,
}

composite!(MessageRow<'_>, "hub_planned_message");

impl<'a> MessageRow<'a> {
    fn of(routing_id: Uuid, message: &'a NewMessage) -> Self {
        Self {
            routing_id,
            target: &message.target,
            subject_id: message.subject_id,
            body: Json(&message.body),
        }
    }
}
