//! The ids in an accepted send's answer. The gateway itself gives a correlation id and no message
//! id (facts §1.2, Q2; conventions A0.4); the engine's own shapes carry the message id.

use serde_json::Value;

/// Where the gateway and the engine wrap what they were told below them.
const WRAPPERS: &[&str] = &["response", "data", "result", "raw", "message"];

const MESSAGE_ID: &[&str] = &["messageId", "message_id", "id"];

const CORRELATION_ID: &[&str] = &[
    "correlationId",
    "correlation_id",
    "trace_id",
    "traceId",
    "request_id",
    "requestId",
];

/// Longer than any id that was seen; what is longer is no id, and would not fit an index.
const MAX_ID_BYTES: usize = 512;

/// How deep the wrappers nest: `{raw:{response:[{id}]}}` is three.
const MAX_DEPTH: usize = 3;

/// The objects that may speak about the message: the answer itself, then what it wraps.
pub(super) fn layers(body: &Value) -> Vec<&Value> {
    let mut found = Vec::new();
    collect(body, MAX_DEPTH, &mut found);
    found
}

fn collect<'a>(value: &'a Value, depth: usize, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(_) => {
            found.push(value);
            if depth > 0 {
                for inner in WRAPPERS.iter().filter_map(|key| value.get(key)) {
                    collect(inner, depth - 1, found);
                }
            }
        }
        // One recipient a call, so one element; a few more are looked at, never a flood.
        Value::Array(items) => {
            for item in items.iter().take(5) {
                collect(item, depth, found);
            }
        }
        _ => {}
    }
}

/// The provider's id of the message.
pub(super) fn message_id(layers: &[&Value]) -> Option<String> {
    first(layers, MESSAGE_ID)
}

/// The gateway's id of the request.
pub(super) fn correlation_id(layers: &[&Value]) -> Option<String> {
    first(layers, CORRELATION_ID)
}

fn first(layers: &[&Value], keys: &[&str]) -> Option<String> {
    layers
        .iter()
        .flat_map(|layer| keys.iter().filter_map(|key| layer.get(key)))
        .find_map(id_text)
}

/// An id is a text, a number, or the engine's `{fromMe, remote, id, _serialized}` (A2).
fn id_text(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Object(fields) => fields.get("_serialized")?.as_str()?.trim().to_owned(),
        _ => return None,
    };
    let fits = !text.is_empty() && text.len() <= MAX_ID_BYTES && !text.contains(char::is_control);
    fits.then_some(text)
}
