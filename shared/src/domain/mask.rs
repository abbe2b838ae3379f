//! Masking by type: what may be shown of a phone, a CPF, a CNPJ, an e-mail, a text or a JSON
//! value to those who may not see it (conventions D4, product 8.4).
//!
//! Invariant: masking errs on the side of hiding. It is for reading only: nothing that was masked
//! is ever parsed, sent or compared. It costs linear time on any input.

mod json;
mod scan;

use std::fmt;

pub use json::mask_json;
use serde_json::Value;

/// What stands where nothing may be shown.
pub const HIDDEN: &str = "***";

/// `+5511999990001` becomes `+55 11 9****-0001`: country, area and the last four digits stay.
#[must_use]
pub fn mask_phone(raw: &str) -> String {
    let digits: String = raw.chars().filter(char::is_ascii_digit).collect();
    let international = raw.trim_start().starts_with('+');
    let national = match digits.len() {
        12 | 13 if digits.starts_with("55") => &digits[2..],
        10 | 11 if !international => digits.as_str(),
        8 | 9 if !international => return local(&digits),
        7.. => return format!("{HIDDEN}{}", last_chars(&digits, 4)),
        _ => return HIDDEN.to_owned(),
    };
    format!("+55 {} {}", &national[..2], local(&national[2..]))
}

/// `123.456.789-09` becomes `***.456.789-**`.
#[must_use]
pub fn mask_cpf(raw: &str) -> String {
    let digits: String = raw.chars().filter(char::is_ascii_digit).collect();
    if digits.len() == 11 {
        format!("***.{}.{}-**", &digits[3..6], &digits[6..9])
    } else {
        HIDDEN.to_owned()
    }
}

/// `12.ABC.345/01DE-35` becomes `12.ABC.***/****-35`; numeric and alphanumeric alike (IN RFB
/// 2.229/2024).
#[must_use]
pub fn mask_cnpj(raw: &str) -> String {
    let signs: String = raw
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_uppercase())
        .collect();
    if signs.len() == 14 {
        format!("{}.{}.***/****-{}", &signs[..2], &signs[2..5], &signs[12..])
    } else {
        HIDDEN.to_owned()
    }
}

/// `fulano@example.com` becomes `f***@example.com`; of a number only the last four digits stay.
#[must_use]
pub fn mask_email(raw: &str) -> String {
    let Some((name, domain)) = raw.trim().rsplit_once('@') else {
        return HIDDEN.to_owned();
    };
    let domain = scan::mask_plain(domain);
    let number = name.bytes().filter(u8::is_ascii_digit).count() >= 7;
    match name.chars().next() {
        Some(_) if number => format!("{HIDDEN}{}@{domain}", last_chars(name, 4)),
        Some(first) if first.is_alphabetic() => format!("{first}{HIDDEN}@{domain}"),
        _ => format!("{HIDDEN}@{domain}"),
    }
}

/// Masks whatever in a free text looks personal or secret: CPF, CNPJ, phones, WhatsApp ids,
/// e-mails, what follows the host of a link (bearer links), credentials and token-like strings.
#[must_use]
pub fn mask_text(text: &str) -> String {
    scan::mask_text(text)
}

/// True when the fourteen signs end in the two check digits that the first twelve ask for:
/// values are ASCII − 48, weights 2 to 9 from the right, modulo 11 (conventions D4).
#[must_use]
pub fn is_valid_cnpj(signs: &str) -> bool {
    let signs = signs.as_bytes();
    let lawful = signs.len() == 14
        && signs[..12]
            .iter()
            .all(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
        && signs[12..].iter().all(u8::is_ascii_digit)
        && signs.iter().any(|b| *b != signs[0]);
    lawful && check_digit(&signs[..12]) == signs[12] && check_digit(&signs[..13]) == signs[13]
}

/// A value that prints masked. `expose` greps well and is reviewed.
#[derive(Clone, PartialEq, Eq)]
pub struct Masked<T>(T);

impl<T> Masked<T> {
    /// Wraps a value that must not be printed as it is.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value in clear: for a store or a send, never for a log.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

/// What can be shown masked.
pub trait Maskable {
    /// The masked form.
    fn masked(&self) -> String;
}

impl Maskable for String {
    fn masked(&self) -> String {
        mask_text(self)
    }
}

impl Maskable for &str {
    fn masked(&self) -> String {
        mask_text(self)
    }
}

impl Maskable for Value {
    fn masked(&self) -> String {
        mask_json(self).to_string()
    }
}

impl<T: Maskable> fmt::Debug for Masked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.masked())
    }
}

impl<T: Maskable> fmt::Display for Masked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.masked())
    }
}

/// The last characters of a text, all of it when it has no more.
pub(crate) fn last_chars(text: &str, count: usize) -> &str {
    match text.char_indices().rev().nth(count.saturating_sub(1)) {
        Some((start, _)) if count > 0 => &text[start..],
        Some(_) => "",
        None => text,
    }
}

/// A subscriber number of eight or nine digits.
fn local(digits: &str) -> String {
    let ninth = if digits.len() == 9 { &digits[..1] } else { "" };
    format!("{ninth}****-{}", last_chars(digits, 4))
}

fn check_digit(signs: &[u8]) -> u8 {
    let sum: u32 = signs
        .iter()
        .rev()
        .zip((2..=9).cycle())
        .map(|(sign, weight)| u32::from(sign - 48) * weight)
        .sum();
    match sum % 11 {
        0 | 1 => b'0',
        rest => b'0' + u8::try_from(11 - rest).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cases_of_the_conventions_hold() {
        let cases: Value =
            serde_json::from_str(include_str!("../source/fixtures/brazil/mask-cases.json"))
                .unwrap();
        for (noun, mask) in [
            ("cpf", mask_cpf as fn(&str) -> String),
            ("phone", mask_phone),
            ("email", mask_email),
        ] {
            for case in cases[noun].as_array().unwrap() {
                let (given, wanted) = (case["in"].as_str().unwrap(), case["out"].as_str().unwrap());
                assert_eq!(mask(given), wanted, "{noun}");
                assert_eq!(mask_text(given), wanted, "{noun} within a text");
            }
        }
        for noun in ["cnpj_numeric", "cnpj_alphanumeric"] {
            for case in cases[noun].as_array().unwrap() {
                let given = case["in"].as_str().unwrap();
                let signs: String = given.chars().filter(char::is_ascii_alphanumeric).collect();
                assert_eq!(
                    is_valid_cnpj(&signs),
                    case["valid"].as_bool().unwrap(),
                    "{given}"
                );
                let formatted = signs.len() < given.len();
                assert_eq!(
                    mask_text(given) != given,
                    formatted || is_valid_cnpj(&signs),
                    "{given}"
                );
            }
        }
        assert_eq!(mask_cnpj("12.ABC.345/01DE-35"), "12.ABC.***/****-35");
        for secret in cases["secrets"].as_array().unwrap() {
            let name = secret.as_str().unwrap();
            let masked = mask_json(&serde_json::json!({ name: "abc" }));
            assert_eq!(masked[name], HIDDEN, "{name}");
        }
    }

    #[test]
    fn what_is_no_phone_cpf_cnpj_or_email_is_hidden_whole() {
        for (masked, wanted) in [
            (mask_phone("12345"), HIDDEN),
            (mask_phone("14155552671999"), "***1999"),
            (mask_phone("+1 415 555 2671"), "***2671"),
            (mask_phone("99990-0011"), "9****-0011"),
            (mask_phone("4799900011"), "+55 47 ****-0011"),
            (mask_cpf("123"), HIDDEN),
            (mask_cnpj("123"), HIDDEN),
            (mask_email("fulano"), HIDDEN),
            (mask_email("47999900011@example.com"), "***0011@example.com"),
            (mask_email("@example.com"), "***@example.com"),
        ] {
            assert_eq!(masked, wanted);
        }
    }

    #[test]
    fn a_masked_value_prints_masked_and_exposes_clear() {
        let text = Masked::new("ligue (47) 99990-0011".to_owned());
        assert_eq!(
            format!("{text} {text:?}"),
            "ligue +55 47 9****-0011 ligue +55 47 9****-0011"
        );
        assert_eq!(text.expose(), "ligue (47) 99990-0011");
        let json = Masked::new(serde_json::json!({"phone": "47999900011"}));
        assert_eq!(json.to_string(), r#"{"phone":"+55 47 9****-0011"}"#);
    }
}
