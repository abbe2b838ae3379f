//! `dead_letters`: what was given up on, and what became of it.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::StoreResult;
use crate::domain::redrive::LetterState;

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
    /// The run of the decision, for events.
    pub run: i32,
    /// `posto` or `broker`.
    pub made_by: &'static str,
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

/// What a letter that is settled does when one about the same generation of its subject is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It stays as it is: nothing died of this message, it was a stale copy.
    Stays,
    /// It opens again with the new id: its subject has just died, and only a stale copy can have left
    /// a letter before that. Else the death would show nowhere.
    Opens,
}

/// Records letters; answers the ids of those that are open by it. One subject has one letter per
/// generation, so a repeated verdict adds nothing.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn insert(
    conn: &mut PgConnection,
    letters: &[NewLetter],
    settled: Settled,
) -> StoreResult<Vec<Uuid>> {
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
                                   channel, template_key, run, made_by)
         select * from unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::integer[], $6::text[], $7::text[],
                              $8::integer[], $9::timestamptz[], $10::timestamptz[], $11::text[], $12::text[],
                              $13::bigint[], $14::text[], $15::text[], $16::integer[], $17::text[])
         on conflict (subject_kind, subject_id, generation) where subject_id is not null do update
             set id = excluded.id, queue = excluded.queue, run = excluded.run, failure_code = excluded.failure_code,
                 failure_class = excluded.failure_class, attempts = excluded.attempts,
                 last_failed_at = excluded.last_failed_at, made_by = excluded.made_by, state = 'dead',
                 created_at = now(), settled_at = null, tidied_at = null, tidy_looks = 0
             where $18 and dead_letters.state <> 'dead'
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
        column!(|l| l.run) as &[i32],
        column!(|l| l.made_by.to_owned()) as &[String],
        settled == Settled::Opens,
    )
    .fetch_all(conn)
    .await?;
    Ok(ids)
}

/// Marks the letters of deliveries that turned out to have arrived after all; answers how many.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn supersede(conn: &mut PgConnection, deliveries: &[Uuid]) -> StoreResult<u64> {
    if deliveries.is_empty() {
        return Ok(0);
    }
    let done = sqlx::query!(
        "update dead_letters set state = 'superseded', settled_at = now()
         where subject_kind = 'delivery' and subject_id = any($1) and state = 'dead'",
        deliveries,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// A letter, found by its id or by what it is about.
#[derive(Clone, Debug)]
pub struct FoundLetter {
    /// The letter.
    pub id: Uuid,
    /// Its state.
    pub state: String,
    /// The work queue whose message it is.
    pub queue: String,
    /// The row that it is about.
    pub subject_id: Option<Uuid>,
    /// The subject's generation.
    pub generation: i32,
    /// Why.
    pub failure_code: String,
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

/// The letter of that id.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn find(conn: &mut PgConnection, id: Uuid) -> StoreResult<Option<FoundLetter>> {
    let row = sqlx::query_as!(
        FoundLetter,
        "select id, state, queue, subject_id, generation, failure_code, attempts, first_failed_at, last_failed_at,
                trace_id, event_type, tenant_id, channel, template_key
         from dead_letters where id = $1",
        id,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row)
}

/// The letter about that generation of a subject; there is one at the most.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn find_of_subject(
    conn: &mut PgConnection,
    kind: &str,
    subject: Uuid,
    generation: i32,
) -> StoreResult<Option<FoundLetter>> {
    let row = sqlx::query_as!(
        FoundLetter,
        "select id, state, queue, subject_id, generation, failure_code, attempts, first_failed_at, last_failed_at,
                trace_id, event_type, tenant_id, channel, template_key
         from dead_letters
         where subject_kind = $1 and subject_id = $2 and generation = $3 and subject_id is not null",
        kind,
        subject,
        generation,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row)
}

/// How many letters of a subject the broker made.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn made_by_broker(
    conn: &mut PgConnection,
    kind: &str,
    subject: Uuid,
) -> StoreResult<i64> {
    let count = sqlx::query_scalar!(
        r#"select count(*) as "count!" from dead_letters
           where subject_kind = $1 and subject_id = $2 and subject_id is not null and made_by = 'broker'"#,
        kind,
        subject,
    )
    .fetch_one(conn)
    .await?;
    Ok(count)
}

/// Settles letters that are still dead; `ids` and `states` go side by side. Answers the ids of
/// those that it settled.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn settle(
    conn: &mut PgConnection,
    ids: &[Uuid],
    states: &[LetterState],
) -> StoreResult<Vec<Uuid>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let states: Vec<String> = states
        .iter()
        .map(|state| state.as_str().to_owned())
        .collect();
    let settled = sqlx::query_scalar!(
        "update dead_letters l set state = i.state, settled_at = now()
         from unnest($1::uuid[], $2::text[]) as i(id, state)
         where l.id = i.id and l.state = 'dead' returning l.id",
        ids,
        &states,
    )
    .fetch_all(conn)
    .await?;
    Ok(settled)
}
