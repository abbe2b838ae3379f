//! What an event of the gateway tells about what was sent and about the session. Pure.

use shared::domain::directory::{Directory, account_slug, text_hash};
use shared::domain::event::{ContentKind, NormalisedEvent, NormalisedKind, SessionState};

/// Evidence about a delivery, found in an event of the gateway.
#[derive(Clone, Debug)]
pub(crate) struct Evidence {
    pub(crate) kind: &'static str,
    pub(crate) channel_id: String,
    pub(crate) level: Option<i32>,
    pub(crate) proves: Option<shared::domain::delivery::Evidence>,
    pub(crate) key_id: Option<String>,
    pub(crate) correlation_id: Option<String>,
    pub(crate) delivery_ref: Option<uuid::Uuid>,
    pub(crate) recipient: Option<String>,
    pub(crate) recipient_key: Option<String>,
    pub(crate) text: Option<String>,
    pub(crate) text_hash: Option<Vec<u8>>,
}

/// The evidence that an event of the gateway is.
pub(crate) fn evidence(event: &NormalisedEvent, directory: &Directory) -> Option<Evidence> {
    let channel_id = account_id(event.channel_account.as_deref()?, directory);
    let contact = event.contact.as_ref();
    let base = Evidence {
        kind: "ack",
        channel_id,
        level: None,
        proves: None,
        key_id: None,
        correlation_id: None,
        delivery_ref: None,
        recipient: contact.map(|contact| contact.address.clone()),
        recipient_key: contact.and_then(|contact| contact.contact_key.clone()),
        text: None,
        text_hash: None,
    };
    match &event.kind {
        // An ack of what a contact wrote says only that we read it.
        NormalisedKind::Ack {
            key_id,
            level,
            from_me: true,
            evidence,
            ..
        } => Some(Evidence {
            level: *level,
            proves: *evidence,
            key_id: Some(key_id.clone()),
            ..base
        }),
        NormalisedKind::Echo(sent) | NormalisedKind::DeviceMessage(sent) => {
            let text = event
                .text
                .as_ref()
                .map(|text| text.expose().to_owned())
                .filter(|text| !text.is_empty());
            Some(Evidence {
                kind: "echo",
                level: sent.level,
                proves: Some(shared::domain::delivery::Evidence::Sent),
                key_id: sent.key_id.clone(),
                correlation_id: sent.gateway_correlation_id.clone(),
                delivery_ref: sent.delivery_id.map(|id| id.0),
                // Only an echo of a text may come without it; a picture without a caption must never
                // pass for one, so it is given a text that no send of ours has.
                text_hash: match (&text, sent.content) {
                    (None, ContentKind::Text) => None,
                    (text, _) => Some(text_hash(
                        &directory.hash_key,
                        text.as_deref().unwrap_or_default(),
                    )),
                },
                text,
                ..base
            })
        }
        _ => None,
    }
}

/// The session that an event tells of: account, state, the provider's word.
pub(crate) fn session(
    event: &NormalisedEvent,
    directory: &Directory,
) -> Option<(String, &'static str, String)> {
    let NormalisedKind::Session { state, raw_status } = &event.kind else {
        return None;
    };
    let account = directory.account(event.channel_account.as_deref()?)?;
    match state {
        SessionState::Up => Some((account.id.clone(), "up", raw_status.clone())),
        SessionState::Down => Some((account.id.clone(), "down", raw_status.clone())),
        SessionState::Other => None,
    }
}

/// The slug of an account, also of one that nobody configured: its messages are kept all the same.
pub(crate) fn account_id(raw: &str, directory: &Directory) -> String {
    directory
        .account(raw)
        .map_or_else(|| account_slug(raw), |account| account.id.clone())
}

/// Which account's session told the event, and what kind of fact it is. Only accounts that are set
/// up: a name in a payload never becomes a label by itself.
pub(crate) fn heard_of(
    event: &NormalisedEvent,
    directory: &Directory,
) -> Option<(String, &'static str)> {
    let kind = match &event.kind {
        NormalisedKind::InboundMessage { .. } => "message",
        NormalisedKind::DeviceMessage(_) | NormalisedKind::Echo(_) => "echo",
        NormalisedKind::Ack { .. } => "ack",
        NormalisedKind::Session { .. } => "session",
        _ => return None,
    };
    let account = directory.account(event.channel_account.as_deref()?)?;
    Some((account.id.clone(), kind))
}
