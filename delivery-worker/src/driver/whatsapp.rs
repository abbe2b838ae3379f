//! WhatsApp through the WPP Gateway: a claimed delivery becomes one request, one answer becomes
//! an outcome.

use serde_json::json;
use shared::domain::failure::FailureCode;
use shared::store::attempts::ClaimedDelivery;
use shared::wpp::{SendOutcome, SendText, WppClient};

use super::Outcome;

/// Sends one delivery. Never repeats by itself: the gateway sends twice when asked twice.
pub(crate) async fn send(client: &WppClient, delivery: &ClaimedDelivery) -> Outcome {
    let Some(account) = &delivery.provider_account else {
        return Outcome::failed(FailureCode::ChannelNotConfigured);
    };
    let (Some(to), Some(text)) = (&delivery.recipient, &delivery.body_text) else {
        return Outcome::failed(FailureCode::RecipientMissing);
    };
    let message = SendText {
        channel: account.clone(),
        to: to.clone(),
        text: text.clone(),
        metadata: json!({
            "delivery_id": delivery.id,
            "event_id": delivery.event_id,
            "trace_id": delivery.trace_id,
            "attempt": delivery.attempt,
        }),
        request_id: delivery.id.simple().to_string(),
    };
    match client.send_text(&message).await {
        SendOutcome::Accepted {
            message_id,
            correlation_id,
        } => Outcome::Sent {
            message_id,
            correlation_id,
        },
        SendOutcome::Refused {
            code,
            retry_after,
            http_status,
            excerpt,
        } => Outcome::Failed {
            code,
            retry_after,
            http_status,
            excerpt: Some(excerpt),
        },
    }
}
