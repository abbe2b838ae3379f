//! Numbers that name a person: phones and CPF in any punctuation, and any long digit string.

use super::ascii;
use crate::domain::address::is_area_code;
use crate::domain::mask::{HIDDEN, last_chars, mask_cnpj, mask_cpf, mask_phone};

/// From ten digits on a bare number is hidden, whatever it is: a phone, a document, a LID, the
/// line of a bill.
const LONG: usize = 10;

/// How many digits the line and the bar code of a bill have: 44 of the code, 47 of a bank's line, 48
/// of a utility's. Whoever has them sees the bill, and pays it.
const BILL: std::ops::RangeInclusive<usize> = 44..=48;

/// The number that starts at `at`: where it ends and how it is shown.
pub(super) fn number_at(bytes: &[u8], at: usize) -> Option<(usize, String)> {
    if let Some(bill) = bill_at(bytes, at) {
        return Some(bill);
    }
    let run = bytes[at..]
        .iter()
        .take_while(|b| b.is_ascii_digit())
        .count();
    if run >= LONG {
        return Some((at + run, long_number(&ascii(&bytes[at..at + run]))));
    }
    if let Some(end) = cpf_at(bytes, at) {
        return Some((end, mask_cpf(&ascii(&bytes[at..end]))));
    }
    let (end, digits) = phone_at(bytes, at)?;
    Some((end, mask_phone(&digits)))
}

/// The line of a bill, `34191.79001 01043.510047 91020.150008 5 84410026000`, in any punctuation.
fn bill_at(bytes: &[u8], at: usize) -> Option<(usize, String)> {
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    // Looked for once in a run, so that the walk stays linear.
    if !is_digit(at) || at.checked_sub(1).is_some_and(is_digit) {
        return None;
    }
    let mut digits = String::with_capacity(*BILL.end());
    let (mut end, mut next) = (at, at);
    while digits.len() <= *BILL.end() && is_digit(next) {
        digits.push(char::from(bytes[next]));
        end = next + 1;
        next = end
            + if is_digit(end) {
                0
            } else {
                separator_at(bytes, end)
            };
    }
    let shown = || format!("{HIDDEN}{}", last_chars(&digits, 4));
    BILL.contains(&digits.len()).then(|| (end, shown()))
}

fn long_number(digits: &str) -> String {
    match digits.len() {
        10 if is_national(digits) => mask_phone(digits),
        11 if is_national(digits) => mask_phone(digits),
        11 => mask_cpf(digits),
        12 | 13 if digits.starts_with("55") && is_national(&digits[2..]) => mask_phone(digits),
        14 => mask_cnpj(digits),
        _ => format!("{HIDDEN}{}", last_chars(digits, 4)),
    }
}

/// Area code and subscriber, eight digits or nine that start with 9.
fn is_national(digits: &str) -> bool {
    digits.get(..2).is_some_and(is_area_code)
        && (digits.len() == 10 || digits.as_bytes().get(2) == Some(&b'9'))
}

/// `ddd.ddd.ddd-dd` with any of the usual separators, or without some.
fn cpf_at(bytes: &[u8], at: usize) -> Option<usize> {
    let mut end = at;
    for (count, separated) in [(3, true), (3, true), (3, true), (2, false)] {
        if digits_at(bytes, end) < count {
            return None;
        }
        end += count;
        if separated {
            end += separator_at(bytes, end);
        }
    }
    Some(end)
}

/// A phone with its country, with its area code, or local with a hyphen; what was found, in a
/// form that tells the three apart.
fn phone_at(bytes: &[u8], at: usize) -> Option<(usize, String)> {
    if bytes[at] == b'+' {
        return brazilian_at(bytes, at + 1).or_else(|| {
            foreign_at(bytes, at + 1).map(|(end, digits)| (end, format!("+{digits}")))
        });
    }
    brazilian_at(bytes, at)
        .or_else(|| national_at(bytes, at))
        .or_else(|| local_at(bytes, at))
}

/// `55 (47) 99990-0011`.
fn brazilian_at(bytes: &[u8], at: usize) -> Option<(usize, String)> {
    if !bytes.get(at..)?.starts_with(b"55") {
        return None;
    }
    let area = separators_at(bytes, at + 2);
    national_at(bytes, area)
}

/// `(047) 9 9999-0011`, without the country.
fn national_at(bytes: &[u8], at: usize) -> Option<(usize, String)> {
    let mut at = at + usize::from(bytes.get(at) == Some(&b'('));
    at += usize::from(bytes.get(at) == Some(&b'0'));
    if digits_at(bytes, at) < 2 {
        return None;
    }
    let area = ascii(&bytes[at..at + 2]);
    if !is_area_code(&area) {
        return None;
    }
    at += 2;
    at += usize::from(bytes.get(at) == Some(&b')'));
    let subscriber = separators_at(bytes, at);
    let (end, digits) = subscriber_at(bytes, subscriber)?;
    Some((end, area + &digits))
}

/// Eight digits, or nine that start with 9, in two halves or one.
fn subscriber_at(bytes: &[u8], at: usize) -> Option<(usize, String)> {
    let with_ninth = (bytes.get(at) == Some(&b'9'))
        .then(|| {
            let rest = at + 1 + separator_at(bytes, at + 1);
            halves_at(bytes, rest).map(|(end, digits)| (end, format!("9{digits}")))
        })
        .flatten();
    with_ninth.or_else(|| {
        bytes
            .get(at)
            .filter(|b| matches!(b, b'2'..=b'9'))
            .and_then(|_| halves_at(bytes, at))
    })
}

fn halves_at(bytes: &[u8], at: usize) -> Option<(usize, String)> {
    if digits_at(bytes, at) < 4 {
        return None;
    }
    let second = at + 4 + separator_at(bytes, at + 4);
    if digits_at(bytes, second) < 4 {
        return None;
    }
    let digits = ascii(&bytes[at..at + 4]) + &ascii(&bytes[second..second + 4]);
    Some((second + 4, digits))
}

/// `99990-0011` or `999900011` alone; four and four digits only with a hyphen, and not two years.
fn local_at(bytes: &[u8], at: usize) -> Option<(usize, String)> {
    let run = digits_at(bytes, at);
    let (end, digits) = subscriber_at(bytes, at)?;
    let year = |digits: &str| digits.starts_with("19") || digits.starts_with("20");
    let lawful = match digits.len() {
        9 => run == 9 || run == 5 || run == 1,
        _ => run == 4 && bytes[at + 4] == b'-' && !(year(&digits[..4]) && year(&digits[4..])),
    };
    lawful.then_some((end, digits))
}

/// `+1 415 555 2671`: 8 to 15 digits in groups.
fn foreign_at(bytes: &[u8], at: usize) -> Option<(usize, String)> {
    let mut digits = String::new();
    let mut end = at;
    let mut next = at;
    while digits.len() < 15 {
        match bytes.get(next) {
            Some(b) if b.is_ascii_digit() => {
                digits.push(char::from(*b));
                next += 1;
                end = next;
            }
            Some(b'(' | b')') if next - end < 3 => next += 1,
            _ => match separator_at(bytes, next) {
                0 => break,
                _ if next - end >= 3 => break,
                width => next += width,
            },
        }
    }
    (digits.len() >= 8).then_some((end, digits))
}

/// How many digits stand here, counted no further than any pattern asks.
fn digits_at(bytes: &[u8], at: usize) -> usize {
    bytes
        .get(at..)
        .unwrap_or_default()
        .iter()
        .take(LONG)
        .take_while(|b| b.is_ascii_digit())
        .count()
}

/// Up to three separators in a row.
fn separators_at(bytes: &[u8], at: usize) -> usize {
    let mut end = at;
    for _ in 0..3 {
        end += separator_at(bytes, end);
        if bytes.get(end) == Some(&b'(') {
            return end;
        }
    }
    end
}

/// The width of the one separator here: 0 when there is none. Also the narrow and non-breaking
/// spaces and hyphens that phones paste.
fn separator_at(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at..).unwrap_or_default() {
        [b' ' | b'.' | b'-' | b'/', ..] => 1,
        [0xC2, 0xA0, ..] => 2,
        [0xE2, 0x80, 0x90..=0x95 | 0xAF, ..] => 3,
        _ => 0,
    }
}
