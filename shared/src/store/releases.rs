//! Releasing what accounts hold: who may, by a lease with a fencing number for each account, and
//! what, by lane and in the order of ids (design §1.9). Also the order of replies (design §1.11):
//! the next one of a thread follows as soon as the one before it is concluded.
//!
//! Invariant: a release checks the fencing number on the locked row of the lease, in the statement
//! that moves the deliveries. Whoever was deposed, however late its statement comes, moves nothing.

use std::time::Duration;

use sqlx::PgConnection;
use uuid::Uuid;

use super::StoreResult;
use super::deliveries::DueDelivery;

/// How old a claim must be before another trial may follow it on an account of unknown state.
const TRIAL_PATIENCE_S: f64 = 5.0;
/// How long a delivery rests that came back because there was no room for it.
const REST_S: f64 = 1.0;

/// An account that can send, has something held, and its lease.
#[derive(Clone, Debug)]
pub struct HoldingAccount {
    /// The account's slug.
    pub channel_id: String,
    /// How much of the asker's own lease is left, in seconds; `None` when it leads no more.
    pub own_lease_s: Option<f64>,
    /// The fencing number in force, or the last one that was; 0 when there never was one.
    pub fence: i64,
    /// Nobody's lease stands in the way of the asker.
    pub free: bool,
}

/// The accounts that can send and have something held; no other costs more than a look at an index.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn holding_accounts(
    conn: &mut PgConnection,
    holder: &str,
) -> StoreResult<Vec<HoldingAccount>> {
    let rows = sqlx::query_as!(
        HoldingAccount,
        r#"select c.id as channel_id,
                  case when l.holder = $1 and l.lease_until > now()
                       then extract(epoch from l.lease_until - now())::double precision end as own_lease_s,
                  coalesce(l.fence, 0) as "fence!",
                  coalesce(l.lease_until <= now(), true) as "free!"
           from channels c left join release_leases l on l.channel_id = c.id
           where c.enabled and c.session_state <> 'down'
             and exists (select 1 from deliveries d where d.channel_id = c.id and d.state = 'held')
           order by c.id"#,
        holder,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// A reign: the right to release what an account holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reign {
    /// The account's slug.
    pub channel_id: String,
    /// The fencing number.
    pub fence: i64,
}

/// Takes the lease of each account that nobody else leads, or prolongs one's own. A reign that was
/// interrupted is a new one, with a new number.
///
/// # Errors
/// See [`super::StoreError`]; nothing was taken.
pub async fn take_leases(
    conn: &mut PgConnection,
    holder: &str,
    accounts: &[String],
    lease: Duration,
) -> StoreResult<Vec<Reign>> {
    let rows = sqlx::query_as!(
        Reign,
        "insert into release_leases as l (channel_id, holder, fence, lease_until)
         select a.channel_id, $2, 1, now() + make_interval(secs => $3)
         from unnest($1::text[]) as a(channel_id) order by a.channel_id
         on conflict (channel_id) do update
         set fence = case when l.holder = excluded.holder and l.lease_until > now() then l.fence else l.fence + 1 end,
             holder = excluded.holder, lease_until = excluded.lease_until
         where l.holder = excluded.holder or l.lease_until <= now()
         returning l.channel_id, l.fence",
        accounts,
        holder,
        lease.as_secs_f64(),
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// Gives up every lease of a process that stops, so that another need not wait for their end.
///
/// # Errors
/// See [`super::StoreError`]; the leases end by themselves.
pub async fn resign(conn: &mut PgConnection, holder: &str) -> StoreResult<()> {
    sqlx::query!(
        "update release_leases set lease_until = now() where holder = $1 and lease_until > now()",
        holder,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Releases what is held on the accounts of these reigns: on one whose session is up so much that
/// `at_once` are out, on one of unknown state a single trial. Replies go before notices before bulk,
/// in the order of their ids. The caller writes the messages in the same transaction.
///
/// Out is what was released and not claimed yet; what came back for want of room is out for a
/// moment more, so that a busy account is not asked in vain all the time. The messages have their
/// order in the answer.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn release_page(
    conn: &mut PgConnection,
    holder: &str,
    reigns: &[Reign],
    at_once: i64,
) -> StoreResult<Vec<DueDelivery>> {
    let (accounts, fences) = columns(reigns);
    let rows = sqlx::query_as!(
        DueDelivery,
        r#"
        with mine as materialized (
            select l.channel_id, l.fence from release_leases l
            join unnest($1::text[], $2::bigint[]) as i(channel_id, fence)
              on i.channel_id = l.channel_id and i.fence = l.fence
            where l.holder = $3 and l.lease_until > now()
            order by l.channel_id for share of l
        ), room as materialized (
            select m.channel_id,
                   case c.session_state
                       when 'up' then greatest($4 - o.released, 0)
                       when 'unknown' then case when o.released = 0 and not exists (
                           select 1 from delivery_attempts a
                           where a.outcome = 'open' and a.channel_id = m.channel_id
                             and a.claimed_at > now() - make_interval(secs => $5)
                       ) then 1 else 0 end
                       else 0 end as places
            from mine m
            join channels c on c.id = m.channel_id and c.enabled
            cross join lateral (
                select count(*) as released from deliveries d
                where d.channel_id = m.channel_id and d.released_by is not null and d.state in ('queued', 'held')
                  and (d.state = 'queued' or d.updated_at > now() - make_interval(secs => $6))
            ) o
        ), chosen as materialized (
            select h.id from room r
            cross join lateral (
                select d.id from deliveries d
                where d.channel_id = r.channel_id and d.state = 'held'
                  and hub_release_rank(d.lane, d.held_reason) < 9
                  and (d.released_by is null or d.updated_at <= now() - make_interval(secs => $6))
                order by hub_release_rank(d.lane, d.held_reason), d.id
                limit r.places for update skip locked
            ) h
        ), released as (
            -- By an array of ids, whose length the planner cannot overrate: never through the backlog.
            update deliveries d
            set state = 'queued', held_reason = null, next_attempt_at = null, dispatched_at = now(),
                released_by = m.fence, updated_at = now()
            from mine m
            where d.id = any(array(select id from chosen)) and d.state = 'held' and m.channel_id = d.channel_id
            returning d.id, d.generation, d.attempt_count, d.channel, d.trace_id, d.event_type, d.source_system,
                      d.tenant_id, d.channel_id, d.lane, d.template_key
        )
        select id as "id!", generation as "generation!", attempt_count + 1 as "attempt!", channel as "channel!",
               trace_id as "trace_id!", event_type as "event_type!", source_system as "source_system!", tenant_id,
               channel_id, lane as "lane!", template_key
        from released order by channel_id, hub_release_rank(lane, null), id
        "#,
        &accounts,
        &fences,
        holder,
        at_once,
        TRIAL_PATIENCE_S,
        REST_S,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// Releases the replies that wait for an older one which is gone by now, on the accounts of these
/// reigns: whoever concluded it has missed them, because it looked while they were being held.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn release_missed_replies(
    conn: &mut PgConnection,
    holder: &str,
    reigns: &[Reign],
) -> StoreResult<Vec<DueDelivery>> {
    let (accounts, fences) = columns(reigns);
    let rows = sqlx::query_as!(
        DueDelivery,
        r#"
        with mine as materialized (
            select l.channel_id from release_leases l
            join unnest($1::text[], $2::bigint[]) as i(channel_id, fence)
              on i.channel_id = l.channel_id and i.fence = l.fence
            where l.holder = $3 and l.lease_until > now()
            order by l.channel_id for share of l
        ), oldest as materialized (
            -- The oldest of each thread alone can be one that nothing blocks.
            select distinct on (d.channel_id, d.recipient_key) d.id, d.channel_id, d.recipient_key
            from mine m join deliveries d on d.channel_id = m.channel_id
            where d.state = 'held' and hub_release_rank(d.lane, d.held_reason) = 9
            order by d.channel_id, d.recipient_key, d.id
        ), missed as materialized (
            select d.id from oldest o join deliveries d on d.id = o.id
            where d.state = 'held' and d.held_reason = 'reply_order'
              and not exists (
                  select 1 from deliveries b
                  where b.channel_id = o.channel_id and b.recipient_key = o.recipient_key and b.lane = 'reply'
                    and b.channel <> 'chat' and b.state in ('queued', 'held', 'claimed') and b.id < o.id)
            order by d.id for update of d skip locked
        )
        update deliveries set state = 'queued', held_reason = null, next_attempt_at = null, dispatched_at = now(),
               released_by = null, updated_at = now()
        where id = any(array(select id from missed)) and state = 'held'
        returning id, generation, attempt_count + 1 as "attempt!", channel, trace_id, event_type, source_system,
                  tenant_id, channel_id, lane, template_key
        "#,
        &accounts,
        &fences,
        holder,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// Releases the next reply of each thread that one of these deliveries was the last to block. Call
/// it in the transaction that concluded them, and write the messages there.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn release_next_replies(
    conn: &mut PgConnection,
    concluded: &[Uuid],
) -> StoreResult<Vec<DueDelivery>> {
    let rows = sqlx::query_as!(
        DueDelivery,
        r#"
        with next as materialized (
            select n.id from (
                select distinct c.channel_id, c.recipient_key from deliveries c where c.id = any($1)
            ) t
            cross join lateral (
                select d.id, d.held_reason from deliveries d
                where d.channel_id = t.channel_id and d.recipient_key = t.recipient_key and d.lane = 'reply'
                  and d.channel <> 'chat' and d.state in ('queued', 'held', 'claimed')
                order by d.id limit 1
            ) n
            where n.held_reason = 'reply_order'
        ), free as materialized (
            -- What another transaction holds is skipped, so that two batches cannot deadlock.
            select d.id from next n join deliveries d on d.id = n.id
            where d.state = 'held' and d.held_reason = 'reply_order'
            order by d.id for update of d skip locked
        )
        update deliveries set state = 'queued', held_reason = null, next_attempt_at = null, dispatched_at = now(),
               released_by = null, updated_at = now()
        where id = any(array(select id from free)) and state = 'held'
        returning id, generation, attempt_count + 1 as "attempt!", channel, trace_id, event_type, source_system,
                  tenant_id, channel_id, lane, template_key
        "#,
        concluded,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

fn columns(reigns: &[Reign]) -> (Vec<String>, Vec<i64>) {
    reigns
        .iter()
        .map(|reign| (reign.channel_id.clone(), reign.fence))
        .unzip()
}
