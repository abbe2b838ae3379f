//! What an answer to a send means. Pure: bytes and headers in, outcome out.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::retry_after::parse_retry_after;
use super::{excerpt, ids, texts};
use crate::domain::failure::FailureCode;

/// One HTTP answer, as far as its meaning depends on it.
#[derive(Clone, Copy, Default)]
pub struct Answer<'a> {
    /// The status code.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: Option<&'a str>,
    /// `WWW-Authenticate`: tells a proxy's Basic auth from a wrong secret (E4, E5).
    pub www_authenticate: Option<&'a str>,
    /// `Retry-After`.
    pub retry_after: Option<&'a str>,
    /// The body, possibly cut at the client's limit.
    pub body: &'a [u8],
}

/// What became of a send.
#[derive(Clone, PartialEq, Eq)]
pub enum SendOutcome {
    /// The gateway took the message. That is not yet sent: an ack or an echo tells (facts Q1).
    Accepted {
        /// The id of the message at WhatsApp; mostly absent, the echo brings it later (Q2).
        message_id: Option<String>,
        /// The gateway's own id of the request.
        correlation_id: Option<String>,
    },
    /// Not accepted, or nobody knows: the class of the code tells which.
    Refused {
        /// Why; its class says what to do.
        code: FailureCode,
        /// How long the gateway asks to wait, at most
        /// [`MAX_RETRY_AFTER`](super::MAX_RETRY_AFTER).
        retry_after: Option<Duration>,
        /// The status, if there was an answer.
        http_status: Option<u16>,
        /// The start of what was answered, scrubbed; for the operator, never for logic.
        excerpt: String,
    },
}

impl fmt::Debug for SendOutcome {
    /// A message id of WhatsApp spells the recipient's phone, so it is scrubbed in here.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted {
                message_id,
                correlation_id,
            } => f
                .debug_struct("Accepted")
                .field("message_id", &message_id.as_deref().map(excerpt::scrub))
                .field("correlation_id", correlation_id)
                .finish(),
            Self::Refused {
                code,
                retry_after,
                http_status,
                excerpt,
            } => f
                .debug_struct("Refused")
                .field("code", code)
                .field("retry_after", retry_after)
                .field("http_status", http_status)
                .field("excerpt", excerpt)
                .finish(),
        }
    }
}

/// Says what an answer to a send means: every shape of facts §1.3, and conventions A0.5 and A5.
///
/// Never "4xx is permanent": the body's text decides first, then the status. `now` is what a
/// date in `Retry-After` is counted from.
#[must_use]
pub fn classify(answer: &Answer<'_>, now: DateTime<Utc>) -> SendOutcome {
    let accepted = read(answer).and_then(|body| match failure_in(&body) {
        Some(code) => Err(Refusal::of_json(code, &body)),
        None => acceptance(&body),
    });
    accepted.unwrap_or_else(|refusal| SendOutcome::Refused {
        code: refusal.code,
        retry_after: answer
            .retry_after
            .and_then(|value| parse_retry_after(value, now)),
        http_status: Some(answer.status),
        excerpt: refusal.excerpt,
    })
}

/// Why an answer is no success.
pub(super) struct Refusal {
    pub(super) code: FailureCode,
    pub(super) excerpt: String,
}

impl Refusal {
    fn of_text(code: FailureCode, text: &str) -> Self {
        let excerpt = excerpt::of_text(text);
        Self { code, excerpt }
    }

    pub(super) fn of_json(code: FailureCode, body: &Value) -> Self {
        let excerpt = excerpt::of_json(body);
        Self { code, excerpt }
    }
}

/// The JSON of a 2xx answer that does not say `success:false`; everything else is a refusal.
/// What the body says about a message in it is not looked at.
pub(super) fn read(answer: &Answer<'_>) -> Result<Value, Refusal> {
    let text = String::from_utf8_lossy(answer.body);
    let text = text.trim_start_matches('\u{feff}').trim();
    if let Some(code) = by_status_alone(answer, text) {
        return Err(match parse(text) {
            Some(body) => Refusal::of_json(code, &body),
            None => Refusal::of_text(code, text),
        });
    }
    match parse(text) {
        Some(body) => match by_json(answer.status, &body) {
            Some(code) => Err(Refusal::of_json(code, &body)),
            None => Ok(body),
        },
        None if text.is_empty() => Err(Refusal::of_text(by_empty(answer.status), "")),
        None if is_html(answer, text) => Err(Refusal::of_text(by_html(answer.status, text), text)),
        None => Err(Refusal::of_text(by_plain(answer.status, text), text)),
    }
}

/// A JSON object or array; a bare word or number proves nothing.
fn parse(text: &str) -> Option<Value> {
    serde_json::from_str::<Value>(text)
        .ok()
        .filter(|body| body.is_object() || body.is_array())
}

/// E6. JSON that is labelled `text/html` is still JSON, and was read as such before this.
fn is_html(answer: &Answer<'_>, text: &str) -> bool {
    let labelled = answer.content_type.is_some_and(|label| {
        label
            .trim_start()
            .to_ascii_lowercase()
            .starts_with("text/html")
    });
    labelled || text.starts_with('<')
}

/// What needs no body to be understood.
fn by_status_alone(answer: &Answer<'_>, text: &str) -> Option<FailureCode> {
    let asks_basic = answer.www_authenticate.is_some_and(|challenges| {
        challenges
            .split(',')
            .any(|challenge| challenge.trim().to_ascii_lowercase().starts_with("basic"))
    });
    match answer.status {
        // E4: the proxy's own Basic auth, or its page; the secret is not at fault (incident 30).
        401 | 403 if asks_basic || (parse(text).is_none() && is_html(answer, text)) => {
            Some(FailureCode::GatewayProxyUnauthorized)
        }
        429 => Some(FailureCode::GatewayThrottled),
        // Nothing was done, the resource is elsewhere (RFC 9110 §15.4): a wrong base address, as
        // http for https. A 302 or 303 may follow a POST that was done, so those stay unknown.
        301 | 307 | 308 => Some(FailureCode::GatewayRouteNotFound),
        413 => Some(FailureCode::ContentRejected),
        _ => None,
    }
}

/// E3.
fn by_empty(status: u16) -> FailureCode {
    match status {
        200..=299 => FailureCode::EmptyResponse,
        401 | 403 => FailureCode::GatewayUnauthorized,
        404 | 405 => FailureCode::GatewayRouteNotFound,
        _ => FailureCode::GatewayUnreadable,
    }
}

/// E6, and the wrong door: on port 443 another site answers 404 with a page (facts §1.1), and
/// nginx answers 400 to plain http on its TLS port. Neither ever saw the message.
fn by_html(status: u16, text: &str) -> FailureCode {
    match status {
        404 | 405 => FailureCode::GatewayRouteNotFound,
        400 if texts::fold(text).contains("plain http request was sent to https port") => {
            FailureCode::GatewayRouteNotFound
        }
        _ => FailureCode::GatewayHtmlError,
    }
}

/// E7: an answer that is neither JSON nor HTML.
fn by_plain(status: u16, text: &str) -> FailureCode {
    texts::code_of(text).unwrap_or(match status {
        401 | 403 => FailureCode::GatewayUnauthorized,
        404 | 405 => FailureCode::GatewayRouteNotFound,
        _ => FailureCode::GatewayUnreadable,
    })
}

/// E5, E8–E16 and E19 at the root; `None` for a 2xx that claims no failure.
fn by_json(status: u16, body: &Value) -> Option<FailureCode> {
    let known = || texts::code_of(&texts::words_of(body));
    match status {
        200..=299 if says_no(body) => Some(known().unwrap_or(FailureCode::GatewayRefused)),
        200..=299 => None,
        // Only a session's text outweighs the status: "unauthorized" words vary without end.
        401 | 403 => Some(
            known()
                .filter(|code| *code == FailureCode::SessionDown)
                .unwrap_or(FailureCode::GatewayUnauthorized),
        ),
        408 => Some(known().unwrap_or(FailureCode::EngineTimeout)),
        400..=499 => Some(known().unwrap_or(FailureCode::GatewayRefused)),
        _ => Some(known().unwrap_or(FailureCode::GatewayUnreadable)),
    }
}

/// E19: `success:false`. Their client took it for a success; ours must not.
fn says_no(body: &Value) -> bool {
    is_false(body.get("success"))
}

fn is_false(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Bool(value)) => !value,
        Some(Value::String(text)) => text.eq_ignore_ascii_case("false"),
        _ => false,
    }
}

/// A failure inside a 2xx, at any layer: the wrapper's `success:true` may wrap the engine's
/// failed message (A5: ack −1 and `isSendFailure` in a 201; incident 45: `sent:false`).
fn failure_in(body: &Value) -> Option<FailureCode> {
    let layers = ids::layers(body);
    if layers.iter().any(|layer| is_failed_message(layer)) {
        return Some(FailureCode::ProviderRejected);
    }
    layers.iter().find(|layer| is_failure(layer)).map(|layer| {
        texts::code_of(&texts::words_of(layer))
            .or_else(|| texts::code_of(&texts::words_of(body)))
            .unwrap_or(FailureCode::GatewayRefused)
    })
}

fn is_failed_message(layer: &Value) -> bool {
    let ack = layer.get("ack").and_then(Value::as_i64);
    ack.is_some_and(|ack| ack < 0) || layer.get("isSendFailure") == Some(&Value::Bool(true))
}

fn is_failure(layer: &Value) -> bool {
    let status = layer.get("status").and_then(Value::as_str).map(texts::fold);
    says_no(layer)
        || is_false(layer.get("sent"))
        || matches!(status.as_deref(), Some("error" | "failed" | "fail"))
        || layer.get("error") == Some(&Value::Bool(true))
}

/// Success only on positive proof (incident 45): a flag, a word, an id or an ack. With a flag
/// and no id at all it is still accepted, unconfirmed (E18).
fn acceptance(body: &Value) -> Result<SendOutcome, Refusal> {
    let layers = ids::layers(body);
    let message_id = ids::message_id(&layers);
    let correlation_id = ids::correlation_id(&layers);
    let says_yes = layers.iter().any(|layer| is_success(layer));
    if !says_yes && message_id.is_none() {
        // No flag and no message: a known text is a refusal, and a correlation id alone does not
        // outweigh an error; it is given to failed requests too (A0.5).
        if let Some(code) = texts::code_of(&texts::words_of(body)) {
            return Err(Refusal::of_json(code, body));
        }
        if correlation_id.is_none() || has_error(body) {
            return Err(Refusal::of_json(FailureCode::GatewayUnreadable, body));
        }
    }
    Ok(SendOutcome::Accepted {
        message_id,
        correlation_id,
    })
}

fn is_success(layer: &Value) -> bool {
    let status = layer.get("status").and_then(Value::as_str).map(texts::fold);
    layer.get("success") == Some(&Value::Bool(true))
        || layer.get("sent") == Some(&Value::Bool(true))
        || matches!(
            status.as_deref(),
            Some("success" | "ok" | "sent" | "queued" | "accepted" | "pending")
        )
        || layer.get("ack").is_some_and(Value::is_i64)
}

fn has_error(body: &Value) -> bool {
    ["error", "error_code", "error_message"]
        .iter()
        .filter_map(|key| body.get(key))
        .any(|error| !matches!(error, Value::Null | Value::Bool(false)) && error != "")
}
