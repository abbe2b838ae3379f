//! The parameters of a request, as PHP took them: of the query, of a form, or of a JSON object; numbers
//! also as text. Pure.

use serde_json::{Map, Value};
use shared::source;

/// What a body cannot be read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// Neither JSON nor a form.
    MediaType,
    /// No JSON, or no object.
    Json,
}

/// Named values.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Params(Map<String, Value>);

impl Params {
    /// Those of a query or of a form. Of several with one name the last counts, as in PHP.
    pub(super) fn of_pairs(text: &[u8]) -> Self {
        let pairs = form_urlencoded::parse(text);
        Self(
            pairs
                .map(|(name, value)| (name.into_owned(), Value::String(value.into_owned())))
                .collect(),
        )
    }

    /// Those of a body.
    ///
    /// # Errors
    /// It is of another kind, or cannot be read.
    pub(super) fn of_body(content_type: &str, body: &[u8]) -> Result<Self, Unreadable> {
        let media = content_type.split(';').next().unwrap_or_default().trim();
        let media = media.to_ascii_lowercase();
        match media.as_str() {
            "application/x-www-form-urlencoded" => Ok(Self::of_pairs(body)),
            "application/json" | "text/json" => match source::parse_json(body) {
                Ok(Value::Object(members)) => Ok(Self(members)),
                _ => Err(Unreadable::Json),
            },
            _ => Err(Unreadable::MediaType),
        }
    }

    /// A text that says something, without blanks around it.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let text = self.0.get(name)?.as_str()?.trim();
        (!text.is_empty()).then_some(text)
    }

    /// A text, or a number as it is written.
    pub(super) fn text_or_number(&self, name: &str) -> Option<String> {
        match self.0.get(name)? {
            Value::Number(number) => Some(number.to_string()),
            _ => self.text(name).map(str::to_owned),
        }
    }

    /// A number that may be somebody's or something's: whole and above zero.
    pub(super) fn number(&self, name: &str) -> Option<i64> {
        let number = match self.0.get(name)? {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => digits(text.trim()),
            _ => None,
        };
        number.filter(|number| *number > 0)
    }

    /// Whether there is anything under that name: neither null nor an empty text.
    pub(super) fn has(&self, name: &str) -> bool {
        match self.0.get(name) {
            None | Some(Value::Null) => false,
            Some(Value::String(text)) => !text.trim().is_empty(),
            Some(_) => true,
        }
    }
}

fn digits(text: &str) -> Option<i64> {
    let all = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    all.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_and_json_say_the_same() {
        let form = Params::of_body(
            "application/x-www-form-urlencoded; charset=UTF-8",
            b"tenant_id=1&message=Ol%C3%A1+a+todos&phone_raw=%2847%29&empty=+",
        );
        let json = Params::of_body(
            "application/json",
            r#"{"tenant_id":1,"message":" Olá a todos ","phone_raw":"(47)","empty":""}"#.as_bytes(),
        );
        for params in [form.unwrap(), json.unwrap()] {
            assert_eq!(params.number("tenant_id"), Some(1));
            assert_eq!(params.text("message"), Some("Olá a todos"));
            assert_eq!(params.text("phone_raw"), Some("(47)"));
            assert!(!params.has("empty") && params.text("empty").is_none());
            assert!(!params.has("absent"));
        }
    }

    #[test]
    fn numbers_are_whole_and_above_zero_and_written_in_digits() {
        for (text, number) in [
            ("1", Some(1)),
            ("007", Some(7)),
            (" 12 ", Some(12)),
            ("0", None),
            ("-1", None),
            ("+1", None),
            ("1.0", None),
            ("1e3", None),
            ("1 or 1=1", None),
            ("", None),
            ("99999999999999999999", None),
        ] {
            let form = format!(
                "n={}",
                form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>()
            );
            let params = Params::of_pairs(form.as_bytes());
            assert_eq!(params.number("n"), number, "{text:?}");
        }
        for (json, number) in [("1", Some(1)), ("1.5", None), ("true", None), ("[1]", None)] {
            let body = format!("{{\"n\":{json}}}");
            let params = Params::of_body("application/json", body.as_bytes()).unwrap();
            assert_eq!(params.number("n"), number, "{json}");
        }
    }

    #[test]
    fn other_bodies_are_told_apart() {
        for (media, body, wrong) in [
            (
                "multipart/form-data; boundary=x",
                "--x",
                Unreadable::MediaType,
            ),
            ("", "tenant_id=1", Unreadable::MediaType),
            ("application/json", "{", Unreadable::Json),
            ("application/json", "[]", Unreadable::Json),
            ("application/json", "", Unreadable::Json),
        ] {
            let read = Params::of_body(media, body.as_bytes());
            assert_eq!(read.err(), Some(wrong), "{media} {body}");
        }
    }

    #[test]
    fn the_last_of_several_counts() {
        assert_eq!(Params::of_pairs(b"a=1&a=2").number("a"), Some(2));
    }
}
