//! Binds the relay to the `outbox` table.

use std::time::Duration;

use prometheus::Registry;
use serde::Deserialize;
use serde_json::Value;
use sqlx::PgPool;

use super::publisher::Publisher;
use super::relay::{HotRow, OutboxStore, Relay, RelayMetrics, RelayParts};
use super::session::Session;
use super::topology::Target;
use crate::runtime::lifecycle::Stage;
use crate::store::outbox::{self, OutboxRow};
use crate::store::{StoreError, StoreResult};

/// The `outbox` table of a database.
#[derive(Clone, Debug)]
pub struct PgOutbox {
    pool: PgPool,
}

impl OutboxStore for PgOutbox {
    type Error = StoreError;

    async fn delete(&self, ids: &[i64]) -> StoreResult<()> {
        outbox::delete(&mut *self.pool.acquire().await?, ids).await
    }

    async fn lease_due(&self, limit: usize, lease: Duration) -> StoreResult<Vec<HotRow>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = outbox::lease_due(&mut *self.pool.acquire().await?, limit, lease).await?;
        Ok(rows.into_iter().filter_map(hot_row).collect())
    }
}

/// Starts the relay of a process over its database.
///
/// # Errors
/// A metric's name is taken on the registry.
pub fn start_relay(
    session: &Session,
    pool: PgPool,
    registry: &Registry,
    stage: &Stage,
) -> Result<Relay, prometheus::Error> {
    let parts = RelayParts {
        session: session.clone(),
        publisher: Publisher::new(session),
        store: PgOutbox { pool },
        metrics: RelayMetrics::register(registry)?,
    };
    Ok(Relay::start(parts, &stage.tasks, &stage.stop))
}

impl Relay {
    /// Hands over rows that were just committed. What there is no room for is swept later.
    pub fn hand_over(&self, rows: Vec<OutboxRow>) {
        let Some(leased_at) = rows.iter().map(|row| row.leased_at).min() else {
            return;
        };
        self.offer(rows.into_iter().filter_map(hot_row).collect(), leased_at);
    }
}

/// A row whose target this build does not know stays for the build that wrote it. A work message
/// carries its trace as a `traceparent` header too, for tools that know nothing of its body.
fn hot_row(row: OutboxRow) -> Option<HotRow> {
    #[derive(Deserialize)]
    struct Traced<'a> {
        trace_id: &'a str,
    }
    let target = row.target.parse().ok()?;
    let traced = match target {
        Target::Work(_) => serde_json::from_str::<Traced<'_>>(row.body.get()).ok(),
        Target::Letter(_) => None,
    };
    let traceparent = traced.map(|traced| format!("00-{}-{:016x}-01", traced.trace_id, row.id));
    Some(HotRow {
        id: row.id,
        target,
        traceparent,
        body: String::from(Box::<str>::from(row.body)).into_bytes(),
        headers: match row.headers {
            Some(Value::Object(headers)) => Some(headers),
            _ => None,
        },
    })
}
