//! `routings`: one stored decision per (event, run), whatever it came to.

use serde_json::Value;
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::StoreResult;

/// A decision to be stored.
#[derive(Clone, Debug)]
pub struct NewRouting {
    /// Its id.
    pub id: Uuid,
    /// The event decided about.
    pub event_id: Uuid,
    /// 0 is the first.
    pub run: i32,
    /// How often the decision was redriven; above 0 it is written over the one that failed.
    pub generation: i32,
    /// The event's trace.
    pub trace_id: String,
    /// The tenant that the router resolved.
    pub tenant_id: Option<i64>,
    /// The event's type.
    pub event_type: String,
    /// The event's source.
    pub source_system: String,
    /// `routed`, `unrouted` or `failed`.
    pub state: &'static str,
    /// Everything that answers "why".
    pub decision: Value,
    /// Why it failed.
    pub failure_code: Option<&'static str>,
    /// The same for a person; never a value of the payload.
    pub error_message: Option<String>,
    /// How long normalising and deciding took, in milliseconds.
    pub processing_time_ms: f64,
}

/// Stores decisions; answers the ids of those that are the first of their (event, run). The
/// others were decided before: nothing may follow from them.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn insert_new(
    conn: &mut PgConnection,
    routings: &[&NewRouting],
) -> StoreResult<Vec<Uuid>> {
    macro_rules! column {
        ($map:expr) => {
            &routings.iter().map($map).collect::<Vec<_>>()
        };
    }
    let ids = sqlx::query_scalar!(
        "insert into routings (id, event_id, run, trace_id, tenant_id, event_type, source_system, state, decision,
                               failure_code, error_message, processing_time_ms)
         select * from unnest($1::uuid[], $2::uuid[], $3::integer[], $4::text[], $5::bigint[], $6::text[], $7::text[],
                              $8::text[], $9::jsonb[], $10::text[], $11::text[], $12::double precision[])
         on conflict (event_id, run) do nothing
         returning id",
        column!(|r| r.id) as &[Uuid],
        column!(|r| r.event_id) as &[Uuid],
        column!(|r| r.run) as &[i32],
        column!(|r| r.trace_id.as_str()) as &[&str],
        column!(|r| r.tenant_id) as &[Option<i64>],
        column!(|r| r.event_type.as_str()) as &[&str],
        column!(|r| r.source_system.as_str()) as &[&str],
        column!(|r| r.state) as &[&str],
        column!(|r| Json(&r.decision)) as &[Json<&Value>],
        column!(|r| r.failure_code) as &[Option<&str>],
        column!(|r| r.error_message.as_deref()) as &[Option<&str>],
        column!(|r| r.processing_time_ms) as &[f64],
    )
    .fetch_all(conn)
    .await?;
    Ok(ids)
}
