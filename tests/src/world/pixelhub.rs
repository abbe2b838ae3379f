//! The credentials of PixelHub's server, in the world of `samples/hub`.

use sha2::{Digest as _, Sha256};
use shared::store::credentials::{self, NewCredential};
use sqlx::PgPool;

/// The credential of PixelHub's server.
pub const PIXELHUB_TOKEN: &str = "pixelhub-token-for-tests-only-01";
/// A credential of PixelHub's that is bound to tenant 1.
pub const OF_TENANT_1: &str = "pixelhub-token-for-tests-only-02";
/// A credential of PixelHub's for payments alone.
pub const OF_PAYMENTS: &str = "pixelhub-token-for-tests-only-03";

/// Makes them valid.
pub(super) async fn import(db: &PgPool) -> anyhow::Result<()> {
    let mut conn = db.acquire().await?;
    for (token, tenants, event_types) in [
        (PIXELHUB_TOKEN, vec![], vec![]),
        (OF_TENANT_1, vec![1], vec![]),
        (OF_PAYMENTS, vec![], vec!["billing.*".to_owned()]),
    ] {
        let key = NewCredential {
            source_system: "pixelhub",
            label: "for tests",
            secret_sha256: Sha256::digest(token).into(),
            signing_secret: None,
            hint: "",
            tenants: &tenants,
            event_types: &event_types,
            valid_until: None,
            replaces: None,
        };
        credentials::put(&mut conn, &key).await?;
    }
    Ok(())
}
