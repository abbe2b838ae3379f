//! `communication_logs`: the important lines, where a trace can show them.

use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::StoreResult;

/// A line to keep. Never a body, never personal data.
#[derive(Clone, Debug, Default)]
pub struct NewLog {
    /// `info`, `warn` or `error`.
    pub level: &'static str,
    /// The trace.
    pub trace_id: Option<String>,
    /// The source.
    pub source_system: Option<String>,
    /// The tenant.
    pub tenant_id: Option<i64>,
    /// The event.
    pub event_id: Option<Uuid>,
    /// The channel account.
    pub channel_id: Option<String>,
    /// A code of a closed set.
    pub code: String,
    /// The JSON pointer of the field at fault.
    pub pointer: Option<String>,
    /// For a person.
    pub message: String,
    /// More, for queries.
    pub context: Value,
}

/// Keeps lines.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn insert(conn: &mut PgConnection, logs: &[NewLog]) -> StoreResult<()> {
    if logs.is_empty() {
        return Ok(());
    }
    macro_rules! column {
        ($map:expr) => {
            &logs.iter().map($map).collect::<Vec<_>>()
        };
    }
    sqlx::query!(
        "insert into communication_logs
             (id, level, trace_id, source_system, tenant_id, event_id, channel_id, code, pointer, message, context)
         select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::uuid[],
                              $7::text[], $8::text[], $9::text[], $10::text[], $11::jsonb[])",
        column!(|_| crate::domain::ids::EventId::generate().0) as &[Uuid],
        column!(|log| log.level.to_owned()) as &[String],
        column!(|log| log.trace_id.clone()) as &[Option<String>],
        column!(|log| log.source_system.clone()) as &[Option<String>],
        column!(|log| log.tenant_id) as &[Option<i64>],
        column!(|log| log.event_id) as &[Option<Uuid>],
        column!(|log| log.channel_id.clone()) as &[Option<String>],
        column!(|log| log.code.clone()) as &[String],
        column!(|log| log.pointer.clone()) as &[Option<String>],
        column!(|log| log.message.clone()) as &[String],
        column!(|log| if log.context.is_null() { Value::Object(serde_json::Map::new()) } else { log.context.clone() })
            as &[Value],
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Throws out lines older than `keep_days`; answers how many.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn delete_old(conn: &mut PgConnection, keep_days: i32, limit: i64) -> StoreResult<u64> {
    let done = sqlx::query!(
        "delete from communication_logs
         where id in (select id from communication_logs where at < now() - make_interval(days => $1)
                      order by at for update skip locked limit $2)",
        keep_days,
        limit,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
