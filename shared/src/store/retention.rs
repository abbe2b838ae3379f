//! Old weeks of events: found, judged, detached, dropped, without anybody waiting for it.
//!
//! What waits here is this connection, for the shortest of whiles (`LOCK_TIMEOUT`), and never with
//! a lock that somebody else wants: `attach` and `detach … concurrently` take SHARE UPDATE EXCLUSIVE
//! on the parent, which lets every read and write through, and ACCESS EXCLUSIVE on a table that
//! nobody knows yet, or that everybody has let go of. What such a wait interrupts is found again by
//! its [`Standing`].

use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::StoreResult;
use super::pool::PARTITION_LOCK;

/// How long a step waits for one lock before it is given up and tried again.
const LOCK_TIMEOUT: &str = "50ms";
/// No look at a week takes longer.
const STATEMENT_TIMEOUT: &str = "300s";
/// How connections that look after old weeks call themselves in `pg_stat_activity`.
pub const APPLICATION_NAME: &str = "posto-retention";

/// How a week's table stands to the parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A partition like the others.
    Attached,
    /// Its detaching began and did not end: its rows are out of sight, and no other partition can
    /// be detached concurrently before it is finalised.
    Pending,
    /// A table of its own.
    Detached,
    /// There is no such table.
    Gone,
}

/// A week whose events are old, or whose dropping once began.
#[derive(Clone, Debug)]
pub struct Week {
    /// The partition's name.
    pub name: String,
    /// The first id of the week.
    pub first: Uuid,
    /// The first id of the week after.
    pub next: Uuid,
    /// Whether it ended longer ago than its events are wanted.
    pub is_old: bool,
}

/// Makes a connection fit for this work: it gives up soon, says who it is, and works as the login
/// itself, for only an owner of the tables may detach and drop one.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn prepare(conn: &mut PgConnection) -> StoreResult<()> {
    run(
        conn,
        format!(
            "reset role; set lock_timeout = '{LOCK_TIMEOUT}'; set statement_timeout = '{STATEMENT_TIMEOUT}';
             set application_name = '{APPLICATION_NAME}'"
        ),
    )
    .await
}

/// Takes the lock under which partitions are made and dropped; answers whether it was free. It is
/// the connection's until that is closed.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn try_lock(conn: &mut PgConnection) -> StoreResult<bool> {
    let taken = sqlx::query_scalar!(
        r#"select pg_try_advisory_lock($1) as "taken!""#,
        PARTITION_LOCK
    )
    .fetch_one(conn)
    .await?;
    Ok(taken)
}

/// Gives the lock back. Closing the connection would too, but the server notices that a little later,
/// and whoever asks next would be told that somebody is at it.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn unlock(conn: &mut PgConnection) -> StoreResult<()> {
    sqlx::query_scalar!("select pg_advisory_unlock($1)", PARTITION_LOCK)
        .fetch_one(conn)
        .await?;
    Ok(())
}

/// The weeks to be looked at, oldest first: partitions that ended more than `keep_weeks` ago (none
/// is old when it is 0), and those that an earlier turn left half-way.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn weeks(conn: &mut PgConnection, keep_weeks: i32) -> StoreResult<Vec<Week>> {
    // A table that somebody dropped by hand needs nothing more.
    sqlx::query!(
        "update dropped_event_weeks set dropped_at = now() where dropped_at is null and to_regclass(partition) is null"
    )
    .execute(&mut *conn)
    .await?;
    let weeks = sqlx::query_as!(
        Week,
        r#"with named as (
               select c.relname::text as name, hub_uuid_floor(w.starts) as first,
                      hub_uuid_floor(w.starts + interval '1 week') as next, i.inhdetachpending as pending
               from pg_inherits i
               join pg_class c on c.oid = i.inhrelid
               cross join lateral (
                   select to_date(right(c.relname, 7), 'IYYY"w"IW')::timestamp at time zone 'utc' as starts
               ) w
               where i.inhparent = 'communication_events'::regclass
                 and c.relname ~ '^communication_events_[0-9]{4}w[0-9]{2}$'
           ), begun as (
               select partition as name, first_id as first, next_id as next, true as pending
               from dropped_event_weeks
               where dropped_at is null and partition not in (select name from named)
           ), either as (
               select name, first, next, pending,
                      $1 > 0 and next <= hub_uuid_floor(now() - make_interval(weeks => $1)) as is_old
               from (select name, first, next, pending from named
                     union all select name, first, next, pending from begun) both_kinds
           )
           select name as "name!", first as "first!", next as "next!", is_old as "is_old!"
           from either where is_old or pending order by first"#,
        keep_weeks,
    )
    .fetch_all(conn)
    .await?;
    Ok(weeks)
}

/// How a week's table stands now.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn standing(conn: &mut PgConnection, week: &Week) -> StoreResult<Standing> {
    let row = sqlx::query!(
        r#"select to_regclass($1) is not null as "there!",
                  (select i.inhdetachpending from pg_inherits i
                   where i.inhrelid = to_regclass($1) and i.inhparent = 'communication_events'::regclass) as pending"#,
        week.name,
    )
    .fetch_one(conn)
    .await?;
    Ok(match (row.there, row.pending) {
        (false, _) => Standing::Gone,
        (true, None) => Standing::Detached,
        (true, Some(true)) => Standing::Pending,
        (true, Some(false)) => Standing::Attached,
    })
}

/// Why a week's events cannot go: what still needs one of them. `None` when everything is settled.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn unsettled(conn: &mut PgConnection, week: &Week) -> StoreResult<Option<String>> {
    let why = sqlx::query_scalar!(
        "select case
             -- One look for each index of what is open: deliveries have none by event.
             when exists (select 1 from deliveries d
                          where d.state = 'queued' and d.next_attempt_at is null
                            and d.event_id >= $1 and d.event_id < $2)
                  or exists (select 1 from deliveries d
                             where d.state = 'queued' and d.next_attempt_at is not null
                               and d.event_id >= $1 and d.event_id < $2)
                  or exists (select 1 from deliveries d
                             where d.state = 'held' and d.event_id >= $1 and d.event_id < $2)
                  or exists (select 1 from deliveries d
                             where d.state in ('claimed', 'unknown') and d.event_id >= $1 and d.event_id < $2)
                 then 'a delivery is not settled'
             when exists (select 1 from receipts x
                          where x.event_id >= $1 and x.event_id < $2
                            and (x.state = 'pending'
                                 or (x.state = 'unbound' and x.created_at > now() - interval '72 hours')))
                 then 'a receipt may still bind'
             when exists (select 1 from routings r
                          where r.event_id >= $1 and r.event_id < $2 and r.replan_since is not null)
                 then 'an event is to be decided again'
             when exists (select 1 from dead_letters l
                          left join deliveries d on l.subject_kind = 'delivery' and d.id = l.subject_id
                          left join receipts x on l.subject_kind = 'receipt' and x.id = l.subject_id
                          where l.state = 'dead'
                            and coalesce(d.event_id, x.event_id, l.subject_id) >= $1
                            and coalesce(d.event_id, x.event_id, l.subject_id) < $2)
                 then 'a dead letter is open'
             when exists (select 1 from outbox o
                          left join deliveries d on d.id = o.subject_id
                          left join receipts x on x.id = o.subject_id
                          where coalesce(d.event_id, x.event_id, o.subject_id) >= $1
                            and coalesce(d.event_id, x.event_id, o.subject_id) < $2)
                 then 'a message waits in the outbox'
         end",
        week.first,
        week.next,
    )
    .fetch_one(&mut *conn)
    .await?;
    if why.is_some() {
        return Ok(why);
    }
    // Of the table itself, which may be out of the parent's sight by now. Counted, so that the
    // planner joins the two sides at once instead of hoping for an early find.
    let undecided: i64 = sqlx::query_scalar(AssertSqlSafe(format!(
        "select count(*) from {} e
         where not exists (select 1 from routings r where r.event_id = e.id and r.run = 0)",
        quoted(week),
    )))
    .fetch_one(conn)
    .await?;
    Ok((undecided > 0).then(|| "an event has no routing".to_owned()))
}

/// Writes down that a week is to go, before anything is done to it.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn decide(conn: &mut PgConnection, week: &Week) -> StoreResult<()> {
    sqlx::query!(
        "insert into dropped_event_weeks (partition, first_id, next_id) values ($1, $2, $3)
         on conflict (partition) do update set decided_at = now(), dropped_at = null",
        week.name,
        week.first,
        week.next,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes back what [`decide`] wrote about a week that stays.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn forget(conn: &mut PgConnection, week: &Week) -> StoreResult<()> {
    sqlx::query!(
        "delete from dropped_event_weeks where partition = $1",
        week.name
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Detaches a week while everybody goes on. A wait that is given up leaves it as it was, or
/// [`Standing::Pending`].
///
/// # Errors
/// See [`super::StoreError`]; [`super::StoreError::is_lock_timeout`] asks to look at it again.
pub async fn detach(conn: &mut PgConnection, week: &Week) -> StoreResult<()> {
    run(
        conn,
        format!(
            "alter table communication_events detach partition {} concurrently",
            quoted(week)
        ),
    )
    .await
}

/// Ends a detaching that began: waits until nobody reads by a view of the past in which the week
/// was a partition.
///
/// # Errors
/// As [`detach`].
pub async fn finalise(conn: &mut PgConnection, week: &Week) -> StoreResult<()> {
    run(
        conn,
        format!(
            "alter table communication_events detach partition {} finalize",
            quoted(week)
        ),
    )
    .await
}

/// Puts a week that was detached back, and forgets that it was to go; to be called in a
/// transaction. Its detaching left a check that spares the scan.
///
/// # Errors
/// As [`detach`].
pub async fn attach_again(conn: &mut PgConnection, week: &Week) -> StoreResult<()> {
    run(
        &mut *conn,
        format!(
            "alter table communication_events attach partition {} for values from ('{}') to ('{}')",
            quoted(week),
            week.first,
            week.next
        ),
    )
    .await?;
    forget(conn, week).await
}

/// Drops a week that is detached, and writes down when; to be called in a transaction.
///
/// # Errors
/// As [`detach`].
pub async fn drop_table(conn: &mut PgConnection, week: &Week) -> StoreResult<()> {
    run(&mut *conn, format!("drop table {}", quoted(week))).await?;
    sqlx::query!(
        "update dropped_event_weeks set dropped_at = now() where partition = $1",
        week.name
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn run(conn: &mut PgConnection, statement: String) -> StoreResult<()> {
    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(conn)
        .await?;
    Ok(())
}

/// Names come from the catalogue and are digits and one letter; quoted all the same.
fn quoted(week: &Week) -> String {
    format!("\"{}\"", week.name.replace('"', ""))
}
