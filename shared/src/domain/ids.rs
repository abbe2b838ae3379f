//! One newtype per noun: an id of one kind never fits where another is asked for.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A fresh, time-ordered id (UUIDv7). The one home of id making, see `clippy.toml`.
            #[must_use]
            #[allow(clippy::disallowed_methods)]
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    };
}

uuid_id!(
    /// A fact that a source told us. Made by ingest, never taken from a caller.
    EventId
);
impl EventId {
    /// When ingest made it, in Unix seconds: the moment at which it received the event. `None` for
    /// an id of another version, which is not ours.
    #[must_use]
    pub fn received_at_s(self) -> Option<f64> {
        let (seconds, nanos) = self.0.get_timestamp()?.to_unix();
        Some(seconds as f64 + f64::from(nanos) / 1e9)
    }
}

uuid_id!(
    /// The decision about one event, unique by (event, run).
    RoutingId
);
uuid_id!(
    /// One wanted effect on one recipient over one channel.
    DeliveryId
);
uuid_id!(
    /// One try of a delivery.
    AttemptId
);
uuid_id!(
    /// Evidence about a delivery that came back from outside: an echo or an ack.
    ReceiptId
);
uuid_id!(
    /// A dead letter.
    LetterId
);
uuid_id!(
    /// A line of the audit log.
    AuditId
);

/// PixelHub's own number of a customer of the agency; Posto never makes one.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct TenantId(pub i64);

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What joins everything that one event causes: 32 lower-case hexadecimal digits, not all zero
/// (W3C Trace Context §3.2.2.3). Hyphenated UUIDs are accepted wherever one is read.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("pattern" = "^[0-9a-f]{32}$"))]
pub struct TraceId(String);

/// The text was no trace id; the caller should start a new trace or refuse the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a trace id is 32 hexadecimal digits, not all zero (or a UUID)")]
pub struct InvalidTraceId;

impl TraceId {
    /// A fresh trace id: a UUIDv7, so that the rows of one time lie together in the indexes by trace.
    /// Its last seven bytes are random, as W3C Trace Context Level 2 §3.2.2.5 asks for.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the id's own home")]
    pub fn generate() -> Self {
        Self(Uuid::now_v7().simple().to_string())
    }

    /// The 32 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TraceId {
    type Err = InvalidTraceId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = match text.len() {
            32 => text.to_ascii_lowercase(),
            36 => Uuid::try_parse(text)
                .map_err(|_| InvalidTraceId)?
                .simple()
                .to_string(),
            _ => return Err(InvalidTraceId),
        };
        let lawful =
            digits.bytes().all(|b| b.is_ascii_hexdigit()) && digits.bytes().any(|b| b != b'0');
        if lawful {
            Ok(Self(digits))
        } else {
            Err(InvalidTraceId)
        }
    }
}

impl<'de> Deserialize<'de> for TraceId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_id_is_read_from_hex_and_from_a_hyphenated_uuid() {
        let hex: TraceId = "0AF7651916cd43dd8448eb211c80319c".parse().unwrap();
        assert_eq!(hex.as_str(), "0af7651916cd43dd8448eb211c80319c");
        let uuid: TraceId = "7b0d6f0e-0000-4000-8000-000000000039".parse().unwrap();
        assert_eq!(uuid.as_str(), "7b0d6f0e000040008000000000000039");
    }

    #[test]
    fn zeros_short_and_foreign_texts_are_no_trace_id() {
        for text in [
            "00000000000000000000000000000000",
            "",
            "abc",
            "zzf7651916cd43dd8448eb211c80319c",
        ] {
            assert_eq!(text.parse::<TraceId>(), Err(InvalidTraceId), "{text}");
        }
    }
}
