//! `deliveries` and `delivery_attempts`: planned, claimed, concluded, retried, released.
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

/// Stores planned deliveries.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn insert(conn: &mut PgConnection, deliveries: &[&NewDelivery]) -> StoreResult<()> {
    if deliveries.is_empty() {
        return Ok(());
    }
    macro_rules! column {
        ($map:expr) => {
            &deliveries.iter().map($map).collect::<Vec<_>>()
        };
    }
    sqlx::query!(
        "insert into deliveries (
             id, routing_id, ordinal, event_id, event_type, source_system, trace_id, correlation_id, tenant_id,
             channel, channel_id, lane, rule_id, template_id, template_key, recipient, recipient_key,
             recipient_name, body_text, body_hash, invoice_key, detail, unknown_policy, state, failure_code,
             failure_detail, max_retries, dispatched_at, settled_at)
         select i.*, now(), case when i.state in ('dead', 'failed') then now() end
         from unnest($1::uuid[], $2::uuid[], $3::integer[], $4::uuid[], $5::text[], $6::text[], $7::text[],
                     $8::text[], $9::bigint[], $10::text[], $11::text[], $12::text[], $13::bigint[], $14::bigint[],
                     $15::text[], $16::text[], $17::text[], $18::text[], $19::text[], $20::bytea[], $21::text[],
                     $22::jsonb[], $23::text[], $24::text[], $25::text[], $26::text[], $27::integer[])
              as i(id, routing_id, ordinal, event_id, event_type, source_system, trace_id, correlation_id,
                   tenant_id, channel, channel_id, lane, rule_id, template_id, template_key, recipient,
                   recipient_key, recipient_name, body_text, body_hash, invoice_key, detail, unknown_policy,
                   state, failure_code, failure_detail, max_retries)",
        column!(|d| d.id) as &[Uuid],
        column!(|d| d.routing_id) as &[Uuid],
        column!(|d| d.ordinal) as &[i32],
        column!(|d| d.event_id) as &[Uuid],
        column!(|d| d.event_type.clone()) as &[String],
        column!(|d| d.source_system.clone()) as &[String],
        column!(|d| d.trace_id.clone()) as &[String],
        column!(|d| d.correlation_id.clone()) as &[Option<String>],
        column!(|d| d.tenant_id) as &[Option<i64>],
        column!(|d| d.channel.clone()) as &[String],
        column!(|d| d.channel_id.clone()) as &[Option<String>],
        column!(|d| d.lane.clone()) as &[String],
        column!(|d| d.rule_id) as &[Option<i64>],
        column!(|d| d.template_id) as &[Option<i64>],
        column!(|d| d.template_key.clone()) as &[Option<String>],
        column!(|d| d.recipient.clone()) as &[Option<String>],
        column!(|d| d.recipient_key.clone()) as &[Option<String>],
        column!(|d| d.recipient_name.clone()) as &[Option<String>],
        column!(|d| d.body_text.clone()) as &[Option<String>],
        column!(|d| d.body_hash.clone()) as &[Option<Vec<u8>>],
        column!(|d| d.invoice_key.clone()) as &[Option<String>],
        column!(|d| d.detail.clone()) as &[Value],
        column!(|d| d.unknown_policy.clone()) as &[String],
        column!(|d| d.state.as_str().to_owned()) as &[String],
        column!(|d| d.failure_code.map(str::to_owned)) as &[Option<String>],
        column!(|d| d.failure_detail.clone()) as &[Option<String>],
        column!(|d| d.max_retries) as &[i32],
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A work message that asks for an attempt.
#[derive(Clone, Debug)]
pub struct ClaimRequest {
    /// The id that the attempt will have.
    pub attempt_id: Uuid,
    /// The delivery.
    pub delivery_id: Uuid,
    /// The generation that the message was made for.
    pub generation: i32,
    /// The number of the attempt that the message stands for.
    pub attempt: i32,
}

/// A delivery with an attempt of ours open.
#[derive(Clone, Debug)]
pub struct ClaimedDelivery {
    /// The attempt.
    pub attempt_id: Uuid,
    /// The delivery.
    pub id: Uuid,
    /// Its generation.
    pub generation: i32,
    /// The number of this attempt.
    pub attempt: i32,
    /// Retries used so far.
    pub retry_count: i32,
    /// Retries it has.
    pub max_retries: i32,
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
    /// The sending account's slug.
    pub channel_id: Option<String>,
    /// The sending account as the provider spells it.
    pub provider_account: Option<String>,
    /// The template's key.
    pub template_key: Option<String>,
    /// The address.
    pub recipient: Option<String>,
    /// The key of the contact.
    pub recipient_key: Option<String>,
    /// The contact's name.
    pub recipient_name: Option<String>,
    /// The text.
    pub body_text: Option<String>,
    /// What the driver needs besides.
    pub detail: Value,
    /// When the delivery was planned.
    pub created_at: chrono::DateTime<chrono::Utc>,
}

/// Claims deliveries: opens an attempt for each request whose delivery waits for just that
/// attempt and is due. One whose account cannot send now becomes `held`. Requests that are not
/// answered are stale copies: ack and drop them.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn claim(
    conn: &mut PgConnection,
    requests: &[&ClaimRequest],
    worker: &str,
    lease_s: f64,
) -> StoreResult<Vec<ClaimedDelivery>> {
    macro_rules! column {
        ($field:ident) => {
            &requests
                .iter()
                .map(|request| request.$field)
                .collect::<Vec<_>>()
        };
    }
    let rows = sqlx::query_as!(
        ClaimedDelivery,
        r#"
        with input as (
            select * from unnest($1::uuid[], $2::uuid[], $3::integer[], $4::integer[])
                as i(attempt_id, delivery_id, generation, attempt)
        ), locked as (
            -- By id alone, so that no statistics make the planner walk the backlog; judged on the
            -- locked version of the row.
            select d.id, d.state, d.generation, d.attempt_count, d.next_attempt_at, d.channel, d.channel_id
            from deliveries d where d.id = any($2) order by d.id for update
        ), judged as (
            select l.id, i.attempt_id, i.attempt, c.provider_account,
                   case when c.id is null then null
                        when not c.enabled then 'channel_disabled'
                        when c.session_state = 'down' then 'session_down' end as hold
            from locked l join input i on i.delivery_id = l.id
            left join channels c on c.id = l.channel_id and l.channel <> 'chat'
            where l.state = 'queued' and l.generation = i.generation and l.attempt_count + 1 = i.attempt
              and (l.next_attempt_at is null or l.next_attempt_at <= now())
        ), held as (
            update deliveries d set state = 'held', held_reason = j.hold, updated_at = now()
            from judged j where d.id = j.id and j.hold is not null
        ), claimed as (
            update deliveries d
            set state = 'claimed', attempt_count = j.attempt, next_attempt_at = null, updated_at = now()
            from judged j where d.id = j.id and j.hold is null
            returning d.id, j.attempt_id, j.provider_account, d.generation, d.attempt_count, d.retry_count,
                      d.max_retries, d.event_id, d.event_type, d.source_system, d.trace_id, d.correlation_id,
                      d.tenant_id, d.channel, d.channel_id, d.template_key, d.recipient, d.recipient_key,
                      d.recipient_name, d.body_text, d.detail, d.created_at
        ), opened as (
            insert into delivery_attempts
                (id, delivery_id, generation, number, trace_id, channel_id, worker, lease_until)
            select attempt_id, id, generation, attempt_count, trace_id, channel_id, $5,
                   now() + make_interval(secs => $6)
            from claimed
        )
        select attempt_id as "attempt_id!", id as "id!", generation as "generation!", attempt_count as "attempt!",
               retry_count as "retry_count!", max_retries as "max_retries!", event_id as "event_id!",
               event_type as "event_type!", source_system as "source_system!", trace_id as "trace_id!",
               correlation_id, tenant_id, channel as "channel!", channel_id,
               provider_account as "provider_account?", template_key, recipient, recipient_key, recipient_name,
               body_text, detail as "detail!", created_at as "created_at!"
        from claimed
        union all
        -- An earlier try of this statement had succeeded after all: finding one's own attempt is success.
        select a.id, d.id, d.generation, d.attempt_count, d.retry_count, d.max_retries, d.event_id, d.event_type,
               d.source_system, d.trace_id, d.correlation_id, d.tenant_id, d.channel, d.channel_id,
               c.provider_account, d.template_key, d.recipient, d.recipient_key, d.recipient_name, d.body_text,
               d.detail, d.created_at
        from delivery_attempts a join deliveries d on d.id = a.delivery_id
        left join channels c on c.id = d.channel_id
        where a.id = any($1) and a.outcome = 'open'
        "#,
        column!(attempt_id) as &[Uuid],
        column!(delivery_id) as &[Uuid],
        column!(generation) as &[i32],
        column!(attempt) as &[i32],
        worker,
        lease_s,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// What an attempt came to.
#[derive(Clone, Debug)]
pub struct AttemptResult {
    /// The attempt.
    pub attempt_id: Uuid,
    /// Its delivery.
    pub delivery_id: Uuid,
    /// `sent`, `retry`, `held`, `failed`, `unknown` or `not_sent`.
    pub outcome: &'static str,
    /// Where the attempt alone would lead the delivery.
    pub conclusion: DeliveryState,
    /// Why it failed.
    pub failure_code: Option<&'static str>,
    /// The HTTP status of the answer.
    pub http_status: Option<i32>,
    /// What the provider answered, shortened and scrubbed.
    pub response_excerpt: Option<String>,
    /// The gateway's own id of the send.
    pub gateway_correlation_id: Option<String>,
    /// The provider's key id.
    pub provider_message_id: Option<String>,
    /// How long the request took, in milliseconds.
    pub duration_ms: f64,
    /// For a retry: seconds until the next attempt.
    pub retry_after_s: Option<f64>,
    /// Why it is held.
    pub held_reason: Option<&'static str>,
}

/// A delivery locked for a change of its state.
#[derive(Clone, Debug)]
pub struct LockedDelivery {
    /// The delivery.
    pub id: Uuid,
    /// Its state.
    pub state: String,
    /// Its generation.
    pub generation: i32,
    /// Attempts made.
    pub attempt_count: i32,
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
        "select id, state, generation, attempt_count, event_type, source_system, trace_id, tenant_id, channel,
                template_key, created_at
         from deliveries where id = any($1) order by id for update",
        ids,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// An attempt that a result closed.
#[derive(Clone, Debug)]
pub struct ClosedAttempt {
    /// The attempt.
    pub id: Uuid,
    /// Its generation.
    pub generation: i32,
    /// Its number.
    pub number: i32,
}

/// Closes attempts that are open, or were presumed unknown: a late result is better than none.
/// Answers those that it closed; a repeated result closes nothing.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn close_attempts(
    conn: &mut PgConnection,
    results: &[&AttemptResult],
) -> StoreResult<Vec<ClosedAttempt>> {
    macro_rules! column {
        ($map:expr) => {
            &results.iter().map($map).collect::<Vec<_>>()
        };
    }
    let closed = sqlx::query_as!(
        ClosedAttempt,
        "update delivery_attempts a
         set outcome = i.outcome, failure_code = i.failure_code, http_status = i.http_status,
             response_excerpt = i.response_excerpt,
             gateway_correlation_id = coalesce(i.gateway_correlation_id, a.gateway_correlation_id),
             provider_message_id = coalesce(a.provider_message_id, i.provider_message_id),
             duration_ms = i.duration_ms, finished_at = now()
         from unnest($1::uuid[], $2::text[], $3::text[], $4::integer[], $5::text[], $6::text[], $7::text[],
                     $8::double precision[])
              as i(id, outcome, failure_code, http_status, response_excerpt, gateway_correlation_id,
                   provider_message_id, duration_ms)
         where a.id = i.id and a.outcome in ('open', 'unknown')
         returning a.id, a.generation, a.number",
        column!(|r| r.attempt_id) as &[Uuid],
        column!(|r| r.outcome.to_owned()) as &[String],
        column!(|r| r.failure_code.map(str::to_owned)) as &[Option<String>],
        column!(|r| r.http_status) as &[Option<i32>],
        column!(|r| r.response_excerpt.clone()) as &[Option<String>],
        column!(|r| r.gateway_correlation_id.clone()) as &[Option<String>],
        column!(|r| r.provider_message_id.clone()) as &[Option<String>],
        column!(|r| r.duration_ms) as &[f64],
    )
    .fetch_all(conn)
    .await?;
    Ok(closed)
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
                     tenant_id, template_key"#,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// Makes held deliveries due whose account can send again, in the order of their ids: all of them
/// where its session is up, one as a trial where that is not known. Answers how many.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn release_held(conn: &mut PgConnection, limit: i64) -> StoreResult<u64> {
    let done = sqlx::query!(
        "with ready as materialized (
             select h.id, c.session_state = 'up' or row_number() over (partition by h.channel_id order by h.id) = 1 as goes
             from (select id, channel_id from deliveries where state = 'held') h
             join channels c on c.id = h.channel_id
             where c.enabled and c.session_state <> 'down'
         )
         update deliveries set state = 'queued', held_reason = null, next_attempt_at = now(), updated_at = now()
         where state = 'held' and id in (
             select d.id from deliveries d
             where d.state = 'held' and d.id in (select id from ready where goes order by id limit $1)
             order by d.id for update skip locked)",
        limit,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// An attempt whose lease lapsed with no result.
#[derive(Clone, Debug)]
pub struct LapsedAttempt {
    /// The attempt.
    pub id: Uuid,
    /// Its delivery.
    pub delivery_id: Uuid,
}

/// Finds open attempts whose lease lapsed; the reaper alone concludes them. Nothing is locked: the
/// conclusion locks deliveries first, like every other writer.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn lapsed_attempts(
    conn: &mut PgConnection,
    limit: i64,
) -> StoreResult<Vec<LapsedAttempt>> {
    let rows = sqlx::query_as!(
        LapsedAttempt,
        "select id, delivery_id from delivery_attempts
         where outcome = 'open' and lease_until <= now()
         order by lease_until limit $1",
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// Finds deliveries of unknown outcome whose template's policy allows another try: `resend` after
/// `window_s` seconds of silence; `resend_if_silent` only once, and only if within the window an
/// echo of another message showed that the session's echoes do arrive.
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
                                  and r.created_at between d.updated_at and d.updated_at + make_interval(secs => $1))))
         order by d.updated_at for update skip locked limit $2",
        window_s,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(ids)
}
