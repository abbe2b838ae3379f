//! WhatsApp message ids.

use std::fmt;

use super::jid::Jid;
use crate::domain::mask;

/// The id of a WhatsApp message, `‹fromMe›_‹chat›_‹key id›[_‹participant›]` or a bare key id.
///
/// Only the key id joins an echo, its acks and its copies: the chat may be a phone in one and a
/// LID in the other (conventions A4).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct MessageKey {
    /// Whether we sent it; `None` for a bare id.
    pub from_me: Option<bool>,
    /// The conversation; `None` for a bare id, and when it is no address that we know.
    pub chat: Option<Jid>,
    /// What is unique within a session.
    pub key_id: String,
    /// Who wrote it, in a group.
    pub participant: Option<Jid>,
}

/// The text is no message id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a message id")]
pub struct InvalidMessageKey;

impl MessageKey {
    /// Reads a message id.
    ///
    /// # Errors
    ///
    /// When it is empty, too long, or holds control characters or spaces; the event then has no
    /// natural key.
    pub fn parse(raw: &str) -> Result<Self, InvalidMessageKey> {
        let raw = raw.trim();
        let lawful = !raw.is_empty()
            && raw.len() <= 255
            && !raw.chars().any(|c| c.is_control() || c.is_whitespace());
        if !lawful {
            return Err(InvalidMessageKey);
        }
        let bare = || Self {
            from_me: None,
            chat: None,
            key_id: raw.to_owned(),
            participant: None,
        };
        let mut parts = raw.splitn(4, '_');
        let (Some(side), Some(chat), Some(key_id)) = (parts.next(), parts.next(), parts.next())
        else {
            return Ok(bare());
        };
        let from_me = match side {
            "true" => true,
            "false" => false,
            _ => return Ok(bare()),
        };
        if key_id.is_empty() {
            return Err(InvalidMessageKey);
        }
        Ok(Self {
            from_me: Some(from_me),
            chat: Jid::parse(chat).ok(),
            key_id: key_id.to_owned(),
            participant: parts.next().and_then(|text| Jid::parse(text).ok()),
        })
    }

    /// The id in its full spelling, in clear; the bare key id when nothing else is known.
    #[must_use]
    pub fn expose(&self) -> String {
        match (self.from_me, &self.chat) {
            (Some(from_me), Some(chat)) => {
                let head = format!("{from_me}_{}_{}", chat.expose(), self.key_id);
                match &self.participant {
                    Some(participant) => format!("{head}_{}", participant.expose()),
                    None => head,
                }
            }
            _ => self.key_id.clone(),
        }
    }
}

impl fmt::Debug for MessageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageKey")
            .field("from_me", &self.from_me)
            .field("chat", &self.chat)
            .field("key_id", &mask::mask_text(&self.key_id))
            .field("participant", &self.participant)
            .finish()
    }
}
