//! The bodies of the webhooks, in the shapes of the captured samples (facts §1.4, conventions A0.1).
//!
//! Pure: from a message or an incident to bytes. Every call makes a new `event_id`, as the gateway
//! does for each delivery.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{channels::Channel, messages::Message};

/// How the id in an ack is written (facts §1.5: both have been seen).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AckShape {
    /// `ack.level`, the id a string, integer time: sample 15.
    String,
    /// `ack.message_id` and `ack.status`, the id an object, ISO time: `message-ack.json`.
    Object,
    /// The one for odd, the other for even ack levels.
    Mixed,
}

/// The event by which the gateway reports a message of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub enum EchoEvent {
    /// `message.sent` without text: sample 11.
    #[serde(rename = "message.sent")]
    MessageSent,
    /// `message` (`onselfmessage`) with the text: sample 10.
    #[serde(rename = "message")]
    Message,
}

#[derive(Serialize)]
struct Envelope<'a, M: Serialize, P: Serialize> {
    spec_version: &'static str,
    event: &'a str,
    session: Named<'a>,
    message: Option<M>,
    ack: Option<Value>,
    connection: Option<Value>,
    raw: Raw<P>,
    event_id: Uuid,
    correlation_id: &'a str,
    timestamp: Stamp,
}

#[derive(Serialize)]
struct Named<'a> {
    id: &'a str,
    name: &'a str,
}

#[derive(Serialize)]
struct Raw<P> {
    provider: &'static str,
    payload: P,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Stamp {
    Seconds(i64),
    Iso(String),
}

#[derive(Serialize)]
struct MessagePart<'a> {
    id: &'a str,
    from: &'a str,
    to: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    timestamp: i64,
}

#[derive(Serialize)]
struct AckPayload<'a> {
    event: &'static str,
    session: &'a str,
    id: Value,
    ack: i8,
    t: i64,
    from: &'a str,
    to: &'a str,
    r#type: &'a str,
}

/// The echo of a message sent through the API.
pub(super) fn echo(message: &Message, channel: &Channel, event: EchoEvent) -> Vec<u8> {
    let now = now();
    match event {
        EchoEvent::MessageSent => echo_without_text(message, channel, now),
        EchoEvent::Message => chat(&Chat {
            id: &message.id,
            channel,
            chat: &message.chat,
            author: None,
            name: &channel.id,
            from_me: true,
            text: &message.text,
            kind: engine_type(&message.r#type),
            correlation_id: &message.correlation_id,
            caption: None,
        }),
    }
}

fn echo_without_text(message: &Message, channel: &Channel, now: DateTime<Utc>) -> Vec<u8> {
    let own = channel.own_jid();
    bytes(&Envelope {
        spec_version: "1.0",
        event: "message.sent",
        session: named(channel),
        message: Some(MessagePart {
            id: &message.id,
            from: &own,
            to: &message.chat,
            text: Some(""),
            timestamp: now.timestamp(),
        }),
        ack: None,
        connection: None,
        raw: raw(json!({
            "event": "onselfmessage",
            "session": &*channel.id,
            "type": engine_type(&message.r#type),
            "t": now.timestamp_millis(),
            "key": { "id": message.id, "remoteJid": message.chat, "fromMe": true },
            "fromMe": true,
            "from": own,
            "to": message.chat,
            "ack": 1,
        })),
        event_id: Uuid::new_v4(),
        correlation_id: &message.correlation_id,
        timestamp: Stamp::Seconds(now.timestamp()),
    })
}

/// An ack of a message sent through the API.
pub(super) fn ack(message: &Message, channel: &Channel, level: i8, shape: AckShape) -> Vec<u8> {
    let now = now();
    let own = channel.own_jid();
    let as_object = match shape {
        AckShape::String => false,
        AckShape::Object => true,
        AckShape::Mixed => level.rem_euclid(2) == 0,
    };
    let id = if as_object {
        let key_id = message.id.split('_').nth(2).unwrap_or_default();
        json!({
            "fromMe": true,
            "remote": message.chat,
            "id": key_id,
            "_serialized": message.id,
        })
    } else {
        Value::from(message.id.as_str())
    };
    bytes(&Envelope {
        spec_version: "1.0",
        event: "message.ack",
        session: named(channel),
        message: (!as_object).then_some(MessagePart {
            id: &message.id,
            from: &own,
            to: &message.chat,
            text: None,
            timestamp: now.timestamp(),
        }),
        ack: Some(if as_object {
            json!({ "message_id": message.id, "status": level })
        } else {
            json!({ "level": level })
        }),
        connection: None,
        raw: raw(AckPayload {
            event: "onack",
            session: &channel.id,
            id,
            ack: level,
            t: now.timestamp(),
            from: &own,
            to: &message.chat,
            r#type: engine_type(&message.r#type),
        }),
        event_id: Uuid::new_v4(),
        correlation_id: &Uuid::new_v4().to_string(),
        timestamp: if as_object {
            Stamp::Iso(iso(now))
        } else {
            Stamp::Seconds(now.timestamp())
        },
    })
}

/// A message in a chat: a customer's, or one of ours typed on the phone.
pub(super) struct Chat<'a> {
    pub(super) id: &'a str,
    pub(super) channel: &'a Channel,
    /// JID of the other side, or of the group.
    pub(super) chat: &'a str,
    /// JID of the writer, in a group.
    pub(super) author: Option<&'a str>,
    pub(super) name: &'a str,
    pub(super) from_me: bool,
    pub(super) text: &'a str,
    /// `raw.payload.type`.
    pub(super) kind: &'a str,
    pub(super) correlation_id: &'a str,
    /// Caption of a picture, whose `text` is a thumbnail.
    pub(super) caption: Option<&'a str>,
}

/// A `message` webhook: samples 01, 03, 05, 08, 12 (inbound) and 10 (`from_me`).
pub(super) fn chat(it: &Chat<'_>) -> Vec<u8> {
    let now = now();
    let own = it.channel.own_jid();
    let (from, to) = if it.from_me {
        (own.as_str(), it.chat)
    } else {
        (it.chat, own.as_str())
    };
    let is_group = it.chat.ends_with("@g.us");
    let sender = if it.from_me {
        json!({ "id": own, "pushname": it.name, "isMe": true })
    } else {
        json!({
            "id": it.author.unwrap_or(it.chat), "pushname": it.name, "type": "in",
            "isBusiness": false, "isMe": false, "isMyContact": false, "isWAContact": true,
            "formattedName": it.name, "profilePicThumbObj": {}, "msgs": null,
        })
    };
    let mut payload = json!({
        "event": if it.from_me { "onselfmessage" } else { "onmessage" },
        "session": &*it.channel.id,
        "id": it.id,
        "viewed": false,
        "body": it.text,
        "type": it.kind,
        "t": now.timestamp(),
        "clientReceivedTsMillis": now.timestamp_millis(),
        "notifyName": it.name,
        "from": from,
        "to": to,
        "ack": 1,
        "invis": false,
        "isNewMsg": true,
        "star": false,
        "kicNotified": false,
        "recvFresh": true,
        "isFromTemplate": false,
        "isForwarded": false,
        "labels": [],
        "hasReaction": false,
        "viewMode": "VISIBLE",
        "messageSecret": [44, 213, 182, 145, 91, 45, 219, 213],
        "isMdHistoryMsg": false,
        "chatId": it.chat,
        "fromMe": it.from_me,
        "timestamp": now.timestamp(),
        "content": it.text,
        "isGroupMsg": is_group,
        "mediaData": {},
        "sender": sender,
    });
    if let Some(author) = it.author {
        payload["author"] = author.into();
    }
    if let Some(caption) = it.caption {
        payload["caption"] = caption.into();
        payload["mimetype"] = "image/jpeg".into();
        payload["mediaKey"] = "MEDIAKEYSIMULATED=".into();
        payload["directPath"] = "/v/t62.7118-24/simulated?oe=0".into();
    }
    if it.kind == "ciphertext" {
        payload["subtype"] = "fanout".into();
    }
    bytes(&Envelope {
        spec_version: "1.0",
        event: "message",
        session: named(it.channel),
        message: Some(MessagePart {
            id: it.id,
            from,
            to,
            text: Some(it.text),
            timestamp: now.timestamp(),
        }),
        ack: None,
        connection: None,
        raw: raw(payload),
        event_id: Uuid::new_v4(),
        correlation_id: it.correlation_id,
        timestamp: Stamp::Seconds(now.timestamp()),
    })
}

/// A contact's presence, which arrives as `connection.update`: sample 19.
pub(super) fn presence(channel: &Channel, contact: &str, state: &str) -> Vec<u8> {
    let payload = json!({
        "event": "onpresencechanged",
        "session": &*channel.id,
        "id": contact,
        "isOnline": state == "available",
        "isGroup": contact.ends_with("@g.us"),
        "isUser": !contact.ends_with("@g.us"),
        "shortName": contact.split('@').next(),
        "state": state,
        "t": now().timestamp_millis(),
        "isContact": false,
    });
    connection_update(channel, state, payload)
}

/// A real change of the session: sample 20 for a drop, its opposite for a return.
pub(super) fn session_change(
    channel: &Channel,
    status: &str,
    engine_status: &str,
    state: Option<&str>,
) -> Vec<u8> {
    let mut payload = json!({
        "event": "status-find",
        "session": &*channel.id,
        "status": engine_status,
    });
    if let Some(state) = state {
        payload["state"] = state.into();
    }
    connection_update(channel, status, payload)
}

fn connection_update(channel: &Channel, status: &str, payload: Value) -> Vec<u8> {
    bytes(&Envelope::<MessagePart<'_>, _> {
        spec_version: "1.0",
        event: "connection.update",
        session: named(channel),
        message: None,
        ack: None,
        connection: Some(json!({ "status": status })),
        raw: raw(payload),
        event_id: Uuid::new_v4(),
        correlation_id: &Uuid::new_v4().to_string(),
        timestamp: Stamp::Iso(iso(now())),
    })
}

/// The engine's word for a send's `type`.
fn engine_type(kind: &str) -> &str {
    match kind {
        "text" => "chat",
        "audio" => "ptt",
        other => other,
    }
}

fn named(channel: &Channel) -> Named<'_> {
    Named {
        id: &channel.id,
        name: &channel.id,
    }
}

fn raw<P>(payload: P) -> Raw<P> {
    Raw {
        provider: "wppconnect",
        payload,
    }
}

fn bytes(envelope: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(envelope).expect("an envelope has string keys only, because they are fields")
}

/// The time of the simulated world.
pub(super) fn now() -> DateTime<Utc> {
    std::time::SystemTime::now().into()
}

/// RFC 3339 in UTC with milliseconds.
pub(super) fn iso(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}
