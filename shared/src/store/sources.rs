//! `sources`: who may post, and from where.

use schemars::JsonSchema;
use serde::Serialize;
use sqlx::PgConnection;

use super::StoreResult;

/// A source, as operators read it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SourceLine {
    /// Its name.
    pub name: String,
    /// Whether its credentials open anything.
    pub enabled: bool,
    /// From where it may speak; empty is from everywhere.
    pub networks: Vec<String>,
    /// How many credentials of it are valid.
    pub valid_keys: i64,
}

/// Every source.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn all(conn: &mut PgConnection) -> StoreResult<Vec<SourceLine>> {
    let lines = sqlx::query_as!(
        SourceLine,
        r#"select s.name, s.enabled, s.networks,
                (select count(*) from source_credentials c where c.source_system = s.name and c.revoked_at is null
                    and (c.valid_until is null or c.valid_until > now())) as "valid_keys!"
         from sources s order by s.name"#
    )
    .fetch_all(conn)
    .await?;
    Ok(lines)
}

/// Sets from where a source may speak. False when there is no such source.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn set_networks(
    conn: &mut PgConnection,
    name: &str,
    networks: &[String],
) -> StoreResult<bool> {
    let set = sqlx::query!(
        "update sources set networks = $2 where name = $1",
        name,
        networks,
    )
    .execute(conn)
    .await?;
    Ok(set.rows_affected() > 0)
}
