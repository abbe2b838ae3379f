//! `ip_blocks`: addresses that are shut out for failing to authenticate again and again.

use std::time::Duration;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use sqlx::PgConnection;

use super::StoreResult;

/// How long the first shut-out lasts; each further one twice as long, up to a day.
pub const SHORTEST: Duration = Duration::from_secs(60);
/// The most shut-outs that a process keeps in mind.
const MOST: i64 = 100_000;

/// Shuts addresses out, for as long as their past asks for. One that is shut out already stays so
/// for as long as it was: several processes may see the same failures.
///
/// # Errors
/// See [`super::StoreError`]; tell them again.
pub async fn shut_out(conn: &mut PgConnection, addresses: &[String]) -> StoreResult<()> {
    sqlx::query!(
        "insert into ip_blocks (address, blocked_until)
         select a, now() + make_interval(secs => $2) from unnest($1::text[]) as a order by a
         on conflict (address) do update
         set blocked_at = now(),
             times = case when ip_blocks.blocked_until < now() - interval '1 day' then 1 else ip_blocks.times + 1 end,
             blocked_until = now() + case when ip_blocks.blocked_until < now() - interval '1 day' then make_interval(secs => $2)
                 else least(make_interval(secs => $2 * 2 ^ least(ip_blocks.times, 20)), interval '1 day') end
         where ip_blocks.blocked_until <= now()",
        addresses,
        SHORTEST.as_secs_f64(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// An address that is shut out.
#[derive(Clone, Debug)]
pub struct Shut {
    /// An IPv4 address, or the /64 of an IPv6 address.
    pub address: String,
    /// For how long still.
    pub seconds_left: f64,
}

/// Everybody who is shut out now.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn all_shut(conn: &mut PgConnection) -> StoreResult<Vec<Shut>> {
    let all = sqlx::query_as!(
        Shut,
        r#"select address, extract(epoch from blocked_until - now())::float8 as "seconds_left!"
           from ip_blocks where blocked_until > now() order by blocked_until desc limit $1"#,
        MOST,
    )
    .fetch_all(conn)
    .await?;
    Ok(all)
}

/// A shut-out, as operators read it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct BlockLine {
    /// An IPv4 address, or the /64 of an IPv6 address.
    pub address: String,
    /// Whether it holds now.
    pub active: bool,
    /// How often it came to that without a day of peace in between.
    pub times: i32,
    /// When it began.
    pub blocked_at: DateTime<Utc>,
    /// When it ends, or did.
    pub blocked_until: DateTime<Utc>,
}

/// The shut-outs of the last 30 days, those that end last first.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn list(conn: &mut PgConnection, limit: i64) -> StoreResult<Vec<BlockLine>> {
    let lines = sqlx::query_as!(
        BlockLine,
        r#"select address, blocked_until > now() as "active!", times, blocked_at, blocked_until
           from ip_blocks order by blocked_until desc limit $1"#,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(lines)
}

/// Lets an address in again and forgets its past. False when it is not there.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn lift(conn: &mut PgConnection, address: &str) -> StoreResult<bool> {
    let lifted = sqlx::query!("delete from ip_blocks where address = $1", address)
        .execute(conn)
        .await?;
    Ok(lifted.rows_affected() > 0)
}

/// Forgets shut-outs that ended 30 days ago.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn forget(conn: &mut PgConnection) -> StoreResult<()> {
    sqlx::query!("delete from ip_blocks where blocked_until < now() - interval '30 days'")
        .execute(conn)
        .await?;
    Ok(())
}
