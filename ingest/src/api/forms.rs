//! The forms in which a request may say its events, and the keys that its headers may give them.
//! Every form is led to the one that our own systems speak; what follows knows only that one.

use axum::http::HeaderMap;
use chrono::{DateTime, Utc};
use serde_json::Value;
use shared::domain::event::{IncomingEvent, Key};
use shared::domain::ids::TraceId;
use shared::source::cloud_events::{self, Mode};
use shared::source::problem::ProblemCode;
use shared::source::{generic, standard_webhooks};

use super::auth::Caller;
use super::headers::{Media, media_of};
use super::problem::{Code, Problem};

/// The form of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// That of our own systems.
    Native,
    /// `type`, `timestamp`, `data`: what Standard Webhooks proposes.
    Proposed,
    /// CloudEvents 1.0.
    CloudEvent(Mode),
}

/// The events of a request.
#[derive(Debug)]
pub(super) enum Posted {
    /// One; the answer is about it.
    One(Value, Form),
    /// Several; the answer is a list.
    Batch(Vec<Value>, Form),
}

/// Finds out what a request posts.
///
/// # Errors
/// The headers contradict the body, or each other.
pub(super) fn posted(headers: &HeaderMap, body: Value) -> Result<Posted, Problem> {
    let structured = Form::CloudEvent(Mode::Structured);
    match (media_of(headers), body) {
        (Some(Media::CloudEventBatch), Value::Array(items)) => Ok(Posted::Batch(items, structured)),
        (Some(Media::CloudEventBatch), _) => {
            let wrong = "a batch of CloudEvents is a JSON array";
            let problem = shared::source::Problem::new(ProblemCode::WrongType, "", wrong);
            Err(Problem::of_fields(Code::InvalidEvent, vec![problem]))
        }
        (Some(Media::CloudEvent), item) => Ok(Posted::One(item, structured)),
        (_, data) if cloud_events::is_binary(headers) => {
            let event = cloud_events::of_headers(headers, data)
                .map_err(|problem| Problem::new(Code::InvalidHeader, problem.detail))?;
            Ok(Posted::One(event, Form::CloudEvent(Mode::Binary)))
        }
        (_, Value::Array(items)) => Ok(Posted::Batch(items, Form::Native)),
        (_, item)
            if headers.contains_key("webhook-id") && standard_webhooks::is_proposed_form(&item) =>
        {
            Ok(Posted::One(item, Form::Proposed))
        }
        (_, item) => Ok(Posted::One(item, Form::Native)),
    }
}

/// The trace that an event names itself, also one that will be refused.
pub(super) fn own_trace(item: &Value, form: Form) -> Option<TraceId> {
    match form {
        Form::CloudEvent(_) => cloud_events::trace_of(item),
        Form::Native | Form::Proposed => item.get("trace_id")?.as_str()?.parse().ok(),
    }
}

/// The source that an event names, also one that will be refused.
pub(super) fn named_source(item: &Value, form: Form, caller: &Caller) -> Option<String> {
    let named = match form {
        Form::Native => item.get("source_system")?.as_str(),
        Form::CloudEvent(_) => cloud_events::source_system(item, |name| caller.speaks_for(name)),
        Form::Proposed => None,
    };
    named.map(str::to_owned)
}

/// Reads one event, and tells where its key stands.
///
/// # Errors
/// Everything that is wrong with it, each with its place in the form that it came in.
pub(super) fn read(
    item: Value,
    form: Form,
    caller: &Caller,
    now: DateTime<Utc>,
) -> Result<(IncomingEvent, &'static str), Vec<shared::source::Problem>> {
    let source = || {
        named_source(&item, form, caller)
            .or_else(|| caller.own_source().map(str::to_owned))
            .ok_or_else(|| {
                let detail = "the credential speaks for several sources: name one of them";
                let place = if form == Form::Proposed {
                    ""
                } else {
                    "/source"
                };
                let problem = shared::source::Problem::new(ProblemCode::Missing, place, detail);
                vec![problem]
            })
    };
    match form {
        Form::Native => {
            let given = |name: &str| item.get(name).is_some_and(|value| !value.is_null());
            let by_id = given("event_id") && !given("idempotency_key");
            let place = if by_id {
                "/event_id"
            } else {
                "/idempotency_key"
            };
            Ok((generic::read_item(item, now)?, place))
        }
        Form::Proposed => {
            let native = standard_webhooks::native(item.clone(), &source()?);
            let event = generic::read_item(native, now).map_err(standard_webhooks::in_its_words)?;
            Ok((event, ""))
        }
        Form::CloudEvent(mode) => {
            let source = source()?;
            let native = cloud_events::native(item, &source, mode)?;
            let mut event = generic::read_item(native.item, now)
                .map_err(|problems| cloud_events::in_its_words(problems, mode))?;
            event.key = Some(native.key);
            let place = if mode == Mode::Structured { "/id" } else { "" };
            Ok((event, place))
        }
    }
}

/// A key that a header gives.
#[derive(Clone, Debug)]
pub(crate) struct HeaderKey(String);

impl HeaderKey {
    /// The key of an event: of one in a batch with its index, since one header stands for all.
    pub(crate) fn of(&self, index: Option<usize>) -> Key {
        match index {
            Some(index) => Key::caller(format!("{}/{index}", self.0)),
            None => Key::caller(self.0.as_str()),
        }
    }
}

/// The key of a request's headers: `Idempotency-Key`, else `webhook-id`, which every repeat of a
/// webhook keeps (conventions §E3).
///
/// # Errors
/// There is one, and it cannot be read: a caller that wants its key to count must learn of it.
pub(crate) fn header_key(headers: &HeaderMap) -> Result<Option<HeaderKey>, Problem> {
    for (name, read) in [
        (
            "idempotency-key",
            idempotency_key as fn(&str) -> Option<String>,
        ),
        ("webhook-id", |text| Some(text.to_owned())),
    ] {
        let mut values = headers.get_all(name).iter();
        let Some(value) = values.next() else {
            continue;
        };
        let key = value
            .to_str()
            .ok()
            .filter(|_| values.next().is_none())
            .and_then(|text| read(text.trim()))
            .filter(|key| !key.trim().is_empty() && key.len() <= Key::LONGEST);
        return key.map(|key| Some(HeaderKey(key))).ok_or_else(|| {
            let longest = Key::LONGEST;
            let detail =
                format!("{name} is one key of 1 to {longest} ASCII characters, quoted or bare");
            Problem::new(Code::InvalidHeader, detail)
        });
    }
    Ok(None)
}

/// A key as a string of RFC 9651 §3.3.3 (`"8e03…"`), or bare as many clients send it.
fn idempotency_key(text: &str) -> Option<String> {
    let Some(quoted) = text.strip_prefix('"') else {
        let bare = !text.contains(['"', '\\']);
        return bare.then(|| text.to_owned());
    };
    let mut key = String::with_capacity(quoted.len());
    let mut signs = quoted.chars();
    loop {
        match signs.next()? {
            '"' => break,
            '\\' => match signs.next()? {
                sign @ ('"' | '\\') => key.push(sign),
                _ => return None,
            },
            sign => key.push(sign),
        }
    }
    // Parameters of the field mean nothing here.
    let rest = signs.as_str().trim_start();
    (rest.is_empty() || rest.starts_with(';')).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idempotency_key_is_read_quoted_and_bare() {
        for (text, wanted) in [
            (
                "\"8e03978e-40d5-43e8-bc93-6894a57f9324\"",
                Some("8e03978e-40d5-43e8-bc93-6894a57f9324"),
            ),
            ("8e03978e", Some("8e03978e")),
            (r#""a\"b\\c""#, Some(r#"a"b\c"#)),
            ("\"a\";v=1", Some("a")),
            ("billing:invoice:503 7d", Some("billing:invoice:503 7d")),
            ("\"open", None),
            ("\"a\" b", None),
            (r#""a\n""#, None),
            ("a\"b", None),
        ] {
            assert_eq!(idempotency_key(text).as_deref(), wanted, "{text}");
        }
    }

    #[test]
    fn the_header_of_the_key_comes_before_the_id_of_the_webhook() {
        let headers = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, value.parse().unwrap());
            }
            headers
        };
        let key = |pairs: &[(&'static str, &str)]| {
            header_key(&headers(pairs)).map(|key| key.map(|key| key.of(None).expose().to_owned()))
        };
        assert_eq!(key(&[]).unwrap(), None);
        assert_eq!(
            key(&[("webhook-id", "msg_1"), ("idempotency-key", "\"k\"")])
                .unwrap()
                .as_deref(),
            Some("k")
        );
        assert_eq!(
            key(&[("webhook-id", "msg_1")]).unwrap().as_deref(),
            Some("msg_1")
        );
        for bad in [
            &[("idempotency-key", "")][..],
            &[("idempotency-key", "\"\"")],
            &[("idempotency-key", "a"), ("idempotency-key", "b")],
            &[("idempotency-key", "ação")],
            &[("idempotency-key", "\"open"), ("webhook-id", "msg_1")],
        ] {
            assert_eq!(key(bad).unwrap_err().code, Code::InvalidHeader, "{bad:?}");
        }
        let long = "k".repeat(256);
        assert!(key(&[("idempotency-key", &long)]).is_err());
        let one = header_key(&headers(&[("idempotency-key", "k")]))
            .unwrap()
            .unwrap();
        assert_eq!(one.of(Some(3)).expose(), "k/3");
    }

    proptest::proptest! {
        #[test]
        fn no_headers_make_their_reader_panic_and_a_key_is_no_longer_than_it_came(
            values in proptest::collection::vec(proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300), 6),
            key in "\"?[ -~]{0,300}\"?(;[ -~]{0,9})?",
        ) {
            const NAMES: [&str; 6] =
                ["idempotency-key", "content-type", "content-encoding", "traceparent", "ce-specversion", "webhook-id"];
            let mut headers = HeaderMap::new();
            for (name, value) in NAMES.into_iter().zip(&values) {
                if let Ok(value) = axum::http::HeaderValue::from_bytes(value) {
                    headers.append(name, value);
                }
            }
            let _ = (media_of(&headers), super::super::headers::given_trace(&headers));
            let _ = (header_key(&headers).is_ok(), posted(&headers, Value::Null).is_ok());
            if let Some(read) = idempotency_key(&key) {
                proptest::prop_assert!(read.len() <= key.len());
            }
        }
    }
}
