//! Links that open a bill: whoever has one sees name, CPF and address of whom it is for, and pays it.

use super::prints_masked;
use crate::domain::mask::HIDDEN;

/// Why a text is no link to a bill. Never repeats the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBillLink {
    /// Not `https://…` or `http://…`.
    #[error("a link begins with https:// or http://")]
    Scheme,
    /// No host, or a user and a password before it.
    #[error("a link names a host, and nobody before it")]
    Host,
    /// Blanks, control characters, or more than 2,048 bytes.
    #[error("a link has no blanks and at most 2048 bytes")]
    Form,
}

/// A bearer link (`invoiceUrl`, `bankSlipUrl` of Asaas), as it was given. Prints its scheme and host:
/// `https://www.asaas.com/***`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BillLink(String);

impl BillLink {
    /// Reads a link.
    ///
    /// # Errors
    /// Tells what is wrong.
    pub fn parse(raw: &str) -> Result<Self, InvalidBillLink> {
        let raw = raw.trim();
        if raw.len() > 2048 || raw.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(InvalidBillLink::Form);
        }
        let (scheme, rest) = raw.split_once("://").ok_or(InvalidBillLink::Scheme)?;
        if !matches!(scheme.to_ascii_lowercase().as_str(), "https" | "http") {
            return Err(InvalidBillLink::Scheme);
        }
        let host = &rest[..host_len(rest)];
        if host.is_empty() || host.starts_with(':') || host.contains(['@', '\\']) {
            return Err(InvalidBillLink::Host);
        }
        Ok(Self(raw.to_owned()))
    }

    /// The link, in clear: for a message to whom the bill is for, never for a log.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn masked(&self) -> String {
        let host = self.0.find("://").map_or(0, |at| at + 3);
        let end = host + host_len(&self.0[host..]);
        let rest = if end < self.0.len() { "/" } else { "" };
        let hidden = if rest.is_empty() { "" } else { HIDDEN };
        format!("{}{rest}{hidden}", &self.0[..end])
    }
}

fn host_len(rest: &str) -> usize {
    rest.find(['/', '?', '#']).unwrap_or(rest.len())
}

prints_masked!(BillLink, |link: &BillLink| link.masked(), BillLink::parse);
