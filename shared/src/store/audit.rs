//! `audit_log`: what people did by hand, and what a process did in a person's stead.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::StoreResult;
use crate::domain::mask;

/// The most lines that one story shows.
const MOST_ROWS: i64 = 500;

/// Who does something, and why, as they said it.
#[derive(Clone, Copy, Debug)]
pub struct Author<'a> {
    /// A person's name, `management-ui`, or a process of ours.
    pub actor: &'a str,
    /// Why. Masked before it is kept: people paste what they look at.
    pub reason: Option<&'a str>,
}

/// A line to be kept.
#[derive(Clone, Debug)]
pub struct NewAudit {
    /// What was done.
    pub action: &'static str,
    /// To what kind of row.
    pub subject_kind: &'static str,
    /// To which row.
    pub subject_id: Option<Uuid>,
    /// The subject's trace.
    pub trace_id: Option<String>,
    /// Codes, ids and states; never personal data.
    pub detail: Value,
}

/// Keeps lines, in the transaction of what they tell.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn insert(
    conn: &mut PgConnection,
    author: Author<'_>,
    lines: &[NewAudit],
) -> StoreResult<()> {
    if lines.is_empty() {
        return Ok(());
    }
    macro_rules! column {
        ($map:expr) => {
            &lines.iter().map($map).collect::<Vec<_>>()
        };
    }
    sqlx::query!(
        "insert into audit_log (actor, reason, id, action, subject_kind, subject_id, trace_id, detail)
         select $1, $2, i.* from unnest($3::uuid[], $4::text[], $5::text[], $6::uuid[], $7::text[], $8::jsonb[]) as i",
        author.actor,
        author.reason.map(mask::mask_text),
        column!(|_| crate::domain::ids::AuditId::generate().0) as &[Uuid],
        column!(|l| l.action.to_owned()) as &[String],
        column!(|l| l.subject_kind.to_owned()) as &[String],
        column!(|l| l.subject_id) as &[Option<Uuid>],
        column!(|l| l.trace_id.clone()) as &[Option<String>],
        column!(|l| l.detail.clone()) as &[Value],
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A line, as operators read it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct AuditStory {
    /// When.
    pub at: DateTime<Utc>,
    /// Who.
    pub actor: String,
    /// What was done.
    pub action: String,
    /// To what kind of row.
    pub subject_kind: String,
    /// To which row.
    pub subject_id: Option<Uuid>,
    /// Why.
    pub reason: Option<String>,
    /// Codes, ids and states.
    pub detail: Value,
}

/// The lines of a trace, oldest first.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn of_trace(conn: &mut PgConnection, trace_id: &str) -> StoreResult<Vec<AuditStory>> {
    let rows = sqlx::query_as!(
        AuditStory,
        "select at, actor, action, subject_kind, subject_id, reason, detail
         from audit_log where trace_id = $1 order by at, id limit $2",
        trace_id,
        MOST_ROWS,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}
