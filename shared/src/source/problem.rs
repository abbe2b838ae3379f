//! What can be wrong with a request, told so that the caller can mend it: a stable code, the
//! place as a JSON pointer (RFC 6901), and a sentence. Never an echo of the content, which may be
//! personal.

use std::fmt;

use serde_json::Value;

use crate::domain::mask;

macro_rules! problem_codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal;)+) => {
        /// What is wrong; the text is stable and part of the API.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ProblemCode { $($(#[$doc])* $variant,)+ }

        impl ProblemCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The stable text.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

problem_codes! {
    /// The body is not UTF-8.
    InvalidUtf8 = "invalid_utf8";
    /// The body is not JSON.
    MalformedJson = "malformed_json";
    /// Arrays or objects are nested deeper than is read.
    NestedTooDeeply = "nested_too_deeply";
    /// A number is larger than a double holds.
    NumberOutOfRange = "number_out_of_range";
    /// Something follows the JSON value.
    TrailingData = "trailing_data";
    /// A required field is missing or null.
    Missing = "missing";
    /// A field is empty.
    Empty = "empty";
    /// A value has another type than wanted.
    WrongType = "wrong_type";
    /// A text is too long.
    TooLong = "too_long";
    /// A text has not the wanted form.
    InvalidFormat = "invalid_format";
    /// A number or time is out of its range.
    OutOfRange = "out_of_range";
    /// A text or name holds U+0000, which PostgreSQL cannot store.
    NulCharacter = "nul_character";
    /// The name of a member is too long.
    KeyTooLong = "key_too_long";
}

impl ProblemCode {
    /// True when the body is no JSON that can be read at all (answer 400); else it is JSON with
    /// wrong content (answer 422).
    #[must_use]
    pub const fn is_syntax(self) -> bool {
        matches!(
            self,
            Self::InvalidUtf8
                | Self::MalformedJson
                | Self::NestedTooDeeply
                | Self::NumberOutOfRange
                | Self::TrailingData
        )
    }
}

impl fmt::Display for ProblemCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing that is wrong with a request.
#[derive(Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub code: ProblemCode,
    /// Where, as a JSON pointer; empty for the whole body. It is for the caller: names of members
    /// are the caller's and may be personal, so a log takes [`Problem::masked_pointer`].
    pub pointer: String,
    /// A sentence for the caller.
    pub detail: String,
}

impl Problem {
    /// A problem at a place.
    #[must_use]
    pub fn new(code: ProblemCode, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            code,
            pointer: pointer.into(),
            detail: detail.into(),
        }
    }

    /// The place, for logs and for people who may not see personal data.
    #[must_use]
    pub fn masked_pointer(&self) -> String {
        mask::mask_text(&self.pointer)
    }
}

/// Where the members of the native form stand in another one: (native name, place there). A place
/// is a pointer without its first slash; an empty one is the whole.
#[derive(Clone, Copy, Debug)]
pub struct Renamed(pub &'static [(&'static str, &'static str)]);

impl Renamed {
    /// The problems with their pointers, and the first words of their sentences, in the other form.
    #[must_use]
    pub fn of(self, problems: Vec<Problem>) -> Vec<Problem> {
        problems
            .into_iter()
            .map(|problem| self.one(problem))
            .collect()
    }

    fn one(self, problem: Problem) -> Problem {
        let place = problem.pointer.strip_prefix('/').unwrap_or_default();
        let found = self.0.iter().find_map(|(native, there)| {
            let rest = place.strip_prefix(native)?;
            (rest.is_empty() || rest.starts_with('/')).then_some((native, there, rest))
        });
        let Some((native, there, rest)) = found else {
            return problem;
        };
        let named = there.rsplit('/').next().filter(|name| !name.is_empty());
        Problem {
            pointer: if there.is_empty() {
                rest.to_owned()
            } else {
                format!("/{there}{rest}")
            },
            detail: match (named, problem.detail.strip_prefix(native)) {
                (Some(named), Some(rest)) => format!("{named}{rest}"),
                _ => problem.detail,
            },
            ..problem
        }
    }
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} at {:?}: {}",
            self.code,
            self.masked_pointer(),
            self.detail
        )
    }
}

/// Reads JSON.
///
/// # Errors
///
/// Tells why it cannot be read and where, by line and column.
pub fn parse_json(bytes: &[u8]) -> Result<Value, Problem> {
    if bytes.trim_ascii().is_empty() {
        return Err(Problem::new(
            ProblemCode::MalformedJson,
            "",
            "the body is empty; a JSON value is wanted",
        ));
    }
    if let Err(error) = std::str::from_utf8(bytes) {
        return Err(Problem::new(
            ProblemCode::InvalidUtf8,
            "",
            format!("the body is not UTF-8 from byte {} on", error.valid_up_to()),
        ));
    }
    serde_json::from_slice(bytes).map_err(|error| json_problem(&error))
}

/// serde_json tells these cases apart by its message alone; it never quotes the content of a
/// value that is read without a type.
fn json_problem(error: &serde_json::Error) -> Problem {
    let message = error.to_string();
    let place = format!("at line {} column {}", error.line(), error.column());
    let (code, detail) = if message.starts_with("recursion limit exceeded") {
        (
            ProblemCode::NestedTooDeeply,
            format!("the JSON is nested too deeply {place}; 127 levels are read"),
        )
    } else if message.starts_with("number out of range") {
        (
            ProblemCode::NumberOutOfRange,
            format!("a number is out of range {place}"),
        )
    } else if message.starts_with("trailing characters") {
        (
            ProblemCode::TrailingData,
            format!("something follows the JSON value {place}"),
        )
    } else if error.is_eof() {
        (
            ProblemCode::MalformedJson,
            format!("the JSON ends too early {place}"),
        )
    } else {
        (
            ProblemCode::MalformedJson,
            format!("the body is not JSON {place}"),
        )
    };
    Problem::new(code, "", detail)
}

/// Appends a member's name or an item's index to a pointer, escaped (RFC 6901 §3). A very long
/// name is shortened: the pointer is to be read.
pub(super) fn push_segment(pointer: &mut String, segment: &str) {
    const LONGEST: usize = 64;
    pointer.push('/');
    for (count, c) in segment.chars().enumerate() {
        match c {
            _ if count == LONGEST => {
                pointer.push('…');
                return;
            }
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            c if c.is_control() => pointer.push('\u{fffd}'),
            c => pointer.push(c),
        }
    }
}

/// Finds what PostgreSQL or an index cannot hold: U+0000 in texts and names, and names longer
/// than 256 bytes. At most `room` problems are told.
pub(super) fn check_storable(
    value: &Value,
    pointer: &mut String,
    problems: &mut Vec<Problem>,
    room: usize,
) {
    if problems.len() >= room {
        return;
    }
    match value {
        Value::String(text) if text.contains('\0') => problems.push(nul(pointer, "the text")),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                within(pointer, &index.to_string(), |pointer| {
                    check_storable(item, pointer, problems, room);
                });
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                within(pointer, name, |pointer| {
                    check_name(name, pointer, problems);
                    check_storable(member, pointer, problems, room);
                });
            }
        }
        _ => {}
    }
}

/// True when a value holds U+0000 anywhere, which jsonb refuses.
pub(super) fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(members) => members
            .iter()
            .any(|(name, member)| name.contains('\0') || holds_nul(member)),
        _ => false,
    }
}

fn check_name(name: &str, pointer: &str, problems: &mut Vec<Problem>) {
    const LONGEST: usize = 256;
    if name.len() > LONGEST {
        problems.push(Problem::new(
            ProblemCode::KeyTooLong,
            pointer,
            format!("the name of this member is longer than {LONGEST} bytes"),
        ));
    }
    if name.contains('\0') {
        problems.push(nul(pointer, "the name of this member"));
    }
}

fn nul(pointer: &str, what: &str) -> Problem {
    Problem::new(
        ProblemCode::NulCharacter,
        pointer,
        format!("{what} holds the character U+0000, which cannot be stored"),
    )
}

fn within(pointer: &mut String, segment: &str, look: impl FnOnce(&mut String)) {
    let length = pointer.len();
    push_segment(pointer, segment);
    look(pointer);
    pointer.truncate(length);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn code_of(body: &[u8]) -> ProblemCode {
        let problem = parse_json(body).unwrap_err();
        assert!(problem.code.is_syntax());
        assert!(!problem.detail.contains("SEGREDO"), "{}", problem.detail);
        problem.code
    }

    #[test]
    fn every_way_of_not_being_json_has_its_code_and_never_an_echo() {
        use ProblemCode::{
            InvalidUtf8, MalformedJson, NestedTooDeeply, NumberOutOfRange, TrailingData,
        };
        let deep = "[".repeat(10_000);
        let closed = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        let objects = r#"{"a":"#.repeat(10_000);
        for (body, wanted) in [
            (&b""[..], MalformedJson),
            (b"  \n", MalformedJson),
            (b"SEGREDO", MalformedJson),
            (br#"{"SEGREDO":"#, MalformedJson),
            (br#"{"a":"SEGREDO"#, MalformedJson),
            (br#"{"a":SEGREDO}"#, MalformedJson),
            (b"{'a':1}", MalformedJson),
            (b"{\"a\":\"\xff\xfe\"}", InvalidUtf8),
            (br#"{"a":"\ud800"}"#, MalformedJson),
            (b"\xef\xbb\xbf{}", MalformedJson),
            (br#"{"a":1e999}"#, NumberOutOfRange),
            (br#"{"a":1} SEGREDO"#, TrailingData),
            (br#"{} {}"#, TrailingData),
            (deep.as_bytes(), NestedTooDeeply),
            (closed.as_bytes(), NestedTooDeeply),
            (objects.as_bytes(), NestedTooDeeply),
        ] {
            assert_eq!(
                code_of(body),
                wanted,
                "{}",
                String::from_utf8_lossy(&body[..body.len().min(40)])
            );
        }
        assert!(parse_json(&[b"[".repeat(127), b"]".repeat(127)].concat()).is_ok());
    }

    #[test]
    fn the_place_of_malformed_json_is_told() {
        let problem = parse_json(b"{\n \"a\": ?\n}").unwrap_err();
        assert_eq!(problem.detail, "the body is not JSON at line 2 column 7");
    }

    #[test]
    fn pointers_are_escaped_and_bounded() {
        let mut pointer = String::new();
        push_segment(&mut pointer, "a/b~c");
        push_segment(&mut pointer, "");
        push_segment(&mut pointer, &"x".repeat(300));
        assert_eq!(pointer, format!("/a~1b~0c//{}…", "x".repeat(64)));
    }

    #[test]
    fn what_cannot_be_stored_is_found_wherever_it_is() {
        let mut problems = Vec::new();
        let value =
            json!({"a": [1, "x\0"], "b\0": {"c/d": "\0"}, "k".repeat(257): 1, "ok": "fine"});
        check_storable(&value, &mut "/payload".to_owned(), &mut problems, 10);
        let told: Vec<_> = problems
            .iter()
            .map(|p| (p.code.as_str(), p.pointer.as_str()))
            .collect();
        let long = format!("/payload/{}…", "k".repeat(64));
        assert_eq!(
            told,
            [
                ("nul_character", "/payload/a/1"),
                ("nul_character", "/payload/b\u{fffd}"),
                ("nul_character", "/payload/b\u{fffd}/c~1d"),
                ("key_too_long", long.as_str()),
            ]
        );
        assert!(holds_nul(&value));
        assert!(!holds_nul(&json!({"a": ["b", 1, null]})));
        let many: Value = vec![json!("\0"); 1000].into();
        check_storable(&many, &mut String::new(), &mut problems, 10);
        assert_eq!(problems.len(), 10);
    }

    #[test]
    fn a_problem_prints_its_place_masked() {
        let problem = Problem::new(ProblemCode::Empty, "/payload/5547999900011", "is empty");
        assert!(!format!("{problem:?}").contains("5547999900011"));
    }
}
