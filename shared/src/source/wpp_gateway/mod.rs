//! The WPP Gateway: a wrapper over WPPConnect that posts messages, echoes, acks and session
//! changes to one address (facts §1.4).
//!
//! Whatever is authentic and JSON is stored or, for presence, counted; nothing is an error here
//! but a body that is no JSON. The natural key of a message is session, direction, key id and
//! kind: the wrapper's own `event_id` is new per delivery and so no key (design §1.6).

mod ack;
mod body;
mod envelope;
mod media;
mod message;
mod session;

use axum::http::HeaderMap;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use self::ack::Ack;
use self::body::Read;
use self::envelope::{Envelope, Wire};
use self::message::{Content, Message};
use self::session::Session;
use super::auth::{self, AuthError, DoorSecrets};
use super::problem::{Problem, holds_nul};
use super::{DropReason, NormaliseError, Reading, Source, StoredEvent};
use crate::domain::address::Jid;
use crate::domain::event::{
    Body, Direction, IncomingEvent, Key, NormalisedEvent, body_sha256, canonical_sha256,
};
use crate::domain::text::fold_name;

/// The source's name.
pub const NAME: &str = "wpp_gateway";

/// A customer wrote.
pub const INBOUND_MESSAGE: &str = "whatsapp.inbound.message";
/// The session reports a message of ours: an echo, or typed on the phone.
pub const OUTBOUND_MESSAGE: &str = "whatsapp.outbound.message";
/// How far a message got.
pub const DELIVERY_ACK: &str = "whatsapp.delivery.ack";
/// The state of a session changed.
pub const CONNECTION_UPDATE: &str = "whatsapp.connection.update";
/// A notice that no person wrote.
pub const SYSTEM: &str = "whatsapp.system";
/// Stored, nothing known to be done with it.
pub const UNHANDLED: &str = "whatsapp.unhandled";

/// The form of the WPP Gateway's webhook.
pub struct WppGateway;

impl Source for WppGateway {
    fn name(&self) -> &'static str {
        NAME
    }

    /// The secret comes back in either header (facts §1.4).
    fn authenticate(&self, headers: &HeaderMap, secrets: &DoorSecrets) -> Result<(), AuthError> {
        secrets.verify(auth::header_values(
            headers,
            &["x-webhook-secret", "x-gateway-secret"],
        ))
    }

    fn read(&self, body: &[u8], now: DateTime<Utc>) -> Result<Reading, Vec<Problem>> {
        match body::read(body).map_err(|problem| vec![problem])? {
            Read::Value { value, redacted } => Ok(read_value(body, (value, redacted), now)),
            Read::Unholdable { keep } => {
                let hash: [u8; 32] = Sha256::digest(body).into();
                let event = IncomingEvent {
                    body: keep,
                    ..blank(UNHANDLED, Key::content(hash), hash)
                };
                Ok(Reading::Events(vec![event]))
            }
        }
    }

    fn normalise(&self, event: &StoredEvent<'_>) -> Result<NormalisedEvent, NormaliseError> {
        let from_body;
        let value = match event.payload {
            Some(payload) => payload,
            None => match body::read(event.body) {
                Ok(Read::Value { value, .. }) => {
                    from_body = value;
                    &from_body
                }
                _ if event.event_type == UNHANDLED => &Value::Null,
                _ => return Err(NormaliseError::PayloadUnreadable),
            },
        };
        let envelope = Envelope::of(value);
        let mut read = NormalisedEvent {
            channel_account: envelope.channel_account(),
            ..event.unread()
        };
        match Fact::of(&envelope) {
            Fact::Message(message) => message.fill(&mut read),
            Fact::Ack(ack) => ack.fill(&mut read),
            Fact::Session(session) => session.fill(&mut read),
            Fact::Presence | Fact::Unknown => {}
        }
        Ok(read)
    }
}

/// What a request says, read once for both storing and normalising.
enum Fact<'a> {
    Presence,
    Message(Message<'a>),
    Ack(Ack),
    Session(Session),
    Unknown,
}

impl<'a> Fact<'a> {
    fn of(envelope: &Envelope<'a>) -> Self {
        match envelope.wire() {
            Wire::Presence => Self::Presence,
            Wire::Message | Wire::Echo | Wire::Revoked => {
                Message::read(*envelope).map_or(Self::Unknown, Self::Message)
            }
            Wire::Ack => Ack::read(envelope).map_or(Self::Unknown, Self::Ack),
            // `status` is a session's, unless it is about a message.
            Wire::Session if envelope.event_name().as_deref() == Some("status") => {
                Ack::read(envelope)
                    .map_or_else(|| Self::Session(Session::read(envelope)), Self::Ack)
            }
            Wire::Session => Self::Session(Session::read(envelope)),
            // `{messageId, status}` alone, as an early document of the gateway has it.
            Wire::Unknown if envelope.event_name().is_none() => Ack::read(envelope)
                .filter(Ack::is_understood)
                .map_or(Self::Unknown, Self::Ack),
            Wire::Unknown => Self::Unknown,
        }
    }
}

/// What is known of an event beside its payload.
struct Label {
    event_type: &'static str,
    /// The part of the natural key behind the session; `None` when nothing identifies it.
    key: Option<String>,
    direction: Option<Direction>,
    key_id: Option<String>,
    contact: Option<Jid>,
}

impl Label {
    fn of(fact: &Fact<'_>, occurred_at: DateTime<Utc>) -> Self {
        match fact {
            Fact::Message(message) => Self::of_message(message),
            Fact::Ack(ack) => Self {
                event_type: DELIVERY_ACK,
                key: Some(format!(
                    "{}:{}:ack:{}",
                    side(ack.direction()),
                    ack.key.key_id,
                    fold_name(&ack.raw_level)
                )),
                direction: Some(ack.direction()),
                key_id: Some(ack.key.key_id.clone()),
                contact: ack.contact.clone(),
            },
            Fact::Session(session) => Self {
                key: Some(format!(
                    "session:{}:{}",
                    fold_name(&session.raw_status),
                    occurred_at.timestamp_millis()
                )),
                ..Self::nameless(CONNECTION_UPDATE)
            },
            Fact::Presence | Fact::Unknown => Self::nameless(UNHANDLED),
        }
    }

    fn of_message(message: &Message<'_>) -> Self {
        let direction = message.direction();
        let (event_type, kind) = match (&message.content, direction) {
            (Content::System(_), _) => (SYSTEM, "system"),
            (content, Direction::Inbound) => (INBOUND_MESSAGE, content.key_kind()),
            (_, Direction::Outbound) if message.is_echo => (OUTBOUND_MESSAGE, "sent"),
            (content, Direction::Outbound) => (OUTBOUND_MESSAGE, content.key_kind()),
        };
        let key_id = message.key.as_ref().map(|key| key.key_id.clone());
        Self {
            event_type,
            key: key_id
                .as_ref()
                .map(|id| format!("{}:{id}:{kind}", side(direction))),
            direction: Some(direction),
            key_id,
            contact: message.counterpart.clone(),
        }
    }

    const fn nameless(event_type: &'static str) -> Self {
        Self {
            event_type,
            key: None,
            direction: None,
            key_id: None,
            contact: None,
        }
    }
}

const fn side(direction: Direction) -> &'static str {
    match direction {
        Direction::Inbound => "in",
        Direction::Outbound => "out",
    }
}

fn read_value(
    received: &[u8],
    (mut value, redacted): (Value, bool),
    now: DateTime<Utc>,
) -> Reading {
    let envelope = Envelope::of(&value);
    let fact = Fact::of(&envelope);
    if matches!(fact, Fact::Presence) {
        return Reading::Drop(DropReason::Presence);
    }
    let occurred_at = envelope.occurred_at(now);
    let label = Label::of(&fact, occurred_at.unwrap_or(now));
    let session = envelope.channel_account();
    let key = match label.key {
        Some(rest) => {
            let session = session.as_deref().map(fold_name).unwrap_or_default();
            Key::natural(format!("wpp:{session}:{rest}"))
        }
        None => Key::content(content_hash(&value)),
    };
    let mut event = IncomingEvent {
        source_event_id: envelope.id("/event_id"),
        correlation_id: envelope.correlation_id(),
        occurred_at,
        metadata: metadata(&envelope, &fact),
        provider_message_id: label.key_id,
        channel_account: session,
        direction: label.direction,
        contact_key: label.contact.map(|jid| jid.contact_key()),
        ..blank(
            label.event_type,
            key,
            body_sha256(label.event_type, None, &value),
        )
    };
    // Last: keys and hashes are those of what came, with or without the files.
    let media = media::take_out(&mut value);
    if !media.is_empty() {
        event.metadata["body_sha256"] = hex::encode(Sha256::digest(received)).into();
        event.metadata["body_bytes"] = received.len().into();
        let body = value.to_string().into_bytes();
        event.body = Body::Lightened { body, media };
    } else if redacted {
        event.body = Body::Redacted(value.to_string().into_bytes());
    }
    event.payload = (!holds_nul(&value)).then_some(value);
    Reading::Events(vec![event])
}

fn blank(event_type: &str, key: Key, body_sha256: [u8; 32]) -> IncomingEvent {
    IncomingEvent::new(NAME, event_type, key, body_sha256)
}

/// The hash of what stays the same when the wrapper delivers a thing again: its own ids do not
/// (facts §3.3).
fn content_hash(value: &Value) -> [u8; 32] {
    let Value::Object(members) = value else {
        return canonical_sha256(value);
    };
    let lasting = members
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "event_id" | "correlation_id"))
        .map(|(name, member)| (name.clone(), member.clone()))
        .collect();
    canonical_sha256(&Value::Object(lasting))
}

/// Labels for whoever looks at the event; nothing personal.
fn metadata(envelope: &Envelope<'_>, fact: &Fact<'_>) -> Value {
    let mut labels = json!({});
    for (name, label) in [
        ("raw_event_type", envelope.event_name()),
        ("engine_event", envelope.engine_name()),
        ("message_type", envelope.message_type()),
    ] {
        if let Some(label) = label {
            labels[name] = label.into();
        }
    }
    if let Fact::Message(message) = fact
        && message
            .key
            .as_ref()
            .is_some_and(|key| key.key_id.starts_with("test_"))
    {
        labels["test_id"] = true.into();
    }
    labels
}

#[cfg(test)]
mod tests;
