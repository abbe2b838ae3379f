//! What PixelHub answered, in its own words (facts §7). What it had no words for is a problem (RFC 9457).

use axum::Json;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::problem::{Code, Problem};

/// Under which name an address tells what is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// `{success, message}`: the addresses of tenants.
    Message,
    /// `{success, error}`: the addresses of the chat.
    Error,
}

/// A request that is not served.
#[derive(Clone, Debug)]
pub(super) enum Refusal {
    /// No credential and no token, or wrong ones.
    Unauthenticated,
    /// A credential, but none for this: another source's, or one of other types of events.
    NotInternal(Code),
    /// A parameter at fault, with what is wrong for people.
    Invalid(&'static str, &'static str),
    /// Nothing there, or not the caller's.
    NotFound(&'static str),
    /// No such order: a page that says so, as PixelHub's did.
    OrderNotFound,
    /// What PixelHub had no words for.
    Problem(Box<Problem>),
}

/// A refusal, as the addresses of tenants tell it.
#[derive(Serialize, JsonSchema)]
pub(super) struct RefusedMessage {
    /// False.
    success: bool,
    /// What is wrong, for a person.
    message: &'static str,
}

/// A refusal, as the addresses of the chat tell it; of a missing credential, as all do.
#[derive(Serialize, JsonSchema)]
pub(super) struct RefusedError {
    /// False.
    success: bool,
    /// What is wrong, for a person.
    error: &'static str,
}

/// A credential, but none for this; those who read no JSON are told in plain text.
#[derive(Serialize, JsonSchema)]
pub(super) struct RefusedStranger {
    /// False.
    success: bool,
    /// What is wrong, for a person.
    error: &'static str,
    /// `NOT_INTERNAL`.
    error_code: &'static str,
}

/// What the page says when there is no order.
const ORDER_NOT_FOUND: &str =
    "Pedido não encontrado. Confira o link que você recebeu ou peça um novo à equipe.";
const NOT_AUTHENTICATED: &str = "Não autenticado";
const NOT_INTERNAL: &str = "Acesso restrito a usuários internos";

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}

impl Refusal {
    /// The code for metrics, logs and rows.
    pub(super) fn code(&self) -> Code {
        match self {
            Self::Unauthenticated => Code::Unauthenticated,
            Self::NotInternal(code) => *code,
            Self::Invalid(..) => Code::InvalidEvent,
            Self::NotFound(_) | Self::OrderNotFound => Code::NotFound,
            Self::Problem(problem) => problem.code,
        }
    }

    /// The parameter at fault.
    pub(super) const fn parameter(&self) -> Option<&'static str> {
        match self {
            Self::Invalid(name, _) => Some(name),
            _ => None,
        }
    }

    /// What the caller reads.
    pub(super) fn into_response(self, style: Style, headers: &HeaderMap) -> Response {
        match self {
            Self::Unauthenticated => {
                let mut response =
                    failure(Style::Error, StatusCode::UNAUTHORIZED, NOT_AUTHENTICATED);
                let bearer = HeaderValue::from_static("Bearer realm=\"posto\"");
                response
                    .headers_mut()
                    .insert(header::WWW_AUTHENTICATE, bearer);
                response
            }
            Self::NotInternal(_) if wants_json(headers) => {
                let body = RefusedStranger {
                    success: false,
                    error: NOT_INTERNAL,
                    error_code: "NOT_INTERNAL",
                };
                (StatusCode::FORBIDDEN, Json(body)).into_response()
            }
            Self::NotInternal(_) => (StatusCode::FORBIDDEN, NOT_INTERNAL).into_response(),
            Self::Invalid(_, text) => failure(style, StatusCode::BAD_REQUEST, text),
            Self::NotFound(text) => failure(style, StatusCode::NOT_FOUND, text),
            // PixelHub's page has always been a 200, and people look at it.
            Self::OrderNotFound => (StatusCode::OK, ORDER_NOT_FOUND).into_response(),
            Self::Problem(problem) => problem.into_response(),
        }
    }
}

fn failure(style: Style, status: StatusCode, text: &'static str) -> Response {
    let success = false;
    match style {
        Style::Message => {
            let message = text;
            (status, Json(RefusedMessage { success, message })).into_response()
        }
        Style::Error => {
            let error = text;
            (status, Json(RefusedError { success, error })).into_response()
        }
    }
}

/// What was asked for.
pub(super) fn success(body: impl Serialize) -> Response {
    (StatusCode::OK, Json(body)).into_response()
}

/// Whether the caller reads JSON: it says so, sends some, or is a script of a page.
fn wants_json(headers: &HeaderMap) -> bool {
    let holds = |name: &str, wanted: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.is_some_and(|value| value.to_ascii_lowercase().contains(wanted))
    };
    holds("accept", "application/json")
        || holds("content-type", "application/json")
        || holds("x-requested-with", "xmlhttprequest")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_for_those_who_ask_for_it_send_it_or_are_scripts() {
        for (name, value, wanted) in [
            ("accept", "text/html, application/json;q=0.9", true),
            ("content-type", "application/json; charset=utf-8", true),
            ("x-requested-with", "XMLHttpRequest", true),
            ("accept", "text/html", false),
            ("content-type", "application/x-www-form-urlencoded", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            assert_eq!(wants_json(&headers), wanted, "{name}: {value}");
        }
        assert!(!wants_json(&HeaderMap::new()));
    }

    #[test]
    fn each_refusal_has_the_status_that_pixelhub_gave_it() {
        for (refusal, status) in [
            (Refusal::Unauthenticated, 401),
            (Refusal::NotInternal(Code::SourceForbidden), 403),
            (Refusal::Invalid("message", "x"), 400),
            (Refusal::NotFound("x"), 404),
            (Refusal::OrderNotFound, 200),
            (Problem::new(Code::ModuleOff, "x").into(), 503),
        ] {
            let what = format!("{refusal:?}");
            let response = refusal.into_response(Style::Error, &HeaderMap::new());
            assert_eq!(response.status().as_u16(), status, "{what}");
        }
    }
}
