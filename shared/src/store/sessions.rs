//! The state of a sending account's session, kept on its row: claims read it there.

use sqlx::PgConnection;

use super::StoreResult;

/// Sets the state of a session; answers whether that changed it.
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
