//! What the headers of a post say: the form of its body, and the trace that it belongs to.

use axum::http::{HeaderMap, header};
use shared::domain::ids::TraceId;
use shared::source::cloud_events;

/// The trace of a request: the one its `traceparent` header carries (W3C; a bad one, or two, are
/// ignored, never a reason to refuse).
pub(crate) fn given_trace(headers: &HeaderMap) -> Option<TraceId> {
    let mut values = headers.get_all("traceparent").iter();
    match (values.next(), values.next()) {
        (Some(only), None) => cloud_events::trace_of_parent(only.to_str().ok()?.trim()),
        _ => None,
    }
}

/// What a body may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Media {
    /// JSON: events of our own form, or the data of a CloudEvent in the binary mode.
    Json,
    /// One CloudEvent.
    CloudEvent,
    /// A list of CloudEvents.
    CloudEventBatch,
}

/// What the body is, in UTF-8, as it is: neither another charset nor a compressed body is read.
pub(super) fn media_of(headers: &HeaderMap) -> Option<Media> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let plain =
        text(header::CONTENT_ENCODING).is_none_or(|coding| coding.eq_ignore_ascii_case("identity"));
    let mut parts = text(header::CONTENT_TYPE)
        .unwrap_or_default()
        .split(';')
        .map(str::trim);
    let media = parts.next().unwrap_or_default().to_ascii_lowercase();
    let media = match media.as_str() {
        "application/json" => Media::Json,
        "application/cloudevents+json" => Media::CloudEvent,
        "application/cloudevents-batch+json" => Media::CloudEventBatch,
        // In the binary mode it is the type of the data.
        other if other.ends_with("+json") && cloud_events::is_binary(headers) => Media::Json,
        _ => return None,
    };
    let utf8 = parts.all(|parameter| match parameter.split_once('=') {
        Some((name, charset)) if name.trim().eq_ignore_ascii_case("charset") => charset
            .trim()
            .trim_matches('"')
            .eq_ignore_ascii_case("utf-8"),
        _ => true,
    });
    (plain && utf8).then_some(media)
}
