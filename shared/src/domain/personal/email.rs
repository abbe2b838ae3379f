//! Addresses of e-mail.

use super::prints_masked;
use crate::domain::mask::mask_email;

/// The longest address (RFC 5321 §4.5.3.1.3, without the angle brackets), in bytes.
const LONGEST: usize = 254;
/// The longest name before the `@` (RFC 5321 §4.5.3.1.1), in bytes.
const LONGEST_NAME: usize = 64;

/// Why a text is no address of e-mail. Never repeats the text, which is personal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEmail {
    /// No name, no host, or more than one `@`.
    #[error("an e-mail is a name, one @ and a host")]
    Form,
    /// A sign that no mail server takes, or a line break that would begin another header.
    #[error("an e-mail has no blanks, control characters, commas or brackets")]
    Signs,
    /// The host is no name with a dot.
    #[error("the host of an e-mail is a name like example.com")]
    Host,
    /// Longer than mail servers take.
    #[error("an e-mail has at most 254 bytes, 64 of them before the @")]
    Length,
}

/// An address of e-mail, as it was given. Prints `f***@example.com`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Email(String);

impl Email {
    /// Reads one address, without a display name. Quoted names and hosts in brackets, which RFC 5321
    /// allows and nobody has, are refused.
    ///
    /// # Errors
    /// Tells what is wrong; nothing is guessed, so have a person correct the address.
    pub fn parse(raw: &str) -> Result<Self, InvalidEmail> {
        let raw = raw.trim();
        if raw.len() > LONGEST {
            return Err(InvalidEmail::Length);
        }
        let foreign = |c: char| {
            c.is_whitespace()
                || c.is_control()
                || matches!(
                    c,
                    ',' | ';' | ':' | '<' | '>' | '(' | ')' | '[' | ']' | '"' | '\\'
                )
        };
        if raw.contains(foreign) {
            return Err(InvalidEmail::Signs);
        }
        let (name, host) = raw.split_once('@').ok_or(InvalidEmail::Form)?;
        if name.is_empty() || host.is_empty() || host.contains('@') {
            return Err(InvalidEmail::Form);
        }
        if name.len() > LONGEST_NAME {
            return Err(InvalidEmail::Length);
        }
        if name.starts_with('.') || name.ends_with('.') || name.contains("..") {
            return Err(InvalidEmail::Form);
        }
        let labels: Vec<&str> = host.split('.').collect();
        let lawful = labels.len() > 1
            && labels.iter().all(|label| {
                !label.is_empty()
                    && label.len() <= 63
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label.chars().all(|c| c.is_alphanumeric() || c == '-')
            });
        if !lawful {
            return Err(InvalidEmail::Host);
        }
        Ok(Self(raw.to_owned()))
    }

    /// The address, in clear: for a store or a send, never for a log.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

prints_masked!(Email, |email: &Email| mask_email(&email.0), Email::parse);
