//! WhatsApp addresses: people by phone or by LID, groups, and what nobody answers.

use std::fmt;

use super::LONGEST_ADDRESS;
use super::phone::Phone;
use crate::domain::mask;

/// What kind of WhatsApp address it is (facts §1.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JidKind {
    /// A person by phone: `…@c.us`, `…@s.whatsapp.net`.
    Phone,
    /// A person by an opaque number that is no phone: `…@lid`.
    Lid,
    /// A group: `…@g.us`.
    Group,
    /// Status updates and broadcast lists; nobody to answer to.
    Broadcast,
    /// A channel one follows.
    Newsletter,
}

/// A WhatsApp address.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Jid {
    kind: JidKind,
    user: String,
    given: String,
}

/// The text is no WhatsApp address; treat the contact as unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a WhatsApp address")]
pub struct InvalidJid;

impl Jid {
    /// Reads an address in any of the forms that engines write: with a server, with a device
    /// (`…:12@…`), or as bare digits, of which 14 to 20 that do not start with 55 are a LID whose
    /// suffix was lost (facts §1.4, incident 28).
    ///
    /// # Errors
    ///
    /// When it is none; the contact is then unknown, which is a normal state.
    pub fn parse(raw: &str) -> Result<Self, InvalidJid> {
        let raw = raw.trim();
        if raw.is_empty() || raw.len() > LONGEST_ADDRESS {
            return Err(InvalidJid);
        }
        let (kind, user) = match raw.split_once('@') {
            None => bare(raw)?,
            Some((user, server)) => with_server(user, server)?,
        };
        Ok(Self {
            kind,
            user: user.to_owned(),
            given: raw.to_owned(),
        })
    }

    /// What kind of address it is.
    #[must_use]
    pub const fn kind(&self) -> JidKind {
        self.kind
    }

    /// True for a group.
    #[must_use]
    pub const fn is_group(&self) -> bool {
        matches!(self.kind, JidKind::Group)
    }

    /// True when one can write to it and be read by people: a person or a group.
    #[must_use]
    pub const fn is_conversational(&self) -> bool {
        matches!(self.kind, JidKind::Phone | JidKind::Lid | JidKind::Group)
    }

    /// The phone, when the address is one.
    #[must_use]
    pub fn phone(&self) -> Option<Phone> {
        match self.kind {
            JidKind::Phone => Phone::from_provider(&self.user),
            _ => None,
        }
    }

    /// The address exactly as the provider gave it, in clear: this is what one answers to.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.given
    }

    /// The address in its one canonical spelling, in clear.
    #[must_use]
    pub fn expose_canonical(&self) -> String {
        let server = match self.kind {
            JidKind::Phone => "c.us",
            JidKind::Lid => "lid",
            JidKind::Group => "g.us",
            JidKind::Broadcast => "broadcast",
            JidKind::Newsletter => "newsletter",
        };
        format!("{}@{server}", self.user)
    }

    /// The key under which a contact is known: `tel:` with the match key, `lid:`, `group:`,
    /// `broadcast:` or `newsletter:` with the id.
    #[must_use]
    pub fn contact_key(&self) -> String {
        match (self.kind, self.phone()) {
            (JidKind::Phone, Some(phone)) => contact_key_of(&phone),
            (JidKind::Phone, None) => format!("tel:{}", self.user),
            (JidKind::Lid, _) => format!("lid:{}", self.user),
            (JidKind::Group, _) => format!("group:{}", self.user),
            (JidKind::Broadcast, _) => format!("broadcast:{}", self.user),
            (JidKind::Newsletter, _) => format!("newsletter:{}", self.user),
        }
    }
}

/// The key under which the contact of a phone is known; see [`Jid::contact_key`].
#[must_use]
pub fn contact_key_of(phone: &Phone) -> String {
    format!("tel:{}", phone.match_key())
}

impl fmt::Debug for Jid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}(***{})", self.kind, mask::last_chars(&self.user, 4))
    }
}

impl fmt::Display for Jid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.phone() {
            Some(phone) => phone.fmt(f),
            None => fmt::Debug::fmt(self, f),
        }
    }
}

fn bare(raw: &str) -> Result<(JidKind, &str), InvalidJid> {
    if matches!(raw, "status" | "stories") {
        return Ok((JidKind::Broadcast, "status"));
    }
    if !raw.bytes().all(|b| b.is_ascii_digit()) {
        return Err(InvalidJid);
    }
    match raw.len() {
        // No phone has more than 15 digits (E.164), whatever it starts with.
        16..=20 => Ok((JidKind::Lid, raw)),
        14 | 15 if !raw.starts_with("55") => Ok((JidKind::Lid, raw)),
        7..=15 => Ok((JidKind::Phone, raw)),
        _ => Err(InvalidJid),
    }
}

fn with_server<'a>(user: &'a str, server: &str) -> Result<(JidKind, &'a str), InvalidJid> {
    // Engines with several devices write them as `5547…:12@s.whatsapp.net`.
    let person = match user.split_once(':') {
        Some((person, device)) if device.bytes().all(|b| b.is_ascii_digit()) => person,
        Some(_) => return Err(InvalidJid),
        None => user,
    };
    let digits = !person.is_empty() && person.bytes().all(|b| b.is_ascii_digit());
    let server = server.to_ascii_lowercase();
    match server.as_str() {
        "c.us" | "s.whatsapp.net" if digits && (7..=15).contains(&person.len()) => {
            Ok((JidKind::Phone, person))
        }
        "lid" if digits && person.len() <= 20 => Ok((JidKind::Lid, person)),
        "newsletter" if digits => Ok((JidKind::Newsletter, person)),
        // Old groups are named for their founder: `5547…-1412345678@g.us`.
        "g.us" if is_group_id(user) => Ok((JidKind::Group, user)),
        "broadcast" if user.bytes().all(|b| b.is_ascii_alphanumeric()) && !user.is_empty() => {
            Ok((JidKind::Broadcast, user))
        }
        _ => Err(InvalidJid),
    }
}

fn is_group_id(user: &str) -> bool {
    user.bytes().next().is_some_and(|b| b.is_ascii_digit())
        && user.bytes().all(|b| b.is_ascii_digit() || b == b'-')
}
