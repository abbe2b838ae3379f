//! Tells the gateway where to post and with which secret, at start and until it listens.

use std::time::Duration;

use secrecy::SecretString;
use shared::wpp::WppClient;
use tokio_util::sync::CancellationToken;

/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Registers the webhook for all channels of the gateway; tries until it works or `stopping`.
pub(crate) async fn register(
    client: WppClient,
    url: String,
    secret: SecretString,
    stopping: CancellationToken,
) {
    let mut wait = Duration::from_secs(1);
    loop {
        match client.register_webhook(None, &url, &secret).await {
            Ok(()) => {
                tracing::info!("the gateway knows where to post");
                return;
            }
            Err(error) => tracing::warn!(
                failure.code = error.code.as_str(),
                "the webhook could not be registered at the gateway, trying again"
            ),
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stopping.cancelled() => return,
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}
