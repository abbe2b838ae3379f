//! `dead_letters`: what was given up on, and what became of it.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::StoreResult;

/// A letter to be recorded.
#[derive(Clone, Debug)]
pub struct NewLetter {
    /// Its id; also a header of the message in the dead queue.
    pub id: Uuid,
    /// The work queue whose message it is.
    pub queue: String,
    /// `event`, `delivery`, `receipt` or `message`.
    pub subject_kind: &'static str,
    /// The row that it is about; none when the message could not be read.
    pub subject_id: Option<Uuid>,
    /// The subject's generation.
    pub generation: i32,
    /// Why.
    pub failure_code: &'static str,
    /// What it asks of whoever handles it.
    pub failure_class: String,
    /// How many attempts were made.
    pub attempts: i32,
    /// When it failed first.
    pub first_failed_at: DateTime<Utc>,
    /// When it failed last.
    pub last_failed_at: DateTime<Utc>,
    /// The trace.
    pub trace_id: Option<String>,
    /// The event's type.
    pub event_type: Option<String>,
    /// The tenant.
    pub tenant_id: Option<i64>,
    /// The channel.
    pub channel: Option<String>,
    /// The template.
    pub template_key: Option<String>,
}

/// Records letters; answers the ids of those that are new. One subject has one letter per
/// generation, so a repeated verdict adds nothing.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn insert_new(conn: &mut PgConnection, letters: &[NewLetter]) -> StoreResult<Vec<Uuid>> {
    if letters.is_empty() {
        return Ok(Vec::new());
    }
    macro_rules! column {
        ($map:expr) => {
            &letters.iter().map($map).collect::<Vec<_>>()
        };
    }
    let ids = sqlx::query_scalar!(
        "insert into dead_letters (id, queue, subject_kind, subject_id, generation, failure_code, failure_class,
                                   attempts, first_failed_at, last_failed_at, trace_id, event_type, tenant_id,
                                   channel, template_key)
         select * from unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::integer[], $6::text[], $7::text[],
                              $8::integer[], $9::timestamptz[], $10::timestamptz[], $11::text[], $12::text[],
                              $13::bigint[], $14::text[], $15::text[])
         on conflict (subject_kind, subject_id, generation) where subject_id is not null do nothing
         returning id",
        column!(|l| l.id) as &[Uuid],
        column!(|l| l.queue.clone()) as &[String],
        column!(|l| l.subject_kind.to_owned()) as &[String],
        column!(|l| l.subject_id) as &[Option<Uuid>],
        column!(|l| l.generation) as &[i32],
        column!(|l| l.failure_code.to_owned()) as &[String],
        column!(|l| l.failure_class.clone()) as &[String],
        column!(|l| l.attempts) as &[i32],
        column!(|l| l.first_failed_at) as &[DateTime<Utc>],
        column!(|l| l.last_failed_at) as &[DateTime<Utc>],
        column!(|l| l.trace_id.clone()) as &[Option<String>],
        column!(|l| l.event_type.clone()) as &[Option<String>],
        column!(|l| l.tenant_id) as &[Option<i64>],
        column!(|l| l.channel.clone()) as &[Option<String>],
        column!(|l| l.template_key.clone()) as &[Option<String>],
    )
    .fetch_all(conn)
    .await?;
    Ok(ids)
}

/// Marks the letters of deliveries that turned out to have arrived after all.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn supersede(conn: &mut PgConnection, deliveries: &[Uuid]) -> StoreResult<()> {
    if deliveries.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "update dead_letters set state = 'superseded', settled_at = now()
         where subject_kind = 'delivery' and subject_id = any($1) and state = 'dead'",
        deliveries,
    )
    .execute(conn)
    .await?;
    Ok(())
}
