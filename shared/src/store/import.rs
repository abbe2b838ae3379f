//! Writes reference data, idempotently: a row that is named is set as a whole, the others stay.

use std::fmt;

use sqlx::PgConnection;

use super::StoreResult;

/// A tenant to be set.
#[derive(Clone)]
pub struct TenantRow {
    /// PixelHub's number.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// The name it is known by.
    pub trade_name: Option<String>,
    /// `pf` or `pj`.
    pub person_type: String,
    /// As it was entered.
    pub phone: Option<String>,
    /// See `domain::address`.
    pub phone_match_key: Option<String>,
    /// Its e-mail.
    pub email: Option<String>,
}

impl fmt::Debug for TenantRow {
    /// Neither name, phone nor e-mail.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantRow")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Sets a tenant.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn tenant(conn: &mut PgConnection, row: &TenantRow) -> StoreResult<()> {
    sqlx::query!(
        "insert into tenants (id, name, trade_name, person_type, phone, phone_match_key, email)
         values ($1, $2, $3, $4, $5, $6, $7)
         on conflict (id) do update
         set name = excluded.name, trade_name = excluded.trade_name, person_type = excluded.person_type,
             phone = excluded.phone, phone_match_key = excluded.phone_match_key, email = excluded.email,
             updated_at = now()",
        row.id,
        row.name,
        row.trade_name,
        row.person_type,
        row.phone,
        row.phone_match_key,
        row.email,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Sets a channel account.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn channel(
    conn: &mut PgConnection,
    id: &str,
    provider_account: &str,
    own_phone: Option<&str>,
) -> StoreResult<()> {
    sqlx::query!(
        "insert into channels (id, provider_account, display_name, own_phone) values ($1, $2, $2, $3)
         on conflict (id) do update set provider_account = excluded.provider_account,
             display_name = excluded.display_name, own_phone = coalesce(excluded.own_phone, channels.own_phone)",
        id,
        provider_account,
        own_phone,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Sets an alias of a channel account.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn channel_alias(
    conn: &mut PgConnection,
    alias: &str,
    channel_id: &str,
) -> StoreResult<()> {
    sqlx::query!(
        "insert into channel_aliases (alias, channel_id) values ($1, $2)
         on conflict (alias) do update set channel_id = excluded.channel_id",
        alias,
        channel_id,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lets a tenant's messages leave through an account.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn tenant_channel(
    conn: &mut PgConnection,
    tenant_id: i64,
    channel_id: &str,
    is_default: bool,
) -> StoreResult<()> {
    if is_default {
        sqlx::query!(
            "update tenant_message_channels set is_default = false
             where tenant_id = $1 and channel_id <> $2 and is_default",
            tenant_id,
            channel_id,
        )
        .execute(&mut *conn)
        .await?;
    }
    sqlx::query!(
        "insert into tenant_message_channels (tenant_id, channel_id, is_default) values ($1, $2, $3)
         on conflict (tenant_id, channel_id) do update set is_default = excluded.is_default, enabled = true",
        tenant_id,
        channel_id,
        is_default,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Makes a source known.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn source(conn: &mut PgConnection, name: &str) -> StoreResult<()> {
    sqlx::query!(
        "insert into sources (name) values ($1) on conflict (name) do nothing",
        name
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Says whose a customer of Asaas, or an account there, is: `kind` is `customer` or `account`.
///
/// # Errors
/// See [`super::StoreError`]; the tenant must be known.
pub async fn asaas_id(
    conn: &mut PgConnection,
    kind: &str,
    asaas_id: &str,
    tenant_id: i64,
) -> StoreResult<()> {
    sqlx::query!(
        "insert into tenant_asaas_ids (kind, asaas_id, tenant_id) values ($1, $2, $3)
         on conflict (kind, asaas_id) do update set tenant_id = excluded.tenant_id
         where tenant_asaas_ids.tenant_id <> excluded.tenant_id",
        kind,
        asaas_id,
        tenant_id,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Tells running processes that something changed which no trigger tells of.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn tell(conn: &mut PgConnection) -> StoreResult<()> {
    sqlx::query!("update config_version set version = version + 1")
        .execute(&mut *conn)
        .await?;
    sqlx::query!("select pg_notify('posto_config', 'import') as told")
        .execute(conn)
        .await?;
    Ok(())
}
