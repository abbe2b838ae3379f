//! Who a message comes from or goes to: phones, WhatsApp ids and message ids. The one parser of
//! each (facts §8, incident 27).
//!
//! Invariant: the address that a provider gave is kept as it came and is what we send to; it is
//! never rewritten. Two addresses are compared by their *match key*, which does not see the ninth
//! digit (facts §5.1, conventions D6). Printing an address shows it masked; `expose` does not.

use std::fmt;

use super::mask;

/// The area codes of Brazil (facts §5.1).
const AREA_CODES: [u8; 67] = [
    11, 12, 13, 14, 15, 16, 17, 18, 19, 21, 22, 24, 27, 28, 31, 32, 33, 34, 35, 37, 38, 41, 42, 43,
    44, 45, 46, 47, 48, 49, 51, 53, 54, 55, 61, 62, 63, 64, 65, 66, 67, 68, 69, 71, 73, 74, 75, 77,
    79, 81, 82, 83, 84, 85, 86, 87, 88, 89, 91, 92, 93, 94, 95, 96, 97, 98, 99,
];

/// Longer texts are no address; the bound keeps the parsers cheap on hostile input.
const LONGEST_ADDRESS: usize = 128;

/// A phone as E.164 digits, country code first, without `+`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Phone(String);

/// The text is no phone: ask for it again, with its area code. Says nothing of the text, which
/// is personal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPhone {
    /// It holds letters or other signs that no phone has.
    #[error("a phone has digits only, formatted or not")]
    NotANumber,
    /// Too few or too many digits.
    #[error("a phone has 10 or 11 digits, 12 or 13 with country code 55, or a + and 8 to 15")]
    Length,
    /// No area code of Brazil.
    #[error("the area code does not exist")]
    AreaCode,
    /// A Brazilian subscriber number starts with 2 to 9, with nine digits always with 9.
    #[error("no subscriber number starts like that")]
    Subscriber,
}

impl Phone {
    /// Reads a phone as people and systems in Brazil write it.
    ///
    /// Ten or eleven digits get country code 55, also when their area code is 55 ("(55)
    /// 99999-0000", the trap of facts §5.1); twelve or thirteen digits that start with 55 are
    /// kept; a trunk zero, with or without a carrier code, is dropped; another country's number
    /// needs its `+`. The ninth digit is neither added nor removed.
    ///
    /// # Errors
    ///
    /// Tells what is wrong; nothing is guessed, so have a person correct the number.
    pub fn parse_brazil(raw: &str) -> Result<Self, InvalidPhone> {
        let raw = raw.trim();
        if raw.len() > LONGEST_ADDRESS {
            return Err(InvalidPhone::Length);
        }
        let international = raw.chars().find(|c| c.is_ascii_digit() || *c == '+') == Some('+');
        let digits = digits_of_formatted(raw, international)?;
        if international {
            if digits.starts_with("55") {
                return brazilian(&digits[2..]);
            }
            return match digits.len() {
                8..=15 if !digits.starts_with('0') => Ok(Self(digits)),
                _ => Err(InvalidPhone::Length),
            };
        }
        match (without_trunk(&digits), digits.len()) {
            (Some(national), _) => brazilian(national),
            (None, 10 | 11) => brazilian(&digits),
            (None, 12 | 13) if digits.starts_with("55") => brazilian(&digits[2..]),
            (None, _) => Err(InvalidPhone::Length),
        }
    }

    /// The digits of a WhatsApp id: what a provider gave is not judged by the rules of telephony,
    /// which do not know the old eight-digit accounts (conventions D5).
    fn from_provider(digits: &str) -> Option<Self> {
        let lawful = (7..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        lawful.then(|| Self(digits.to_owned()))
    }

    /// The digits, in clear: for a send or a look-up, never for a log.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What two spellings of one number have in common: country, area and the last eight digits
    /// for Brazil, so that 5547999900011 and 554799900011 are the same; else all digits.
    #[must_use]
    pub fn match_key(&self) -> String {
        let digits = &self.0;
        if self.is_brazilian() {
            format!("{}{}", &digits[..4], &digits[digits.len() - 8..])
        } else {
            digits.clone()
        }
    }

    /// True for the numbers of Brazil, with or without the ninth digit.
    #[must_use]
    pub fn is_brazilian(&self) -> bool {
        self.0.starts_with("55") && matches!(self.0.len(), 12 | 13)
    }
}

impl fmt::Debug for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mask::mask_phone(&self.0))
    }
}

impl fmt::Display for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mask::mask_phone(&self.0))
    }
}

/// True for an area code of Brazil.
pub(crate) fn is_area_code(digits: &str) -> bool {
    digits.len() == 2
        && digits
            .parse::<u8>()
            .is_ok_and(|code| AREA_CODES.contains(&code))
}

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

    /// The part before the server, without a device, in clear.
    #[must_use]
    pub fn expose_user(&self) -> &str {
        &self.user
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

/// The digits of a formatted number; anything that is not a digit must be mere formatting.
fn digits_of_formatted(raw: &str, international: bool) -> Result<String, InvalidPhone> {
    let pluses = raw.matches('+').count();
    let foreign_sign = raw.chars().any(|c| {
        c.is_alphanumeric() && !c.is_ascii_digit()
            || matches!(c, '@' | '_' | '#' | '*' | ',' | ';' | ':')
    });
    if foreign_sign || pluses > usize::from(international) {
        return Err(InvalidPhone::NotANumber);
    }
    let digits: String = raw.chars().filter(char::is_ascii_digit).collect();
    if digits.is_empty() {
        return Err(InvalidPhone::NotANumber);
    }
    Ok(digits)
}

/// The national number behind a trunk zero: 0 + area code + number, or 0 + the two digits of a
/// carrier + area code + number.
fn without_trunk(digits: &str) -> Option<&str> {
    let rest = digits.strip_prefix('0')?;
    match rest.len() {
        10 | 11 => Some(rest),
        12 | 13 => rest.get(2..),
        _ => None,
    }
}

/// A Brazilian number from its area code and subscriber number.
fn brazilian(national: &str) -> Result<Phone, InvalidPhone> {
    let (Some(area), Some(subscriber)) = (national.get(..2), national.get(2..)) else {
        return Err(InvalidPhone::Length);
    };
    let first = subscriber.bytes().next();
    match (subscriber.len(), first) {
        (8 | 9, _) if !is_area_code(area) => Err(InvalidPhone::AreaCode),
        (9, Some(b'9')) | (8, Some(b'2'..=b'9')) => Ok(Phone(format!("55{national}"))),
        (8 | 9, _) => Err(InvalidPhone::Subscriber),
        _ => Err(InvalidPhone::Length),
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn digits(raw: &str) -> Result<String, InvalidPhone> {
        Phone::parse_brazil(raw).map(|phone| phone.expose().to_owned())
    }

    #[test]
    fn phones_as_people_write_them_become_digits_with_country_code() {
        for (raw, wanted) in [
            ("(47) 99990-0011", "5547999900011"),
            ("47 9990-0033", "554799900033"),
            ("11 98880-0022", "5511988800022"),
            ("5547999900011", "5547999900011"),
            ("554799900011", "554799900011"),
            ("+55 47 99990-0011", "5547999900011"),
            ("+55 (47) 9990-0011", "554799900011"),
            ("(+55) 47 99990-0011", "5547999900011"),
            ("(55) 99999-0000", "5555999990000"),
            ("55999990000", "5555999990000"),
            ("5533334444", "555533334444"),
            ("+5555999990000", "5555999990000"),
            ("047 99990-0011", "5547999900011"),
            ("(047) 3333-4444", "554733334444"),
            ("0 15 47 99990-0011", "5547999900011"),
            (
                "\u{202a}+55\u{a0}47\u{a0}99990\u{2011}0011\u{202c}",
                "5547999900011",
            ),
            ("+1 415 555 2671", "14155552671"),
            ("+351 912 345 678", "351912345678"),
            ("2178901234", "552178901234"),
        ] {
            assert_eq!(digits(raw).as_deref(), Ok(wanted), "{raw}");
        }
    }

    #[test]
    fn what_cannot_be_a_phone_is_refused_with_its_reason() {
        use InvalidPhone::{AreaCode, Length, NotANumber, Subscriber};
        for (raw, wanted) in [
            ("", NotANumber),
            ("abc", NotANumber),
            ("(47) 9999O-0011", NotANumber),
            ("47 99990-0011 / 47 99990-0012", Length),
            ("47 99990-0011 ramal 2", NotANumber),
            ("5547999900011@c.us", NotANumber),
            ("+55+47999900011", NotANumber),
            ("٤٧٩٩٩٩٠٠٠١١", NotANumber),
            ("99990-0011", Length),
            ("14155552671234", Length),
            ("111122223333444", Length),
            ("+1234567", Length),
            ("+1234567890123456", Length),
            ("+55 11", Length),
            ("20 99999-8888", AreaCode),
            ("5520999998888", AreaCode),
            ("11 86123-4567", Subscriber),
            ("47 1990-0011", Subscriber),
            ("5511861234567", Subscriber),
        ] {
            assert_eq!(digits(raw), Err(wanted), "{raw}");
        }
        assert!(digits(&"4".repeat(100_000)).is_err());
    }

    #[test]
    fn the_cases_of_the_conventions_hold() {
        let cases: Value =
            serde_json::from_str(include_str!("../source/fixtures/brazil/phone-cases.json"))
                .unwrap();
        for case in cases["cases"].as_array().unwrap() {
            let national = case["national"].as_str().unwrap();
            let class = case["class"].as_str().unwrap();
            let parsed = Phone::parse_brazil(national);
            let legacy = case.get("canonical").and_then(Value::as_str);
            match (parsed, legacy) {
                (Ok(phone), Some(canonical)) => {
                    assert_eq!(phone.expose(), format!("55{national}"), "never rewritten");
                    assert_eq!(
                        phone.match_key(),
                        Phone::parse_brazil(canonical).unwrap().match_key()
                    );
                }
                (Ok(_), None) => assert!(!class.contains("INVALID"), "{national}"),
                (Err(_), _) => assert!(class.starts_with("INVALID"), "{national}: {class}"),
            }
        }
        for case in cases["jid_candidates"].as_array().unwrap() {
            let phone = Phone::parse_brazil(case["e164"].as_str().unwrap()).unwrap();
            for candidate in case["try"].as_array().unwrap() {
                let jid = Jid::parse(candidate.as_str().unwrap()).unwrap();
                assert_eq!(jid.contact_key(), contact_key_of(&phone));
            }
        }
    }

    #[test]
    fn every_form_of_a_whatsapp_address_has_its_kind_and_key() {
        use JidKind::{Broadcast, Group, Lid, Newsletter, Phone};
        for (raw, kind, key) in [
            ("554799900011@c.us", Phone, "tel:554799900011"),
            ("5547999900011@c.us", Phone, "tel:554799900011"),
            ("5547999900011:12@s.whatsapp.net", Phone, "tel:554799900011"),
            ("5547999900011@S.WhatsApp.net", Phone, "tel:554799900011"),
            ("14155552671@c.us", Phone, "tel:14155552671"),
            ("5511988800022", Phone, "tel:551188800022"),
            ("111122223333444@lid", Lid, "lid:111122223333444"),
            ("111122223333444:3@lid", Lid, "lid:111122223333444"),
            ("55112222333344@lid", Lid, "lid:55112222333344"),
            ("111122223333444", Lid, "lid:111122223333444"),
            ("5511222233334445", Lid, "lid:5511222233334445"),
            ("120363000000000001@g.us", Group, "group:120363000000000001"),
            (
                "554799900011-1412345678@g.us",
                Group,
                "group:554799900011-1412345678",
            ),
            ("status@broadcast", Broadcast, "broadcast:status"),
            ("stories", Broadcast, "broadcast:status"),
            (
                "120363111111111111@newsletter",
                Newsletter,
                "newsletter:120363111111111111",
            ),
        ] {
            let jid = Jid::parse(raw).unwrap_or_else(|_| panic!("{raw}"));
            assert_eq!(
                (jid.kind(), jid.contact_key().as_str()),
                (kind, key),
                "{raw}"
            );
            assert_eq!(jid.expose(), raw, "the address as given is kept");
        }
        for raw in [
            "",
            "@",
            "@c.us",
            "0@c.us",
            "abc@c.us",
            "12:ab@c.us",
            "1@2@c.us",
            "123456",
            "joao",
            "fulano@example.com",
            "(47) 99990-0011",
            "-1@g.us",
        ] {
            assert_eq!(Jid::parse(raw), Err(InvalidJid), "{raw}");
        }
    }

    #[test]
    fn message_ids_are_read_by_their_third_segment() {
        let key = MessageKey::parse("true_554799900011@c.us_3EB0B20000000000000011").unwrap();
        assert_eq!(key.from_me, Some(true));
        assert_eq!(key.key_id, "3EB0B20000000000000011");
        assert_eq!(key.chat.unwrap().contact_key(), "tel:554799900011");
        assert_eq!(key.participant, None);

        let group = "false_120363000000000001@g.us_2AE6A50000000000000005_222233334444555@lid";
        let key = MessageKey::parse(group).unwrap();
        assert_eq!(key.key_id, "2AE6A50000000000000005");
        assert_eq!(
            key.participant.as_ref().unwrap().contact_key(),
            "lid:222233334444555"
        );
        assert_eq!(key.expose(), group);

        for bare in ["3EB0B2", "test_69616252037c3", "ABC123", "wamid.HBgM_x_y"] {
            let key = MessageKey::parse(bare).unwrap();
            assert_eq!((key.from_me, key.key_id.as_str()), (None, bare));
        }
        for bad in ["", "  ", "a b", "true_1@c.us_", "a\u{0}b"] {
            assert_eq!(MessageKey::parse(bad), Err(InvalidMessageKey), "{bad:?}");
        }
    }

    #[test]
    fn printing_an_address_shows_no_phone() {
        let phone = Phone::parse_brazil("(47) 99990-0011").unwrap();
        let jid = Jid::parse("5547999900011@c.us").unwrap();
        let lid = Jid::parse("111122223333444@lid").unwrap();
        let key = MessageKey::parse("true_5547999900011@c.us_3EB0B2").unwrap();
        let printed = format!("{phone} {phone:?} {jid} {jid:?} {lid} {lid:?} {key:?}");
        for clear in ["99990", "5547999900011", "47999900011", "111122223333444"] {
            assert!(!printed.contains(clear), "{printed}");
        }
    }

    fn national() -> impl Strategy<Value = (String, String)> {
        (
            proptest::sample::select(AREA_CODES.to_vec()),
            6_000_0000_u32..=9_999_9999,
        )
            .prop_map(|(area, local)| (area.to_string(), local.to_string()))
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in any::<String>(), near in "[0-9+() .@:_a-z-]{0,40}") {
            for text in [text, near] {
                let _ = Phone::parse_brazil(&text);
                if let Ok(jid) = Jid::parse(&text) {
                    let _ = (jid.phone(), jid.contact_key(), format!("{jid}{jid:?}"));
                }
                if let Ok(key) = MessageKey::parse(&text) {
                    let _ = (key.expose(), format!("{key:?}"));
                }
            }
        }

        #[test]
        fn the_ninth_digit_is_never_touched_and_never_matters((area, local) in national()) {
            let with = Phone::parse_brazil(&format!("({area}) 9{}-{}", &local[..4], &local[4..])).unwrap();
            let without = Phone::parse_brazil(&format!("{area}{local}")).unwrap();
            prop_assert_eq!(with.expose(), format!("55{area}9{local}"));
            prop_assert_eq!(without.expose(), format!("55{area}{local}"));
            prop_assert_eq!(with.match_key(), without.match_key());
        }

        #[test]
        fn a_parsed_phone_parses_to_itself((area, local) in national()) {
            let phone = Phone::parse_brazil(&format!("{area}9{local}")).unwrap();
            prop_assert_eq!(Phone::parse_brazil(phone.expose()).unwrap(), phone.clone());
            prop_assert_eq!(Phone::parse_brazil(&format!("+{}", phone.expose())).unwrap(), phone);
        }

        #[test]
        fn an_address_reads_back_from_its_canonical_spelling(
            user in "[1-9][0-9]{9,14}",
            server in proptest::sample::select(vec!["c.us", "s.whatsapp.net", "lid", "g.us", "newsletter"]),
        ) {
            let jid = Jid::parse(&format!("{user}@{server}")).unwrap();
            let again = Jid::parse(&jid.expose_canonical()).unwrap();
            prop_assert_eq!(again.contact_key(), jid.contact_key());
            prop_assert_eq!(again.kind(), jid.kind());
        }

        #[test]
        fn a_message_id_reads_back_from_its_full_spelling(
            from_me in any::<bool>(), user in "[1-9][0-9]{9,12}", id in "[0-9A-F]{10,32}",
        ) {
            let text = format!("{from_me}_{user}@c.us_{id}");
            let key = MessageKey::parse(&text).unwrap();
            prop_assert_eq!(key.expose(), text);
            prop_assert_eq!(key.key_id, id);
        }
    }
}
