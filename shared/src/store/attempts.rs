//! `delivery_attempts`: opened by a claim, closed by a result, or lapsed without one.
//!
//! From the claim on the attempt's row carries the work: the message that asked for it is acked
//! (design §1.5).

use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::StoreResult;
use super::composite::composite;
use crate::domain::delivery::DeliveryState;
use crate::sealing::{Column, Keyring, Place};

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
    /// Whether this process may send it now: what it has no place for is held.
    pub room: Room,
}

/// Whether there is a place to send from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// There is one.
    Yes,
    /// The account has all that it may have; the delivery waits as data.
    No,
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
/// attempt and is due. One that may not leave now becomes `held`: its account cannot send or has
/// no room, or it is a reply and an older one of its thread (account and recipient) waits, is held
/// or is claimed. Requests that are not answered need no more work: ack and drop them.
///
/// An older reply that is sent, failed, dead or unknown blocks nothing: it has left, it never will
/// unless a person asks, or nobody can say, perhaps for days; a silent thread would be worse.
///
/// A text that is sealed with a key that `seals` does not have is not claimed: it would be lost between
/// claim and send. The reconciler gives it a new message until a process comes that has the key.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn claim(
    conn: &mut PgConnection,
    requests: &[&ClaimRequest],
    (worker, lease_s): (&str, f64),
    seals: &Keyring,
) -> StoreResult<Vec<ClaimedDelivery>> {
    let ids: Vec<Uuid> = requests.iter().map(|request| request.attempt_id).collect();
    let requests: Vec<ClaimRow> = requests.iter().copied().map(ClaimRow::of).collect();
    let mut rows = sqlx::query_as!(
        ClaimedDelivery,
        r#"
        with locked as (
            -- By id alone, so that no statistics make the planner walk the backlog; judged on the
            -- locked version of the row. Joined here, where each row is one look-up: a join of two
            -- sets without an index compares each with each.
            select d.id, d.state, d.generation, d.attempt_count, d.next_attempt_at, d.channel, d.channel_id,
                   d.lane, d.recipient_key, hub_sealed_with(d.body_text) as sealed_with, i.attempt_id,
                   i.generation as asked_generation, i.attempt, i.room
            from unnest($1::hub_claim_request[]) i
            join deliveries d on d.id = i.delivery_id
            order by d.id for update of d
        ), judged as (
            select l.id, l.attempt_id, l.attempt, c.provider_account,
                   case when c.id is null then null
                        when not c.enabled then 'channel_disabled'
                        when c.session_state = 'down' then 'session_down'
                        when not l.room then 'account_busy'
                        -- Asked for replies alone; the other lanes promise no order.
                        when l.lane = 'reply' and exists (
                            select 1 from deliveries o
                            where o.channel_id = l.channel_id and o.recipient_key = l.recipient_key
                              and o.lane = 'reply' and o.channel <> 'chat'
                              and o.state in ('queued', 'held', 'claimed') and o.id < l.id
                        ) then 'reply_order' end as hold
            from locked l
            left join channels c on c.id = l.channel_id and l.channel <> 'chat'
            where l.state = 'queued' and l.generation = l.asked_generation and l.attempt_count + 1 = l.attempt
              and (l.next_attempt_at is null or l.next_attempt_at <= now())
              -- Waits for a process that has its key, as if nobody had asked.
              and (l.sealed_with is null or l.sealed_with = any($5))
        ), held as (
            update deliveries d set state = 'held', held_reason = j.hold, updated_at = now()
            from judged j where d.id = j.id and j.hold is not null
        ), claimed as (
            update deliveries d
            set state = 'claimed', attempt_count = j.attempt, next_attempt_at = null, released_by = null,
                updated_at = now()
            from judged j where d.id = j.id and j.hold is null
            returning d.id, j.attempt_id, j.provider_account, d.generation, d.attempt_count, d.retry_count,
                      d.max_retries, d.event_id, d.event_type, d.source_system, d.trace_id, d.correlation_id,
                      d.tenant_id, d.channel, d.channel_id, d.template_key, d.recipient, d.recipient_key,
                      d.recipient_name, d.body_text, d.detail, d.created_at
        ), opened as (
            insert into delivery_attempts
                (id, delivery_id, generation, number, trace_id, channel_id, worker, lease_until)
            select attempt_id, id, generation, attempt_count, trace_id, channel_id, $3,
                   now() + make_interval(secs => $4)
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
        from unnest($2::uuid[]) as asked(id)
        cross join lateral (select * from delivery_attempts a where a.id = asked.id limit 1) a
        join deliveries d on d.id = a.delivery_id
        left join channels c on c.id = d.channel_id
        where a.outcome = 'open'
        "#,
        requests as _,
        &ids,
        worker,
        lease_s,
        &seals.ids().map(str::to_owned).collect::<Vec<_>>(),
    )
    .fetch_all(conn)
    .await?;
    for row in &mut rows {
        if let Some(kept) = row.body_text.take() {
            let place = Place::new(Column::DeliveryText, row.id);
            row.body_text = Some(seals.open_text(place, kept)?);
        }
    }
    Ok(rows)
}

/// A row of `hub_claim_request`.
#[derive(sqlx::Encode)]
struct ClaimRow {
    attempt_id: Uuid,
    delivery_id: Uuid,
    generation: i32,
    attempt: i32,
    room: bool,
}

composite!(ClaimRow, "hub_claim_request");

impl ClaimRow {
    fn of(request: &ClaimRequest) -> Self {
        Self {
            attempt_id: request.attempt_id,
            delivery_id: request.delivery_id,
            generation: request.generation,
            attempt: request.attempt,
            room: request.room == Room::Yes,
        }
    }
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

impl AttemptResult {
    /// Whether it tells an id by which the provider calls the message: receipts are found by it.
    #[must_use]
    pub const fn names_a_message(&self) -> bool {
        self.gateway_correlation_id.is_some() || self.provider_message_id.is_some()
    }

    /// The same without what the provider wrote.
    #[must_use]
    pub const fn without_texts(&self) -> Self {
        Self {
            response_excerpt: None,
            gateway_correlation_id: None,
            provider_message_id: None,
            attempt_id: self.attempt_id,
            delivery_id: self.delivery_id,
            outcome: self.outcome,
            conclusion: self.conclusion,
            failure_code: self.failure_code,
            http_status: self.http_status,
            duration_ms: self.duration_ms,
            retry_after_s: self.retry_after_s,
            held_reason: self.held_reason,
        }
    }
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

/// Records what is usual, in one statement: attempts that sent the message of a delivery which is
/// claimed by just them. Also notes that their accounts can send. Answers the attempts that it closed;
/// the others are for [`close_attempts`], and for whoever decides what they mean. Replies too: the next
/// of their thread may wait for them.
///
/// Invariant: `results` are sorted by delivery, so that two batches cannot deadlock.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn record_sent(
    conn: &mut PgConnection,
    results: &[&AttemptResult],
    accounts: &[&str],
) -> StoreResult<Vec<Uuid>> {
    let results: Vec<SentRow<'_>> = results.iter().copied().map(SentRow::of).collect();
    let closed = sqlx::query_scalar!(
        r#"with able as (
               update channels set session_state = 'up', session_reason = 'sends', session_changed_at = now()
               where id = any($2) and session_state <> 'up'
           ), looked as materialized (
               -- By id alone, so that no statistics make the planner walk what is claimed or open; judged
               -- on the locked version of the row.
               select d.id, a.id as attempt_id
               from unnest($1::hub_sent_attempt[]) i
               cross join lateral (select d.id, d.state, d.lane, d.attempt_count, d.generation
                                   from deliveries d where d.id = i.delivery_id limit 1 for update) d
               cross join lateral (select a.id, a.outcome, a.number, a.generation
                                   from delivery_attempts a where a.id = i.id limit 1) a
               where d.state = 'claimed' and d.lane <> 'reply' and a.outcome = 'open'
                 and a.number = d.attempt_count and a.generation = d.generation
           ), moved as (
               update deliveries d
               set state = 'sent', updated_at = now(), failure_code = null, held_reason = null,
                   next_attempt_at = null, sent_at = coalesce(d.sent_at, now()),
                   settled_at = coalesce(d.settled_at, now())
               from looked l where d.id = l.id
               returning l.attempt_id as id
           )
           update delivery_attempts a
           set outcome = 'sent', finished_at = now(), duration_ms = i.duration_ms,
               gateway_correlation_id = coalesce(i.gateway_correlation_id, a.gateway_correlation_id),
               provider_message_id = coalesce(a.provider_message_id, i.provider_message_id)
           from unnest($1::hub_sent_attempt[]) i
           where a.id = i.id and (a.id in (select id from moved)) is true
           returning a.id"#,
        results as _,
        accounts as &[&str],
    )
    .fetch_all(conn)
    .await?;
    Ok(closed)
}

/// A row of `hub_sent_attempt`.
#[derive(sqlx::Encode)]
struct SentRow<'a> {
    id: Uuid,
    delivery_id: Uuid,
    gateway_correlation_id: Option<&'a str>,
    provider_message_id: Option<&'a str>,
    duration_ms: f64,
}

composite!(SentRow<'_>, "hub_sent_attempt");

impl<'a> SentRow<'a> {
    fn of(result: &'a AttemptResult) -> Self {
        Self {
            id: result.attempt_id,
            delivery_id: result.delivery_id,
            gateway_correlation_id: result.gateway_correlation_id.as_deref(),
            provider_message_id: result.provider_message_id.as_deref(),
            duration_ms: result.duration_ms,
        }
    }
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
