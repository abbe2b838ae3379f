//! From bytes to a value that may be stored: mended, and without what is never kept.

use serde_json::Value;

use crate::domain::event::Body;
use crate::domain::mask::HIDDEN;
use crate::source::mend::mend;
use crate::source::problem::{Problem, parse_json};

/// What became of a body.
pub(super) enum Read {
    /// A value, without QR and pairing codes.
    Value {
        value: Value,
        /// True when a code was taken out.
        redacted: bool,
    },
    /// It is JSON, but no value can hold it: nested too deeply, or a number out of range.
    Unholdable { keep: Body },
}

/// Reads a body.
///
/// # Errors
///
/// When it is no JSON at all.
pub(super) fn read(bytes: &[u8]) -> Result<Read, Problem> {
    let problem = match parse_json(bytes) {
        Ok(value) => return Ok(clean(value)),
        Err(problem) => problem,
    };
    let mended = mend(bytes);
    if let Ok(value) = serde_json::from_slice(&mended) {
        return Ok(clean(value));
    }
    // Skipping a value needs neither stack nor memory, so this accepts what a `Value` cannot hold.
    if serde_json::from_slice::<serde::de::IgnoredAny>(&mended).is_err() {
        return Err(problem);
    }
    let keep = if may_hold_code(bytes) {
        Body::Redacted(Vec::new())
    } else {
        Body::AsReceived
    };
    Ok(Read::Unholdable { keep })
}

fn clean(mut value: Value) -> Read {
    let redacted = redact(&mut value);
    Read::Value { value, redacted }
}

/// QR and pairing codes are credentials of the session: whoever sees one can take it over. Takes
/// them out, wherever they stand; true when there was one.
fn redact(value: &mut Value) -> bool {
    match value {
        Value::Object(members) => {
            let mut any = false;
            for (name, member) in members.iter_mut() {
                let empty = match &*member {
                    Value::Null | Value::Bool(_) => true,
                    Value::String(text) => text.is_empty(),
                    _ => false,
                };
                if is_code(name) && !empty {
                    *member = HIDDEN.into();
                    any = true;
                } else {
                    any |= redact(member);
                }
            }
            any
        }
        Value::Array(items) => items.iter_mut().fold(false, |any, item| redact(item) | any),
        _ => false,
    }
}

fn is_code(name: &str) -> bool {
    let plain: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    matches!(
        plain.as_str(),
        "qrcode"
            | "urlcode"
            | "phonecode"
            | "pairingcode"
            | "qr"
            | "base64qr"
            | "base64qrimg"
            | "asciiqr"
    )
}

fn may_hold_code(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    ["qr", "code"].iter().any(|sign| text.contains(sign))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn value_of(body: &[u8]) -> Option<Value> {
        match read(body).ok()? {
            Read::Value { value, .. } => Some(value),
            Read::Unholdable { .. } => None,
        }
    }

    #[test]
    fn half_an_emoji_does_not_lose_the_message() {
        for (body, wanted) in [
            (&br#"{"a":"oi \ud83d"}"#[..], "oi \u{fffd}"),
            (br#"{"a":"\udc4d oi"}"#, "\u{fffd} oi"),
            (br#"{"a":"\ud83d\ud83d\udc4d"}"#, "\u{fffd}👍"),
            (br#"{"a":"\\ud83d \ud83d"}"#, "\\ud83d \u{fffd}"),
            (b"{\"a\":\"oi \xf0\x9f\x91\"}", "oi \u{fffd}"),
        ] {
            assert_eq!(value_of(body), Some(json!({ "a": wanted })));
        }
    }

    #[test]
    fn what_no_value_can_hold_is_still_json() {
        let deep = [b"[".repeat(5_000), b"]".repeat(5_000)].concat();
        for body in [&deep[..], br#"{"a":1e999}"#] {
            assert!(matches!(
                read(body),
                Ok(Read::Unholdable {
                    keep: Body::AsReceived
                })
            ));
        }
        assert!(matches!(
            read(br#"{"n":1e999,"qrcode":"iVBOR"}"#),
            Ok(Read::Unholdable { keep: Body::Redacted(bytes) }) if bytes.is_empty()
        ));
        for body in [&b""[..], b"{", b"not json", br#"{"a":"\u12"}"#, b"[[[["] {
            assert!(read(body).is_err());
        }
    }

    #[test]
    fn codes_are_taken_out_wherever_they_stand() {
        let Ok(Read::Value { value, redacted }) = read(
            br#"{"raw":{"payload":{"qrcode":"iVBOR","urlCode":"2@A"}},"data":[{"phone_code":"AB-12"}],"connection":{"qr":null,"status":"x"}}"#,
        ) else {
            panic!("a value");
        };
        assert!(redacted);
        assert_eq!(
            value,
            json!({"raw":{"payload":{"qrcode":"***","urlCode":"***"}},"data":[{"phone_code":"***"}],"connection":{"qr":null,"status":"x"}})
        );
        assert!(matches!(
            read(br#"{"text":"qrcode"}"#),
            Ok(Read::Value {
                redacted: false,
                ..
            })
        ));
    }
}
