//! Whapi.Cloud, a provider of WhatsApp: its webhook brings messages and statuses in lists (facts
//! §1.8). It signs nothing, so its door opens to a key of the source that Whapi is told to send.
//!
//! Whatever is authentic and JSON is stored. Each message and each status is an event of its own;
//! what is neither is one event for whoever looks at it. The natural key of a message is channel,
//! direction, id and kind, since Whapi repeats what it thinks was not received.

use axum::http::HeaderMap;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::auth::{self, AuthError, DoorSecrets};
use super::mend::mend;
use super::problem::{Problem, ProblemCode, holds_nul, parse_json};
use super::wpp_gateway::{DELIVERY_ACK, INBOUND_MESSAGE, OUTBOUND_MESSAGE, SYSTEM, UNHANDLED};
use super::{Door, NormaliseError, Reading, Source, StoredEvent, time};
use crate::domain::address::Jid;
use crate::domain::delivery::Evidence;
use crate::domain::event::{
    Body, Contact, ContentKind, Direction, IncomingEvent, Key, MediaRef, NormalisedEvent,
    NormalisedKind, Participant, SentMessage, body_sha256, canonical_sha256,
};
use crate::domain::text::{MessageText, fold_name, without_nul};

/// The source's name.
pub const NAME: &str = "whapi_cloud";

/// Media come by reference, with a small preview in line.
const LARGEST_BODY: usize = 4 << 20;
/// The most messages and statuses of one request; real ones bring a few.
const MOST_ITEMS: usize = 1000;
/// The longest id, label or name that is kept, in characters.
const LONGEST_LABEL: usize = 128;

/// The form of Whapi's webhook.
pub struct Whapi;

impl Source for Whapi {
    fn name(&self) -> &'static str {
        NAME
    }

    /// The headers are those that its settings let one add to each webhook.
    fn authenticate(&self, headers: &HeaderMap, secrets: &DoorSecrets) -> Result<(), AuthError> {
        let presented = auth::header_values(headers, &["authorization", "x-event-secret"]);
        secrets.verify(presented.map(auth::bearer))
    }

    fn door(&self) -> Option<Door> {
        Some(Door {
            largest_body: LARGEST_BODY,
            about: "Whapi.Cloud posts messages, echoes and statuses of WhatsApp here.",
        })
    }

    fn read(&self, body: &[u8], now: DateTime<Utc>) -> Result<Reading, Vec<Problem>> {
        let value = value_of(body).map_err(|problem| vec![problem])?;
        let items = items_of(value)?;
        let alone = items.len() == 1;
        let events = items.into_iter().map(|item| {
            let mut event = read_item(&item, now);
            // Where several came together, each keeps its own part, so that reading it again needs
            // nothing of the others.
            if !alone {
                event.body = Body::Redacted(item.to_string().into_bytes());
            }
            event.payload = (!holds_nul(&item)).then_some(item);
            event
        });
        Ok(Reading::Events(events.collect()))
    }

    fn normalise(&self, event: &StoredEvent<'_>) -> Result<NormalisedEvent, NormaliseError> {
        let from_body;
        let value = match event.payload {
            Some(payload) => payload,
            None => {
                // One item: with others beside it, its own part was kept.
                let value = value_of(event.body).map_err(|_| NormaliseError::PayloadUnreadable)?;
                let mut items = items_of(value).map_err(|_| NormaliseError::PayloadUnreadable)?;
                from_body = items.pop().ok_or(NormaliseError::PayloadUnreadable)?;
                &from_body
            }
        };
        let mut read = NormalisedEvent {
            channel_account: channel(value),
            ..event.unread()
        };
        match Fact::of(value) {
            Fact::Message(message) => message.fill(&mut read),
            Fact::Status(status) => status.fill(&mut read),
            Fact::Unknown => {}
        }
        Ok(read)
    }
}

fn value_of(body: &[u8]) -> Result<Value, Problem> {
    parse_json(body).or_else(|problem| serde_json::from_slice(&mend(body)).map_err(|_| problem))
}

/// One value for each message and status, in the same shape with one item in its list; the whole
/// where there is one or none.
///
/// # Errors
/// There are more than are taken at one time.
fn items_of(mut value: Value) -> Result<Vec<Value>, Vec<Problem>> {
    const LISTS: [&str; 2] = ["messages", "statuses"];
    let lengths = LISTS.map(|list| {
        value
            .get(list)
            .and_then(Value::as_array)
            .map_or(0, Vec::len)
    });
    for (list, length) in LISTS.iter().zip(lengths) {
        if length > MOST_ITEMS {
            let detail = format!("{list} holds more than {MOST_ITEMS} items");
            let place = format!("/{list}");
            return Err(vec![Problem::new(ProblemCode::OutOfRange, place, detail)]);
        }
    }
    if lengths.iter().sum::<usize>() < 2 {
        return Ok(vec![value]);
    }
    // Every item carries them, so they are bounded.
    let (channel, method) = (channel(&value), method(&value));
    let mut all = Vec::new();
    for list in LISTS {
        let Some(Value::Array(items)) = value.get_mut(list).map(Value::take) else {
            continue;
        };
        all.extend(items.into_iter().map(|item| {
            let event = json!({"type": list, "event": method});
            json!({list: [item], "event": event, "channel_id": channel})
        }));
    }
    Ok(all)
}

/// What one item says, read once for both storing and normalising.
enum Fact<'a> {
    Message(Message<'a>),
    Status(Status),
    Unknown,
}

impl<'a> Fact<'a> {
    fn of(value: &'a Value) -> Self {
        // Other methods (`put`, `patch`, `delete`) tell of what came before; nothing is known to
        // be done with them.
        if method(value) != "post" {
            return Self::Unknown;
        }
        let message = value.pointer("/messages/0").and_then(Message::read);
        let status = || value.pointer("/statuses/0").and_then(Status::read);
        match message {
            Some(message) => Self::Message(message),
            None => status().map_or(Self::Unknown, Self::Status),
        }
    }
}

fn read_item(value: &Value, now: DateTime<Utc>) -> IncomingEvent {
    let fact = Fact::of(value);
    let (event_type, id, direction, counterpart, kind, at) = match &fact {
        Fact::Message(message) => (
            message.event_type(),
            Some(message.id.clone()),
            Some(message.direction),
            message.counterpart.clone(),
            "message".to_owned(),
            message.value.get("timestamp"),
        ),
        Fact::Status(status) => (
            DELIVERY_ACK,
            Some(status.id.clone()),
            Some(Direction::Outbound),
            status.recipient.clone(),
            format!("ack:{}", fold_name(&status.word)),
            value.pointer("/statuses/0/timestamp"),
        ),
        Fact::Unknown => (UNHANDLED, None, None, None, String::new(), None),
    };
    let account = channel(value);
    let key = match (&id, direction) {
        (Some(id), Some(direction)) => {
            let account = account.as_deref().map(fold_name).unwrap_or_default();
            let side = direction.as_str();
            Key::natural(format!("whapi:{account}:{side}:{id}:{kind}"))
        }
        _ => Key::content(canonical_sha256(value)),
    };
    IncomingEvent {
        source_event_id: id.clone(),
        occurred_at: at.and_then(|at| time::parse_lenient(at, now)),
        provider_message_id: id,
        channel_account: account,
        direction,
        contact_key: counterpart.map(|jid| jid.contact_key()),
        ..IncomingEvent::new(NAME, event_type, key, body_sha256(event_type, None, value))
    }
}

/// A message, ours or theirs.
struct Message<'a> {
    value: &'a Value,
    id: String,
    direction: Direction,
    counterpart: Option<Jid>,
    content: Option<ContentKind>,
}

impl<'a> Message<'a> {
    /// The message, unless it has no id.
    fn read(value: &'a Value) -> Option<Self> {
        let id = label(value.get("id")?)?;
        let direction = match value.get("from_me").and_then(Value::as_bool) {
            Some(true) => Direction::Outbound,
            _ => Direction::Inbound,
        };
        let other = match direction {
            Direction::Inbound => "from",
            Direction::Outbound => "to",
        };
        let counterpart = ["chat_id", other]
            .iter()
            .find_map(|place| jid(value.get(*place)?));
        let answerable = counterpart.as_ref().is_none_or(Jid::is_conversational);
        Some(Self {
            value,
            id,
            direction,
            counterpart,
            content: content(value).filter(|_| answerable),
        })
    }

    const fn event_type(&self) -> &'static str {
        match (self.content, self.direction) {
            (None, _) => SYSTEM,
            (_, Direction::Inbound) => INBOUND_MESSAGE,
            (_, Direction::Outbound) => OUTBOUND_MESSAGE,
        }
    }

    fn fill(&self, event: &mut NormalisedEvent) {
        event.direction = Some(self.direction);
        event.contact = self.contact();
        let Some(content) = self.content else {
            let notice = self.value.get("type").and_then(label);
            event.kind = NormalisedKind::System {
                notice: notice.unwrap_or_default(),
            };
            return;
        };
        event.text = self.words(content);
        event.media = content.is_file().then(|| self.media(content));
        event.kind = match self.direction {
            Direction::Inbound => NormalisedKind::InboundMessage {
                key_id: Some(self.id.clone()),
                content,
            },
            Direction::Outbound => {
                let sent = SentMessage {
                    key_id: Some(self.id.clone()),
                    gateway_correlation_id: None,
                    delivery_id: None,
                    content,
                    level: None,
                };
                if self.value.get("source").and_then(Value::as_str) == Some("api") {
                    NormalisedKind::Echo(sent)
                } else {
                    NormalisedKind::DeviceMessage(sent)
                }
            }
        };
    }

    fn contact(&self) -> Option<Contact> {
        let jid = self.counterpart.clone()?;
        // The name of an echo is our own.
        let name = match self.direction {
            Direction::Inbound => self.value.get("from_name").and_then(label),
            Direction::Outbound => None,
        };
        let is_group = jid.is_group();
        let (name, participant) = if is_group {
            let author = self.value.get("from").and_then(jid_of_person);
            (None, author.map(|jid| Participant { jid, name }))
        } else {
            (name, None)
        };
        Some(Contact {
            address: jid.expose().to_owned(),
            phone: jid.phone(),
            contact_key: Some(jid.contact_key()),
            jid: Some(jid),
            name,
            is_group,
            participant,
        })
    }

    /// The member that is named as the message's type is.
    fn substance(&self) -> Option<&'a Value> {
        let word = self.value.get("type")?.as_str()?;
        self.value.get(word)
    }

    fn words(&self, content: ContentKind) -> Option<MessageText> {
        if matches!(content, ContentKind::Location | ContentKind::ContactCard) {
            return None;
        }
        let place = if content.is_file() { "caption" } else { "body" };
        MessageText::new(self.substance()?.get(place)?.as_str()?)
    }

    fn media(&self, kind: ContentKind) -> MediaRef {
        let of = |place| self.substance().and_then(|file| file.get(place));
        MediaRef {
            kind,
            mime: of("mime_type").and_then(label),
            bytes: of("file_size").and_then(Value::as_u64),
            file_name: of("filename").or_else(|| of("file_name")).and_then(label),
            // Whapi gives files out by an id of their own: `GET /media/{id}`.
            message_id: of("id").and_then(label),
            is_inline: false,
            sha256: None,
        }
    }
}

/// How far a message of ours got.
struct Status {
    id: String,
    word: String,
    recipient: Option<Jid>,
}

impl Status {
    /// The status, unless its message or its word is missing.
    fn read(value: &Value) -> Option<Self> {
        Some(Self {
            id: label(value.get("id")?)?,
            word: label(value.get("status")?)?,
            recipient: ["recipient_id", "chat_id"]
                .iter()
                .find_map(|place| jid(value.get(*place)?)),
        })
    }

    /// The word on WPPConnect's scale.
    fn level(&self) -> Option<i32> {
        match fold_name(&self.word).as_str() {
            "failed" => Some(-1),
            "pending" => Some(0),
            "sent" => Some(1),
            "delivered" => Some(2),
            "read" => Some(3),
            "played" => Some(4),
            _ => None,
        }
    }

    fn fill(&self, event: &mut NormalisedEvent) {
        event.direction = Some(Direction::Outbound);
        event.contact = self.recipient.clone().map(|jid| Contact {
            address: jid.expose().to_owned(),
            phone: jid.phone(),
            contact_key: Some(jid.contact_key()),
            is_group: jid.is_group(),
            jid: Some(jid),
            name: None,
            participant: None,
        });
        event.kind = NormalisedKind::Ack {
            key_id: self.id.clone(),
            level: self.level(),
            raw_level: self.word.clone(),
            from_me: true,
            evidence: self.level().and_then(Evidence::from_wppconnect_ack),
        };
    }
}

/// What a message carries; `None` for what no person wrote.
fn content(message: &Value) -> Option<ContentKind> {
    let word = message.get("type").and_then(Value::as_str);
    match word.unwrap_or_default() {
        "text" | "link_preview" => Some(ContentKind::Text),
        "image" => Some(ContentKind::Image),
        "video" | "gif" | "short" => Some(ContentKind::Video),
        "audio" => Some(ContentKind::Audio),
        "voice" => Some(ContentKind::Voice),
        "document" => Some(ContentKind::Document),
        "sticker" => Some(ContentKind::Sticker),
        "location" | "live_location" => Some(ContentKind::Location),
        "contact" | "contact_list" => Some(ContentKind::ContactCard),
        "system" | "call" => None,
        _ => Some(ContentKind::Other),
    }
}

fn channel(value: &Value) -> Option<String> {
    label(value.get("channel_id")?)
}

/// What happened to the items; `post` where the request does not tell.
fn method(value: &Value) -> String {
    let told = value.pointer("/event/event").and_then(label);
    told.map_or_else(|| "post".to_owned(), |told| told.to_ascii_lowercase())
}

/// An address with its server; bare digits are a person's.
fn jid(value: &Value) -> Option<Jid> {
    let text = value.as_str()?.trim();
    if text.contains('@') {
        Jid::parse(text).ok()
    } else {
        jid_of_person(value)
    }
}

fn jid_of_person(value: &Value) -> Option<Jid> {
    let text = value.as_str()?.trim();
    let digits = text.strip_prefix('+').unwrap_or(text);
    if digits.contains('@') {
        return Jid::parse(digits).ok().filter(|jid| !jid.is_group());
    }
    Jid::parse(&format!("{digits}@s.whatsapp.net")).ok()
}

/// A text fit for an id, a label or a name: bounded, without control characters, not empty.
fn label(value: &Value) -> Option<String> {
    let text = without_nul(value.as_str()?);
    let kept = text.trim().chars().filter(|c| !c.is_control());
    let kept: String = kept.take(LONGEST_LABEL).collect();
    (!kept.is_empty()).then_some(kept)
}

#[cfg(test)]
mod tests;
