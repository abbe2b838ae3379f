//! Whose things are, in the world of `samples/hub`.

use shared::store::{import, invoices};
use sqlx::PgPool;

/// Imports whose the invoices and the customers at Asaas are.
pub(super) async fn import(db: &PgPool) -> anyhow::Result<()> {
    let mut conn = db.acquire().await?;
    let conn = &mut *conn;
    import::asaas_id(conn, "customer", "cus_000000000011", 1).await?;
    import::asaas_id(conn, "customer", "cus_000000000022", 2).await?;
    for number in [501, 502, 503] {
        let charge = format!("asaas:pay_fixture000{number}");
        invoices::set(conn, &format!("invoice:{number}"), Some(&charge), 1).await?;
    }
    Ok(())
}
