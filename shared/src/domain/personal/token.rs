//! Tokens: whatever lets in whoever shows it.

use super::prints_masked;
use crate::domain::mask::HIDDEN;

/// A token, a key or a code. Prints `***`: not even its length.
///
/// It has no equality on purpose: secrets are compared in constant time, where they are checked.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Wraps a token, without the blanks around it; `None` when nothing is left.
    #[must_use]
    pub fn new(raw: &str) -> Option<Self> {
        let token = raw.trim();
        (!token.is_empty()).then(|| Self(token.to_owned()))
    }

    /// The token, in clear: for the request that needs it, never for a log.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn read(raw: &str) -> Result<Self, &'static str> {
        Self::new(raw).ok_or("a token is not empty")
    }
}

prints_masked!(Token, |_: &Token| HIDDEN.to_owned(), Token::read);
