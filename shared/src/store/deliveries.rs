//! `deliveries`: planned, moved from state to state, retried. What is held is released by
//! [`super::releases`].
//!
//! Every change of a state is decided by `domain::delivery` over a row that is locked here, and
//! written back in one statement for the whole batch.

use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::StoreResult;
use crate::domain::delivery::DeliveryState;
use crate::domain::ids::{DeliveryId, TenantId};
use crate::domain::message::{Labels, Work, WorkMessage};

/// A delivery to be made.
#[derive(Clone, Debug)]
pub struct NewDelivery {
    /// Its id.
    pub id: Uuid,
    /// The decision that made it.
    pub routing_id: Uuid,
    /// Its place in the decision's plan.
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
    /// The sending account.
    pub channel_id: Option<String>,
    /// The lane.
    pub lane: String,
    /// The rule that won.
    pub rule_id: Option<i64>,
    /// The template's row.
    pub template_id: Option<i64>,
    /// The template's key.
    pub template_key: Option<String>,
    /// The address, as it was given.
    pub recipient: Option<String>,
    /// The key of the contact.
    pub recipient_key: Option<String>,
    /// The contact's name.
    pub recipient_name: Option<String>,
    /// The rendered text.
    pub body_text: Option<String>,
    /// Keyed hash of the text.
    pub body_hash: Option<Vec<u8>>,
    /// The key of the invoice.
    pub invoice_key: Option<String>,
    /// What the driver needs besides.
    pub detail: Value,
    /// What to do with an unknown outcome.
    pub unknown_policy: String,
    /// `queued`, or `dead`/`failed` when it cannot be tried at all.
    pub state: DeliveryState,
    /// Why it cannot be tried.
    pub failure_code: Option<&'static str>,
    /// The same, for a person.
    pub failure_detail: Option<String>,
    /// How many retries it has.
    pub max_retries: i32,
}

/// A delivery locked for a change of its state.
#[derive(Clone, Debug)]
pub struct LockedDelivery {
    /// The delivery.
    pub id: Uuid,
    /// Its state.
    pub state: String,
    /// Why it failed.
    pub failure_code: Option<String>,
    /// Its generation.
    pub generation: i32,
    /// Attempts made.
    pub attempt_count: i32,
    /// The event.
    pub event_id: Uuid,
    /// The event's type.
    pub event_type: String,
    /// The event's source.
    pub source_system: String,
    /// The trace.
    pub trace_id: String,
    /// The tenant.
    pub tenant_id: Option<i64>,
    /// The way out.
    pub channel: String,
    /// The sending account's slug.
    pub channel_id: Option<String>,
    /// The lane.
    pub lane: String,
    /// The template's key.
    pub template_key: Option<String>,
    /// When it was planned.
    pub created_at: chrono::DateTime<chrono::Utc>,
}

/// Locks deliveries in the order of their ids, so that two batches cannot deadlock.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn lock(conn: &mut PgConnection, ids: &[Uuid]) -> StoreResult<Vec<LockedDelivery>> {
    let rows = sqlx::query_as!(
        LockedDelivery,
        "select id, state, failure_code, generation, attempt_count, event_id, event_type, source_system, trace_id, tenant_id,
                channel, channel_id, lane, template_key, created_at
         from deliveries where id = any($1) order by id for update",
        ids,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// A change of a delivery's state, decided over the locked row.
#[derive(Clone, Debug)]
pub struct StateChange {
    /// The delivery.
    pub id: Uuid,
    /// The state it was locked in.
    pub from: DeliveryState,
    /// The state it moves to.
    pub to: DeliveryState,
    /// Why, for states that have a reason.
    pub failure_code: Option<String>,
    /// Why it is held.
    pub held_reason: Option<&'static str>,
    /// For `queued`: seconds until the next attempt.
    pub retry_after_s: Option<f64>,
    /// Whether it burns a retry.
    pub burns_retry: i32,
}

impl StateChange {
    /// A change that carries nothing but the states.
    #[must_use]
    pub fn plain(id: Uuid, from: DeliveryState, to: DeliveryState) -> Self {
        Self {
            id,
            from,
            to,
            failure_code: None,
            held_reason: None,
            retry_after_s: None,
            burns_retry: 0,
        }
    }
}

/// Writes changes of state by compare-and-set. Times of arrival are set once, and reaching a
/// later state proves the earlier ones.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn change_states(conn: &mut PgConnection, changes: &[StateChange]) -> StoreResult<()> {
    if changes.is_empty() {
        return Ok(());
    }
    macro_rules! column {
        ($map:expr) => {
            &changes.iter().map($map).collect::<Vec<_>>()
        };
    }
    sqlx::query!(
        "update deliveries d
         set state = i.new_state, updated_at = now(),
             failure_code = case when i.new_state in ('sent', 'delivered', 'read') then null
                                 else coalesce(i.failure_code, d.failure_code) end,
             held_reason = i.held_reason,
             next_attempt_at = now() + make_interval(secs => i.retry_after_s),
             retry_count = d.retry_count + i.burns_retry,
             sent_at = case when i.new_state in ('sent', 'delivered', 'read') then coalesce(d.sent_at, now())
                            else d.sent_at end,
             delivered_at = case when i.new_state in ('delivered', 'read') then coalesce(d.delivered_at, now())
                                 else d.delivered_at end,
             read_at = case when i.new_state = 'read' then coalesce(d.read_at, now()) else d.read_at end,
             settled_at = case when i.new_state in ('queued', 'held', 'claimed', 'unknown') then null
                               else coalesce(d.settled_at, now()) end
         from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::double precision[], $7::integer[])
              as i(id, old_state, new_state, failure_code, held_reason, retry_after_s, burns_retry)
         where d.id = i.id and d.state = i.old_state",
        column!(|c| c.id) as &[Uuid],
        column!(|c| c.from.as_str().to_owned()) as &[String],
        column!(|c| c.to.as_str().to_owned()) as &[String],
        column!(|c| c.failure_code.clone()) as &[Option<String>],
        column!(|c| c.held_reason.map(str::to_owned)) as &[Option<String>],
        column!(|c| c.retry_after_s) as &[Option<f64>],
        column!(|c| c.burns_retry) as &[i32],
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A delivery that is to be tried now.
#[derive(Clone, Debug)]
pub struct DueDelivery {
    /// The delivery.
    pub id: Uuid,
    /// Its generation.
    pub generation: i32,
    /// The number of the attempt that is due.
    pub attempt: i32,
    /// The way out.
    pub channel: String,
    /// The trace.
    pub trace_id: String,
    /// The event's type.
    pub event_type: String,
    /// The event's source.
    pub source_system: String,
    /// The tenant.
    pub tenant_id: Option<i64>,
    /// The sending account's slug.
    pub channel_id: Option<String>,
    /// The lane.
    pub lane: String,
    /// The template's key.
    pub template_key: Option<String>,
}

impl DueDelivery {
    /// The work message that asks for the attempt; `None` when the row holds what this build does
    /// not know.
    #[must_use]
    pub fn message(&self) -> Option<WorkMessage> {
        let work = Work::Deliver {
            delivery_id: DeliveryId(self.id),
            channel: self.channel.parse().ok()?,
            generation: self.generation,
            attempt: self.attempt,
        };
        let labels = Labels {
            event_type: self.event_type.clone(),
            source: self.source_system.clone(),
            tenant_id: self.tenant_id.map(TenantId),
            template: self.template_key.clone(),
            account: self.channel_id.clone(),
            lane: Some(self.lane.clone()),
        };
        Some(WorkMessage::new(work, self.trace_id.parse().ok()?, labels))
    }
}

/// Takes deliveries whose next attempt is due; the caller writes their messages to the outbox in
/// the same transaction.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn take_due(conn: &mut PgConnection, limit: i64) -> StoreResult<Vec<DueDelivery>> {
    let rows = sqlx::query_as!(
        DueDelivery,
        r#"update deliveries set next_attempt_at = null, dispatched_at = now(), updated_at = now()
           where id in (select id from deliveries
                        where state = 'queued' and next_attempt_at is not null and next_attempt_at <= now()
                        order by next_attempt_at, id for update skip locked limit $1)
           returning id, generation, attempt_count + 1 as "attempt!", channel, trace_id, event_type, source_system,
                     tenant_id, channel_id, lane, template_key"#,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// Finds deliveries of unknown outcome whose template's policy allows another try: `resend` after
/// `window_s` seconds of silence; `resend_if_silent` only once, and only if within the window an
/// echo of another message showed that the session's echoes do arrive, and no echo waits for its
/// send that may be of this very message.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn resendable_unknown(
    conn: &mut PgConnection,
    window_s: f64,
    limit: i64,
) -> StoreResult<Vec<Uuid>> {
    let ids = sqlx::query_scalar!(
        "select d.id from deliveries d
         where d.state = 'unknown' and d.unknown_policy <> 'park' and d.updated_at <= now() - make_interval(secs => $1)
           and d.retry_count < d.max_retries
           and (d.unknown_policy = 'resend'
                or (d.unknown_policy = 'resend_if_silent'
                    and (select count(*) from delivery_attempts a
                         where a.delivery_id = d.id and a.outcome = 'unknown') = 1
                    and exists (select 1 from receipts r
                                where r.channel_id = d.channel_id and r.kind = 'echo'
                                  and r.created_at between d.updated_at and d.updated_at + make_interval(secs => $1))
                    and not exists (select 1 from receipts r
                                    where r.channel_id = d.channel_id and r.kind = 'echo'
                                      and r.created_at >= d.created_at and r.state in ('pending', 'unbound')
                                      and (r.recipient_key is null or r.recipient_key = d.recipient_key
                                           or r.body_hash = d.body_hash))))
         order by d.updated_at for update skip locked limit $2",
        window_s,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(ids)
}
