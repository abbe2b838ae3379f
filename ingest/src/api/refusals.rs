//! Refused requests of authenticated callers are kept, where their trace can show them.

use shared::runtime::batcher::BatchJob;
use shared::store::StoreError;
use shared::store::logs::{self, NewLog};
use sqlx::PgPool;

/// The batch job that keeps refusals.
pub(crate) struct LogRefusals {
    pub(crate) pool: PgPool,
}

impl BatchJob for LogRefusals {
    type Item = NewLog;
    type Done = ();
    type Error = StoreError;

    async fn run(&self, items: &[NewLog]) -> Result<Vec<()>, StoreError> {
        logs::insert(&mut *self.pool.acquire().await?, items).await?;
        Ok(vec![(); items.len()])
    }
}
