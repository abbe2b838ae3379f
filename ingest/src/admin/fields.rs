//! Reads the fields of operators' questions and orders: of an address or of a body, each thing
//! that is wrong told with its place.

use axum::extract::{FromRequestParts, Query, Request};
use axum::http::request::Parts;
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use shared::source;
use uuid::Uuid;

use crate::api::problem::{Code, FieldError, Problem};
use crate::api::read_body;

/// The largest body of an order: ten thousand ids fit.
const LARGEST_ORDER: usize = 1 << 20;
/// The longest text of a field.
pub(super) const LONGEST_TEXT: usize = 500;

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

    /// The fields of an address. One that comes twice is refused: nobody can tell which is meant.
    fn of_query(query: Vec<(String, String)>) -> Self {
        let mut fields = Self::new(Map::new(), "");
        for (name, value) in query {
            if fields.rest.contains_key(&name) {
                fields.wrong(&name, "repeated", "comes more than once");
            }
            fields.rest.insert(name, Value::String(value));
        }
        fields
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

impl<S: Sync> FromRequestParts<S> for Fields {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Query::try_from_uri(&parts.uri)
            .map(|Query(query)| Self::of_query(query))
            .map_err(|_| Problem::new(Code::InvalidQuery, "the query cannot be read"))
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[0-9]{1,30}".prop_map(Value::from),
            "[0-9]{1,6}-[0-9]{1,3}-[0-9]{1,3}T[0-9:.]{1,12}(Z|[+-][0-9:]{1,6})"
                .prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map("[a-d]{1,2}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// Reads everything as everything, and tells what was found wrong.
    fn read(mut fields: Fields) -> Vec<FieldError> {
        let _ = (fields.text("a"), fields.flag("b"), fields.number("c"));
        let _ = (fields.time("d"), fields.id("aa"));
        let _ = (fields.one_of("bb", &["x"]), fields.ids("cc", 3));
        let _ = (fields.numbers("dd", 3), fields.texts("ab", 3));
        if let Some(mut inner) = fields.object("ba") {
            let _ = inner.number("a");
            fields.close(inner);
        }
        fields.end().err().unwrap_or_default()
    }

    proptest! {
        #[test]
        fn no_order_and_no_query_make_the_reader_panic_and_what_is_told_is_bounded(
            order in prop::collection::btree_map("[a-d]{1,2}|\\PC{0,8}", any_value(), 0..12),
            query in "[a-d=&%0-9A-F+]{0,120}|\\PC{0,60}",
        ) {
            let order: Map<String, Value> = order.into_iter().collect();
            let length = Value::Object(order.clone()).to_string().len();
            let told = read(Fields::new(order, ""));
            let size: usize = told.iter().map(|error| error.pointer.len() + error.detail.len()).sum();
            // A pointer is percent-encoded: up to twelve signs for one.
            prop_assert!(size <= 16 * length + 4_000, "{size} of {length}");
            if let Ok(uri) = format!("/x?{query}").parse::<axum::http::Uri>()
                && let Ok(Query(pairs)) = Query::try_from_uri(&uri)
            {
                let _ = read(Fields::of_query(pairs));
            }
        }
    }

    #[test]
    fn what_comes_twice_in_a_query_is_refused_and_so_is_what_nobody_reads() {
        let pairs = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter();
            let pairs = pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            Fields::of_query(pairs.collect())
        };
        let mut twice = pairs(&[("tenant_id", "1"), ("tenant_id", "2")]);
        let _ = twice.number("tenant_id");
        let told = twice.end().unwrap_err();
        assert_eq!(
            (&*told[0].code, &*told[0].pointer),
            ("repeated", "#/tenant_id")
        );
        let told = pairs(&[("tenant", "1")]).end().unwrap_err();
        assert_eq!(&*told[0].code, "unknown_field");
        let object = json!({"ids": ["x"]}).as_object().cloned();
        let mut wrong = Fields::new(object.unwrap_or_default(), "");
        assert_eq!(wrong.ids("ids", 3), Some(Vec::new()));
        assert_eq!(wrong.end().unwrap_err()[0].pointer, "#/ids/0");
    }
}
