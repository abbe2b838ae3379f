//! Reads the fields of operators' questions and orders: of an address or of a body, each thing
//! that is wrong told with its place.

use std::collections::HashMap;

use axum::extract::Request;
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use shared::source;
use uuid::Uuid;

use crate::api::problem::{Code, FieldError, Problem};
use crate::api::read_body;

/// The largest body of an order: ten thousand ids fit.
const LARGEST_ORDER: usize = 1 << 20;
/// The longest text of a field.
const LONGEST_TEXT: usize = 500;

/// The fields that came, and what is wrong with those that were read. What nobody reads is refused
/// at the end: a filter with a typing error must never mean "all".
pub(super) struct Fields {
    rest: Map<String, Value>,
    prefix: String,
    errors: Vec<FieldError>,
}

impl Fields {
    /// The fields of a body.
    pub(super) async fn of_body(request: Request) -> Result<Self, Problem> {
        let body = read_body(request, LARGEST_ORDER).await?;
        let value = source::parse_json(&body)
            .map_err(|problem| Problem::of_fields(Code::MalformedJson, vec![problem]))?;
        match value {
            Value::Object(rest) => Ok(Self::new(rest, "")),
            _ => Err(invalid(vec![FieldError::new(
                "wrong_type",
                "",
                "send a JSON object",
            )])),
        }
    }

    /// The fields of an address.
    pub(super) fn of_query(query: HashMap<String, String>) -> Self {
        let rest = query
            .into_iter()
            .map(|(name, value)| (name, Value::String(value)))
            .collect();
        Self::new(rest, "")
    }

    fn new(rest: Map<String, Value>, prefix: &str) -> Self {
        Self {
            rest,
            prefix: prefix.to_owned(),
            errors: Vec::new(),
        }
    }

    /// Tells that a field is wrong.
    pub(super) fn wrong(&mut self, name: &str, code: &str, detail: &str) {
        let pointer = if name.is_empty() {
            self.prefix.clone()
        } else {
            format!("{}/{name}", self.prefix)
        };
        self.errors.push(FieldError::new(code, &pointer, detail));
    }

    /// The value of a field; null counts as not there.
    fn take(&mut self, name: &str) -> Option<Value> {
        self.rest.remove(name).filter(|value| !value.is_null())
    }

    /// Whether a field came that was not read yet.
    pub(super) fn has(&self, name: &str) -> bool {
        self.rest.get(name).is_some_and(|value| !value.is_null())
    }

    /// Whether something is wrong with a field.
    pub(super) fn is_wrong(&self, name: &str) -> bool {
        let pointer = format!("#{}/{name}", self.prefix);
        self.errors.iter().any(|error| error.pointer == pointer)
    }

    /// A text.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        match self.take(name)? {
            Value::String(text) if text.trim().is_empty() => {
                self.wrong(name, "empty", "is empty");
            }
            Value::String(text) if text.chars().count() > LONGEST_TEXT => {
                let detail = format!("has more than {LONGEST_TEXT} characters");
                self.wrong(name, "too_long", &detail);
            }
            Value::String(text) if text.contains('\0') => {
                self.wrong(name, "nul_character", "holds U+0000");
            }
            Value::String(text) => return Some(text.trim().to_owned()),
            _ => self.wrong(name, "wrong_type", "is a text"),
        }
        None
    }

    /// One of a closed set of texts.
    pub(super) fn one_of(&mut self, name: &str, set: &[&str]) -> Option<String> {
        let text = self.text(name)?;
        if set.contains(&text.as_str()) {
            return Some(text);
        }
        let detail = format!("is one of {}", set.join(", "));
        self.wrong(name, "out_of_range", &detail);
        None
    }

    /// True or false; false when it is not there.
    pub(super) fn flag(&mut self, name: &str) -> bool {
        match self.take(name) {
            None => false,
            Some(Value::Bool(flag)) => flag,
            Some(Value::String(text)) if text == "true" || text == "false" => text == "true",
            Some(_) => {
                self.wrong(name, "wrong_type", "is true or false");
                false
            }
        }
    }

    /// A whole number.
    pub(super) fn number(&mut self, name: &str) -> Option<i64> {
        let number = match self.take(name)? {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        if number.is_none() {
            self.wrong(name, "wrong_type", "is a whole number");
        }
        number
    }

    /// A time.
    pub(super) fn time(&mut self, name: &str) -> Option<DateTime<Utc>> {
        let text = self.text(name)?;
        let time = DateTime::parse_from_rfc3339(&text).ok();
        if time.is_none() {
            let detail = "is a time like 2026-11-23T00:00:00Z (in an address, write + as %2B)";
            self.wrong(name, "invalid_format", detail);
        }
        time.map(|time| time.to_utc())
    }

    /// An id.
    pub(super) fn id(&mut self, name: &str) -> Option<Uuid> {
        let id = self.text(name)?.parse().ok();
        if id.is_none() {
            self.wrong(name, "invalid_format", "is an id (UUID)");
        }
        id
    }

    /// A list of ids, 1 to `most`.
    pub(super) fn ids(&mut self, name: &str, most: usize) -> Option<Vec<Uuid>> {
        self.list(name, most, "is no id (UUID)", |item| {
            item.as_str()?.parse().ok()
        })
    }

    /// A list of whole numbers, 1 to `most`.
    pub(super) fn numbers(&mut self, name: &str, most: usize) -> Option<Vec<i64>> {
        self.list(name, most, "is no whole number", Value::as_i64)
    }

    /// A list of short texts, 1 to `most`.
    pub(super) fn texts(&mut self, name: &str, most: usize) -> Option<Vec<String>> {
        self.list(name, most, "is no short text", |item| {
            let text = item.as_str()?.trim();
            let lawful = !text.is_empty() && text.len() <= LONGEST_TEXT && !text.contains('\0');
            lawful.then(|| text.to_owned())
        })
    }

    fn list<T>(
        &mut self,
        name: &str,
        most: usize,
        wrong: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Value::Array(items) = self.take(name)? else {
            self.wrong(name, "wrong_type", "is a list");
            return None;
        };
        if items.is_empty() || items.len() > most {
            let detail = format!("holds 1 to {most}");
            self.wrong(name, "out_of_range", &detail);
            return None;
        }
        let mut list = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            match read(item) {
                Some(item) => list.push(item),
                None => self.wrong(&format!("{name}/{index}"), "invalid_format", wrong),
            }
        }
        Some(list)
    }

    /// The fields of an object within.
    pub(super) fn object(&mut self, name: &str) -> Option<Self> {
        match self.take(name)? {
            Value::Object(rest) => Some(Self::new(rest, &format!("{}/{name}", self.prefix))),
            _ => {
                self.wrong(name, "wrong_type", "is an object");
                None
            }
        }
    }

    /// Ends an object within: its errors become those of the whole.
    pub(super) fn close(&mut self, mut inner: Self) {
        inner.refuse_rest();
        self.errors.append(&mut inner.errors);
    }

    /// Ends the reading; what nobody read and what was wrong are told.
    ///
    /// # Errors
    /// Everything that is wrong, each with its place.
    pub(super) fn end(mut self) -> Result<(), Vec<FieldError>> {
        self.refuse_rest();
        if self.errors.is_empty() {
            Ok(())
        } else {
            Err(self.errors)
        }
    }

    fn refuse_rest(&mut self) {
        for name in std::mem::take(&mut self.rest).keys() {
            self.wrong(name, "unknown_field", "is no field of this");
        }
    }
}

/// A body that is JSON and says something else than wanted.
pub(super) fn invalid(errors: Vec<FieldError>) -> Problem {
    Problem::new(Code::InvalidOrder, first(&errors)).with_errors(errors)
}

/// An address that asks for what cannot be answered.
pub(super) fn invalid_query(errors: Vec<FieldError>) -> Problem {
    Problem::new(Code::InvalidQuery, first(&errors)).with_errors(errors)
}

fn first(errors: &[FieldError]) -> String {
    errors.first().map_or_else(String::new, |error| {
        format!("{} {}", error.pointer, error.detail)
    })
}
