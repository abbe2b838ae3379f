//! WhatsApp through the WPP Gateway: a claimed delivery becomes one request, one answer becomes
//! an outcome.

use serde_json::json;
use shared::domain::address::MessageKey;
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
            message_id: message_id.map(|id| key_id(&id)),
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

/// The key id within a message's id: echoes and acks spell the rest of it in several ways
/// (conventions A4).
fn key_id(message_id: &str) -> String {
    MessageKey::parse(message_id).map_or_else(|_| message_id.to_owned(), |key| key.key_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_id_is_the_third_part_of_a_message_id() {
        assert_eq!(key_id("true_554799900011@c.us_3EB0A1"), "3EB0A1");
        assert_eq!(key_id("true_120363@g.us_3EB0A1_1308@lid"), "3EB0A1");
        assert_eq!(key_id("3EB0A1"), "3EB0A1");
    }
}
