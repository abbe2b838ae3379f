//! `billing_invoices`: whose an invoice is.

use sqlx::PgConnection;

use super::StoreResult;

/// A charge whose tenant was found out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwnedCharge {
    /// `asaas:pay_…`.
    pub asaas_key: String,
    /// Whose it is.
    pub tenant_id: i64,
}

/// Keeps whose charges are; what is known already stands. Answers how many are new.
///
/// Invariant: `charges` is sorted and holds no key twice.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn learn(conn: &mut PgConnection, charges: &[&OwnedCharge]) -> StoreResult<u64> {
    if charges.is_empty() {
        return Ok(0);
    }
    let keys: Vec<&str> = charges.iter().map(|it| it.asaas_key.as_str()).collect();
    let tenants: Vec<i64> = charges.iter().map(|it| it.tenant_id).collect();
    let done = sqlx::query!(
        "insert into billing_invoices (asaas_key, tenant_id)
         select * from unnest($1::text[], $2::bigint[]) on conflict do nothing",
        &keys as &[&str],
        &tenants,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Sets whose an invoice is, and which charge it is. A charge that was known by itself becomes the
/// invoice's; one that was another invoice's moves.
///
/// # Errors
/// See [`super::StoreError`]; the tenant must be known.
pub async fn set(
    conn: &mut PgConnection,
    invoice_key: &str,
    asaas_key: Option<&str>,
    tenant_id: i64,
) -> StoreResult<()> {
    if let Some(asaas_key) = asaas_key {
        sqlx::query!(
            "update billing_invoices set asaas_key = null, updated_at = now()
             where asaas_key = $1 and invoice_key <> $2",
            asaas_key,
            invoice_key,
        )
        .execute(&mut *conn)
        .await?;
        sqlx::query!(
            "delete from billing_invoices where asaas_key = $1 and invoice_key is null",
            asaas_key,
        )
        .execute(&mut *conn)
        .await?;
    }
    sqlx::query!(
        "insert into billing_invoices (invoice_key, asaas_key, tenant_id) values ($1, $2, $3)
         on conflict (invoice_key) do update
         set asaas_key = coalesce(excluded.asaas_key, billing_invoices.asaas_key),
             tenant_id = excluded.tenant_id, updated_at = now()",
        invoice_key,
        asaas_key,
        tenant_id,
    )
    .execute(conn)
    .await?;
    Ok(())
}
