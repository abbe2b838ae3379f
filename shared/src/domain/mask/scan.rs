//! The scanner of free text.
//!
//! Two passes, each linear. The first finds what reaches far: links and e-mail addresses. What
//! lies between them is read sign by sign, trying at each one patterns of bounded length; a
//! pattern needs no word boundary, so that a number glued to other signs is found as well.

mod number;

use number::number_at;

use super::{HIDDEN, is_valid_cnpj, mask_cnpj, mask_email};

/// Masks a whole text.
pub(super) fn mask_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    while let Some(span) = next_span(text, done) {
        push_plain(&mut out, &text[done..span.start]);
        out.push_str(&span.shown);
        done = span.end;
    }
    push_plain(&mut out, &text[done..]);
    out
}

/// Masks a text that holds neither links nor e-mail addresses.
pub(super) fn mask_plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    push_plain(&mut out, text);
    out
}

struct Span {
    start: usize,
    end: usize,
    shown: String,
}

/// The next link or address at or after `from`. Each look back stops at the sign that the
/// previous look stopped at, so the walk stays linear.
fn next_span(text: &str, from: usize) -> Option<Span> {
    let bytes = text.as_bytes();
    let mut floor = from;
    for at in from..bytes.len() {
        let found = match bytes[at] {
            b'@' => address_at(text, floor, at),
            b':' if bytes[at..].starts_with(b"://") => link_at(text, floor, at),
            b'/' => bare_link_at(text, floor, at),
            _ => continue,
        };
        if found.is_some() {
            return found;
        }
        floor = at + 1;
    }
    None
}

/// `name@domain`; of a chain `a@b@c` the last domain is shown.
fn address_at(text: &str, floor: usize, at: usize) -> Option<Span> {
    let start = back_while(text, floor, at, |c| {
        c.is_alphanumeric() || matches!(c, '.' | '_' | '%' | '+' | '-' | '\'')
    });
    if start == at {
        return None;
    }
    let mut end = at;
    while text[end..].starts_with('@') {
        let Some(domain_end) = domain_at(text, end + 1) else {
            break;
        };
        end = domain_end;
    }
    (end > at).then(|| Span {
        start,
        end,
        shown: mask_email(&text[start..end]),
    })
}

/// Where the domain ends that starts here. It ends in a label of letters; a CNPJ ("12.ABC.345/…")
/// is none, nor part of one.
fn domain_at(text: &str, start: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut end = forward_while(text, start, is_host_char);
    end = (start..end)
        .find(|at| cnpj_at(bytes, *at).is_some())
        .unwrap_or(end);
    loop {
        let domain = &text[start..end];
        let label = domain.rfind('.').map_or(0, |dot| dot + 1);
        let letters = domain[label..].bytes().all(|b| b.is_ascii_alphabetic());
        if letters && label < domain.len() {
            return Some(end);
        }
        end = start + label.checked_sub(1)?;
    }
}

/// `scheme://host/…`: a link may be a bearer link, so nothing stays after its host.
fn link_at(text: &str, floor: usize, colon: usize) -> Option<Span> {
    let start = back_while(text, floor, colon, |c| c.is_ascii_alphabetic());
    if start == colon {
        return None;
    }
    let authority = colon + 3;
    let end = forward_while(text, authority, is_link_char);
    let authority_end = authority
        + text[authority..end]
            .find(['/', '?', '#', '\\'])
            .unwrap_or(end - authority);
    let host = match text[authority..authority_end].rfind('@') {
        Some(credentials) => authority + credentials + 1,
        None => authority,
    };
    let host_end = forward_while(&text[..authority_end], host, |c| {
        is_host_char(c) || c == ':'
    });
    let rest = if host_end < end { "/***" } else { "" };
    let shown = format!(
        "{}{}{rest}",
        &text[start..authority],
        mask_plain(&text[host..host_end])
    );
    Some(Span { start, end, shown })
}

/// `host.tld/…`, as people paste links.
fn bare_link_at(text: &str, floor: usize, slash: usize) -> Option<Span> {
    let start = back_while(text, floor, slash, is_host_char);
    let host = &text[start..slash];
    let (_, top) = host.rsplit_once('.')?;
    let lawful = top.len() >= 2
        && top.bytes().all(|b| b.is_ascii_alphabetic())
        && host.starts_with(|c: char| c.is_ascii_alphanumeric())
        && cnpj_at(text.as_bytes(), start).is_none();
    if !lawful {
        return None;
    }
    let end = forward_while(text, slash + 1, is_link_char);
    (end > slash + 1).then(|| Span {
        start,
        end,
        shown: format!("{}/{HIDDEN}", mask_plain(host)),
    })
}

fn is_host_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '-')
}

fn is_link_char(c: char) -> bool {
    !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '<' | '>' | '`')
}

fn back_while(text: &str, floor: usize, end: usize, wanted: impl Fn(char) -> bool) -> usize {
    text[floor..end]
        .char_indices()
        .rev()
        .take_while(|(_, c)| wanted(*c))
        .last()
        .map_or(end, |(start, _)| floor + start)
}

fn forward_while(text: &str, start: usize, wanted: impl Fn(char) -> bool) -> usize {
    text[start..]
        .char_indices()
        .find(|(_, c)| !wanted(*c))
        .map_or(text.len(), |(offset, _)| start + offset)
}

/// Reads sign by sign.
fn push_plain(out: &mut String, text: &str) {
    let bytes = text.as_bytes();
    let mut at = 0;
    let mut run_end = 0;
    while at < bytes.len() {
        let word_start = at == 0 || !bytes[at - 1].is_ascii_alphanumeric();
        if word_start && let Some(end) = uuid_at(bytes, at) {
            out.push_str(&text[at..end]);
            at = end;
            continue;
        }
        if at >= run_end && is_token_byte(bytes[at]) {
            run_end = at
                + bytes[at..]
                    .iter()
                    .take_while(|b| is_token_byte(**b))
                    .count();
            if is_secret(&text[at..run_end]) {
                out.push_str(HIDDEN);
                at = run_end;
                continue;
            }
        }
        if word_start && let Some((value, end)) = named_secret_at(text, at) {
            out.push_str(&text[at..value]);
            out.push_str(HIDDEN);
            at = end;
            continue;
        }
        if let Some((end, shown)) = pattern_at(bytes, at) {
            out.push_str(&shown);
            at = end;
            continue;
        }
        let width = text[at..].chars().next().map_or(1, char::len_utf8);
        out.push_str(&text[at..at + width]);
        at += width;
    }
}

fn pattern_at(bytes: &[u8], at: usize) -> Option<(usize, String)> {
    if !(bytes[at].is_ascii_alphanumeric() || matches!(bytes[at], b'+' | b'(')) {
        return None;
    }
    if let Some(end) = cnpj_at(bytes, at) {
        return Some((end, mask_cnpj(&ascii(&bytes[at..end]))));
    }
    number_at(bytes, at)
}

/// A CNPJ with its punctuation, or bare with right check digits; words and ids survive.
fn cnpj_at(bytes: &[u8], at: usize) -> Option<usize> {
    let mut signs = String::with_capacity(14);
    let mut end = at;
    let mut separators = 0;
    for (count, separator) in [(2, b'.'), (3, b'.'), (3, b'/'), (4, b'-'), (2, 0)] {
        for _ in 0..count {
            let sign = *bytes.get(end).filter(|b| b.is_ascii_alphanumeric())?;
            signs.push(char::from(sign.to_ascii_uppercase()));
            end += 1;
        }
        if separator != 0 && bytes.get(end) == Some(&separator) {
            separators += 1;
            end += 1;
        }
    }
    let numeric = signs.bytes().all(|b| b.is_ascii_digit());
    let checked = signs[12..].bytes().all(|b| b.is_ascii_digit());
    let lawful = match separators {
        4 => checked,
        0 if numeric => false,
        0 => is_word_boundary(bytes, at, end) && is_valid_cnpj(&signs),
        _ => numeric || is_valid_cnpj(&signs),
    };
    lawful.then_some(end)
}

fn is_word_boundary(bytes: &[u8], start: usize, end: usize) -> bool {
    let outside = |b: Option<&u8>| b.is_none_or(|b| !b.is_ascii_alphanumeric());
    outside(start.checked_sub(1).and_then(|before| bytes.get(before))) && outside(bytes.get(end))
}

/// Ids are shown: they say nothing and people look them up.
fn uuid_at(bytes: &[u8], at: usize) -> Option<usize> {
    let end = at + 36;
    let lawful = bytes
        .get(at..end)?
        .iter()
        .enumerate()
        .all(|(i, b)| match i {
            8 | 13 | 18 | 23 => *b == b'-',
            _ => b.is_ascii_hexdigit(),
        });
    (lawful && bytes.get(end).is_none_or(|b| !b.is_ascii_alphanumeric())).then_some(end)
}

fn is_token_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+' | b'/' | b'=' | b'.' | b'$')
}

/// True for what looks made by a machine to be kept secret: known prefixes, and long strings in
/// which letters and digits mix.
fn is_secret(run: &str) -> bool {
    const PREFIXES: [&str; 7] = ["eyJ", "$aact_", "whsec_", "sk_", "sk-", "ghp_", "AKIA"];
    let bytes = run.as_bytes();
    // A key of ours (`domain::credential`); names begin like it, but are not as long.
    if bytes.len() >= 40 && run.starts_with("posto_") {
        return true;
    }
    if bytes.len() >= 16 && PREFIXES.iter().any(|prefix| run.starts_with(prefix)) {
        return true;
    }
    bytes.len() >= 32
        && bytes
            .split(|b| matches!(b, b'-' | b'_' | b'.' | b'/'))
            .any(|piece| {
                piece.len() >= 16
                    && piece.iter().any(u8::is_ascii_digit)
                    && piece.iter().any(u8::is_ascii_alphabetic)
            })
}

/// `token=…`, `senha: …`, `Bearer …`: where the value starts and ends.
fn named_secret_at(text: &str, at: usize) -> Option<(usize, usize)> {
    const NAMES: [&str; 12] = [
        "token",
        "secret",
        "password",
        "passwd",
        "senha",
        "apikey",
        "authorization",
        "accesstoken",
        "xgatewaysecret",
        "xwebhooksecret",
        "asaasaccesstoken",
        "clientsecret",
    ];
    const LONGEST_NAME: usize = 24;
    let bytes = text.as_bytes();
    if !bytes[at].is_ascii_alphabetic() {
        return None;
    }
    let mut name = String::new();
    let mut end = at;
    while let Some(b) = bytes.get(end).filter(|_| end - at <= LONGEST_NAME) {
        match b {
            b if b.is_ascii_alphanumeric() => name.push(char::from(b.to_ascii_lowercase())),
            b'_' | b'-' => {}
            _ => break,
        }
        end += 1;
    }
    let skip = |from: usize, wanted: &[u8], most: usize| {
        from + bytes[from..]
            .iter()
            .take(most)
            .take_while(|b| wanted.contains(b))
            .count()
    };
    let value = if matches!(name.as_str(), "bearer" | "basic") {
        skip(end, b" ", 3)
    } else if NAMES.contains(&name.as_str()) {
        let sign = skip(end, b" \"'", 3);
        let after = skip(sign, b":=", 1);
        if after == sign {
            return None;
        }
        skip_scheme(text, skip(after, b" \"'", 3))
    } else {
        return None;
    };
    let end = forward_while(text, value, |c| {
        !c.is_whitespace() && !matches!(c, '"' | '\'' | ',' | ';' | '&' | '}' | ')')
    });
    (value > at && end >= value + 3).then_some((value, end))
}

/// The value of an `Authorization` starts after its scheme.
fn skip_scheme(text: &str, value: usize) -> usize {
    ["Bearer ", "bearer ", "Basic ", "basic "]
        .iter()
        .find(|scheme| text[value..].starts_with(**scheme))
        .map_or(value, |scheme| value + scheme.len())
}

fn ascii(bytes: &[u8]) -> String {
    bytes.iter().map(|b| char::from(*b)).collect()
}

#[cfg(test)]
mod tests;
