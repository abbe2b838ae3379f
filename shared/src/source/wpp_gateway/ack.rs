//! Acks: how far a message got. The id and the level stand in half a dozen places and types
//! (facts §1.5, conventions A3); the engine's own come first.

use serde_json::Value;

use super::envelope::{Envelope, label, message_key_of};
use crate::domain::address::{Jid, MessageKey};
use crate::domain::delivery::Evidence;
use crate::domain::event::{Contact, Direction, NormalisedEvent, NormalisedKind};

/// An ack in an envelope.
pub(super) struct Ack {
    pub(super) key: MessageKey,
    pub(super) raw_level: String,
    pub(super) contact: Option<Jid>,
    level: Option<i32>,
    from_me: bool,
}

impl Ack {
    /// The ack, unless its message or its level cannot be read.
    pub(super) fn read(envelope: &Envelope<'_>) -> Option<Self> {
        let key = key(envelope)?;
        let (level, raw_level) = envelope
            .values(&[], &["/ack"])
            .chain(envelope.values(
                &[
                    "/ack/level",
                    "/ack/status",
                    "/ack/ack",
                    "/ack",
                    "/message/ack",
                    "/data/ack",
                    "/status",
                    "/message/status",
                    "/data/status",
                ],
                &["/status"],
            ))
            .find_map(level)?;
        // The id tells whose message it is; `self` and other flags were wrong before. A bare id
        // says nothing: only our own messages are looked for by it.
        let from_me = key.from_me.unwrap_or(true);
        let named = if from_me {
            envelope.jid(&["/message/to", "/to"], &["/to"])
        } else {
            envelope.jid(&["/message/from", "/from"], &["/from"])
        };
        Some(Self {
            contact: key.chat.clone().or(named),
            key,
            raw_level,
            level,
            from_me,
        })
    }

    pub(super) const fn direction(&self) -> Direction {
        if self.from_me {
            Direction::Outbound
        } else {
            Direction::Inbound
        }
    }

    /// True when the level is one that we know.
    pub(super) const fn is_understood(&self) -> bool {
        self.level.is_some()
    }

    /// Writes what the ack says into the event.
    pub(super) fn fill(&self, event: &mut NormalisedEvent) {
        event.direction = Some(self.direction());
        event.contact = self.contact.clone().map(|jid| Contact {
            address: jid.expose().to_owned(),
            phone: jid.phone(),
            contact_key: Some(jid.contact_key()),
            is_group: jid.is_group(),
            jid: Some(jid),
            name: None,
            participant: None,
        });
        event.kind = NormalisedKind::Ack {
            key_id: self.key.key_id.clone(),
            level: self.level,
            raw_level: self.raw_level.clone(),
            from_me: self.from_me,
            evidence: self
                .level
                .filter(|_| self.from_me)
                .and_then(Evidence::from_wppconnect_ack),
        };
    }
}

/// The message's id; one that tells whose it is comes before a bare one.
fn key(envelope: &Envelope<'_>) -> Option<MessageKey> {
    let keys: Vec<MessageKey> = envelope
        .values(&[], &["/id", "/key"])
        .chain(envelope.values(
            &[
                "/ack/message_id",
                "/ack/messageId",
                "/ack/id",
                "/message/id",
                "/message/key",
                "/messageId",
                "/message_id",
                "/data/id",
                "/data/messageId",
            ],
            &[],
        ))
        .filter_map(message_key_of)
        .collect();
    keys.iter()
        .find(|key| key.from_me.is_some())
        .or_else(|| keys.first())
        .cloned()
}

/// The level as a number on WPPConnect's scale, and as it was written.
fn level(value: &Value) -> Option<(Option<i32>, String)> {
    match value {
        Value::Number(number) => {
            let level = i32::try_from(number.as_i64()?).ok();
            Some((level, number.to_string()))
        }
        Value::String(text) if !text.trim().is_empty() => {
            let word = label(text);
            Some((word.parse().ok().or_else(|| of_word(&word)), word))
        }
        _ => None,
    }
}

fn of_word(word: &str) -> Option<i32> {
    match word.to_ascii_lowercase().as_str() {
        "failed" | "error" => Some(-1),
        "pending" | "queued" | "clock" => Some(0),
        "sent" | "server" => Some(1),
        "delivered" | "received" | "device" => Some(2),
        "read" => Some(3),
        "played" => Some(4),
        _ => None,
    }
}
