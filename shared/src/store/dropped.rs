//! Events whose week was dropped: what refers to them still explains itself (product 1.4). The payload
//! is gone; when it came its id tells, and the decision kept source, type, tenant and trace.

use sqlx::PgConnection;
use uuid::Uuid;

use super::StoreResult;
use super::traces::EventStory;

/// The events of these decisions that are no more: of one event, or of a trace.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn find(
    conn: &mut PgConnection,
    event_id: Option<Uuid>,
    trace_id: Option<&str>,
    limit: i64,
) -> StoreResult<Vec<EventStory>> {
    let rows = sqlx::query_as!(
        EventStory,
        r#"with decided as (
               select r.event_id, r.run, r.source_system, r.event_type, r.tenant_id, r.trace_id, r.state, r.created_at,
                      r.processing_time_ms, r.error_message
               from routings r where $1::uuid is not null and r.event_id = $1
               union all
               select r.event_id, r.run, r.source_system, r.event_type, r.tenant_id, r.trace_id, r.state, r.created_at,
                      r.processing_time_ms, r.error_message
               from routings r where $1::uuid is null and r.trace_id = $2
           ), latest as (
               select distinct on (event_id) event_id, source_system, event_type, tenant_id, trace_id, state,
                      created_at, processing_time_ms, error_message
               from decided order by event_id, run desc
           )
           select l.event_id as "event_id!", l.source_system as "source_system!", l.event_type as "event_type!",
                  l.tenant_id, null::text as source_event_id, null::text as idempotency_key,
                  l.trace_id as "trace_id!", d.correlation_id, null::text as causation_id,
                  hub_uuid_time(l.event_id) as "occurred_at!", hub_uuid_time(l.event_id) as "received_at!",
                  case when l.state = 'failed' then 'failed' when d.open > 0 then 'processing'
                       when d.failed > 0 then 'failed' else 'processed' end as "status!",
                  case when d.open = 0 then greatest(l.created_at, d.settled_at) end as processed_at,
                  l.processing_time_ms as "processing_time_ms?",
                  coalesce(l.error_message, d.failure_code) as error_message,
                  coalesce(d.retry_count, 0) as "retry_count!", d.max_retries, d.next_retry_at,
                  '{}'::jsonb as "metadata!", null::jsonb as payload, true as "dropped!"
           from latest l
           cross join lateral (
               select count(*) filter (where d.state in ('queued', 'held', 'claimed', 'unknown')) as open,
                      count(*) filter (where d.state in ('failed', 'dead')) as failed,
                      max(d.settled_at) as settled_at, max(d.retry_count) as retry_count,
                      max(d.max_retries) as max_retries, min(d.next_attempt_at) as next_retry_at,
                      min(d.correlation_id) as correlation_id,
                      min(d.failure_code) filter (where d.state in ('failed', 'dead', 'unknown')) as failure_code
               from deliveries d join routings r on r.id = d.routing_id
               where r.event_id = l.event_id
           ) d
           where not exists (select 1 from communication_events e where e.id = l.event_id)
           order by l.event_id limit $3"#,
        event_id,
        trace_id,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}
