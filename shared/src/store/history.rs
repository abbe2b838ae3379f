//! What became of events that are gone: kept as long as it is wanted, then thrown out whole.

use sqlx::PgConnection;

use super::StoreResult;

/// Throws out decisions made more than `keep_weeks` ago, with the deliveries, attempts, receipts
/// and closed letters that hang on them; answers how many decisions went. What is not settled
/// stays, and so does everything of an event that is still there: without its decision it would be
/// decided again. Conversations are nobody's history but the customer's, and stay.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn delete_old(conn: &mut PgConnection, keep_weeks: i32, limit: i64) -> StoreResult<u64> {
    let gone = sqlx::query_scalar!(
        r#"with doomed as (
               select r.id, r.event_id from routings r
               where r.id < hub_uuid_floor(now() - make_interval(weeks => $1))
                 and not exists (select 1 from communication_events e where e.id = r.event_id)
                 -- A week on its way out may still be put back.
                 and not exists (select 1 from dropped_event_weeks w
                                 where w.dropped_at is null and r.event_id >= w.first_id and r.event_id < w.next_id)
                 and not exists (select 1 from deliveries d
                                 where d.routing_id = r.id and d.state in ('queued', 'held', 'claimed', 'unknown'))
                 and not exists (select 1 from receipts x
                                 where x.event_id = r.event_id
                                   and (x.state = 'pending'
                                        or (x.state = 'unbound' and x.created_at > now() - interval '72 hours')))
                 and not exists (select 1 from dead_letters l
                                 where l.state = 'dead'
                                   and (l.subject_id = r.event_id
                                        or l.subject_id in (select d.id from deliveries d where d.routing_id = r.id)
                                        or l.subject_id in (select x.id from receipts x where x.event_id = r.event_id)))
               order by r.id for update of r skip locked limit $2
           ), receipts_gone as (
               delete from receipts x using doomed r where x.event_id = r.event_id returning x.id
           ), deliveries_gone as (
               delete from deliveries d using doomed r where d.routing_id = r.id returning d.id
           ), attempts_gone as (
               delete from delivery_attempts a
               using deliveries d join doomed r on r.id = d.routing_id where a.delivery_id = d.id
           ), letters_gone as (
               delete from dead_letters l
               where l.state <> 'dead'
                 and l.subject_id in (select event_id from doomed union all select id from deliveries_gone
                                      union all select id from receipts_gone)
           ), routings_gone as (
               delete from routings g using doomed r where g.id = r.id returning g.id
           )
           select count(*) as "count!" from routings_gone"#,
        keep_weeks,
        limit,
    )
    .fetch_one(conn)
    .await?;
    Ok(u64::try_from(gone).unwrap_or_default())
}
