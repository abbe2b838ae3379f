//! Asks after sessions that are down: the gateway's own webhook may be lost, and nobody else
//! would release what they hold.

use std::time::Duration;

use shared::runtime::telemetry::chain;
use shared::runtime::vitals::Beat;
use shared::store::{StoreError, sessions};
use shared::wpp::{SessionState, WppClient};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// How often sessions that are down are asked after.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// Asks until `stopping`.
pub(crate) async fn run(
    pool: PgPool,
    client: WppClient,
    metrics: std::sync::Arc<Metrics>,
    beat: Beat,
    stopping: CancellationToken,
) {
    loop {
        match look(&pool, &client, &metrics).await {
            Ok(()) => beat.now(),
            Err(error) => {
                tracing::warn!(error = %chain(&error), "sessions cannot be looked at, trying again");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(ASK_EVERY) => {}
            () = stopping.cancelled() => return,
        }
    }
}

async fn look(pool: &PgPool, client: &WppClient, metrics: &Metrics) -> Result<(), StoreError> {
    let all = sessions::all(&mut *pool.acquire().await?).await?;
    for session in all {
        metrics
            .session_up
            .with_label_values(&[&session.channel_id])
            .set(i64::from(session.state != "down"));
        metrics
            .held
            .with_label_values(&[&session.channel_id])
            .set(session.held);
        // Begins at 0; whoever releases sets it.
        metrics
            .release_leader
            .with_label_values(&[&session.channel_id]);
        // "Connected" proves little (facts §1.7 Q8), but it is reason enough to try one send: if
        // the session is still down, that send is held again and burns nothing.
        if session.state != "down" || session.age_s < ASK_EVERY.as_secs_f64() {
            continue;
        }
        let answer = client.channel_status(&session.provider_account).await;
        if matches!(&answer, Ok(status) if status.state == SessionState::Connected) {
            let mut conn = pool.acquire().await?;
            sessions::set_state(
                &mut conn,
                &session.channel_id,
                "unknown",
                "gateway_says_connected",
            )
            .await?;
            tracing::info!(
                channel = session.channel_id,
                "the gateway says that the session is back"
            );
        }
    }
    Ok(())
}
