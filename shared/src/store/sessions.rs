//! The state of a sending account's session, kept on its row: claims read it there.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::StoreResult;

/// How far an event may lie behind the last one and still count as merely late, in seconds; what is
/// older comes from a clock that cannot be compared.
const LATE_WITHIN_S: f64 = 600.0;

/// Sets the state of a session by an event of the provider; answers whether that changed it. An
/// event that happened just before the last one, but came after it, changes nothing.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn apply_event(
    conn: &mut PgConnection,
    channel_id: &str,
    (state, reason): (&str, &str),
    occurred_at: DateTime<Utc>,
) -> StoreResult<bool> {
    let row = sqlx::query!(
        r#"with old as (select id, session_state from channels where id = $1 for update)
           update channels c
           set session_state = $2, session_reason = $3, session_event_at = $4,
               session_changed_at = case when old.session_state = $2 then c.session_changed_at else now() end
           from old
           where c.id = old.id
             and not coalesce($4 < c.session_event_at
                              and c.session_event_at - $4 < make_interval(secs => $5), false)
           returning old.session_state <> $2 as "changed!""#,
        channel_id,
        state,
        reason,
        occurred_at,
        LATE_WITHIN_S,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.is_some_and(|row| row.changed))
}

/// Sets the state of a session by what a request of ours met; answers whether that changed it.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn set_state(
    conn: &mut PgConnection,
    channel_id: &str,
    state: &str,
    reason: &str,
) -> StoreResult<bool> {
    let done = sqlx::query!(
        "update channels set session_state = $2, session_reason = $3, session_changed_at = now()
         where id = $1 and session_state <> $2",
        channel_id,
        state,
        reason,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// An account and how its session stands.
#[derive(Clone, Debug)]
pub struct Session {
    /// The account's slug.
    pub channel_id: String,
    /// As the provider spells it.
    pub provider_account: String,
    /// `unknown`, `up` or `down`.
    pub state: String,
    /// Seconds since the state changed.
    pub age_s: f64,
    /// How many deliveries it holds.
    pub held: i64,
}

/// Every enabled account with its session.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn all(conn: &mut PgConnection) -> StoreResult<Vec<Session>> {
    let rows = sqlx::query_as!(
        Session,
        r#"select c.id as channel_id, c.provider_account, c.session_state as state,
                  coalesce(extract(epoch from now() - c.session_changed_at), 0)::double precision as "age_s!",
                  (select count(*) from deliveries d where d.channel_id = c.id and d.state = 'held') as "held!"
           from channels c where c.enabled and c.channel = 'whatsapp' order by c.id"#
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}
