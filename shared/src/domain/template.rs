//! Message templates: Jinja syntax, declared variables, Brazilian filters.
//!
//! Invariant: a rendered text is whole or it is not there; a variable that misses is a failure
//! with its name, never a gap in a message (product 3.3).

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value, ValueKind};
use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use serde::{Deserialize, Serialize};

use super::channel::Channel;
use super::failure::FailureCode;

/// How much work one rendering may be; a template of ours needs a few hundred units.
const FUEL: u64 = 50_000;
/// The longest text that WhatsApp takes in one message.
const LONGEST_TEXT: usize = 65_536;

/// In which lane a message leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// An answer to somebody who waits; in order within its thread.
    Reply,
    /// Something that one recipient should know.
    Notice,
    /// One of many.
    Bulk,
}

impl Lane {
    /// The text in rows and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reply => "reply",
            Self::Notice => "notice",
            Self::Bulk => "bulk",
        }
    }
}

/// A variable that a template declares.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Variable {
    /// Its name in the template.
    pub name: String,
    /// Whether the text cannot do without it.
    #[serde(default)]
    pub required: bool,
    /// A value for previews and tests.
    #[serde(default)]
    pub sample: serde_json::Value,
}

/// One version of a template.
#[derive(Clone, Debug)]
pub struct Template {
    /// Its row.
    pub id: i64,
    /// What rules call it.
    pub key: String,
    /// The channel it is written for.
    pub channel: Channel,
    /// Its language.
    pub locale: String,
    /// Its version.
    pub version: i32,
    /// The Jinja text.
    pub body: String,
    /// What it declares.
    pub variables: Vec<Variable>,
    /// The lane its messages leave in: `reply`, `notice` or `bulk`.
    pub lane: String,
    /// What becomes of a send whose outcome stays unknown: `park`, `resend_if_silent` or `resend`.
    pub unknown_policy: String,
}

/// A text could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct RenderError {
    /// Why.
    pub code: FailureCode,
    /// Names of variables or of the fault; never a value of the event.
    pub detail: String,
}

/// What a text is made of, by name.
pub type Variables<'a> = BTreeMap<&'a str, Cow<'a, serde_json::Value>>;

/// Templates, compiled once per snapshot.
#[derive(Debug, Default)]
pub struct TemplateBook {
    templates: HashMap<(String, Channel), Template>,
    environment: Environment<'static>,
}

impl TemplateBook {
    /// Compiles `templates`. One that cannot be compiled stays in the book and fails when it is
    /// rendered, so that it harms nobody else.
    #[must_use]
    pub fn compile(templates: Vec<Template>) -> Self {
        let mut environment = environment(UndefinedBehavior::Strict);
        for template in &templates {
            // The error, if any, is met again and reported at rendering.
            let _ = environment.add_template_owned(name_of(template), template.body.clone());
        }
        let templates = templates
            .into_iter()
            .map(|template| ((template.key.clone(), template.channel), template))
            .collect();
        Self {
            templates,
            environment,
        }
    }

    /// The active template of that key for a channel.
    #[must_use]
    pub fn find(&self, key: &str, channel: Channel) -> Option<&Template> {
        self.templates.get(&(key.to_owned(), channel))
    }

    /// Renders a template with `variables`.
    ///
    /// # Errors
    /// A [`RenderError`] with the code to show; the message must not leave.
    pub fn render<'a>(
        &self,
        template: &'a Template,
        mut variables: Variables<'a>,
    ) -> Result<String, RenderError> {
        let mut missing = Vec::new();
        for declared in &template.variables {
            if is_absent(variables.get(declared.name.as_str()).map(AsRef::as_ref)) {
                if declared.required {
                    missing.push(declared.name.as_str());
                }
                variables.insert(&declared.name, Cow::Owned(serde_json::Value::Null));
            }
        }
        if !missing.is_empty() {
            return Err(RenderError {
                code: FailureCode::TemplateVariableMissing,
                detail: missing.join(", "),
            });
        }
        let compiled = match self.environment.get_template(&name_of(template)) {
            Ok(compiled) => compiled,
            Err(_) => return Err(syntax_fault(template)),
        };
        let text = compiled
            .render(Value::from(Serde(&variables)))
            .map_err(|error| fault(&error))?;
        tidy(&text)
    }
}

/// The language, with our filters and a bound on its work.
pub(super) fn environment(undefined: UndefinedBehavior) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(undefined);
    environment.set_fuel(Some(FUEL));
    let own_lines = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build();
    environment.set_syntax(own_lines.expect("because the delimiters are the default ones"));
    environment.add_filter("brl", brl);
    environment.add_filter("data", data);
    environment.add_filter("telefone", telefone);
    environment.add_filter("primeiro_nome", primeiro_nome);
    environment
}

fn name_of(template: &Template) -> String {
    format!(
        "{}/{}/{}/{}",
        template.key, template.channel, template.locale, template.version
    )
}

fn is_absent(value: Option<&serde_json::Value>) -> bool {
    match value {
        None | Some(serde_json::Value::Null) => true,
        Some(serde_json::Value::String(text)) => text.trim().is_empty(),
        Some(_) => false,
    }
}

fn syntax_fault(template: &Template) -> RenderError {
    let detail = environment(UndefinedBehavior::Strict)
        .template_from_str(&template.body)
        .err()
        .map_or_else(|| "not compiled".to_owned(), |error| describe(&error));
    RenderError {
        code: FailureCode::TemplateInvalid,
        detail,
    }
}

fn fault(error: &minijinja::Error) -> RenderError {
    let code = match error.kind() {
        ErrorKind::UndefinedError => FailureCode::TemplateVariableMissing,
        _ => FailureCode::TemplateInvalid,
    };
    RenderError {
        code,
        detail: describe(error),
    }
}

/// The kind and the line, without the values that minijinja's own text may quote.
pub(super) fn describe(error: &minijinja::Error) -> String {
    match (error.line(), error.detail()) {
        (Some(line), Some(detail))
            if error.kind() == ErrorKind::InvalidOperation
                || error.kind() == ErrorKind::SyntaxError =>
        {
            format!("{} (line {line}): {detail}", error.kind())
        }
        (Some(line), _) => format!("{} (line {line})", error.kind()),
        (None, _) => error.kind().to_string(),
    }
}

/// No more than one empty line in a row, none at the ends, and something in between.
fn tidy(text: &str) -> Result<String, RenderError> {
    let mut tidied = String::with_capacity(text.len());
    let mut empty_lines = 0;
    for line in text.trim().lines() {
        let line = line.trim_end();
        empty_lines = if line.is_empty() { empty_lines + 1 } else { 0 };
        if empty_lines < 2 {
            tidied.push_str(line);
            tidied.push('\n');
        }
    }
    tidied.truncate(tidied.trim_end().len());
    let fault = if tidied.is_empty() {
        "the text is empty"
    } else if tidied.chars().count() > LONGEST_TEXT {
        "the text is too long"
    } else {
        return Ok(tidied);
    };
    Err(RenderError {
        code: FailureCode::TextUnsendable,
        detail: fault.to_owned(),
    })
}

fn refuse(filter: &str, wants: &str) -> minijinja::Error {
    minijinja::Error::new(
        ErrorKind::InvalidOperation,
        format!("`{filter}` takes {wants}"),
    )
}

/// `59.8` → `R$ 59,80`, `1234.5` → `R$ 1.234,50`. Decimal text is never turned into a float.
fn brl(value: &Value) -> Result<String, minijinja::Error> {
    let text = match value.kind() {
        ValueKind::Number => value.to_string(),
        ValueKind::String => value.as_str().unwrap_or_default().trim().to_owned(),
        _ => return Err(refuse("brl", "a number or a decimal text")),
    };
    money(&text).ok_or_else(|| refuse("brl", "a decimal with a point, like 59.80"))
}

fn money(text: &str) -> Option<String> {
    let (sign, digits) = text
        .strip_prefix('-')
        .map_or(("", text), |digits| ("-", digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let lawful = !whole.is_empty() && (whole.len() + fraction.len()) <= 24;
    if !lawful
        || !whole
            .bytes()
            .chain(fraction.bytes())
            .all(|b| b.is_ascii_digit())
    {
        return None;
    }
    let mut cents: i128 = format!("{whole}{fraction:0<2.2}").parse().ok()?;
    if fraction
        .as_bytes()
        .get(2)
        .is_some_and(|digit| *digit >= b'5')
    {
        cents += 1;
    }
    let sign = if cents == 0 { "" } else { sign };
    let whole = (cents / 100).to_string();
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push('.');
        }
        grouped.push(digit);
    }
    Some(format!("{sign}R$ {grouped},{:02}", cents % 100))
}

/// `2026-01-27` or an RFC 3339 time → `27/01/2026`.
fn data(value: &Value) -> Result<String, minijinja::Error> {
    let text = value.as_str().map(str::trim).unwrap_or_default();
    let date = text
        .get(..10)
        .and_then(|date| chrono::NaiveDate::parse_from_str(date, "%Y-%m-%d").ok());
    date.map(|date| date.format("%d/%m/%Y").to_string())
        .ok_or_else(|| refuse("data", "a date like 2026-01-27"))
}

/// `5547999900011` → `(47) 99990-0011`; anything that is no Brazilian phone stays as it is.
fn telefone(value: &Value) -> String {
    let text = value.to_string();
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let national = match digits.len() {
        12 | 13 if digits.starts_with("55") => &digits[2..],
        10 | 11 => digits.as_str(),
        _ => return text,
    };
    let (area, local) = national.split_at(2);
    let (head, tail) = local.split_at(local.len() - 4);
    format!("({area}) {head}-{tail}")
}

/// `MARINA teste` → `Marina`.
fn primeiro_nome(value: &Value) -> String {
    let text = value.to_string();
    let Some(first) = text.split_whitespace().next() else {
        return String::new();
    };
    let mut letters = first.chars();
    letters.next().map_or_else(String::new, |initial| {
        initial
            .to_uppercase()
            .chain(letters.flat_map(char::to_lowercase))
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn template(body: &str, required: &[&str], optional: &[&str]) -> Template {
        let variable = |name: &&str, required| Variable {
            name: (*name).to_owned(),
            required,
            sample: serde_json::Value::Null,
        };
        Template {
            id: 1,
            key: "t".to_owned(),
            channel: Channel::Whatsapp,
            locale: "pt-BR".to_owned(),
            version: 1,
            body: body.to_owned(),
            variables: required
                .iter()
                .map(|name| variable(name, true))
                .chain(optional.iter().map(|name| variable(name, false)))
                .collect(),
            lane: "notice".to_owned(),
            unknown_policy: "park".to_owned(),
        }
    }

    fn render(template: Template, variables: serde_json::Value) -> Result<String, RenderError> {
        let serde_json::Value::Object(variables) = variables else {
            panic!("variables are an object")
        };
        let variables = variables
            .iter()
            .map(|(name, value)| (name.as_str(), Cow::Borrowed(value)))
            .collect();
        TemplateBook::compile(vec![template.clone()]).render(&template, variables)
    }

    #[test]
    fn a_text_with_all_its_variables_is_rendered_whole() {
        let text = render(
            template(
                "Oi, {{ name }}!\n{% if url %}\nPague: {{ url }}\n{% endif %}\n{{ amount | brl }}, {{ due | data }}",
                &["name", "amount", "due"],
                &["url"],
            ),
            json!({"name": "Aurora", "amount": "1234.5", "due": "2026-01-27"}),
        );
        assert_eq!(text.unwrap(), "Oi, Aurora!\nR$ 1.234,50, 27/01/2026");
    }

    #[test]
    fn a_missing_variable_is_named_and_nothing_is_rendered() {
        let error = render(
            template("{{ a }} {{ b }}", &["a", "b"], &[]),
            json!({"a": "", "b": null}),
        )
        .unwrap_err();
        assert_eq!(error.code, FailureCode::TemplateVariableMissing);
        assert_eq!(error.detail, "a, b");
    }

    #[test]
    fn a_variable_that_nobody_declared_is_no_gap_either() {
        let error = render(template("{{ undeclared }}", &[], &[]), json!({})).unwrap_err();
        assert_eq!(error.code, FailureCode::TemplateVariableMissing);
    }

    #[test]
    fn a_broken_template_and_an_endless_one_fail_with_a_code() {
        let broken = render(template("{% if %}", &[], &[]), json!({})).unwrap_err();
        assert_eq!(broken.code, FailureCode::TemplateInvalid);
        let endless = render(
            template(
                "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}",
                &[],
                &[],
            ),
            json!({}),
        );
        assert_eq!(endless.unwrap_err().code, FailureCode::TemplateInvalid);
        let empty =
            render(template("{% if false %}x{% endif %}", &[], &[]), json!({})).unwrap_err();
        assert_eq!(empty.code, FailureCode::TextUnsendable);
    }

    #[test]
    fn money_is_written_the_brazilian_way() {
        let cases = [
            ("59.80", Some("R$ 59,80")),
            ("59.8", Some("R$ 59,80")),
            ("0", Some("R$ 0,00")),
            ("1234567.891", Some("R$ 1.234.567,89")),
            ("0.005", Some("R$ 0,01")),
            ("-10", Some("-R$ 10,00")),
            ("59,80", None),
            ("abc", None),
            ("", None),
            (".5", None),
        ];
        for (text, expected) in cases {
            assert_eq!(money(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn names_and_phones_are_written_for_people() {
        assert_eq!(primeiro_nome(&Value::from("  MARINA teste ")), "Marina");
        assert_eq!(telefone(&Value::from("5547999900011")), "(47) 99990-0011");
        assert_eq!(
            telefone(&Value::from("+1 202 555 0100 9")),
            "+1 202 555 0100 9"
        );
    }

    proptest! {
        #[test]
        fn cents_survive_the_way_to_text(cents in 0i64..1_000_000_000_000) {
            let text = money(&format!("{}.{:02}", cents / 100, cents % 100)).unwrap();
            let digits: String = text.chars().filter(char::is_ascii_digit).collect();
            prop_assert_eq!(digits.parse::<i64>().unwrap(), cents);
        }

        #[test]
        fn rendering_never_panics(body in "\\PC{0,80}", name in "\\PC{0,20}") {
            let _ = render(template(&body, &[], &["name"]), json!({"name": name}));
        }
    }
}
