//! What was written down along a trace: kept lines, and messages on threads. Part of [`super::traces`].

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use sqlx::PgConnection;

use super::StoreResult;
use super::traces::MOST_ROWS;
use crate::sealing::{Column, Keyring, Place};

/// A kept line.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct LogStory {
    /// When.
    pub at: DateTime<Utc>,
    /// `info`, `warn` or `error`.
    pub level: String,
    /// The source.
    pub source_system: Option<String>,
    /// The code.
    pub code: String,
    /// The field at fault.
    pub pointer: Option<String>,
    /// For a person.
    pub message: String,
}

/// A message on a thread.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ChatStory {
    /// The thread.
    pub thread_id: i64,
    /// The message.
    pub message_id: i64,
    /// Its role.
    pub role: String,
    /// Who wrote it.
    pub origin: String,
    /// Its text.
    pub content: String,
    /// When it was written.
    pub occurred_at: DateTime<Utc>,
}

/// The kept lines of a trace.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn logs_of_trace(conn: &mut PgConnection, trace_id: &str) -> StoreResult<Vec<LogStory>> {
    let rows = sqlx::query_as!(
        LogStory,
        "select at, level, source_system, code, pointer, message
         from communication_logs where trace_id = $1 order by at limit $2",
        trace_id,
        MOST_ROWS,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// The chat messages of a trace.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn chat_of_trace(
    conn: &mut PgConnection,
    trace_id: &str,
    seals: &Keyring,
) -> StoreResult<Vec<ChatStory>> {
    let rows = sqlx::query!(
        "select event_id, thread_id, id as message_id, role, origin, content, occurred_at
         from chat_messages where trace_id = $1 order by occurred_at, id limit $2",
        trace_id,
        MOST_ROWS,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let place = Place::new(Column::ChatText, row.event_id);
            Ok(ChatStory {
                thread_id: row.thread_id,
                message_id: row.message_id,
                role: row.role,
                origin: row.origin,
                content: seals.open_text(place, row.content)?,
                occurred_at: row.occurred_at,
            })
        })
        .collect()
}
