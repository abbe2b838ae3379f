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
