//! Standard Webhooks 1.0.0: how a sender signs a request, and the body that the specification
//! proposes (conventions §E1). The signature is an HMAC-SHA256 over `id.timestamp.body`, so it is
//! verified over the raw bytes, before anything of them is read.

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::cloud_events::local_type;
use super::problem::{Problem, Renamed};

/// How far the sender's clock may be from ours, either way, in seconds.
const TOLERANCE_S: i64 = 300;
/// A request that carries more signatures than this is not worth the hashing.
const MOST_SIGNATURES: usize = 16;
/// The longest id.
const LONGEST_ID: usize = 255;

/// Where the members of the proposed body stand in the native form.
pub const NAMES: Renamed = Renamed(&[
    ("event_type", "type"),
    ("occurred_at", "timestamp"),
    ("payload", "data"),
    ("tenant_id", "data/tenant_id"),
]);

/// A request is not signed as it should be: answer 401 and store nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// One of the three headers is missing, or there are two of it.
    #[error("webhook-id, webhook-timestamp and webhook-signature are wanted once each")]
    Incomplete,
    /// The id is no id.
    #[error("webhook-id is 1 to 255 visible signs without a dot")]
    InvalidId,
    /// The timestamp is no Unix time.
    #[error("webhook-timestamp is a Unix time in seconds")]
    InvalidTimestamp,
    /// It was signed too long ago, or in the future: a clock is wrong, or somebody repeats it.
    #[error("webhook-timestamp is more than five minutes from now")]
    OutOfTolerance,
    /// There is no signature of version 1.
    #[error("webhook-signature holds no signature `v1,<base64>`")]
    NoSignature,
    /// No secret made any of the signatures.
    #[error("no signature is right")]
    Wrong,
}

/// What the headers of a signed request say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed<'a> {
    id: &'a str,
    /// As it was sent: it is signed as a text.
    timestamp: &'a str,
    signatures: Vec<Vec<u8>>,
}

impl<'a> Signed<'a> {
    /// Reads the headers; what is wrong without looking at the body is told at once.
    ///
    /// # Errors
    /// The request is not signed, or not now.
    pub fn of(headers: &'a HeaderMap, now: DateTime<Utc>) -> Result<Self, SignatureError> {
        let once = |name| {
            let mut values = headers.get_all(name).iter();
            match (values.next(), values.next()) {
                (Some(value), None) => value.to_str().map_err(|_| SignatureError::Incomplete),
                _ => Err(SignatureError::Incomplete),
            }
        };
        let (id, timestamp) = (once("webhook-id")?, once("webhook-timestamp")?);
        let visible = id.bytes().all(|b| b.is_ascii_graphic() && b != b'.');
        if !visible || !(1..=LONGEST_ID).contains(&id.len()) {
            return Err(SignatureError::InvalidId);
        }
        let digits = !timestamp.is_empty() && timestamp.bytes().all(|b| b.is_ascii_digit());
        let at: i64 = timestamp
            .parse()
            .ok()
            .filter(|_| digits)
            .ok_or(SignatureError::InvalidTimestamp)?;
        if at.abs_diff(now.timestamp()) > TOLERANCE_S.unsigned_abs() {
            return Err(SignatureError::OutOfTolerance);
        }
        // Others (`v1a`, an asymmetric one) are a newer sender's besides.
        let signatures: Vec<Vec<u8>> = once("webhook-signature")?
            .split_ascii_whitespace()
            .filter_map(|signature| STANDARD.decode(signature.strip_prefix("v1,")?).ok())
            .take(MOST_SIGNATURES)
            .collect();
        if signatures.is_empty() {
            return Err(SignatureError::NoSignature);
        }
        Ok(Self {
            id,
            timestamp,
            signatures,
        })
    }

    /// The id, the same for every repeat of a request: its idempotency key.
    #[must_use]
    pub const fn id(&self) -> &'a str {
        self.id
    }

    /// Whether the owner of a secret signed the body: any one right signature will do, so that
    /// secrets can be rotated. `secret` is the bytes that `whsec_` is the base64 of.
    ///
    /// # Errors
    /// It did not; try the next secret.
    pub fn verify(&self, secret: &[u8], body: &[u8]) -> Result<(), SignatureError> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(secret).expect("because HMAC takes a key of any length");
        for part in [
            self.id.as_bytes(),
            b".",
            self.timestamp.as_bytes(),
            b".",
            body,
        ] {
            mac.update(part);
        }
        let wanted = mac.finalize().into_bytes();
        let mut right = subtle::Choice::from(0);
        for signature in &self.signatures {
            right |= signature.as_slice().ct_eq(wanted.as_slice());
        }
        if bool::from(right) {
            Ok(())
        } else {
            Err(SignatureError::Wrong)
        }
    }
}

/// Whether a body has the form that the specification proposes: `type`, `timestamp`, `data`.
#[must_use]
pub fn is_proposed_form(item: &Value) -> bool {
    item.get("event_type").is_none() && item.get("type").is_some() && item.get("data").is_some()
}

/// The native form of such a body, as an event of that source. The tenant stands in `data`: there
/// is no other place for it.
#[must_use]
pub fn native(mut item: Value, source: &str) -> Value {
    let data = item["data"].take();
    let event_type = match item["type"].take() {
        Value::String(text) => local_type(&text).into(),
        other => other,
    };
    json!({
        "event_type": event_type,
        "source_system": source,
        "tenant_id": data.get("tenant_id"),
        "occurred_at": item["timestamp"].take(),
        "payload": data,
    })
}

/// Problems of the native form, told in the words of the proposed one.
#[must_use]
pub fn in_its_words(problems: Vec<Problem>) -> Vec<Problem> {
    NAMES.of(problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference vector of the specification's libraries.
    struct Vector {
        secret: Vec<u8>,
        headers: Value,
        body: String,
        now: DateTime<Utc>,
    }

    fn vector() -> Vector {
        let value: Value = serde_json::from_str(include_str!(
            "fixtures/standards/standard-webhooks-vector.json"
        ))
        .unwrap();
        let secret = value["secret"].as_str().unwrap();
        assert_eq!(value["tolerance_seconds"], TOLERANCE_S);
        let signed = value["signed_content"].as_str().unwrap();
        let body = value["raw_body"].as_str().unwrap().to_owned();
        assert!(signed.ends_with(&format!(".{body}")));
        Vector {
            secret: STANDARD
                .decode(secret.strip_prefix("whsec_").unwrap())
                .unwrap(),
            headers: value["headers"].clone(),
            body,
            now: DateTime::from_timestamp(1_614_265_330, 0).unwrap(),
        }
    }

    fn headers_of(value: &Value) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in value.as_object().unwrap() {
            let name: axum::http::HeaderName = name.parse().unwrap();
            headers.append(name, value.as_str().unwrap().parse().unwrap());
        }
        headers
    }

    fn outcome(
        headers: &Value,
        secret: &[u8],
        body: &str,
        now: DateTime<Utc>,
    ) -> Result<(), SignatureError> {
        let headers = headers_of(headers);
        Signed::of(&headers, now)?.verify(secret, body.as_bytes())
    }

    #[test]
    fn the_reference_vector_is_right_and_every_change_to_it_is_wrong() {
        let Vector {
            secret,
            headers,
            body,
            now,
        } = vector();
        assert_eq!(outcome(&headers, &secret, &body, now), Ok(()));
        assert_eq!(
            outcome(&headers, &secret, &format!("{body} "), now),
            Err(SignatureError::Wrong),
            "the raw bytes are signed"
        );
        assert_eq!(
            outcome(&headers, &secret[1..], &body, now),
            Err(SignatureError::Wrong)
        );
        for (name, other) in [
            ("webhook-id", "msg_other"),
            ("webhook-timestamp", "1614265331"),
            (
                "webhook-signature",
                "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OF=",
            ),
            ("webhook-signature", "v1,AAAA"),
        ] {
            let mut changed = headers.clone();
            changed[name] = other.into();
            let wanted = if other.ends_with("OF=") {
                // Its last sign says more bits than there are: it is no base64.
                SignatureError::NoSignature
            } else {
                SignatureError::Wrong
            };
            assert_eq!(
                outcome(&changed, &secret, &body, now),
                Err(wanted),
                "{name}: {other}"
            );
        }
    }

    #[test]
    fn one_right_signature_among_several_is_enough() {
        let Vector {
            secret,
            mut headers,
            body,
            now,
        } = vector();
        let right = headers["webhook-signature"].as_str().unwrap().to_owned();
        for (signatures, wanted) in [
            (format!("v1,AAAA {right}"), Ok(())),
            (format!("v1a,AAAA v2,BBBB {right} v1,CCCC"), Ok(())),
            (
                format!("v1a,{}", &right[3..]),
                Err(SignatureError::NoSignature),
            ),
            (right[3..].to_owned(), Err(SignatureError::NoSignature)),
            (String::new(), Err(SignatureError::NoSignature)),
            (
                format!("{} {right}", "v1,AAAA ".repeat(MOST_SIGNATURES)),
                Err(SignatureError::Wrong),
            ),
        ] {
            headers["webhook-signature"] = signatures.clone().into();
            assert_eq!(
                outcome(&headers, &secret, &body, now),
                wanted,
                "{signatures}"
            );
        }
    }

    #[test]
    fn a_request_is_signed_within_five_minutes_either_way() {
        let Vector {
            secret,
            headers,
            body,
            now,
        } = vector();
        for (seconds, wanted) in [
            (-300, Ok(())),
            (300, Ok(())),
            (-301, Err(SignatureError::OutOfTolerance)),
            (301, Err(SignatureError::OutOfTolerance)),
        ] {
            let then = now + chrono::TimeDelta::seconds(seconds);
            assert_eq!(outcome(&headers, &secret, &body, then), wanted, "{seconds}");
        }
    }

    #[test]
    fn headers_that_are_no_signature_say_why() {
        let Vector { headers, now, .. } = vector();
        let with = |name: &str, value: &str| {
            let mut changed = headers.clone();
            changed[name] = value.into();
            Signed::of(&headers_of(&changed), now).map(|_| ())
        };
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            let mut fewer = headers.clone();
            fewer.as_object_mut().unwrap().remove(name);
            let mut more = headers_of(&headers);
            more.append(
                axum::http::HeaderName::from_static(match name {
                    "webhook-id" => "webhook-id",
                    "webhook-timestamp" => "webhook-timestamp",
                    _ => "webhook-signature",
                }),
                "1".parse().unwrap(),
            );
            for headers in [headers_of(&fewer), more] {
                assert_eq!(
                    Signed::of(&headers, now).map(|_| ()),
                    Err(SignatureError::Incomplete),
                    "{name}"
                );
            }
        }
        for id in ["", "a.b", "a b", &"x".repeat(256)] {
            assert_eq!(
                with("webhook-id", id),
                Err(SignatureError::InvalidId),
                "{id}"
            );
        }
        for at in [
            "",
            "soon",
            "+1614265330",
            "-1",
            "1614265330.5",
            "99999999999999999999",
        ] {
            assert_eq!(
                with("webhook-timestamp", at),
                Err(SignatureError::InvalidTimestamp),
                "{at}"
            );
        }
    }

    #[test]
    fn the_proposed_body_becomes_an_event_of_its_source() {
        let value: Value = serde_json::from_str(include_str!(
            "fixtures/standards/standard-webhooks-payload.json"
        ))
        .unwrap();
        assert!(is_proposed_form(&value));
        assert_eq!(
            native(value, "billing"),
            json!({
                "event_type": "billing.invoice.overdue",
                "source_system": "billing",
                "tenant_id": 42,
                "occurred_at": "2026-11-23T14:00:00.000000Z",
                "payload": {"invoice_id": 1001, "tenant_id": 42}
            })
        );
        assert!(!is_proposed_form(
            &json!({"event_type": "a.b", "type": "x", "data": {}})
        ));
    }
}
