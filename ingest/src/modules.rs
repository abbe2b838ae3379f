//! PixelHub's modules switched, by the command line and by the admin API alike.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use shared::domain::ids::TenantId;
use shared::domain::module::{Mode, Module};
use shared::store::audit::{self, Author, NewAudit};
use shared::store::{StoreError, modules, tenants};
use sqlx::{Connection as _, PgConnection};

/// What takes a switch away again.
pub(crate) const DEFAULT: &str = "default";

/// How a switch stood and stands; none is no switch.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct Switched {
    /// The module.
    pub(crate) module: &'static str,
    /// Whose requests; null is everybody's that have no switch of their own.
    pub(crate) tenant_id: Option<i64>,
    /// The mode before.
    pub(crate) from: Option<String>,
    /// The mode now.
    pub(crate) to: Option<&'static str>,
}

/// The order was not carried out; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SwitchError {
    /// Import it first.
    #[error("there is no tenant {0}")]
    UnknownTenant(TenantId),
    /// The database is unwell.
    #[error("the database did not do it")]
    Store(#[from] StoreError),
    /// The transaction could not be begun or ended.
    #[error("the database did not do it")]
    Transaction(#[from] sqlx::Error),
}

/// Switches a module, for one tenant or for all that have no switch of their own; no mode takes the
/// switch away. Leaves a line in the audit log. Every process follows within moments.
pub(crate) async fn switch(
    conn: &mut PgConnection,
    (module, tenant): (Module, Option<TenantId>),
    mode: Option<Mode>,
    author: Author<'_>,
) -> Result<Switched, SwitchError> {
    let mut tx = conn.begin().await?;
    if let Some(tenant) = tenant
        && !tenants::exists(&mut tx, tenant).await?
    {
        return Err(SwitchError::UnknownTenant(tenant));
    }
    let from = modules::set(&mut tx, module, tenant, mode, author.actor).await?;
    let switched = Switched {
        module: module.as_str(),
        tenant_id: tenant.map(|tenant| tenant.0),
        from,
        to: mode.map(Mode::as_str),
    };
    let line = NewAudit {
        action: "module_switched",
        subject_kind: "module",
        subject_id: None,
        trace_id: None,
        detail: json!(switched),
    };
    audit::insert(&mut tx, author, &[line]).await?;
    tx.commit().await?;
    tracing::info!(
        module = switched.module,
        tenant.id = switched.tenant_id,
        from = switched.from,
        to = switched.to,
        "a module was switched"
    );
    Ok(switched)
}
