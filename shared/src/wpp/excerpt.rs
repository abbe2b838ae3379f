//! What is kept of the gateway's own words: short, scrubbed, and of JSON only the fields that
//! speak about the failure. A refused send's answer can carry the message itself (`body`,
//! `pushname`), and that must not reach a row or a log line.

use serde_json::{Map, Value};

/// The longest excerpt, in characters.
const EXCERPT_CHARS: usize = 300;

/// Scrubbing shortens, so more than the excerpt is looked at; but never a whole page.
const SCRUBBED_CHARS: usize = 2_000;

/// A run of letters *and* digits this long is a token, not a word.
const TOKEN_CHARS: usize = 20;

/// A run of this many digits, however they are grouped, may be a phone, a CPF or a CNPJ.
const DIGITS: usize = 8;

/// The fields that may be quoted; everything else in an answer may be somebody's data.
const QUOTABLE: &[&str] = &[
    "ack",
    "code",
    "connection",
    "data",
    "description",
    "detail",
    "details",
    "error",
    "error_code",
    "error_message",
    "errors",
    "isSendFailure",
    "message",
    "msg",
    "origin",
    "raw",
    "reason",
    "response",
    "result",
    "sent",
    "state",
    "status",
    "statusCode",
    "stderr_preview",
    "success",
];

/// The start of a text that is no JSON.
pub(super) fn of_text(text: &str) -> String {
    let start: String = text.chars().take(SCRUBBED_CHARS).collect();
    // Control characters go too: PostgreSQL refuses U+0000 in a text, and a line break would let
    // a provider forge a second line in a console.
    let line = start
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    scrub(&line).chars().take(EXCERPT_CHARS).collect()
}

/// The fields of a JSON answer that speak about the failure, as compact JSON.
pub(super) fn of_json(value: &Value) -> String {
    of_text(&quotable(value).to_string())
}

fn quotable(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .filter(|(key, _)| QUOTABLE.contains(&key.as_str()))
                .map(|(key, value)| (key.clone(), quotable(value)))
                .filter(|(_, value)| *value != Value::Object(Map::new()))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.iter().take(3).map(quotable).collect()),
        plain => plain.clone(),
    }
}

/// Hides addresses (`…@…`), tokens and long runs of digits.
pub(super) fn scrub(text: &str) -> String {
    hide_digits(&hide_words(text))
}

/// Hides each word that is an address or holds a token.
fn hide_words(text: &str) -> String {
    let is_word = |c: char| c.is_alphanumeric() || "_-+=.@~%".contains(c);
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let inside = is_word(first);
        let end = rest
            .find(|c: char| is_word(c) != inside)
            .unwrap_or(rest.len());
        let (piece, tail) = rest.split_at(end);
        out.push_str(if inside { hide_word(piece) } else { piece });
        rest = tail;
    }
    out
}

fn hide_word(word: &str) -> &str {
    if word
        .split_once('@')
        .is_some_and(|(name, host)| !name.is_empty() && !host.is_empty())
    {
        return "[address]";
    }
    let is_token = word.split(['.', '=']).any(|piece| {
        piece.chars().count() >= TOKEN_CHARS
            && piece.chars().any(|c| c.is_ascii_digit())
            && piece.chars().any(char::is_alphabetic)
    });
    if is_token { "[token]" } else { word }
}

/// Hides runs of digits, also those grouped as `+55 (11) 99999-0001` or `123.456.789-09`.
fn hide_digits(text: &str) -> String {
    let is_separator = |c: char| " .-()/+".contains(c);
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        if !chars[at].is_ascii_digit() {
            out.push(chars[at]);
            at += 1;
            continue;
        }
        // The run ends at the last digit that at most two separators part from the one before.
        let (mut digits, mut end, mut look) = (0, at, at);
        while look < chars.len() && look - end <= 2 {
            if chars[look].is_ascii_digit() {
                digits += 1;
                end = look + 1;
            } else if !is_separator(chars[look]) {
                break;
            }
            look += 1;
        }
        if digits >= DIGITS {
            out.push_str("[digits]");
        } else {
            out.extend(&chars[at..end]);
        }
        at = end;
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(text: &str, scrubbed: &str) {
        assert_eq!(scrub(text), scrubbed);
    }

    #[test]
    fn phones_and_documents_are_hidden_however_they_are_grouped() {
        check(
            "O número 5511999990001 não existe.",
            "O número [digits] não existe.",
        );
        check("tel +55 (11) 99999-0001!", "tel +[digits]!");
        check(
            "CPF 123.456.789-09, CNPJ 12.345.678/0001-95",
            "CPF [digits], CNPJ [digits]",
        );
        check(
            "waited 30000ms at line 1234567",
            "waited 30000ms at line 1234567",
        );
    }

    #[test]
    fn addresses_and_tokens_are_hidden() {
        check("to ana@exemplo.com.br now", "to [address] now");
        check("true_5511999990001@c.us_3EB0BBE3", "[address]");
        check("secret=s3cr3tS3cr3tS3cr3tS3cr3t", "[token]");
        check("Bearer abc.def0123456789abcdef0123.x", "Bearer [token]");
        check(
            "getQRCode failed: Invalid QR",
            "getQRCode failed: Invalid QR",
        );
    }

    #[test]
    fn an_excerpt_of_json_quotes_what_speaks_of_the_failure_and_nothing_else() {
        let answer = json!({
            "status": "success",
            "session": "s1",
            "response": [{
                "id": "true_5511999990001@c.us_3EB0",
                "body": "Olá, sua fatura venceu",
                "sender": {"pushname": "Ana"},
                "ack": -1,
                "isSendFailure": true,
            }],
        });
        assert_eq!(
            of_json(&answer),
            r#"{"response":[{"ack":-1,"isSendFailure":true}],"status":"success"}"#
        );
    }

    #[test]
    fn an_excerpt_is_one_short_line() {
        let page = format!("<html>\r\n\t\u{0}<body>{}</body>", "é ".repeat(5_000));
        let excerpt = of_text(&page);
        assert_eq!(excerpt.chars().count(), 300);
        assert!(excerpt.starts_with("<html> <body>é é"));
    }
}
