//! How a door with a secret of its own knows its callers.

use std::fmt;

use axum::http::HeaderMap;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The secrets that open one door, as their SHA-256. None configured means that the door stays
/// shut (product 8.1, incident 46b).
#[derive(Clone, Default)]
pub struct DoorSecrets(Vec<[u8; 32]>);

impl fmt::Debug for DoorSecrets {
    /// How many, never which.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DoorSecrets({})", self.0.len())
    }
}

/// The request is not authentic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum AuthError {
    /// No secret is configured; ops have to set one.
    #[error("this door is shut: no secret is configured")]
    DoorShut,
    /// The request carries no credential.
    #[error("the request carries no credential")]
    Missing,
    /// It carries a wrong one.
    #[error("the credential is wrong")]
    Wrong,
}

impl AuthError {
    /// The metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DoorShut => "door_shut",
            Self::Missing => "missing",
            Self::Wrong => "wrong",
        }
    }
}

impl DoorSecrets {
    /// The current secret and the one before it. An empty text is no secret.
    #[must_use]
    pub fn new(current: Option<SecretString>, previous: Option<SecretString>) -> Self {
        let given = [current, previous].into_iter().flatten();
        let real = given.filter(|secret| !secret.expose_secret().trim().is_empty());
        Self(
            real.map(|secret| Sha256::digest(secret.expose_secret().as_bytes()).into())
                .collect(),
        )
    }

    /// The one whose SHA-256 is kept: a source's key.
    #[must_use]
    pub fn of_key(sha256: [u8; 32]) -> Self {
        Self(vec![sha256])
    }

    /// True when no secret opens the door.
    #[must_use]
    pub const fn is_shut(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks what a request presents; any one right credential opens.
    ///
    /// Both sides are hashed first, so that neither length nor content shows in the time taken,
    /// and every pair is compared.
    ///
    /// # Errors
    ///
    /// When none opens; answer 401 or 403 and store nothing.
    pub fn verify<'a>(
        &self,
        presented: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(), AuthError> {
        /// A request that presents more than this is not worth hashing for.
        const MOST: usize = 8;
        if self.is_shut() {
            return Err(AuthError::DoorShut);
        }
        let mut any = false;
        let mut right = subtle::Choice::from(0);
        for credential in presented.into_iter().take(MOST) {
            any = true;
            let presented = Sha256::digest(credential);
            for wanted in &self.0 {
                right |= presented.as_slice().ct_eq(wanted.as_slice());
            }
        }
        match (any, bool::from(right)) {
            (_, true) => Ok(()),
            (true, false) => Err(AuthError::Wrong),
            (false, false) => Err(AuthError::Missing),
        }
    }
}

/// Every value of the named headers, in order.
pub(super) fn header_values<'a>(
    headers: &'a HeaderMap,
    names: &'static [&'static str],
) -> impl Iterator<Item = &'a [u8]> {
    names
        .iter()
        .flat_map(|name| headers.get_all(*name))
        .map(axum::http::HeaderValue::as_bytes)
        .filter(|value| !value.is_empty())
}

/// The token of an `Authorization` value: with or without its scheme (facts §3.2).
pub(super) fn bearer(value: &[u8]) -> &[u8] {
    match value.get(..7) {
        Some(scheme) if scheme.eq_ignore_ascii_case(b"bearer ") => value[7..].trim_ascii(),
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(current: Option<&str>, previous: Option<&str>) -> DoorSecrets {
        DoorSecrets::new(current.map(Into::into), previous.map(Into::into))
    }

    #[test]
    fn the_current_and_the_previous_secret_open_and_nothing_else_does() {
        let door = secrets(Some("new-secret"), Some("old-secret"));
        assert_eq!(door.verify([&b"new-secret"[..]]), Ok(()));
        assert_eq!(door.verify([&b"old-secret"[..]]), Ok(()));
        assert_eq!(door.verify([&b"wrong"[..], &b"new-secret"[..]]), Ok(()));
        for wrong in ["", "new-secre", "new-secret ", "NEW-SECRET"] {
            assert_eq!(
                door.verify([wrong.as_bytes()]),
                Err(AuthError::Wrong),
                "{wrong}"
            );
        }
        assert_eq!(door.verify([]), Err(AuthError::Missing));
    }

    #[test]
    fn a_key_opens_by_its_hash_alone() {
        let door = DoorSecrets::of_key(Sha256::digest(b"posto_key").into());
        assert_eq!(door.verify([&b"posto_key"[..]]), Ok(()));
        assert_eq!(door.verify([&b"posto_kez"[..]]), Err(AuthError::Wrong));
    }

    #[test]
    fn a_door_without_a_secret_stays_shut_also_for_an_empty_credential() {
        for door in [
            secrets(None, None),
            secrets(Some(""), Some("  ")),
            DoorSecrets::default(),
        ] {
            assert!(door.is_shut());
            assert_eq!(door.verify([&b""[..]]), Err(AuthError::DoorShut));
            assert_eq!(door.verify([&b"x"[..]]), Err(AuthError::DoorShut));
        }
        assert!(!secrets(None, Some("old")).is_shut());
    }

    #[test]
    fn secrets_do_not_print() {
        let printed = format!("{:?}", secrets(Some("hunter2"), None));
        assert_eq!(printed, "DoorSecrets(1)");
    }

    #[test]
    fn the_scheme_of_an_authorization_is_optional() {
        assert_eq!(bearer(b"Bearer abc"), b"abc");
        assert_eq!(bearer(b"bearer  abc "), b"abc");
        assert_eq!(bearer(b"abc"), b"abc");
        assert_eq!(bearer(b"Bearer "), b"");
    }
}
