//! Messages, ours and theirs: who, what, and which file.

use serde_json::Value;

use super::envelope::{Envelope, Wire, flag, label, message_key_of};
use super::media::Reference;
use crate::domain::address::{Jid, MessageKey};
use crate::domain::event::{
    Contact, ContentKind, Direction, MediaRef, NormalisedEvent, NormalisedKind, Participant,
    SentMessage,
};
use crate::domain::text::{MessageText, embedded_media, fold_name, without_nul};

/// What a message is, by the engine's type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// A person wrote it.
    Written(ContentKind),
    /// WhatsApp made it; the engine's word for it.
    System(String),
}

/// Where texts stand in an envelope, and in what the engine wrote.
const TEXT_PLACES: &[&str] = &[
    "/message/text",
    "/text",
    "/body",
    "/message/body",
    "/data/text",
    "/data/body",
    "/message/message/conversation",
    "/message/message/extendedTextMessage/text",
];
const ENGINE_TEXT_PLACES: &[&str] = &["/body", "/content"];

impl Content {
    /// The kind in a natural key: a placeholder and its text are two events (facts §0.6).
    pub(super) const fn key_kind(&self) -> &'static str {
        match self {
            Self::Written(ContentKind::Undecrypted) => "ciphertext",
            Self::Written(_) => "message",
            Self::System(_) => "system",
        }
    }
}

/// A message in an envelope.
pub(super) struct Message<'a> {
    envelope: Envelope<'a>,
    pub(super) key: Option<MessageKey>,
    pub(super) counterpart: Option<Jid>,
    pub(super) content: Content,
    pub(super) is_echo: bool,
    from_me: bool,
}

impl<'a> Message<'a> {
    /// The message, unless neither an id nor an address can be read.
    pub(super) fn read(envelope: Envelope<'a>) -> Option<Self> {
        let key = key(&envelope);
        let wire = envelope.wire();
        let from_me = from_me(&envelope, key.as_ref());
        let counterpart = counterpart(&envelope, key.as_ref(), from_me);
        if key.is_none() && counterpart.is_none() {
            return None;
        }
        let answerable = counterpart.as_ref().is_none_or(Jid::is_conversational);
        let content = match content(&envelope) {
            _ if wire == Wire::Revoked => Content::System("revoked".to_owned()),
            _ if !answerable => Content::System("broadcast".to_owned()),
            content => content,
        };
        Some(Self {
            envelope,
            key,
            counterpart,
            content,
            is_echo: wire == Wire::Echo,
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

    /// Writes what the message says into the event.
    pub(super) fn fill(&self, event: &mut NormalisedEvent) {
        event.direction = Some(self.direction());
        event.contact = self.contact();
        let kind = match &self.content {
            Content::System(notice) => {
                event.kind = NormalisedKind::System {
                    notice: notice.clone(),
                };
                return;
            }
            Content::Written(kind) => *kind,
        };
        let (kind, text, media) = self.substance(kind);
        event.text = text;
        event.media = media;
        let key_id = self.key.as_ref().map(|key| key.key_id.clone());
        event.kind = match self.direction() {
            Direction::Inbound => NormalisedKind::InboundMessage {
                key_id,
                content: kind,
            },
            Direction::Outbound if self.is_echo => NormalisedKind::Echo(self.sent(kind)),
            Direction::Outbound => NormalisedKind::DeviceMessage(self.sent(kind)),
        };
    }

    fn sent(&self, content: ContentKind) -> SentMessage {
        SentMessage {
            key_id: self.key.as_ref().map(|key| key.key_id.clone()),
            gateway_correlation_id: self.envelope.correlation_id(),
            delivery_id: self
                .envelope
                .values(
                    &[
                        "/metadata/delivery_id",
                        "/message/metadata/delivery_id",
                        "/data/metadata/delivery_id",
                    ],
                    &["/metadata/delivery_id"],
                )
                .find_map(|value| value.as_str()?.parse().ok()),
            content,
            level: self
                .envelope
                .values(&[], &["/ack"])
                .find_map(Value::as_i64)
                .and_then(|level| i32::try_from(level).ok()),
        }
    }

    fn contact(&self) -> Option<Contact> {
        let jid = self.counterpart.clone()?;
        let is_group = jid.is_group();
        let name = if self.from_me { None } else { self.name() };
        let (name, participant) = if is_group {
            let participant = self.author().map(|jid| Participant { jid, name });
            (None, participant)
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

    /// Who wrote in a group.
    fn author(&self) -> Option<Jid> {
        self.envelope
            .jid(
                &[
                    "/message/author",
                    "/message/key/participant",
                    "/data/author",
                ],
                &["/author", "/participant", "/key/participant"],
            )
            .or_else(|| self.key.as_ref()?.participant.clone())
            .or_else(|| self.envelope.jid(&[], &["/sender/id"]))
            .filter(|jid| !jid.is_group())
    }

    /// The name that the other side gave itself. The echo of our own name is none (facts §8,
    /// incident 46).
    fn name(&self) -> Option<String> {
        const LONGEST: usize = 200;
        let ours: Vec<String> = self.envelope.session_names().map(fold_name).collect();
        self.envelope
            .values(
                &["/message/notifyName", "/data/notifyName", "/pushName"],
                &[
                    "/notifyName",
                    "/sender/verifiedName",
                    "/sender/name",
                    "/sender/pushname",
                ],
            )
            .filter_map(Value::as_str)
            .map(|name| {
                without_nul(name)
                    .trim()
                    .chars()
                    .take(LONGEST)
                    .collect::<String>()
            })
            .find(|name| !name.is_empty() && !ours.contains(&fold_name(name)))
    }

    /// Words and file. Where the engine puts bytes in the place of words, the words are the
    /// caption.
    fn substance(&self, kind: ContentKind) -> (ContentKind, Option<MessageText>, Option<MediaRef>) {
        let raw = self.raw_text();
        let held = self.held();
        let embedded = held
            .map(|held| held.mime)
            .or_else(|| raw.and_then(embedded_media));
        let kind = match (kind, embedded) {
            (ContentKind::Text | ContentKind::Other, Some(mime)) => kind_of_mime(mime),
            _ => kind,
        };
        let words = match kind {
            ContentKind::Undecrypted | ContentKind::Location | ContentKind::ContactCard => None,
            kind if kind.is_file() => self.envelope.text(
                &["/message/caption", "/caption", "/data/caption"],
                &["/caption"],
            ),
            _ => raw,
        };
        let media = kind
            .is_file()
            .then(|| self.media(kind, embedded, (raw, held)));
        (kind, words.and_then(MessageText::new), media)
    }

    fn raw_text(&self) -> Option<&'a str> {
        self.envelope.text(TEXT_PLACES, ENGINE_TEXT_PLACES)
    }

    /// The file that was taken out of the place of the text.
    fn held(&self) -> Option<Reference<'a>> {
        self.envelope
            .values(TEXT_PLACES, ENGINE_TEXT_PLACES)
            .find_map(Reference::of)
    }

    fn media(
        &self,
        kind: ContentKind,
        embedded: Option<&str>,
        (raw, held): (Option<&str>, Option<Reference<'_>>),
    ) -> MediaRef {
        let bytes = self
            .envelope
            .values(&["/message/size"], &["/size"])
            .find_map(Value::as_u64);
        let there = match held {
            Some(held) => held.bytes,
            None => raw.map_or(0, |text| text.len() as u64 / 4 * 3),
        };
        let is_sound = matches!(kind, ContentKind::Audio | ContentKind::Voice);
        MediaRef {
            kind,
            mime: self
                .envelope
                .text(&["/message/mimetype", "/data/mimetype"], &["/mimetype"])
                .map(label)
                .or_else(|| embedded.map(str::to_owned)),
            bytes,
            file_name: self
                .envelope
                .text(
                    &["/message/fileName", "/message/filename"],
                    &["/filename", "/fileName"],
                )
                .map(label),
            message_id: self.key.as_ref().map(MessageKey::expose),
            // Voice notes come whole, pictures as a thumbnail (facts §1.4, Media).
            is_inline: embedded.is_some()
                && (is_sound || bytes.is_some_and(|bytes| there + 3 >= bytes)),
            sha256: held.map(|held| held.sha256.to_owned()),
        }
    }
}

fn key(envelope: &Envelope<'_>) -> Option<MessageKey> {
    envelope
        .values(
            &[
                "/message/id",
                "/message/key",
                "/data/id",
                "/data/key",
                "/data/message/id",
                "/messageId",
                "/message_id",
            ],
            &["/id", "/key"],
        )
        .find_map(message_key_of)
}

/// The id tells whose message it is; flags come second, names of events last: an event called
/// `message` may well be ours (facts §1.4, incident 46).
fn from_me(envelope: &Envelope<'_>, key: Option<&MessageKey>) -> bool {
    key.and_then(|key| key.from_me)
        .or_else(|| {
            envelope
                .values(
                    &[
                        "/fromMe",
                        "/message/fromMe",
                        "/message/key/fromMe",
                        "/data/fromMe",
                        "/data/key/fromMe",
                    ],
                    &["/fromMe", "/key/fromMe"],
                )
                .find_map(flag)
        })
        .unwrap_or_else(|| {
            envelope.wire() == Wire::Echo
                || envelope.engine_name().as_deref() == Some("onselfmessage")
        })
}

/// The conversation that the message belongs to. A group is one whoever wrote in it (facts §8,
/// incident 36).
fn counterpart(envelope: &Envelope<'_>, key: Option<&MessageKey>, from_me: bool) -> Option<Jid> {
    let chat = || {
        envelope
            .jid(
                &[
                    "/message/key/remoteJid",
                    "/data/key/remoteJid",
                    "/message/chatId",
                    "/chatId",
                ],
                &["/key/remoteJid", "/chatId"],
            )
            .or_else(|| key?.chat.clone())
    };
    let group = chat()
        .filter(Jid::is_group)
        .or_else(|| key?.chat.clone().filter(Jid::is_group));
    if group.is_some() {
        return group;
    }
    let named = if from_me {
        envelope.jid(&["/message/to", "/to", "/data/to"], &["/to"])
    } else {
        envelope.jid(&["/message/from", "/from", "/data/from"], &["/from"])
    };
    named.or_else(chat)
}

fn content(envelope: &Envelope<'_>) -> Content {
    let Some(word) = envelope.message_type() else {
        return Content::Written(baileys_kind(envelope).unwrap_or(ContentKind::Text));
    };
    let kind = match word.to_ascii_lowercase().as_str() {
        "chat" | "text" => ContentKind::Text,
        "ptt" | "voice" => ContentKind::Voice,
        "audio" => ContentKind::Audio,
        "image" => ContentKind::Image,
        "video" => ContentKind::Video,
        "document" => ContentKind::Document,
        "sticker" => ContentKind::Sticker,
        "location" => ContentKind::Location,
        "vcard" | "multi_vcard" => ContentKind::ContactCard,
        "ciphertext" => ContentKind::Undecrypted,
        "e2e_notification"
        | "notification_template"
        | "notification"
        | "gp2"
        | "call_log"
        | "protocol"
        | "revoked"
        | "broadcast_notification" => return Content::System(word),
        _ => ContentKind::Other,
    };
    Content::Written(kind)
}

/// The kind by the member that Baileys names it with.
fn baileys_kind(envelope: &Envelope<'_>) -> Option<ContentKind> {
    let message = envelope.values(&["/message/message"], &[]).next()?;
    [
        ("imageMessage", ContentKind::Image),
        ("videoMessage", ContentKind::Video),
        ("audioMessage", ContentKind::Audio),
        ("documentMessage", ContentKind::Document),
        ("stickerMessage", ContentKind::Sticker),
        ("locationMessage", ContentKind::Location),
        ("contactMessage", ContentKind::ContactCard),
    ]
    .into_iter()
    .find(|(name, _)| message.get(name).is_some())
    .map(|(_, kind)| kind)
}

fn kind_of_mime(mime: &str) -> ContentKind {
    match mime.split('/').next() {
        Some("audio") => ContentKind::Voice,
        Some("image") => ContentKind::Image,
        Some("video") => ContentKind::Video,
        _ => ContentKind::Document,
    }
}
