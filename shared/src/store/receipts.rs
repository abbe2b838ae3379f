//! `receipts`: evidence that came back, bound to the delivery that it is about.
//!
//! Recording a provider's id and storing a receipt each commit first, then look for each other in
//! a following transaction (design §1.10).

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::StoreResult;
use super::deliveries::LockedDelivery;
use super::receipt_rows::{MoveRow, SettlementRow};
use crate::domain::delivery::DeliveryState;
use crate::sealing::{Column, Keyring, Place};

/// How long before an echo its send may have been claimed, for the last resort of binding, in seconds.
const ECHO_WINDOW_S: f64 = 1800.0;
/// How far the provider's clock may be behind ours: a send that was claimed so much later than its
/// message's own time is another message's.
const CLOCK_SKEW_S: f64 = 600.0;

/// A receipt to be stored.
#[derive(Clone, Debug)]
pub struct NewReceipt {
    /// Its id.
    pub id: Uuid,
    /// The event that brought it.
    pub event_id: Uuid,
    /// The event's trace.
    pub trace_id: String,
    /// `echo` or `ack`.
    pub kind: &'static str,
    /// The account's slug.
    pub channel_id: String,
    /// The provider's own level.
    pub level: Option<i32>,
    /// What it proves.
    pub evidence: Option<&'static str>,
    /// The provider's key id.
    pub provider_message_id: Option<String>,
    /// The gateway's own id of the send.
    pub gateway_correlation_id: Option<String>,
    /// Our own delivery id, where the gateway gives it back.
    pub delivery_ref: Option<Uuid>,
    /// The key of the recipient.
    pub recipient_key: Option<String>,
    /// The address of the recipient.
    pub recipient: Option<String>,
    /// The text of an echo.
    pub body_text: Option<String>,
    /// Keyed hash of the text.
    pub body_hash: Option<Vec<u8>>,
    /// When it happened.
    pub provider_at: DateTime<Utc>,
}

/// A receipt that is not settled, locked.
#[derive(Clone, Debug)]
pub struct OpenReceipt {
    /// Its id.
    pub id: Uuid,
    /// `echo` or `ack`.
    pub kind: String,
    /// What it proves.
    pub evidence: Option<String>,
    /// The provider's key id.
    pub provider_message_id: Option<String>,
    /// The attempt that it is evidence of, where one was found.
    pub attempt_id: Option<Uuid>,
    /// Whether that attempt knows no key id yet.
    pub is_nameless: bool,
    /// That attempt's delivery, locked.
    pub delivery: Option<LockedDelivery>,
}

/// Locks receipts that are not settled, with the deliveries of the attempts that they name for sure, in
/// the order of design §1.10: our own delivery id, the gateway's id of the send, the provider's key id.
///
/// Invariant: receipts are locked before deliveries, each in the order of their ids, so that two batches
/// cannot deadlock.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn lock_open(conn: &mut PgConnection, ids: &[Uuid]) -> StoreResult<Vec<OpenReceipt>> {
    let rows = sqlx::query!(
        r#"
        with open as (
            select r.id, r.kind, r.evidence, r.channel_id, r.provider_message_id, r.gateway_correlation_id,
                   r.delivery_ref
            from receipts r where r.id = any($1) and r.state in ('pending', 'unbound')
            order by r.id for update
        ), bound as (
            select o.id, o.kind, o.evidence, o.provider_message_id, a.id as attempt_id, a.delivery_id,
                   a.provider_message_id is null as is_nameless
            from open o
            -- The first that is found: `coalesce` looks no further. The limit keeps it a look-up for each.
            left join lateral (
                select a.id, a.delivery_id, a.provider_message_id from delivery_attempts a
                where a.id = coalesce(
                    (select a.id from delivery_attempts a
                     where a.delivery_id = o.delivery_ref order by a.claimed_at desc limit 1),
                    (select a.id from delivery_attempts a
                     where a.gateway_correlation_id = o.gateway_correlation_id and a.channel_id = o.channel_id
                     order by a.claimed_at desc limit 1),
                    (select a.id from delivery_attempts a
                     where a.provider_message_id = o.provider_message_id and a.channel_id = o.channel_id
                     order by a.claimed_at desc limit 1))
                limit 1
            ) a on true
        )
        select b.id as "id!", b.kind as "kind!", b.evidence, b.provider_message_id, b.attempt_id,
               b.is_nameless as "is_nameless!", d.id as "delivery_id?", d.state as "state?", d.failure_code,
               d.generation as "generation?", d.attempt_count as "attempt_count?", d.event_id as "event_id?",
               d.event_type as "event_type?", d.source_system as "source_system?", d.trace_id as "trace_id?",
               d.tenant_id, d.channel as "channel?", d.channel_id, d.lane as "lane?", d.template_key,
               d.created_at as "created_at?"
        from (select id, kind, evidence, provider_message_id, attempt_id, delivery_id, is_nameless
              from bound where delivery_id is not null order by delivery_id) b
        cross join lateral (
            select d.id, d.state, d.failure_code, d.generation, d.attempt_count, d.event_id, d.event_type,
                   d.source_system, d.trace_id, d.tenant_id, d.channel, d.channel_id, d.lane, d.template_key,
                   d.created_at
            from deliveries d where d.id = b.delivery_id for update
        ) d
        union all
        select id, kind, evidence, provider_message_id, null, true, null, null, null, null, null, null, null, null,
               null, null, null, null, null, null, null
        from bound where delivery_id is null
        "#,
        ids,
    )
    .fetch_all(conn)
    .await?;
    let mut open: Vec<OpenReceipt> = rows
        .into_iter()
        .map(|row| OpenReceipt {
            id: row.id,
            kind: row.kind,
            evidence: row.evidence,
            provider_message_id: row.provider_message_id,
            attempt_id: row.attempt_id,
            is_nameless: row.is_nameless,
            delivery: (|| {
                Some(LockedDelivery {
                    id: row.delivery_id?,
                    state: row.state?,
                    failure_code: row.failure_code,
                    generation: row.generation?,
                    attempt_count: row.attempt_count?,
                    event_id: row.event_id?,
                    event_type: row.event_type?,
                    source_system: row.source_system?,
                    trace_id: row.trace_id?,
                    tenant_id: row.tenant_id,
                    channel: row.channel?,
                    channel_id: row.channel_id,
                    lane: row.lane?,
                    template_key: row.template_key,
                    created_at: row.created_at?,
                })
            })(),
        })
        .collect();
    open.sort_by_key(|receipt| receipt.id);
    Ok(open)
}

/// An echo that names no send of ours for sure, with the one that it may be of.
#[derive(Clone, Debug)]
pub struct UnexplainedEcho {
    /// Its id.
    pub id: Uuid,
    /// The event that brought it.
    pub event_id: Uuid,
    /// The event's trace.
    pub trace_id: String,
    /// The account's slug.
    pub channel_id: String,
    /// What it proves.
    pub evidence: Option<String>,
    /// The provider's key id.
    pub provider_message_id: Option<String>,
    /// The key of the recipient.
    pub recipient_key: Option<String>,
    /// The address of the recipient.
    pub recipient: Option<String>,
    /// Its text.
    pub body_text: Option<String>,
    /// When it happened.
    pub provider_at: DateTime<Utc>,
    /// The attempt that it is evidence of, where one was found.
    pub attempt_id: Option<Uuid>,
    /// Whether that attempt knows no key id yet.
    pub is_nameless: bool,
    /// That attempt's delivery.
    pub delivery_id: Option<Uuid>,
    /// Our own delivery id, where the echo carries one.
    pub delivery_ref: Option<Uuid>,
    /// How many sends of ours to the same recipient may still have their echo coming.
    pub candidates: i64,
    /// How many sends of ours to the same recipient had that very text.
    pub same_text: i64,
    /// Seconds since the receipt came.
    pub age_s: f64,
}

/// Locks echoes that are not settled, and looks for what each is of: as [`lock_open`], and last by the
/// account with recipient and text, when just one send is open. The caller locks their deliveries.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn lock_unexplained(
    conn: &mut PgConnection,
    ids: &[Uuid],
    seals: &Keyring,
) -> StoreResult<Vec<UnexplainedEcho>> {
    let mut rows = sqlx::query_as!(
        UnexplainedEcho,
        r#"
        with open as (
            select r.id, r.event_id, r.trace_id, r.kind, r.channel_id, r.evidence, r.provider_message_id,
                   r.recipient_key, r.recipient, r.body_text, r.provider_at, r.delivery_ref,
                   r.gateway_correlation_id, r.body_hash, r.created_at
            from receipts r where r.id = any($1) and r.state in ('pending', 'unbound')
            order by r.id for update
        )
        select o.id, o.event_id, o.trace_id, o.channel_id, o.evidence, o.provider_message_id,
               o.recipient_key, o.recipient, o.body_text, o.provider_at, o.delivery_ref,
               extract(epoch from now() - o.created_at)::double precision as "age_s!",
               coalesce(guess.same_text, 0) as "same_text!",
               a.id as "attempt_id?", a.delivery_id as "delivery_id?", a.provider_message_id is null as "is_nameless!",
               coalesce(guess.candidates, 0) as "candidates!"
        from open o
        left join lateral (
            select found.attempt_id, found.delivery_id from (
                (select 1 as place, a.id as attempt_id, a.delivery_id from delivery_attempts a
                 where a.delivery_id = o.delivery_ref order by a.claimed_at desc limit 1)
                union all
                (select 2, a.id, a.delivery_id from delivery_attempts a
                 where a.gateway_correlation_id = o.gateway_correlation_id and a.channel_id = o.channel_id
                 order by a.claimed_at desc limit 1)
                union all
                (select 3, a.id, a.delivery_id from delivery_attempts a
                 where a.provider_message_id = o.provider_message_id and a.channel_id = o.channel_id
                 order by a.claimed_at desc limit 1)
            ) found order by found.place limit 1
        ) sure on true
        left join lateral (
            select count(distinct s.delivery_id) filter (where s.may_have_left
                       or (s.is_nameless and o.body_hash is null)) as candidates,
                   count(distinct s.delivery_id) filter (where s.has_text) as same_text,
                   count(distinct s.delivery_id) filter (where s.has_text and s.is_possible) as possible,
                   (array_agg(s.id order by s.may_have_left desc, s.claimed_at)
                        filter (where s.has_text and s.is_possible))[1] as attempt_id,
                   count(distinct s.delivery_id) filter (where s.is_nameless and s.is_possible) as nameless,
                   (array_agg(s.id order by s.claimed_at)
                        filter (where s.is_nameless and s.is_possible))[1] as nameless_id
            from (
                -- Every attempt, not the last alone: a first one whose outcome is unknown may be heard
                -- of after the second.
                select a.id, a.delivery_id, a.claimed_at, d.body_hash = o.body_hash as has_text,
                       a.outcome in ('open', 'unknown', 'sent') as may_have_left,
                       a.outcome in ('open', 'unknown', 'sent', 'failed')
                           and a.gateway_correlation_id is null as is_nameless,
                       -- An echo that comes late is not that of the same text sent since.
                       a.claimed_at <= o.provider_at + make_interval(secs => $3) as is_possible
                from deliveries d
                join delivery_attempts a on a.delivery_id = d.id
                where sure.attempt_id is null
                  and o.kind = 'echo' and d.channel = 'whatsapp' and d.channel_id = o.channel_id
                  and d.recipient_key = o.recipient_key and a.provider_message_id is null
                  and a.claimed_at <= o.created_at + interval '5 s'
                  and a.claimed_at >= greatest(least(o.created_at, o.provider_at), o.created_at - interval '72 hours')
                                      - make_interval(secs => $2)
            ) s
        ) guess on true
        -- Some echoes carry no text (samples/hub 11): then the only send to that recipient whose id of
        -- the gateway we never learnt.
        left join delivery_attempts a on a.id = coalesce(sure.attempt_id, case
            when guess.possible = 1 then guess.attempt_id
            when guess.nameless = 1 and o.body_hash is null then guess.nameless_id end)
        order by o.id
        "#,
        ids,
        ECHO_WINDOW_S,
        CLOCK_SKEW_S,
    )
    .fetch_all(conn)
    .await?;
    for row in &mut rows {
        if let Some(kept) = row.body_text.take() {
            let place = Place::new(Column::ReceiptText, row.id);
            row.body_text = Some(seals.open_text(place, kept)?);
        }
    }
    Ok(rows)
}

/// A delivery that evidence moves.
#[derive(Clone, Debug)]
pub struct Move {
    /// The delivery.
    pub id: Uuid,
    /// The state it was locked in.
    pub from: DeliveryState,
    /// The state it moves to.
    pub to: DeliveryState,
    /// Why, where the evidence is of a failure.
    pub failure_code: Option<&'static str>,
}

/// What became of a receipt.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The receipt.
    pub id: Uuid,
    /// `applied`, `unbound` or `ignored`.
    pub state: &'static str,
    /// The delivery that it is evidence of.
    pub delivery_id: Option<Uuid>,
    /// The attempt.
    pub attempt_id: Option<Uuid>,
    /// What it did, or why it did nothing.
    pub effect: Option<String>,
    /// The key id that it tells its attempt, where that has none.
    pub key_id: Option<String>,
}

/// Writes what evidence did, in one statement: deliveries move by compare-and-set, as
/// [`super::deliveries::change_states`] has it, receipts are settled, and attempts get the key id that
/// their echo brought. Answers the attempts that got one: receipts may wait for them.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn apply(
    conn: &mut PgConnection,
    moves: &[Move],
    settlements: &[Settlement],
) -> StoreResult<Vec<Uuid>> {
    if settlements.is_empty() {
        return Ok(Vec::new());
    }
    let named = sqlx::query_scalar!(
        "with moved as (
             update deliveries d
             set state = i.new_state, updated_at = now(),
                 failure_code = case when i.new_state in ('sent', 'delivered', 'read') then null
                                     else coalesce(i.failure_code, d.failure_code) end,
                 held_reason = null, next_attempt_at = null,
                 sent_at = case when i.new_state in ('sent', 'delivered', 'read') then coalesce(d.sent_at, now())
                                else d.sent_at end,
                 delivered_at = case when i.new_state in ('delivered', 'read') then coalesce(d.delivered_at, now())
                                     else d.delivered_at end,
                 read_at = case when i.new_state = 'read' then coalesce(d.read_at, now()) else d.read_at end,
                 settled_at = coalesce(d.settled_at, now())
             from unnest($1::hub_delivery_move[]) as i
             where d.id = i.id and d.state = i.old_state
         ), settled as (
             update receipts r
             set state = i.state, delivery_id = i.delivery_id, attempt_id = i.attempt_id, effect = i.effect,
                 applied_at = case when i.state = 'applied' then now() end
             from unnest($2::hub_settled_receipt[]) as i
             where r.id = i.id and r.state in ('pending', 'unbound') and r.state <> i.state
             returning r.id
         )
         update delivery_attempts a set provider_message_id = i.key_id
         from unnest($2::hub_settled_receipt[]) as i
         where a.id = i.attempt_id and i.key_id is not null and a.provider_message_id is null
           and (i.id in (select id from settled)) is true
         returning a.id",
        &moves.iter().map(MoveRow::of).collect::<Vec<_>>() as &[MoveRow<'_>],
        &settlements
            .iter()
            .map(SettlementRow::of)
            .collect::<Vec<_>>() as &[SettlementRow<'_>],
    )
    .fetch_all(conn)
    .await?;
    Ok(named)
}

/// Gives up a receipt whose message could not be handled; false when it does not wait in that
/// generation (any more), so that a copy from before a redrive takes nothing with it.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn give_up(
    conn: &mut PgConnection,
    (id, generation): (Uuid, i32),
    why: &str,
) -> StoreResult<bool> {
    let done = sqlx::query!(
        "update receipts set state = 'ignored', delivery_id = null, attempt_id = null, applied_at = null, effect = $3
         where id = $1 and generation = $2 and state in ('pending', 'unbound')",
        id,
        generation,
        why,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Finds receipts that wait for one of these attempts: by the gateway's id of the send, or by the
/// key id that is known by now. One that waits by both is answered twice.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn waiting_for_attempts(
    conn: &mut PgConnection,
    attempts: &[Uuid],
) -> StoreResult<Vec<Uuid>> {
    let ids = sqlx::query_scalar!(
        // Each a look-up of its own: few receipts wait by the planner's statistics, so that it would walk
        // them all for a batch, and there are thousands when the acks of a burst come in.
        r#"select r.id as "id!"
           from unnest($1::uuid[]) as asked(id)
           cross join lateral (select a.channel_id, a.gateway_correlation_id, a.provider_message_id
                               from delivery_attempts a where a.id = asked.id limit 1) a
           cross join lateral (
               (select r.id from receipts r
                where r.gateway_correlation_id = a.gateway_correlation_id and r.channel_id = a.channel_id
                  and r.state in ('pending', 'unbound') offset 0)
               union all
               (select r.id from receipts r
                where r.provider_message_id = a.provider_message_id and r.channel_id = a.channel_id
                  and r.state in ('pending', 'unbound') offset 0)
           ) r"#,
        attempts,
    )
    .fetch_all(conn)
    .await?;
    Ok(ids)
}

/// Unbound receipts that can be settled by now: those whose attempt became known, and echoes, which
/// may turn out to be typed on the phone.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn settleable(conn: &mut PgConnection, limit: i64) -> StoreResult<Vec<Uuid>> {
    let ids = sqlx::query_scalar!(
        "select r.id from receipts r
         where r.state = 'unbound' and r.created_at > now() - interval '72 hours'
           and (r.kind = 'echo'
                or exists (select 1 from delivery_attempts a
                           where a.provider_message_id = r.provider_message_id and a.channel_id = r.channel_id)
                or exists (select 1 from delivery_attempts a
                           where a.gateway_correlation_id = r.gateway_correlation_id and a.channel_id = r.channel_id))
         order by r.id limit $1",
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(ids)
}

/// Gives up on acks that can never bind: of messages that were typed on the phone, and of what
/// waited for 72 hours. Answers how many.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn ignore_hopeless(conn: &mut PgConnection, limit: i64) -> StoreResult<u64> {
    let done = sqlx::query!(
        "update receipts set state = 'ignored', effect = 'no send of ours explains it'
         where id in (select r.id from receipts r
                      where r.state = 'unbound'
                        and (r.created_at <= now() - interval '72 hours'
                             or (r.kind = 'ack'
                                 and exists (select 1 from chat_threads t
                                             join chat_messages m on m.thread_id = t.id
                                             where t.channel_id = r.channel_id and t.contact_key = r.recipient_key
                                               and m.message_id = r.provider_message_id and m.origin = 'device')))
                      order by r.id for update skip locked limit $1)",
        limit,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
