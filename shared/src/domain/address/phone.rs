//! Phones: the one parser, and the key by which two spellings of one number match.

use super::LONGEST_ADDRESS;
use crate::domain::mask;
use crate::domain::personal::prints_masked;

/// The area codes of Brazil (facts §5.1).
pub(super) const AREA_CODES: [u8; 67] = [
    11, 12, 13, 14, 15, 16, 17, 18, 19, 21, 22, 24, 27, 28, 31, 32, 33, 34, 35, 37, 38, 41, 42, 43,
    44, 45, 46, 47, 48, 49, 51, 53, 54, 55, 61, 62, 63, 64, 65, 66, 67, 68, 69, 71, 73, 74, 75, 77,
    79, 81, 82, 83, 84, 85, 86, 87, 88, 89, 91, 92, 93, 94, 95, 96, 97, 98, 99,
];

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
            if let Some(national) = digits.strip_prefix("55") {
                return brazilian(national);
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
    pub(super) fn from_provider(digits: &str) -> Option<Self> {
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
    fn is_brazilian(&self) -> bool {
        self.0.starts_with("55") && matches!(self.0.len(), 12 | 13)
    }
}

prints_masked!(
    Phone,
    |phone: &Phone| mask::mask_phone(&phone.0),
    Phone::parse_brazil
);

/// True for an area code of Brazil.
pub(crate) fn is_area_code(digits: &str) -> bool {
    digits.len() == 2
        && digits
            .parse::<u8>()
            .is_ok_and(|code| AREA_CODES.contains(&code))
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
