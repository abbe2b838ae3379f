//! `module_switches`: who serves PixelHub's modules.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use sqlx::PgConnection;

use super::StoreResult;
use crate::domain::ids::TenantId;
use crate::domain::module::{Mode, Module, Switches};

/// A switch, as operators read it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SwitchLine {
    /// The module.
    pub module: String,
    /// Whose requests; null is everybody's that have no switch of their own.
    pub tenant_id: Option<i64>,
    /// `live`, `shadow` or `off`.
    pub mode: String,
    /// Who switched it last.
    pub changed_by: String,
    /// When.
    pub changed_at: DateTime<Utc>,
}

/// Every switch, those for all first.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn all(conn: &mut PgConnection) -> StoreResult<Vec<SwitchLine>> {
    let lines = sqlx::query_as!(
        SwitchLine,
        "select module, tenant_id, mode, changed_by, changed_at from module_switches
         order by module, tenant_id nulls first"
    )
    .fetch_all(conn)
    .await?;
    Ok(lines)
}

/// The switches as processes ask them. A row of a module that this binary does not serve says nothing.
pub(super) async fn load(conn: &mut PgConnection) -> StoreResult<Switches> {
    let lines = all(conn).await?;
    Ok(lines
        .into_iter()
        .filter_map(|line| {
            let (module, mode) = (line.module.parse().ok()?, line.mode.parse().ok()?);
            Some((module, line.tenant_id.map(TenantId), mode))
        })
        .collect())
}

/// Sets a switch, or takes it away where no mode is given. Answers how it stood.
///
/// # Errors
/// See [`super::StoreError`]; the tenant must be known.
pub async fn set(
    conn: &mut PgConnection,
    module: Module,
    tenant: Option<TenantId>,
    mode: Option<Mode>,
    by: &str,
) -> StoreResult<Option<String>> {
    let tenant = tenant.map(|tenant| tenant.0);
    // One at a time, so that each line of the audit log tells what it really changed.
    sqlx::query!("lock table module_switches in share row exclusive mode")
        .execute(&mut *conn)
        .await?;
    let before = sqlx::query_scalar!(
        "select mode from module_switches where module = $1 and tenant_id is not distinct from $2",
        module.as_str(),
        tenant,
    )
    .fetch_optional(&mut *conn)
    .await?;
    match mode {
        Some(mode) => {
            sqlx::query!(
                "insert into module_switches (module, tenant_id, mode, changed_by) values ($1, $2, $3, $4)
                 on conflict (module, tenant_id) do update
                 set mode = excluded.mode, changed_by = excluded.changed_by, changed_at = now()",
                module.as_str(),
                tenant,
                mode.as_str(),
                by,
            )
            .execute(conn)
            .await?;
        }
        None => {
            sqlx::query!(
                "delete from module_switches where module = $1 and tenant_id is not distinct from $2",
                module.as_str(),
                tenant,
            )
            .execute(conn)
            .await?;
        }
    }
    Ok(before)
}
