//! Drops the event partitions that are older than they are wanted, once nothing unsettled refers
//! to them.

use sqlx::{AssertSqlSafe, PgConnection};

use super::StoreResult;

/// How long a partition's drop waits for a lock before it is left for the next turn: whoever
/// writes must never wait behind it.
const LOCK_TIMEOUT: &str = "100ms";

/// The partitions whose week ended more than `keep_weeks` ago, and to which nothing unsettled
/// refers: no event without a routing, no delivery under way, no receipt that may still bind.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn droppable(conn: &mut PgConnection, keep_weeks: i32) -> StoreResult<Vec<String>> {
    let names = sqlx::query_scalar!(
        r#"with old as (
               select c.relname as name,
                      hub_uuid_floor(w.starts) as first,
                      hub_uuid_floor(w.starts + interval '1 week') as next
               from pg_inherits i
               join pg_class c on c.oid = i.inhrelid
               cross join lateral (
                   select to_date(right(c.relname, 7), 'IYYY"w"IW')::timestamp at time zone 'utc' as starts
               ) w
               where i.inhparent = 'communication_events'::regclass
                 and w.starts + interval '1 week' < now() - make_interval(weeks => $1)
           )
           select name::text as "name!" from old o
           where not exists (select 1 from communication_events e
                             where e.id >= o.first and e.id < o.next
                               and not exists (select 1 from routings r where r.event_id = e.id and r.run = 0))
             and not exists (select 1 from deliveries d
                             where d.event_id >= o.first and d.event_id < o.next
                               and d.state in ('queued', 'held', 'claimed', 'unknown'))
             and not exists (select 1 from receipts x
                             where x.event_id >= o.first and x.event_id < o.next
                               and x.state in ('pending', 'unbound'))
           order by name"#,
        keep_weeks,
    )
    .fetch_all(conn)
    .await?;
    Ok(names)
}

/// Drops one partition that [`droppable`] named. It is detached first, which readers and writers
/// of the others do not notice.
///
/// # Errors
/// See [`super::StoreError`]; a lock that was not to be had is met again at the next turn.
pub async fn drop_partition(conn: &mut PgConnection, name: &str) -> StoreResult<()> {
    // Names come from the catalogue and are digits and one letter; quoted all the same.
    let quoted = name.replace('"', "");
    for statement in [
        format!("set lock_timeout = '{LOCK_TIMEOUT}'"),
        format!("alter table communication_events detach partition \"{quoted}\" concurrently"),
        format!("drop table \"{quoted}\""),
        "set lock_timeout = 0".to_owned(),
    ] {
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}
