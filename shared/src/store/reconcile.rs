//! Finds work that should have a message in the broker and has none (design §1.8): the database
//! can rebuild the broker.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::StoreResult;
use super::deliveries::DueDelivery;

/// An event without a routing.
#[derive(Clone, Debug)]
pub struct LostEvent {
    /// The event.
    pub id: Uuid,
    /// Its trace.
    pub trace_id: String,
    /// Its type.
    pub event_type: String,
    /// Its source.
    pub source_system: String,
    /// Its tenant.
    pub tenant_id: Option<i64>,
}

/// Events stored before `before`, after `after`, without a routing and without an outbox row.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn lost_events(
    conn: &mut PgConnection,
    before: DateTime<Utc>,
    after: Uuid,
    limit: i64,
) -> StoreResult<Vec<LostEvent>> {
    let rows = sqlx::query_as!(
        LostEvent,
        "select e.id, e.trace_id, e.event_type, e.source_system, e.tenant_id
         from communication_events e
         where e.id >= coalesce((select up_to from reconcile_marks where name = 'events'),
                                '00000000-0000-0000-0000-000000000000'::uuid)
           and e.id < hub_uuid_floor($1) and e.id > $2
           and not exists (select 1 from routings r where r.event_id = e.id and r.run = 0)
           and not exists (select 1 from outbox o where o.subject_id = e.id)
         order by e.id limit $3",
        before,
        after,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// Remembers that every event up to `before` has its routing, so that the next look is short. Ids
/// are made before their transaction commits, hence the distance; an event that still is in the
/// outbox is undecided too, so the mark stays before it.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn remember_decided(conn: &mut PgConnection, before: DateTime<Utc>) -> StoreResult<()> {
    sqlx::query!(
        "insert into reconcile_marks (name, up_to)
         values ('events', least(hub_uuid_floor($1::timestamptz - interval '5 minutes'),
                                 (select min(subject_id::text)::uuid from outbox)))
         on conflict (name) do update set up_to = greatest(reconcile_marks.up_to, excluded.up_to)",
        before,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Deliveries dispatched before `before` whose message is nowhere; marks them dispatched anew, so
/// the caller must write their messages in the same transaction.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn take_lost_deliveries(
    conn: &mut PgConnection,
    channel: &str,
    before: DateTime<Utc>,
    limit: i64,
) -> StoreResult<Vec<DueDelivery>> {
    let rows = sqlx::query_as!(
        DueDelivery,
        r#"update deliveries set dispatched_at = now()
           where id in (select d.id from deliveries d
                        where d.state = 'queued' and d.next_attempt_at is null and d.dispatched_at < $2
                          and d.channel = $1
                          and not exists (select 1 from outbox o where o.subject_id = d.id)
                        order by d.id for update skip locked limit $3)
           returning id, generation, attempt_count + 1 as "attempt!", channel, trace_id, event_type, source_system,
                     tenant_id, channel_id, lane, template_key"#,
        channel,
        before,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// A receipt that nobody applied.
#[derive(Clone, Debug)]
pub struct LostReceipt {
    /// The receipt.
    pub id: Uuid,
    /// How often it was redriven.
    pub generation: i32,
    /// Its trace.
    pub trace_id: String,
}

/// Receipts dispatched before `before` whose message is nowhere; as [`take_lost_deliveries`].
///
/// # Errors
/// See [`super::StoreError`].
pub async fn take_lost_receipts(
    conn: &mut PgConnection,
    before: DateTime<Utc>,
    limit: i64,
) -> StoreResult<Vec<LostReceipt>> {
    let rows = sqlx::query_as!(
        LostReceipt,
        "update receipts set dispatched_at = now()
         where id in (select r.id from receipts r
                      where r.state = 'pending' and r.dispatched_at < $1
                        and not exists (select 1 from outbox o where o.subject_id = r.id)
                      order by r.id for update skip locked limit $2)
         returning id, generation, trace_id",
        before,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}
