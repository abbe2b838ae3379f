//! Which letters there are: counted by why, listed page by page, and matched by a filter.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use super::StoreResult;

/// Which letters are meant. What is not named is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LetterFilter {
    /// The state; any when none is named.
    pub state: Option<String>,
    /// Why it was given up.
    pub failure_code: Option<String>,
    /// The channel of the delivery.
    pub channel: Option<String>,
    /// The template of the delivery.
    pub template: Option<String>,
    /// The event's type.
    pub event_type: Option<String>,
    /// The tenant.
    pub tenant_id: Option<i64>,
    /// The work queue.
    pub queue: Option<String>,
    /// Given up at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Given up before this time.
    pub until: Option<DateTime<Utc>>,
}

/// Letters that died of the same thing.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct LetterGroup {
    /// Why.
    pub failure_code: String,
    /// What the failure asks for.
    pub failure_class: String,
    /// The channel.
    pub channel: Option<String>,
    /// The template.
    pub template: Option<String>,
    /// The work queue.
    pub queue: String,
    /// How many.
    pub count: i64,
    /// When the first of them was given up.
    pub first_seen: DateTime<Utc>,
    /// When the last of them was given up.
    pub last_seen: DateTime<Utc>,
}

/// A letter, as operators read it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct LetterStory {
    /// The letter; also the header `x-letter-id` of its copy in the dead queue.
    pub letter_id: Uuid,
    /// The work queue.
    pub queue: String,
    /// What it is about.
    pub subject_kind: String,
    /// The row that it is about.
    pub subject_id: Option<Uuid>,
    /// How often the subject had been redriven before.
    pub generation: i32,
    /// Why.
    pub failure_code: String,
    /// What the failure asks for.
    pub failure_class: String,
    /// Attempts made.
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
    pub template: Option<String>,
    /// `dead`, `redriven`, `discarded` or `superseded`.
    pub state: String,
    /// `posto` or `broker`.
    pub made_by: String,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// When it was settled.
    pub settled_at: Option<DateTime<Utc>>,
}

/// Counts the letters of a filter by why they died, the most first.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn groups(
    conn: &mut PgConnection,
    filter: &LetterFilter,
) -> StoreResult<Vec<LetterGroup>> {
    let rows = sqlx::query_as!(
        LetterGroup,
        r#"select failure_code, failure_class, channel, template_key as template, queue, count(*) as "count!",
                  min(created_at) as "first_seen!", max(created_at) as "last_seen!"
           from dead_letters
           where ($1::text is null or state = $1) and ($2::text is null or failure_code = $2)
             and ($3::text is null or channel = $3) and ($4::text is null or template_key = $4)
             and ($5::text is null or event_type = $5) and ($6::bigint is null or tenant_id = $6)
             and ($7::text is null or queue = $7) and ($8::timestamptz is null or created_at >= $8)
             and ($9::timestamptz is null or created_at < $9)
           group by failure_code, failure_class, channel, template_key, queue
           order by count(*) desc, failure_code, queue, channel, template_key"#,
        filter.state,
        filter.failure_code,
        filter.channel,
        filter.template,
        filter.event_type,
        filter.tenant_id,
        filter.queue,
        filter.since,
        filter.until,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// One page of the letters of a filter, in the order of their ids, after `after`.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn page(
    conn: &mut PgConnection,
    filter: &LetterFilter,
    after: Uuid,
    limit: i64,
) -> StoreResult<Vec<LetterStory>> {
    let rows = sqlx::query_as!(
        LetterStory,
        "select id as letter_id, queue, subject_kind, subject_id, generation, failure_code, failure_class, attempts,
                first_failed_at, last_failed_at, trace_id, event_type, tenant_id, channel, template_key as template,
                state, made_by, created_at, settled_at
         from dead_letters
         where ($1::text is null or state = $1) and ($2::text is null or failure_code = $2)
           and ($3::text is null or channel = $3) and ($4::text is null or template_key = $4)
           and ($5::text is null or event_type = $5) and ($6::bigint is null or tenant_id = $6)
           and ($7::text is null or queue = $7) and ($8::timestamptz is null or created_at >= $8)
           and ($9::timestamptz is null or created_at < $9) and id > $10
         order by id limit $11",
        filter.state,
        filter.failure_code,
        filter.channel,
        filter.template,
        filter.event_type,
        filter.tenant_id,
        filter.queue,
        filter.since,
        filter.until,
        after,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// How many letters a filter matches now, and the highest of their ids: what dies later is not
/// among what was counted.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn count(
    conn: &mut PgConnection,
    filter: &LetterFilter,
) -> StoreResult<(i64, Option<Uuid>)> {
    let row = sqlx::query!(
        r#"select count(*) as "count!", max(id::text)::uuid as last
           from dead_letters
           where ($1::text is null or state = $1) and ($2::text is null or failure_code = $2)
             and ($3::text is null or channel = $3) and ($4::text is null or template_key = $4)
             and ($5::text is null or event_type = $5) and ($6::bigint is null or tenant_id = $6)
             and ($7::text is null or queue = $7) and ($8::timestamptz is null or created_at >= $8)
             and ($9::timestamptz is null or created_at < $9)"#,
        filter.state,
        filter.failure_code,
        filter.channel,
        filter.template,
        filter.event_type,
        filter.tenant_id,
        filter.queue,
        filter.since,
        filter.until,
    )
    .fetch_one(conn)
    .await?;
    Ok((row.count, row.last))
}

/// The ids of one page of a filter, in order, after `span.0` and up to `span.1`.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn ids(
    conn: &mut PgConnection,
    filter: &LetterFilter,
    span: (Uuid, Uuid),
    limit: i64,
) -> StoreResult<Vec<Uuid>> {
    let ids = sqlx::query_scalar!(
        "select id from dead_letters
         where ($1::text is null or state = $1) and ($2::text is null or failure_code = $2)
           and ($3::text is null or channel = $3) and ($4::text is null or template_key = $4)
           and ($5::text is null or event_type = $5) and ($6::bigint is null or tenant_id = $6)
           and ($7::text is null or queue = $7) and ($8::timestamptz is null or created_at >= $8)
           and ($9::timestamptz is null or created_at < $9) and id > $10 and id <= $11
         order by id limit $12",
        filter.state,
        filter.failure_code,
        filter.channel,
        filter.template,
        filter.event_type,
        filter.tenant_id,
        filter.queue,
        filter.since,
        filter.until,
        span.0,
        span.1,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(ids)
}

/// The letters of a trace, oldest first.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn of_trace(
    conn: &mut PgConnection,
    trace_id: &str,
    limit: i64,
) -> StoreResult<Vec<LetterStory>> {
    let rows = sqlx::query_as!(
        LetterStory,
        "select id as letter_id, queue, subject_kind, subject_id, generation, failure_code, failure_class, attempts,
                first_failed_at, last_failed_at, trace_id, event_type, tenant_id, channel, template_key as template,
                state, made_by, created_at, settled_at
         from dead_letters where trace_id = $1 order by id limit $2",
        trace_id,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}
