//! An event: what a door makes of a request before it is stored, and what the router works on.
//!
//! Both are plain data. Their `Debug` shows ids, kinds and sizes, never a payload, an address or
//! a text.

use std::borrow::Cow;
use std::fmt;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::ids::{TenantId, TraceId};

mod books;
mod mark;
mod normalised;

pub use books::{Books, Charge, ChargeStatus};
pub use mark::{is_in_shadow, mark};
pub use normalised::{
    Contact, ContentKind, MediaRef, NormalisedEvent, NormalisedKind, Participant, SentMessage,
    SessionState,
};

/// Which way a message goes, seen from the agency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From a customer to us.
    Inbound,
    /// From us, whoever of us wrote it.
    Outbound,
}

impl Direction {
    /// The text in rows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// Who chose an idempotency key; a clash of bodies is an error only where a caller chose it
/// (design §1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyOrigin {
    /// The caller, by `idempotency_key` or `event_id`.
    Caller,
    /// The source's own identity of the thing: session, direction, key id, kind.
    Natural,
    /// Nothing better: a hash of the content.
    Content,
}

/// What makes two requests the same event within one source.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Key {
    text: String,
    origin: KeyOrigin,
}

impl Key {
    /// The longest key that is kept as it is, in characters.
    pub const LONGEST: usize = 255;

    /// A key that the caller chose; the door has checked its length and signs.
    #[must_use]
    pub fn caller(text: impl Into<String>) -> Self {
        Self::bounded(text.into(), KeyOrigin::Caller)
    }

    /// A key made of the source's own identity of the thing.
    #[must_use]
    pub fn natural(text: impl Into<String>) -> Self {
        Self::bounded(text.into(), KeyOrigin::Natural)
    }

    /// A key made of a hash of the content.
    #[must_use]
    pub fn content(hash: [u8; 32]) -> Self {
        Self {
            text: format!("sha256:{}", hex::encode(hash)),
            origin: KeyOrigin::Content,
        }
    }

    /// The key as it is stored; it may be personal (a caller may put a phone in it).
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// Who chose it.
    #[must_use]
    pub const fn origin(&self) -> KeyOrigin {
        self.origin
    }

    /// What is too long for an index is represented by its hash.
    fn bounded(text: String, origin: KeyOrigin) -> Self {
        if text.chars().count() <= Self::LONGEST {
            return Self { text, origin };
        }
        let hash = hex::encode(Sha256::digest(text.as_bytes()));
        Self {
            text: format!("sha256:{hash}"),
            origin,
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?}, {} bytes)", self.origin, self.text.len())
    }
}

/// Which bytes are kept as the event's `body`.
#[derive(Clone, PartialEq, Eq)]
pub enum Body {
    /// The bytes as received.
    AsReceived,
    /// These instead: the received ones hold something that is never kept (a QR or pairing code),
    /// or other events beside this one.
    Redacted(Vec<u8>),
    /// These instead: files were taken out of the received ones, and are kept by their hash. A reference
    /// stands in the place of each.
    Lightened {
        /// What is left.
        body: Vec<u8>,
        /// The files, each once.
        media: Vec<InlineMedia>,
    },
}

/// A file that came inside a payload.
#[derive(Clone, PartialEq, Eq)]
pub struct InlineMedia {
    /// The hash of its bytes, by which it is kept.
    pub sha256: [u8; 32],
    /// Its MIME type, by its first bytes.
    pub mime: &'static str,
    /// The file.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for InlineMedia {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InlineMedia({}, {} bytes)", self.mime, self.bytes.len())
    }
}

/// What a door made of one item of an authentic request. Ids, the trace of a request that names
/// none, and the time of reception are ingest's to add.
#[derive(Clone, PartialEq)]
pub struct IncomingEvent {
    /// Whose event it is: the caller's `source_system`, or the door's name.
    pub source_system: String,
    /// What happened, e.g. `billing.invoice.overdue`.
    pub event_type: String,
    /// The source's own id of the event, kept but never ours.
    pub source_event_id: Option<String>,
    /// What makes a repeated request the same event.
    pub key: Option<Key>,
    /// What makes two bodies the same; see [`body_sha256`].
    pub body_sha256: [u8; 32],
    /// The customer, when the source names one; it may not exist.
    pub tenant_id: Option<TenantId>,
    /// The trace to join.
    pub trace_id: Option<TraceId>,
    /// Groups events, at most 128 characters.
    pub correlation_id: Option<String>,
    /// What caused it, at most 128 characters.
    pub causation_id: Option<String>,
    /// When it happened, by the source's clock.
    pub occurred_at: Option<DateTime<Utc>>,
    /// The payload; `None` when PostgreSQL's jsonb cannot hold it (it refuses `\u0000`).
    pub payload: Option<Value>,
    /// Remarks of the source and of the door; always an object.
    pub metadata: Value,
    /// Which bytes to keep.
    pub body: Body,
    /// The WhatsApp key id, unique within its session.
    pub provider_message_id: Option<String>,
    /// The sending account's name as the provider writes it.
    pub channel_account: Option<String>,
    /// Which way the message goes, for messages.
    pub direction: Option<Direction>,
    /// The contact's key (`tel:`, `lid:`, `group:`).
    pub contact_key: Option<String>,
    /// The invoice's key (`invoice:503`).
    pub invoice_key: Option<String>,
}

impl IncomingEvent {
    /// An event of which no more is known than whose it is, what it is called and what makes two
    /// of them one; a source fills in what its body says.
    #[must_use]
    pub fn new(source_system: &str, event_type: &str, key: Key, body_sha256: [u8; 32]) -> Self {
        Self {
            source_system: source_system.to_owned(),
            event_type: event_type.to_owned(),
            source_event_id: None,
            key: Some(key),
            body_sha256,
            tenant_id: None,
            trace_id: None,
            correlation_id: None,
            causation_id: None,
            occurred_at: None,
            payload: None,
            metadata: json!({}),
            body: Body::AsReceived,
            provider_message_id: None,
            channel_account: None,
            direction: None,
            contact_key: None,
            invoice_key: None,
        }
    }

    /// True when other bytes than those received are to be kept.
    #[must_use]
    pub const fn redacted_body(&self) -> bool {
        !matches!(self.body, Body::AsReceived)
    }
}

impl fmt::Debug for IncomingEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IncomingEvent")
            .field("source_system", &self.source_system)
            .field("event_type", &self.event_type)
            .field("key", &self.key)
            .field("tenant_id", &self.tenant_id)
            .field("trace_id", &self.trace_id)
            .field("direction", &self.direction)
            .field("has_payload", &self.payload.is_some())
            .field("redacted_body", &self.redacted_body())
            .finish_non_exhaustive()
    }
}

/// What makes two bodies "the same": the SHA-256 of the canonical JSON (RFC 8785) of event type,
/// tenant and payload. Trace, correlation, times, metadata and the order of members do not count
/// (product 1.2).
#[must_use]
pub fn body_sha256(event_type: &str, tenant_id: Option<TenantId>, payload: &Value) -> [u8; 32] {
    #[derive(Serialize)]
    struct Counted<'a> {
        event_type: &'a str,
        tenant_id: Option<TenantId>,
        payload: &'a Value,
    }
    sha256_of_canonical(&Counted {
        event_type,
        tenant_id,
        payload: &for_canonical(payload),
    })
}

/// The SHA-256 of the canonical JSON (RFC 8785) of a value.
#[must_use]
pub fn canonical_sha256(value: &Value) -> [u8; 32] {
    sha256_of_canonical(for_canonical(value).as_ref())
}

fn sha256_of_canonical(value: &impl Serialize) -> [u8; 32] {
    let canonical = serde_json_canonicalizer::to_vec(value)
        .expect("a Value is canonicalisable, because its keys are strings and its numbers finite");
    Sha256::digest(&canonical).into()
}

/// RFC 8785 knows doubles only, in which neighbouring integers beyond 2^53 are one number; so
/// that two such ids never pass for one, these integers are hashed as the RFC advises, as text.
fn for_canonical(value: &Value) -> Cow<'_, Value> {
    if holds_big_integer(value) {
        Cow::Owned(with_big_integers_as_text(value))
    } else {
        Cow::Borrowed(value)
    }
}

/// Beyond this doubles skip integers.
const BIG: u64 = 1 << 53;

fn is_big(number: &serde_json::Number) -> bool {
    number.as_u64().is_some_and(|n| n > BIG)
        || number.as_i64().is_some_and(|n| n.unsigned_abs() > BIG)
}

fn holds_big_integer(value: &Value) -> bool {
    match value {
        Value::Number(number) => is_big(number),
        Value::Array(items) => items.iter().any(holds_big_integer),
        Value::Object(members) => members.values().any(holds_big_integer),
        _ => false,
    }
}

fn with_big_integers_as_text(value: &Value) -> Value {
    match value {
        Value::Number(number) if is_big(number) => number.to_string().into(),
        Value::Array(items) => items.iter().map(with_big_integers_as_text).collect(),
        Value::Object(members) => members
            .iter()
            .map(|(name, member)| (name.clone(), with_big_integers_as_text(member)))
            .collect(),
        _ => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(text: &str) -> [u8; 32] {
        body_sha256(
            "a.b",
            Some(TenantId(1)),
            &serde_json::from_str(text).unwrap(),
        )
    }

    #[test]
    fn the_order_of_members_and_the_spelling_of_numbers_do_not_change_a_body() {
        assert_eq!(
            hash(r#"{"a":1,"b":[2.0,{"x":"é","y":null}]}"#),
            hash(r#"{ "b":[2,{"y":null,"x":"\u00e9"}], "a":1.0 }"#)
        );
        assert_ne!(hash(r#"{"a":1}"#), hash(r#"{"a":"1"}"#));
        assert_ne!(hash(r#"{"a":[1,2]}"#), hash(r#"{"a":[2,1]}"#));
    }

    #[test]
    fn event_type_tenant_and_payload_all_count() {
        let payload = json!({"a": 1});
        let base = body_sha256("a.b", Some(TenantId(1)), &payload);
        assert_ne!(base, body_sha256("a.c", Some(TenantId(1)), &payload));
        assert_ne!(base, body_sha256("a.b", Some(TenantId(2)), &payload));
        assert_ne!(base, body_sha256("a.b", None, &payload));
        assert_ne!(
            base,
            body_sha256("a.b", Some(TenantId(1)), &json!({"a": 2}))
        );
    }

    #[test]
    fn the_hash_is_that_of_the_canonical_json() {
        let wanted =
            Sha256::digest(br#"{"event_type":"a.b","payload":{"a":[true],"z":503},"tenant_id":1}"#);
        assert_eq!(hash(r#"{"z":503.0,"a":[true]}"#)[..], wanted[..]);
    }

    #[test]
    fn neighbouring_integers_beyond_doubles_stay_two_bodies() {
        assert_ne!(
            hash(r#"{"id":9007199254740993}"#),
            hash(r#"{"id":9007199254740992}"#)
        );
    }

    #[test]
    fn keys_too_long_for_the_index_are_represented_by_their_hash() {
        let short = Key::natural("wpp:s:in:3EB0:message");
        assert_eq!(short.expose(), "wpp:s:in:3EB0:message");
        let long = Key::natural("x".repeat(256));
        assert_eq!(long.expose().len(), "sha256:".len() + 64);
        assert_eq!(long.origin(), KeyOrigin::Natural);
        assert_ne!(long, Key::natural("x".repeat(257)));
    }
}
