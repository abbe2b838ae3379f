//! What the headers of a post say: the form of its body, and the trace that it belongs to.

use axum::http::{HeaderMap, header};
use shared::domain::ids::TraceId;

/// The trace of a request: the one its `traceparent` header carries (W3C; a bad one is ignored,
/// never a reason to refuse).
pub(super) fn given_trace(headers: &HeaderMap) -> Option<TraceId> {
    headers.get("traceparent").and_then(|value| {
        let mut parts = value.to_str().ok()?.split('-');
        let (version, trace) = (parts.next()?, parts.next()?);
        let lawful = version.len() == 2
            && version != "ff"
            && trace == trace.to_ascii_lowercase()
            && trace.len() == 32;
        lawful.then(|| trace.parse().ok()).flatten()
    })
}

/// JSON, in UTF-8, as it is: neither another charset nor a compressed body is read.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let plain =
        text(header::CONTENT_ENCODING).is_none_or(|coding| coding.eq_ignore_ascii_case("identity"));
    let mut parts = text(header::CONTENT_TYPE)
        .unwrap_or_default()
        .split(';')
        .map(str::trim);
    let json = parts
        .next()
        .is_some_and(|media| media.eq_ignore_ascii_case("application/json"));
    let utf8 = parts.all(|parameter| match parameter.split_once('=') {
        Some((name, charset)) if name.trim().eq_ignore_ascii_case("charset") => charset
            .trim()
            .trim_matches('"')
            .eq_ignore_ascii_case("utf-8"),
        _ => true,
    });
    plain && json && utf8
}
