//! Concludes attempts that nobody concluded: after its lease, an open attempt's outcome is
//! *unknown*. Then the template's policy speaks: park, or send once more.

use std::sync::Arc;
use std::time::Duration;

use shared::broker::relay::Relay;
use shared::domain::delivery::DeliveryState;
use shared::domain::failure::FailureCode;
use shared::failpoint;
use shared::runtime::clock::Clock;
use shared::runtime::telemetry::chain;
use shared::runtime::vitals::Beat;
use shared::store::StoreError;
use shared::store::attempts::{self, AttemptResult};
use shared::store::deliveries::{self, StateChange};
use sqlx::{Connection, PgPool};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// How often leases are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The most attempts of one look.
const PAGE: i64 = 200;

/// The reaper of this process.
pub(crate) struct Reaper {
    pub(crate) pool: PgPool,
    pub(crate) relay: Relay,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    /// How long evidence may take before a policy other than `park` speaks.
    pub(crate) silence: Duration,
    pub(crate) beat: Beat,
}

impl Reaper {
    /// Looks at leases until `stopping`.
    pub(crate) async fn run(self, stopping: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = stopping.cancelled() => return,
            }
            let looked = async {
                self.conclude_lapsed().await?;
                self.resend_by_policy().await
            };
            match looked.await {
                Ok(()) => self.beat.now(),
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "leases cannot be looked at, trying again");
                }
            }
        }
    }

    pub(crate) async fn conclude_lapsed(&self) -> Result<(), StoreError> {
        let mut conn = self.pool.acquire().await?;
        let mut tx = conn.begin().await?;
        let lapsed = attempts::lapsed_attempts(&mut tx, PAGE).await?;
        let results: Vec<AttemptResult> = lapsed
            .iter()
            .map(|attempt| AttemptResult {
                attempt_id: attempt.id,
                delivery_id: attempt.delivery_id,
                outcome: "unknown",
                conclusion: DeliveryState::Unknown,
                failure_code: Some(FailureCode::LeaseExpired.as_str()),
                http_status: None,
                response_excerpt: None,
                gateway_correlation_id: None,
                provider_message_id: None,
                duration_ms: 0.0,
                retry_after_s: None,
                held_reason: None,
            })
            .collect();
        let rows = crate::record::conclude(
            &mut tx,
            &results.iter().collect::<Vec<_>>(),
            self.clock.as_ref(),
        )
        .await?;
        if !results.is_empty() {
            failpoint!(ReapWritten);
        }
        tx.commit().await?;
        if !results.is_empty() {
            failpoint!(ReapCommitted);
        }
        self.metrics.letters.recorded(&rows);
        self.relay.hand_over(rows);
        for result in &results {
            self.metrics.attempt(result.outcome, result.failure_code);
            tracing::warn!(
                delivery.id = %result.delivery_id,
                outcome = result.outcome,
                failure.code = result.failure_code,
                "an attempt outlived its lease"
            );
        }
        Ok(())
    }

    pub(crate) async fn resend_by_policy(&self) -> Result<(), StoreError> {
        let mut conn = self.pool.acquire().await?;
        let mut tx = conn.begin().await?;
        let silent =
            deliveries::resendable_unknown(&mut tx, self.silence.as_secs_f64(), PAGE).await?;
        let changes: Vec<StateChange> = silent
            .iter()
            .map(|id| StateChange {
                retry_after_s: Some(0.0),
                burns_retry: 1,
                ..StateChange::plain(*id, DeliveryState::Unknown, DeliveryState::Queued)
            })
            .collect();
        deliveries::change_states(&mut tx, &changes).await?;
        tx.commit().await?;
        for id in silent {
            tracing::warn!(delivery.id = %id, "no evidence came: the template's policy sends once more");
        }
        Ok(())
    }
}
