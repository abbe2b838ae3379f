//! `chat_threads` and `chat_messages`, read: what the chat of a service order shows.

use std::fmt;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use sqlx::PgConnection;

use super::StoreResult;
use crate::sealing::{Column, Keyring, Place};

/// A chat of a service order, or within the agency. Conversations over WhatsApp are none.
#[derive(Clone, Debug)]
pub struct ChatThread {
    /// Its number.
    pub id: i64,
    /// The service order, for the chat of one.
    pub order_id: Option<i64>,
    /// Whose it is, where that is known.
    pub tenant_id: Option<i64>,
    /// Where a guided conversation stands.
    pub current_step: Option<String>,
}

/// Finds a chat. The order tells whose it is, where there is one: it may have been found out later.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn find(conn: &mut PgConnection, id: i64) -> StoreResult<Option<ChatThread>> {
    let thread = sqlx::query_as!(
        ChatThread,
        "select t.id, t.order_id, coalesce(o.tenant_id, t.customer_id) as tenant_id, t.current_step
         from chat_threads t left join service_orders o on o.id = t.order_id
         where t.id = $1 and t.kind in ('order', 'internal')",
        id,
    )
    .fetch_optional(conn)
    .await?;
    Ok(thread)
}

/// A message, as whoever may read the chat reads it.
#[derive(Clone, Serialize, JsonSchema)]
pub struct ChatLine {
    /// Its number.
    pub id: i64,
    /// The chat.
    pub thread_id: i64,
    /// `system`, `assistant`, `user` or `tool`.
    pub role: String,
    /// The text.
    pub content: String,
    /// The event that it came of.
    pub event_id: uuid::Uuid,
    /// When it was written.
    pub created_at: DateTime<Utc>,
}

impl fmt::Debug for ChatLine {
    /// Not the text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatLine")
            .field("id", &self.id)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// The newest `limit` messages of a chat, oldest first: of all, or of those with a number above `after`.
/// Only these roles.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn messages(
    conn: &mut PgConnection,
    seals: &Keyring,
    thread: i64,
    roles: &[&str],
    (after, limit): (i64, i64),
) -> StoreResult<Vec<ChatLine>> {
    let mut lines = sqlx::query_as!(
        ChatLine,
        r#"select id as "id!", thread_id as "thread_id!", role as "role!", content as "content!",
                  event_id as "event_id!", occurred_at as "created_at!"
           from (select id, thread_id, role, content, event_id, occurred_at from chat_messages
                 where thread_id = $1 and role = any($2) and id > $3
                 order by occurred_at desc, id desc limit $4) newest
           order by occurred_at, id"#,
        thread,
        roles as &[&str],
        after,
        limit,
    )
    .fetch_all(conn)
    .await?;
    for line in &mut lines {
        let place = Place::new(Column::ChatText, line.event_id);
        line.content = seals.open_text(place, std::mem::take(&mut line.content))?;
    }
    Ok(lines)
}
