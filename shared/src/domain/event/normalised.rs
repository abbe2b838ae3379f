//! What the router works on: an event, read.

use std::fmt;

use chrono::{DateTime, Utc};

use super::{Books, Direction};
use crate::domain::address::{Jid, Phone};
use crate::domain::delivery::Evidence;
use crate::domain::ids::{DeliveryId, TenantId};
use crate::domain::text::MessageText;

/// Somebody on the other side.
#[derive(Clone, PartialEq, Eq)]
pub struct Contact {
    /// The address exactly as it was given; also when it is none.
    pub address: String,
    /// The address, when it is a WhatsApp one.
    pub jid: Option<Jid>,
    /// The phone, when the address is one. A LID has none, which is normal.
    pub phone: Option<Phone>,
    /// The key under which the contact is known; `None` when the address cannot be read.
    pub contact_key: Option<String>,
    /// The name that the contact gave itself; never used to merge.
    pub name: Option<String>,
    /// True for a group.
    pub is_group: bool,
    /// Who wrote, in a group.
    pub participant: Option<Participant>,
}

/// A member of a group.
#[derive(Clone, PartialEq, Eq)]
pub struct Participant {
    /// The address.
    pub jid: Jid,
    /// The name that the member gave itself.
    pub name: Option<String>,
}

impl fmt::Debug for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contact")
            .field("jid", &self.jid)
            .field("phone", &self.phone)
            .field("is_group", &self.is_group)
            .field("participant", &self.participant)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Participant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.jid.fmt(f)
    }
}

/// What a message carries, beside or instead of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContentKind {
    /// Words.
    Text,
    /// A picture.
    Image,
    /// A film.
    Video,
    /// A sound file.
    Audio,
    /// A voice note.
    Voice,
    /// A file.
    Document,
    /// A sticker.
    Sticker,
    /// A place.
    Location,
    /// One contact card or more.
    ContactCard,
    /// Not decrypted yet; the same message comes again with its content (facts §0.6).
    Undecrypted,
    /// Anything else, with or without words.
    Other,
}

impl ContentKind {
    /// The text in rows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Image => "image",
            Self::Video => "video",
            Self::Audio => "audio",
            Self::Voice => "voice",
            Self::Document => "document",
            Self::Sticker => "sticker",
            Self::Location => "location",
            Self::ContactCard => "contact_card",
            Self::Undecrypted => "undecrypted",
            Self::Other => "other",
        }
    }

    /// True for what is a file behind a reference.
    #[must_use]
    pub const fn is_file(self) -> bool {
        matches!(
            self,
            Self::Image | Self::Video | Self::Audio | Self::Voice | Self::Document | Self::Sticker
        )
    }
}

/// A file that belongs to a message.
#[derive(Clone, PartialEq, Eq)]
pub struct MediaRef {
    /// What it is.
    pub kind: ContentKind,
    /// Its MIME type, as told or as its first bytes tell.
    pub mime: Option<String>,
    /// Its size, as told.
    pub bytes: Option<u64>,
    /// Its name, for documents.
    pub file_name: Option<String>,
    /// The message id by which the gateway gives it out (facts §1.4: by id, not by media key).
    pub message_id: Option<String>,
    /// True when the payload held the whole file, not a thumbnail.
    pub is_inline: bool,
    /// The hash, in hexadecimal, by which what the payload held is kept: the file or its thumbnail.
    pub sha256: Option<String>,
}

impl fmt::Debug for MediaRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MediaRef")
            .field("kind", &self.kind)
            .field("mime", &self.mime)
            .field("bytes", &self.bytes)
            .field("is_inline", &self.is_inline)
            .finish_non_exhaustive()
    }
}

/// What the router works on: one event, read.
#[derive(Clone, Debug, PartialEq)]
pub struct NormalisedEvent {
    /// What happened.
    pub event_type: String,
    /// Whose event it is.
    pub source_system: String,
    /// The customer that the source named.
    pub tenant_id: Option<TenantId>,
    /// The sending account, as the provider or the payload writes it.
    pub channel_account: Option<String>,
    /// Which way the message goes, for messages.
    pub direction: Option<Direction>,
    /// The other side.
    pub contact: Option<Contact>,
    /// The words.
    pub text: Option<MessageText>,
    /// The file.
    pub media: Option<MediaRef>,
    /// When it happened; when it was received, where the source does not tell.
    pub occurred_at: DateTime<Utc>,
    /// What kind of fact it is.
    pub kind: NormalisedKind,
}

/// The kinds of fact that the router tells apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NormalisedKind {
    /// An event of a source of our own.
    Generic,
    /// A customer wrote.
    InboundMessage {
        /// Unique within the session; `None` when the provider gave no id.
        key_id: Option<String>,
        /// What the message carries.
        content: ContentKind,
    },
    /// A message of ours that the session reports as typed on its phone or by its engine. It may
    /// still be one of our sends: binding decides.
    DeviceMessage(SentMessage),
    /// The echo of a message that was sent through the gateway.
    Echo(SentMessage),
    /// How far a message got.
    Ack {
        /// Unique within the session.
        key_id: String,
        /// The level on WPPConnect's scale; `None` for a word that we do not know.
        level: Option<i32>,
        /// The level as the provider wrote it.
        raw_level: String,
        /// False for acks of messages that we received (we read them): no evidence of a delivery.
        from_me: bool,
        /// What it is evidence of; always `None` for messages that we received.
        evidence: Option<Evidence>,
    },
    /// The state of a sending account changed.
    Session {
        /// What it is now.
        state: SessionState,
        /// The provider's word for it.
        raw_status: String,
    },
    /// A notice of WhatsApp's that no person wrote; it opens no conversation.
    System {
        /// The provider's word for it.
        notice: String,
    },
    /// A payment provider tells of its books.
    Books(Books),
    /// Stored, and nothing more is known to be done with it.
    Unhandled,
}

/// A message of ours, as the session reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentMessage {
    /// Unique within the session.
    pub key_id: Option<String>,
    /// What the gateway answered to the send, or a fresh id of its own.
    pub gateway_correlation_id: Option<String>,
    /// Our own id of the delivery, when the gateway gave our metadata back.
    pub delivery_id: Option<DeliveryId>,
    /// What the message carries.
    pub content: ContentKind,
    /// The engine's ack level at the time of the report.
    pub level: Option<i32>,
}

/// Whether a sending account can send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionState {
    /// The provider says that it is connected (which may be a lie, facts §0.7).
    Up,
    /// It cannot send.
    Down,
    /// The word says neither.
    Other,
}

impl SessionState {
    /// The text in rows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Other => "other",
        }
    }
}
