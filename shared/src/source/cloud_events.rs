//! CloudEvents 1.0 in the JSON format, structured and binary over HTTP (conventions §E2): each is
//! led to the form that our own systems speak, and its problems are told in its own words.

use axum::http::HeaderMap;
use percent_encoding::percent_decode;
use serde_json::{Map, Value, json};

use super::problem::{Problem, ProblemCode, Renamed};
use crate::domain::event::Key;
use crate::domain::ids::TraceId;

/// Types are known here without the agency's own name in front, which CloudEvents asks for.
const TYPE_PREFIX: &str = "br.com.pixel12.";

/// What the names of context attributes begin with as headers.
const HEADER_PREFIX: &str = "ce-";

/// Where the members of the native form stand in a structured event.
const STRUCTURED: Renamed = Renamed(&[
    ("event_type", "type"),
    ("source_system", "source"),
    ("payload", "data"),
    ("tenant_id", "tenantid"),
    ("event_id", "id"),
    ("occurred_at", "time"),
    ("correlation_id", "correlationid"),
    ("causation_id", "causationid"),
    ("metadata/cloudevent", ""),
]);

/// How an event came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One JSON object with everything.
    Structured,
    /// Attributes as headers, the data as the body.
    Binary,
}

/// An event in the native form, with what else it says.
#[derive(Clone, Debug, PartialEq)]
pub struct Native {
    /// What `generic::read_item` reads.
    pub item: Value,
    /// (source, id): two events that share it are one (CloudEvents §3.1.1).
    pub key: Key,
}

/// A type without the agency's name.
#[must_use]
pub fn local_type(event_type: &str) -> &str {
    event_type.strip_prefix(TYPE_PREFIX).unwrap_or(event_type)
}

/// Whether a request has the headers of the binary mode: all that an event must have.
#[must_use]
pub fn is_binary(headers: &HeaderMap) -> bool {
    ["ce-specversion", "ce-id", "ce-source", "ce-type"]
        .iter()
        .all(|name| headers.contains_key(*name))
}

/// The event of a request in the binary mode, as if it had come structured.
///
/// # Errors
/// A header is no attribute: answer 400. It cannot be told from whom the value is.
pub fn of_headers(headers: &HeaderMap, data: Value) -> Result<Value, Problem> {
    let mut event = Map::new();
    for name in headers.keys() {
        let Some(attribute) = name.as_str().strip_prefix(HEADER_PREFIX) else {
            continue;
        };
        let wrong =
            |detail: &str| Problem::new(ProblemCode::InvalidFormat, "", format!("{name} {detail}"));
        if attribute == "datacontenttype" {
            return Err(wrong(
                "stands in Content-Type, never in a header of its own",
            ));
        }
        let mut values = headers.get_all(name).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(wrong("is there twice"));
        };
        let text = percent_decode(value.as_bytes())
            .decode_utf8()
            .map_err(|_| wrong("is not UTF-8"))?;
        event.insert(attribute.to_owned(), text.into_owned().into());
    }
    event.insert("data".to_owned(), data);
    Ok(Value::Object(event))
}

/// The source system that an event speaks for: the extension `sourcesystem`; else the last part of
/// its `source` that is a name which `speaks_for` knows.
#[must_use]
pub fn source_system(event: &Value, speaks_for: impl Fn(&str) -> bool) -> Option<&str> {
    if let Some(named) = event.get("sourcesystem").and_then(Value::as_str) {
        return Some(named);
    }
    let source = event.get("source")?.as_str()?;
    source
        .rsplit(['/', ':', '#', '?'])
        .find(|part| speaks_for(part))
}

/// The trace of an event's own `traceparent`; a bad one is ignored.
#[must_use]
pub fn trace_of(event: &Value) -> Option<TraceId> {
    trace_of_parent(event.get("traceparent")?.as_str()?)
}

/// The trace that a `traceparent` names (W3C Trace Context §3.2): all of it must be lawful, and of
/// a version that nobody knows yet the first four fields.
#[must_use]
pub fn trace_of_parent(text: &str) -> Option<TraceId> {
    const LENGTH: usize = 55;
    let known = text.get(..LENGTH)?;
    let mut fields = known.split('-');
    let field = |text: Option<&str>, length: usize| {
        let text = text?.to_owned();
        let lawful = text.len() == length
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'));
        lawful.then_some(text)
    };
    let version = field(fields.next(), 2)?;
    let trace = field(fields.next(), 32)?;
    let parent = field(fields.next(), 16)?;
    field(fields.next(), 2)?;
    let ended = match version.as_str() {
        "ff" => false,
        "00" => text.len() == LENGTH,
        _ => text.len() == LENGTH || text[LENGTH..].starts_with('-'),
    };
    let real = parent.bytes().any(|b| b != b'0');
    // All zero is refused by the id itself.
    (ended && real).then(|| trace.parse().ok()).flatten()
}

/// Leads an event to the native form, as one of that source system.
///
/// # Errors
/// Everything by which it is no CloudEvent that can be read, each with its place.
pub fn native(event: Value, source_system: &str, mode: Mode) -> Result<Native, Vec<Problem>> {
    let Value::Object(mut event) = event else {
        return Err(vec![Problem::new(
            ProblemCode::WrongType,
            "",
            "an event is a JSON object",
        )]);
    };
    let mut problems = Vec::new();
    if event.get("specversion").and_then(Value::as_str) != Some("1.0") {
        problems.push(Problem::new(
            ProblemCode::InvalidFormat,
            "/specversion",
            "specversion is \"1.0\"",
        ));
    }
    let mut required = |name: &str| {
        let text = event.get(name).and_then(Value::as_str);
        if text.is_none_or(|text| text.trim().is_empty()) {
            let code = match event.get(name) {
                None | Some(Value::Null) => ProblemCode::Missing,
                Some(Value::String(_)) => ProblemCode::Empty,
                Some(_) => ProblemCode::WrongType,
            };
            let detail = format!("{name} is required, and a text");
            problems.push(Problem::new(code, format!("/{name}"), detail));
        }
        text.unwrap_or_default().to_owned()
    };
    let (id, source, event_type) = (required("id"), required("source"), required("type"));
    if event.contains_key("data_base64") {
        problems.push(Problem::new(
            ProblemCode::WrongType,
            "/data_base64",
            "the data is a JSON object in `data`",
        ));
    }
    let content_type = event
        .get("datacontenttype")
        .filter(|value| !value.is_null());
    if content_type.is_some_and(|value| !value.as_str().is_some_and(is_json_type)) {
        problems.push(Problem::new(
            ProblemCode::InvalidFormat,
            "/datacontenttype",
            "datacontenttype is application/json",
        ));
    }
    if !problems.is_empty() {
        return Err(in_its_words(problems, mode));
    }
    let data = event.remove("data");
    let mut item = json!({
        "event_type": local_type(&event_type),
        "source_system": source_system,
        "event_id": id,
        "trace_id": trace_of(&Value::Object(event.clone())),
    });
    if let Some(data) = data {
        item["payload"] = data;
    }
    for (native, attribute) in [
        ("correlation_id", "correlationid"),
        ("causation_id", "causationid"),
        ("occurred_at", "time"),
    ] {
        item[native] = event.get(attribute).cloned().unwrap_or_default();
    }
    item["tenant_id"] = match event.get("tenantid") {
        // Attributes of the binary mode are texts all of them.
        Some(Value::String(text)) => text
            .parse::<i64>()
            .map_or_else(|_| text.as_str().into(), Value::from),
        other => other.cloned().unwrap_or_default(),
    };
    item["metadata"] = json!({ "cloudevent": event });
    Ok(Native {
        item,
        key: Key::caller(format!("ce:{source}:{id}")),
    })
}

/// Problems told in the words of the event as it came.
#[must_use]
pub fn in_its_words(problems: Vec<Problem>, mode: Mode) -> Vec<Problem> {
    let problems = STRUCTURED.of(problems);
    match mode {
        Mode::Structured => problems,
        Mode::Binary => problems.into_iter().map(in_headers).collect(),
    }
}

/// In the binary mode the body is the data, and attributes have no place in it.
fn in_headers(problem: Problem) -> Problem {
    match problem.pointer.strip_prefix("/data") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => Problem {
            pointer: rest.to_owned(),
            ..problem
        },
        _ => Problem {
            detail: format!("{HEADER_PREFIX}{}", problem.detail),
            pointer: String::new(),
            ..problem
        },
    }
}

fn is_json_type(text: &str) -> bool {
    let media = text.split(';').next().unwrap_or_default().trim();
    media.eq_ignore_ascii_case("application/json") || media.to_ascii_lowercase().ends_with("+json")
}

#[cfg(test)]
mod tests;
