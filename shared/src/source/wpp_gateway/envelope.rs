//! The envelope: where each fact may stand in the shapes that reach the door, in the order that
//! survived production (facts §1.4). Three shapes: the wrapper's (with the engine's event in
//! `raw.payload`), the engine's own flat one, and the minimal one of simulators and old docs.

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::domain::address::{Jid, JidKind, MessageKey};
use crate::domain::text::without_nul;
use crate::source::time;

/// What kind of request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Presence,
    Message,
    /// The echo of a send through the gateway.
    Echo,
    Revoked,
    Ack,
    Session,
    Unknown,
}

/// A view of a request.
#[derive(Clone, Copy)]
pub(super) struct Envelope<'a> {
    root: &'a Value,
    /// The engine's event; the root itself where the engine posts directly.
    engine: &'a Value,
}

impl<'a> Envelope<'a> {
    pub(super) fn of(root: &'a Value) -> Self {
        let engine = root
            .pointer("/raw/payload")
            .filter(|payload| payload.is_object())
            .unwrap_or(root);
        Self { root, engine }
    }

    /// The first value that stands at one of the places, of the root and then of the engine.
    pub(super) fn values(
        &self,
        root: &'static [&'static str],
        engine: &'static [&'static str],
    ) -> impl Iterator<Item = &'a Value> + use<'a> {
        let (whole, inner) = (self.root, self.engine);
        root.iter()
            .filter_map(move |place| whole.pointer(place))
            .chain(engine.iter().filter_map(move |place| inner.pointer(place)))
            .filter(|value| !value.is_null())
    }

    /// The first non-empty text.
    pub(super) fn text(
        &self,
        root: &'static [&'static str],
        engine: &'static [&'static str],
    ) -> Option<&'a str> {
        self.values(root, engine)
            .filter_map(Value::as_str)
            .find(|text| !text.trim().is_empty())
    }

    /// The first readable WhatsApp address.
    pub(super) fn jid(
        &self,
        root: &'static [&'static str],
        engine: &'static [&'static str],
    ) -> Option<Jid> {
        self.values(root, engine).find_map(jid_of)
    }

    /// A short id without control characters.
    pub(super) fn id(&self, place: &str) -> Option<String> {
        let text = self.root.pointer(place)?.as_str()?.trim();
        let lawful =
            !text.is_empty() && text.chars().count() <= 128 && !text.chars().any(char::is_control);
        lawful.then(|| text.to_owned())
    }

    pub(super) fn correlation_id(&self) -> Option<String> {
        [
            "/correlation_id",
            "/correlationId",
            "/message/correlationId",
            "/message/correlation_id",
            "/data/correlationId",
            "/data/correlation_id",
        ]
        .iter()
        .find_map(|place| self.id(place))
    }

    /// The sending account as the gateway writes it; `metadata.channel_id` comes last, it carried
    /// wrong values.
    pub(super) fn channel_account(&self) -> Option<String> {
        self.text(
            &[
                "/sessionId",
                "/session/id",
                "/session",
                "/session/session",
                "/data/session/id",
                "/data/session/session",
                "/metadata/sessionId",
                "/channelId",
                "/channel",
                "/data/channel",
                "/session/name",
            ],
            &["/session"],
        )
        .or_else(|| self.text(&["/metadata/channel_id"], &[]))
        .map(label)
    }

    /// Every name of our own session, to tell it from a contact's.
    pub(super) fn session_names(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.values(
            &[
                "/session/id",
                "/session/name",
                "/session",
                "/sessionId",
                "/channel",
            ],
            &["/session"],
        )
        .filter_map(Value::as_str)
    }

    /// The wrapper's name of the event.
    pub(super) fn event_name(&self) -> Option<String> {
        self.text(&["/event"], &[]).map(label)
    }

    /// The engine's name of the event.
    pub(super) fn engine_name(&self) -> Option<String> {
        self.text(&[], &["/event"]).map(label)
    }

    /// The engine's type of the message.
    pub(super) fn message_type(&self) -> Option<String> {
        self.text(&["/message/type", "/data/type"], &["/type"])
            .map(label)
    }

    pub(super) fn occurred_at(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.values(
            &[
                "/message/timestamp",
                "/timestamp",
                "/data/timestamp",
                "/message/messageTimestamp",
            ],
            &["/t", "/timestamp"],
        )
        .find_map(|value| time::parse_lenient(value, now))
    }

    pub(super) fn wire(&self) -> Wire {
        let wrapper = self.event_name().map(|name| wire_of(&name));
        let engine = self.engine_name().map(|name| wire_of(&name));
        if self.is_presence() {
            return Wire::Presence;
        }
        match (wrapper, engine) {
            // The engine knows better than the wrapper, which calls presence a connection and
            // may call anything a message.
            (_, Some(engine @ (Wire::Ack | Wire::Session | Wire::Revoked))) => engine,
            (Some(Wire::Message), Some(engine)) => engine,
            (Some(Wire::Unknown) | None, Some(engine)) => engine,
            (Some(wrapper), _) => wrapper,
            (None, None) => Wire::Unknown,
        }
    }

    /// A `connection.update` is the presence of a contact when the engine says so, or when it
    /// carries the address of a person instead of a session's status (facts §1.6).
    fn is_presence(&self) -> bool {
        let names = [self.engine_name(), self.event_name()];
        if names
            .iter()
            .flatten()
            .any(|name| wire_of(name) == Wire::Presence)
        {
            return true;
        }
        let connection = names[1]
            .as_deref()
            .is_some_and(|n| wire_of(n) == Wire::Session);
        let silent = std::ptr::eq(self.engine, self.root) || self.engine.get("event").is_none();
        let of_a_person = self
            .values(&["/connection/id"], &["/id"])
            .find_map(jid_of)
            .is_some_and(|jid| {
                matches!(jid.kind(), JidKind::Phone | JidKind::Lid | JidKind::Group)
            });
        connection && silent && of_a_person
    }
}

/// An address as a text or as the engine's object (`{server, user, _serialized}`).
pub(super) fn jid_of(value: &Value) -> Option<Jid> {
    let text = match value {
        Value::String(text) => text.as_str(),
        Value::Object(wid) => wid.get("_serialized").or_else(|| wid.get("id"))?.as_str()?,
        _ => return None,
    };
    let text = text.trim();
    Jid::parse(text.strip_prefix('+').unwrap_or(text)).ok()
}

/// A message id as a text or as the engine's object (`{fromMe, remote, id, _serialized}`).
pub(super) fn message_key_of(value: &Value) -> Option<MessageKey> {
    match value {
        Value::String(text) => MessageKey::parse(text).ok(),
        Value::Object(id) => {
            let serialized = id.get("_serialized").and_then(Value::as_str);
            if let Some(key) = serialized.and_then(|text| MessageKey::parse(text).ok()) {
                return Some(key);
            }
            let mut key = MessageKey::parse(id.get("id")?.as_str()?).ok()?;
            key.from_me = key.from_me.or_else(|| id.get("fromMe").and_then(flag));
            key.chat = key.chat.or_else(|| {
                let remote = id.get("remote").or_else(|| id.get("remoteJid"))?;
                jid_of(remote)
            });
            key.participant = key
                .participant
                .or_else(|| id.get("participant").and_then(jid_of));
            Some(key)
        }
        _ => None,
    }
}

/// A yes or no, also as a word.
pub(super) fn flag(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) => text.trim().to_ascii_lowercase().parse().ok(),
        _ => None,
    }
}

/// A text fit for a label: bounded, without control characters.
pub(super) fn label(text: &str) -> String {
    without_nul(text)
        .trim()
        .chars()
        .filter(|c| !c.is_control())
        .take(128)
        .collect()
}

fn wire_of(name: &str) -> Wire {
    match name.to_ascii_lowercase().as_str() {
        "onpresencechanged" | "presence" | "presence.update" => Wire::Presence,
        "message" | "onmessage" | "onselfmessage" | "unreadmessages" | "message.received" => {
            Wire::Message
        }
        "message.sent" | "message_sent" | "sent" => Wire::Echo,
        "onrevokedmessage" => Wire::Revoked,
        "message.ack" | "message_ack" | "ack" | "onack" => Wire::Ack,
        "connection.update" | "status" | "status-find" | "qrcode" | "phonecode" | "qr"
        | "closesession" | "logoutsession" | "ready" | "close" | "authenticated"
        | "auth_failure" | "loading_screen" | "change_state" | "delete_session" => Wire::Session,
        _ => Wire::Unknown,
    }
}
