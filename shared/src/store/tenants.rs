//! `tenants`, asked one by one.

use sqlx::PgConnection;

use super::StoreResult;
use crate::domain::ids::TenantId;

/// Whether there is such a tenant.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn exists(conn: &mut PgConnection, id: TenantId) -> StoreResult<bool> {
    let known = sqlx::query_scalar!(
        r#"select exists (select 1 from tenants where id = $1) as "known!""#,
        id.0
    )
    .fetch_one(conn)
    .await?;
    Ok(known)
}

/// Those of the numbers that are no tenant's.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn unknown_of(conn: &mut PgConnection, ids: &[i64]) -> StoreResult<Vec<i64>> {
    let unknown = sqlx::query_scalar!(
        r#"select n.id as "id!" from unnest($1::bigint[]) as n (id)
           where not exists (select 1 from tenants t where t.id = n.id) order by n.id"#,
        ids
    )
    .fetch_all(conn)
    .await?;
    Ok(unknown)
}
