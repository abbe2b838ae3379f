//! Deliveries and decisions that are made again after a redrive, in place: one row stays one row,
//! so a redrive never makes a second message.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::StoreResult;
use super::deliveries::NewDelivery;
use super::plans::{DecisionJson, NewRouting};
use crate::sealing::{Column, Keyring, Place};

/// A delivery that waits to be planned again.
#[derive(Clone, Debug)]
pub struct WaitingDelivery {
    /// The delivery.
    pub id: Uuid,
    /// The decision that made it.
    pub routing_id: Uuid,
    /// Its place in that decision's plan.
    pub ordinal: i32,
    /// The event.
    pub event_id: Uuid,
    /// The event's type.
    pub event_type: String,
    /// The event's source.
    pub source_system: String,
    /// The trace.
    pub trace_id: String,
    /// Groups events.
    pub correlation_id: Option<String>,
    /// The tenant.
    pub tenant_id: Option<i64>,
    /// The way out.
    pub channel: String,
    /// The template's key.
    pub template_key: Option<String>,
    /// The key of the invoice.
    pub invoice_key: Option<String>,
    /// The generation that the redrive gave it.
    pub generation: i32,
    /// Attempts made.
    pub attempt_count: i32,
    /// Retries it has.
    pub max_retries: i32,
    /// When it was planned first.
    pub created_at: DateTime<Utc>,
}

/// Locks, by id, the deliveries that wait to be planned in just these generations. Those that are
/// not answered moved on: the message is a stale copy.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn lock_waiting(
    conn: &mut PgConnection,
    wanted: &[(Uuid, i32)],
) -> StoreResult<Vec<WaitingDelivery>> {
    let (ids, generations): (Vec<Uuid>, Vec<i32>) = wanted.iter().copied().unzip();
    let rows = sqlx::query_as!(
        WaitingDelivery,
        "select d.id, d.routing_id, d.ordinal, d.event_id, d.event_type, d.source_system, d.trace_id, d.correlation_id,
                d.tenant_id, d.channel, d.template_key, d.invoice_key, d.generation, d.attempt_count, d.max_retries,
                d.created_at
         from deliveries d
         join unnest($1::uuid[], $2::integer[]) as i(id, generation) on d.id = i.id and d.generation = i.generation
         where d.state = 'queued' and d.replan_since is not null
         order by d.id for update of d",
        &ids,
        &generations,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// Writes new plans over deliveries that [`lock_waiting`] locked; `state` is where each goes.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn store_plans(
    conn: &mut PgConnection,
    plans: &[&NewDelivery],
    seals: &Keyring,
) -> StoreResult<()> {
    if plans.is_empty() {
        return Ok(());
    }
    macro_rules! column {
        ($map:expr) => {
            &plans.iter().map($map).collect::<Vec<_>>()
        };
    }
    sqlx::query!(
        "update deliveries d
         set tenant_id = i.tenant_id, channel_id = i.channel_id, lane = i.lane, rule_id = i.rule_id,
             template_id = i.template_id, template_key = i.template_key, recipient = i.recipient,
             recipient_key = i.recipient_key, recipient_name = i.recipient_name, body_text = i.body_text,
             body_hash = i.body_hash, detail = i.detail, unknown_policy = i.unknown_policy, state = i.state,
             failure_code = i.failure_code, failure_detail = i.failure_detail, replan_since = null,
             dispatched_at = now(), updated_at = now(),
             settled_at = case when i.state <> 'queued' then now() end
         from unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::text[],
                     $8::text[], $9::text[], $10::text[], $11::text[], $12::bytea[], $13::jsonb[], $14::text[],
                     $15::text[], $16::text[], $17::text[])
              as i(id, tenant_id, channel_id, lane, rule_id, template_id, template_key, recipient, recipient_key,
                   recipient_name, body_text, body_hash, detail, unknown_policy, state, failure_code, failure_detail)
         where d.id = i.id",
        column!(|d| d.id) as &[Uuid],
        column!(|d| d.tenant_id) as &[Option<i64>],
        column!(|d| d.channel_id.clone()) as &[Option<String>],
        column!(|d| d.lane.clone()) as &[String],
        column!(|d| d.rule_id) as &[Option<i64>],
        column!(|d| d.template_id) as &[Option<i64>],
        column!(|d| d.template_key.clone()) as &[Option<String>],
        column!(|d| d.recipient.clone()) as &[Option<String>],
        column!(|d| d.recipient_key.clone()) as &[Option<String>],
        column!(|d| d.recipient_name.clone()) as &[Option<String>],
        column!(|d| kept_text(d, seals)) as &[Option<String>],
        column!(|d| d.body_hash.clone()) as &[Option<Vec<u8>>],
        column!(|d| d.detail.clone()) as &[serde_json::Value],
        column!(|d| d.unknown_policy.clone()) as &[String],
        column!(|d| d.state.as_str().to_owned()) as &[String],
        column!(|d| d.failure_code.map(str::to_owned)) as &[Option<String>],
        column!(|d| d.failure_detail.clone()) as &[Option<String>],
    )
    .execute(conn)
    .await?;
    Ok(())
}

fn kept_text(delivery: &NewDelivery, seals: &Keyring) -> Option<String> {
    let place = Place::new(Column::DeliveryText, delivery.id);
    let text = delivery.body_text.as_deref()?;
    Some(seals.seal_text(place, text).into_owned())
}

/// Ends deliveries that wait to be planned and cannot be: they are dead again. The caller writes
/// their letters.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn give_up(conn: &mut PgConnection, id: Uuid, failure_code: &str) -> StoreResult<()> {
    sqlx::query!(
        "update deliveries set state = 'dead', failure_code = $2, replan_since = null, settled_at = now(),
                               updated_at = now()
         where id = $1 and state = 'queued' and replan_since is not null",
        id,
        failure_code,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Stores decisions that a redrive asked for, over those that failed: only where the event still
/// waits for a decision of that very generation. Answers (id, event, run) of those it stored; the
/// others are stale copies, and nothing may follow from them.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn decide_again(
    conn: &mut PgConnection,
    routings: &[&NewRouting],
) -> StoreResult<Vec<(Uuid, Uuid, i32)>> {
    if routings.is_empty() {
        return Ok(Vec::new());
    }
    macro_rules! column {
        ($map:expr) => {
            &routings.iter().map($map).collect::<Vec<_>>()
        };
    }
    let rows = sqlx::query!(
        "with input as (
             select * from unnest($1::uuid[], $2::integer[], $3::integer[], $4::bigint[], $5::text[], $6::jsonb[],
                                  $7::text[], $8::text[], $9::double precision[])
                 as i(event_id, run, generation, tenant_id, state, decision, failure_code, error_message,
                      processing_time_ms)
         ), locked as (
             select r.id, r.event_id, r.run from routings r join input i
                 on r.event_id = i.event_id and r.run = i.run and r.generation = i.generation
             where r.replan_since is not null order by r.event_id, r.run for update of r
         )
         update routings r
         set tenant_id = i.tenant_id, state = i.state, decision = i.decision, failure_code = i.failure_code,
             error_message = i.error_message, processing_time_ms = i.processing_time_ms, replan_since = null
         from input i join locked l on l.event_id = i.event_id and l.run = i.run
         where r.id = l.id
         returning r.id, r.event_id, r.run",
        column!(|r| r.event_id) as &[Uuid],
        column!(|r| r.run) as &[i32],
        column!(|r| r.generation) as &[i32],
        column!(|r| r.tenant_id) as &[Option<i64>],
        column!(|r| r.state.to_owned()) as &[String],
        column!(|r| Json(&r.decision)) as &[Json<&DecisionJson>],
        column!(|r| r.failure_code.map(str::to_owned)) as &[Option<String>],
        column!(|r| r.error_message.clone()) as &[Option<String>],
        column!(|r| r.processing_time_ms) as &[f64],
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.id, row.event_id, row.run))
        .collect())
}

/// A delivery or an event whose message to the router is nowhere.
#[derive(Clone, Debug)]
pub struct LostReplan {
    /// The delivery, or the event.
    pub subject_id: Uuid,
    /// The run, for events.
    pub run: i32,
    /// The generation that waits.
    pub generation: i32,
    /// The trace.
    pub trace_id: String,
    /// The event's type.
    pub event_type: String,
    /// The event's source.
    pub source_system: String,
    /// The tenant.
    pub tenant_id: Option<i64>,
    /// The template's key, for deliveries.
    pub template_key: Option<String>,
}

/// Takes deliveries that have waited for the router since before `before` and have no message; the
/// caller writes one for each in the same transaction (design §1.8).
///
/// # Errors
/// See [`super::StoreError`].
pub async fn take_lost_deliveries(
    conn: &mut PgConnection,
    before: DateTime<Utc>,
    limit: i64,
) -> StoreResult<Vec<LostReplan>> {
    let rows = sqlx::query_as!(
        LostReplan,
        r#"update deliveries set replan_since = now()
           where id in (select d.id from deliveries d
                        where d.replan_since < $1 and d.state = 'queued'
                          and not exists (select 1 from outbox o where o.subject_id = d.id)
                        order by d.id for update skip locked limit $2)
           returning id as subject_id, 0 as "run!", generation, trace_id, event_type, source_system, tenant_id,
                     template_key"#,
        before,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// The same for events that are to be decided again.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn take_lost_events(
    conn: &mut PgConnection,
    before: DateTime<Utc>,
    limit: i64,
) -> StoreResult<Vec<LostReplan>> {
    let rows = sqlx::query_as!(
        LostReplan,
        "update routings set replan_since = now()
         where id in (select r.id from routings r
                      where r.replan_since < $1
                        and not exists (select 1 from outbox o where o.subject_id = r.event_id)
                      order by r.event_id, r.run for update skip locked limit $2)
         returning event_id as subject_id, run, generation, trace_id, event_type, source_system, tenant_id,
                   null::text as template_key",
        before,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}
