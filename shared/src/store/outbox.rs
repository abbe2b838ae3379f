//! Messages that are to leave: written with the data they are about, deleted after the confirm.

use std::time::{Duration, Instant};

use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::StoreResult;
use crate::domain::message::WorkMessage;

/// How long the process that inserts a row may publish it by itself, before the sweeper may.
pub const HOT_LEASE: Duration = Duration::from_secs(15);

/// The JSON of a message: written once, for the row and for the broker alike.
pub type MessageJson = Box<RawValue>;

/// A message to be written to the outbox.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// A work queue's name, or `dead:` and the name of the queue whose letter it is.
    pub target: String,
    /// The row that the message is about.
    pub subject_id: Uuid,
    /// The thin message.
    pub body: MessageJson,
    /// Headers of a letter.
    pub headers: Option<Value>,
}

impl NewMessage {
    /// A message to the work queue of its kind.
    #[must_use]
    pub fn work(message: &WorkMessage) -> Self {
        Self {
            target: message.work.queue().name().to_owned(),
            subject_id: message.work.subject(),
            body: encode(message),
            headers: None,
        }
    }
}

/// The JSON of a message.
#[must_use]
pub fn encode(message: &WorkMessage) -> MessageJson {
    to_raw_value(message).expect("a work message is plain data, which always has a JSON form")
}

/// A row of the outbox, on its way to the broker.
#[derive(Clone, Debug)]
pub struct OutboxRow {
    /// The row.
    pub id: i64,
    /// See [`NewMessage::target`].
    pub target: String,
    /// The thin message.
    pub body: MessageJson,
    /// Headers of a letter.
    pub headers: Option<Value>,
    /// When its lease began, by this process's own monotonic time; never later than it did.
    pub leased_at: Instant,
}

/// Writes messages; the caller publishes the answered rows after its commit, within [`HOT_LEASE`].
///
/// # Errors
/// See [`super::StoreError`].
pub async fn insert(
    conn: &mut PgConnection,
    messages: Vec<NewMessage>,
) -> StoreResult<Vec<OutboxRow>> {
    if messages.is_empty() {
        return Ok(Vec::new());
    }
    let leased_at = Instant::now();
    let mut targets = Vec::with_capacity(messages.len());
    let mut subjects = Vec::with_capacity(messages.len());
    let mut bodies = Vec::with_capacity(messages.len());
    let mut headers = Vec::with_capacity(messages.len());
    for message in &messages {
        targets.push(message.target.as_str());
        subjects.push(message.subject_id);
        bodies.push(Json(&message.body));
        headers.push(message.headers.as_ref().map(Json));
    }
    // `ordinality` keeps the answer in the order of the messages.
    let ids = sqlx::query_scalar!(
        "insert into outbox (target, subject_id, body, headers, available_at)
         select i.target, i.subject_id, i.body, i.headers, now() + make_interval(secs => $5)
         from unnest($1::text[], $2::uuid[], $3::jsonb[], $4::jsonb[])
              with ordinality as i(target, subject_id, body, headers, place)
         order by i.place
         returning id",
        &targets as &[&str],
        &subjects,
        &bodies as &[Json<&MessageJson>],
        &headers as &[Option<Json<&Value>>],
        HOT_LEASE.as_secs_f64(),
    )
    .fetch_all(conn)
    .await?;
    Ok(ids
        .into_iter()
        .zip(messages)
        .map(|(id, message)| OutboxRow {
            id,
            target: message.target,
            body: message.body,
            headers: message.headers,
            leased_at,
        })
        .collect())
}

/// Deletes rows whose messages the broker confirmed. Not waited for until it is on disk: what a crash
/// brings back is published once more.
///
/// # Errors
/// See [`super::StoreError`]; rows that stay are published again, which is allowed.
pub async fn delete(conn: &mut PgConnection, ids: &[i64]) -> StoreResult<()> {
    sqlx::query!(
        "delete from outbox
         where id = any($1) and (select set_config('synchronous_commit', 'off', true)) is not null",
        ids
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Leases rows whose lease lapsed, oldest first, skipping what another sweeper holds.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn lease_due(
    conn: &mut PgConnection,
    limit: i64,
    lease: Duration,
) -> StoreResult<Vec<OutboxRow>> {
    let leased_at = Instant::now();
    let rows = sqlx::query!(
        r#"update outbox set available_at = now() + make_interval(secs => $2)
           where id in (select id from outbox where available_at <= now() order by available_at
                        for update skip locked limit $1)
           returning id, target, body as "body: Json<MessageJson>", headers"#,
        limit,
        lease.as_secs_f64(),
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| OutboxRow {
            id: row.id,
            target: row.target,
            body: row.body.0,
            headers: row.headers,
            leased_at,
        })
        .collect())
}

/// How many messages wait, and the age of the oldest in seconds.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn backlog(conn: &mut PgConnection) -> StoreResult<(i64, f64)> {
    let row = sqlx::query!(
        r#"select count(*) as "depth!",
                  coalesce(extract(epoch from now() - min(created_at)), 0)::double precision as "oldest!"
           from outbox"#
    )
    .fetch_one(conn)
    .await?;
    Ok((row.depth, row.oldest))
}
