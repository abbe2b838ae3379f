//! What opens the generic door: keys that a caller shows, and secrets that it signs with. Both
//! speak for one source, and may be bound to tenants and to types of events.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretSlice, SecretString};

use super::ids::TenantId;
use super::rule::type_matches;

/// What a signing secret begins with (Standard Webhooks 1.0.0).
const SIGNING_PREFIX: &str = "whsec_";
/// What a key of ours begins with, so that it is known for a secret wherever it turns up.
const KEY_PREFIX: &str = "posto_";
/// So much of a key is shown in lists.
const HINT_LENGTH: usize = KEY_PREFIX.len() + 4;
/// How long a signing secret may be, in bytes (Standard Webhooks 1.0.0).
const SIGNING_LENGTH: std::ops::RangeInclusive<usize> = 24..=64;
/// The shortest key that is taken from somebody: 128 random bits in base64.
const SHORTEST_KEY: usize = 20;

/// How a credential proves that it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CredentialKind {
    /// The caller shows it: `Authorization: Bearer …`.
    Bearer,
    /// The caller signs with it and never shows it (Standard Webhooks).
    Hmac,
}

impl CredentialKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Bearer, Self::Hmac];

    /// The stored text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bearer => "bearer",
            Self::Hmac => "hmac",
        }
    }
}

impl fmt::Display for CredentialKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no kind: `bearer` or `hmac`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a kind of credential is `bearer` or `hmac`")]
pub struct UnknownKind;

impl FromStr for CredentialKind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or(UnknownKind)
    }
}

/// Whom a credential speaks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credential {
    /// Its number.
    pub id: i64,
    /// The source it speaks for.
    pub source_system: String,
    /// The tenants it may speak for; empty is all, and none at all.
    pub tenants: Vec<TenantId>,
    /// The types of events it may post and read, exact or with `*` as in rules; empty is all.
    pub event_types: Vec<String>,
    /// When it ends.
    pub valid_until: Option<DateTime<Utc>>,
}

impl Credential {
    /// Whether it still opens.
    #[must_use]
    pub fn is_alive(&self, now: DateTime<Utc>) -> bool {
        self.valid_until.is_none_or(|until| now < until)
    }

    /// Whether it may speak for a tenant, or for none.
    #[must_use]
    pub fn may_name(&self, tenant: Option<TenantId>) -> bool {
        self.tenants.is_empty() || tenant.is_some_and(|tenant| self.tenants.contains(&tenant))
    }

    /// Whether events of that type are its business.
    #[must_use]
    pub fn covers(&self, event_type: &str) -> bool {
        let covered = |pattern: &String| type_matches(pattern, event_type);
        self.event_types.is_empty() || self.event_types.iter().any(covered)
    }
}

/// A signing secret with what it opens.
#[derive(Clone, Debug)]
pub struct SigningKey {
    /// Whom it speaks for.
    pub credential: Arc<Credential>,
    /// The key of the HMAC.
    pub secret: SigningSecret,
}

/// The key of an HMAC-SHA256, written `whsec_<base64>`. Prints nothing of itself.
#[derive(Clone)]
pub struct SigningSecret(SecretSlice<u8>);

/// The text is no signing secret: `whsec_` and the base64 of 24 to 64 bytes. Ask for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a signing secret is `whsec_` and the base64 of 24 to 64 bytes")]
pub struct InvalidSigningSecret;

impl SigningSecret {
    /// The secret with these bytes.
    ///
    /// # Errors
    /// There are fewer than 24 or more than 64 of them.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, InvalidSigningSecret> {
        if SIGNING_LENGTH.contains(&bytes.len()) {
            Ok(Self(bytes.into()))
        } else {
            Err(InvalidSigningSecret)
        }
    }

    /// The bytes that the HMAC is made with.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.0.expose_secret()
    }

    /// As it is given to the source, once.
    #[must_use]
    pub fn written(&self) -> SecretString {
        format!("{SIGNING_PREFIX}{}", STANDARD.encode(self.expose())).into()
    }
}

impl FromStr for SigningSecret {
    type Err = InvalidSigningSecret;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let encoded = text
            .strip_prefix(SIGNING_PREFIX)
            .ok_or(InvalidSigningSecret)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| InvalidSigningSecret)?;
        Self::from_bytes(bytes)
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(…)")
    }
}

/// A bearer key. Only its hash is ever kept.
#[derive(Clone, Debug)]
pub struct BearerKey(SecretString);

/// The text is too short to be a key: it has at least 20 characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key has at least {SHORTEST_KEY} characters")]
pub struct KeyTooShort;

impl BearerKey {
    /// The key made of 256 random bits.
    #[must_use]
    pub fn from_random(bits: [u8; 32]) -> Self {
        Self(format!("{KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(bits)).into())
    }

    /// A key that somebody else made; blanks at its ends do not count.
    ///
    /// # Errors
    /// It is too short: ask for a longer one.
    pub fn given(text: &str) -> Result<Self, KeyTooShort> {
        let text = text.trim();
        if text.len() < SHORTEST_KEY {
            return Err(KeyTooShort);
        }
        Ok(Self(text.into()))
    }

    /// As it is given to the source, once.
    #[must_use]
    pub const fn written(&self) -> &SecretString {
        &self.0
    }

    /// So much of it as lists show: nothing of a key that somebody else made, it may be short.
    #[must_use]
    pub fn hint(&self) -> &str {
        let text = self.0.expose_secret();
        match text.get(..HINT_LENGTH) {
            Some(hint) if text.starts_with(KEY_PREFIX) => hint,
            _ => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_credential_without_bounds_speaks_for_all_and_one_with_bounds_for_these_alone() {
        let free = Credential::default();
        assert!(free.may_name(None) && free.may_name(Some(TenantId(1))));
        assert!(free.covers("anything.at.all"));
        assert!(free.is_alive(at("2999-01-01T00:00:00Z")));
        let bound = Credential {
            tenants: vec![TenantId(1), TenantId(2)],
            event_types: vec!["billing.invoice.*".to_owned(), "chat.message".to_owned()],
            valid_until: Some(at("2026-11-27T12:00:00Z")),
            ..Credential::default()
        };
        for (tenant, lawful) in [
            (None, false),
            (Some(1), true),
            (Some(2), true),
            (Some(3), false),
        ] {
            assert_eq!(bound.may_name(tenant.map(TenantId)), lawful, "{tenant:?}");
        }
        for (event_type, lawful) in [
            ("billing.invoice.overdue", true),
            ("billing.invoice", false),
            ("billing.payment.received", false),
            ("chat.message", true),
            ("chat.message.received", false),
        ] {
            assert_eq!(bound.covers(event_type), lawful, "{event_type}");
        }
        assert!(bound.is_alive(at("2026-11-27T11:59:59Z")));
        assert!(!bound.is_alive(at("2026-11-27T12:00:00Z")));
    }

    #[test]
    fn a_signing_secret_is_read_as_standard_webhooks_writes_it_and_nothing_else_is() {
        let vector = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let secret: SigningSecret = vector.parse().unwrap();
        assert_eq!(secret.expose().len(), 24);
        assert_eq!(secret.written().expose_secret(), vector);
        let short = format!("whsec_{}", STANDARD.encode([7; 23]));
        let long = format!("whsec_{}", STANDARD.encode([7; 65]));
        for wrong in [
            "",
            "whsec_",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_?",
            &short,
            &long,
        ] {
            assert!(wrong.parse::<SigningSecret>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_key_of_ours_is_known_by_its_beginning_and_prints_nothing_more() {
        let key = BearerKey::from_random([0xA5; 32]);
        let text = key.written().expose_secret().to_owned();
        assert_eq!(text.len(), 6 + 43);
        assert!(text.starts_with(key.hint()) && key.hint().len() == 10);
        let secret = SigningSecret::from_bytes(vec![1; 32]).unwrap();
        let printed = format!("{key:?} {secret:?}");
        assert!(
            !printed.contains(&text[6..]) && !printed.contains("AQEB"),
            "{printed}"
        );
        let given = BearerKey::given("  not-one-of-ours-but-long ").unwrap();
        assert_eq!(given.written().expose_secret(), "not-one-of-ours-but-long");
        assert_eq!(given.hint(), "");
        assert_eq!(BearerKey::given("   short   ").unwrap_err(), KeyTooShort);
    }

    #[test]
    fn kinds_are_read_as_they_are_written() {
        for kind in CredentialKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
        assert_eq!("oauth".parse::<CredentialKind>(), Err(UnknownKind));
    }
}
