//! The fields of an item: each read with all its rules, every problem collected.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use crate::domain::ids::{TenantId, TraceId};
use crate::source::problem::{Problem, ProblemCode, check_storable};
use crate::source::time;

/// More problems than this help nobody.
const MOST_PROBLEMS: usize = 50;

/// The members of an item, and what is wrong with them so far.
pub(super) struct Fields<'a> {
    members: &'a Map<String, Value>,
    problems: Vec<Problem>,
}

impl<'a> Fields<'a> {
    pub(super) const fn of(members: &'a Map<String, Value>) -> Self {
        Self {
            members,
            problems: Vec::new(),
        }
    }

    /// What was read, unless something is wrong.
    pub(super) fn finish<T>(self, read: T) -> Result<T, Vec<Problem>> {
        if self.problems.is_empty() {
            Ok(read)
        } else {
            Err(self.problems)
        }
    }

    pub(super) fn payload(&mut self, payload: Option<Value>) -> Option<Value> {
        match payload {
            None => self.refuse(ProblemCode::Missing, "payload", "payload is required"),
            Some(Value::Object(members)) => self.storable("payload", Value::Object(members)),
            Some(_) => self.refuse(
                ProblemCode::WrongType,
                "payload",
                "payload must be an object",
            ),
        }
    }

    pub(super) fn metadata(&mut self, metadata: Option<Value>) -> Value {
        let read = match metadata {
            None | Some(Value::Null) => None,
            Some(Value::Object(members)) => self.storable("metadata", Value::Object(members)),
            Some(_) => self.refuse(
                ProblemCode::WrongType,
                "metadata",
                "metadata must be an object",
            ),
        };
        read.unwrap_or_else(|| json!({}))
    }

    /// Dotted segments, as rules match them. The set of types is open.
    pub(super) fn event_type(&mut self) -> Option<String> {
        const FORM: &str = "event_type is dotted words, like billing.invoice.overdue: letters, digits, _ and -, separated by dots";
        let text = self.required_text("event_type", 100)?;
        let segment = |segment: &str| {
            !segment.is_empty()
                && segment
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
        };
        if !text.split('.').all(segment) {
            return self.refuse(ProblemCode::InvalidFormat, "event_type", FORM);
        }
        // A type is a label of logs, metrics and broker messages: no phone, CPF or CNPJ may be one.
        let digits_in_a_row = text
            .split(|c: char| !c.is_ascii_digit())
            .map(str::len)
            .max();
        if digits_in_a_row.is_some_and(|run| run >= 8) {
            const NO_NUMBERS: &str =
                "event_type names a kind of event: it must not carry a number of 8 digits or more";
            return self.refuse(ProblemCode::InvalidFormat, "event_type", NO_NUMBERS);
        }
        Some(text)
    }

    pub(super) fn source_system(&mut self) -> Option<String> {
        let text = self.required_text("source_system", 50)?;
        let lawful = text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
        if lawful {
            Some(text)
        } else {
            self.refuse(
                ProblemCode::InvalidFormat,
                "source_system",
                "source_system is letters, digits, _, - and dots",
            )
        }
    }

    pub(super) fn tenant_id(&mut self) -> Option<TenantId> {
        let value = self.given("tenant_id")?;
        match value.as_i64() {
            Some(id) if id > 0 => Some(TenantId(id)),
            Some(_) => self.refuse(
                ProblemCode::OutOfRange,
                "tenant_id",
                "tenant_id must be positive",
            ),
            None if value.is_u64() => self.refuse(
                ProblemCode::OutOfRange,
                "tenant_id",
                "tenant_id is too large",
            ),
            None => self.refuse(
                ProblemCode::WrongType,
                "tenant_id",
                "tenant_id must be an integer",
            ),
        }
    }

    pub(super) fn trace_id(&mut self) -> Option<TraceId> {
        let text = self.optional_text("trace_id", 64)?;
        match text.parse() {
            Ok(id) => Some(id),
            Err(_) => self.refuse(
                ProblemCode::InvalidFormat,
                "trace_id",
                "trace_id is 32 hexadecimal digits, not all zero, or a UUID",
            ),
        }
    }

    /// The source's own id: a text, or a number as many systems have it.
    pub(super) fn event_id(&mut self) -> Option<String> {
        match self.members.get("event_id") {
            Some(Value::Number(number)) if !number.is_f64() => Some(number.to_string()),
            _ => self.optional_text("event_id", 255),
        }
    }

    pub(super) fn occurred_at(&mut self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let value = self.given("occurred_at")?;
        if !(value.is_string() || value.is_number()) {
            return self.refuse(
                ProblemCode::WrongType,
                "occurred_at",
                "occurred_at is an RFC 3339 time with its zone, or epoch seconds or milliseconds",
            );
        }
        match time::parse(value) {
            Ok(at) if time::is_believable(at, now) => Some(at),
            Ok(_) => self.refuse(
                ProblemCode::OutOfRange,
                "occurred_at",
                "occurred_at lies between 2000-01-01 and 24 hours from now",
            ),
            Err(time::NoTime) => self.refuse(
                ProblemCode::InvalidFormat,
                "occurred_at",
                "occurred_at is an RFC 3339 time with its zone, or epoch seconds or milliseconds",
            ),
        }
    }

    pub(super) fn optional_text(&mut self, name: &'static str, longest: usize) -> Option<String> {
        let value = self.given(name)?;
        let Some(text) = value.as_str() else {
            return self.refuse(
                ProblemCode::WrongType,
                name,
                format!("{name} must be a string"),
            );
        };
        if text.trim().is_empty() {
            return self.refuse(
                ProblemCode::Empty,
                name,
                format!("{name} must not be empty"),
            );
        }
        if text.chars().count() > longest {
            return self.refuse(
                ProblemCode::TooLong,
                name,
                format!("{name} is longer than {longest} characters"),
            );
        }
        if text.contains('\0') {
            return self.refuse(
                ProblemCode::NulCharacter,
                name,
                format!("{name} holds the character U+0000, which cannot be stored"),
            );
        }
        if text.chars().any(char::is_control) {
            return self.refuse(
                ProblemCode::InvalidFormat,
                name,
                format!("{name} must not hold control characters"),
            );
        }
        Some(text.to_owned())
    }

    fn required_text(&mut self, name: &'static str, longest: usize) -> Option<String> {
        if self.given(name).is_none() {
            return self.refuse(ProblemCode::Missing, name, format!("{name} is required"));
        }
        self.optional_text(name, longest)
    }

    /// The member, unless it is missing or null.
    fn given(&self, name: &str) -> Option<&'a Value> {
        self.members.get(name).filter(|value| !value.is_null())
    }

    fn storable(&mut self, name: &'static str, value: Value) -> Option<Value> {
        let before = self.problems.len();
        let mut pointer = format!("/{name}");
        check_storable(&value, &mut pointer, &mut self.problems, MOST_PROBLEMS);
        (self.problems.len() == before).then_some(value)
    }

    fn refuse<T>(
        &mut self,
        code: ProblemCode,
        name: &'static str,
        detail: impl Into<String>,
    ) -> Option<T> {
        self.problems
            .push(Problem::new(code, format!("/{name}"), detail));
        None
    }
}
