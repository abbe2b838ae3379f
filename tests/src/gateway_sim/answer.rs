//! How the gateway answers a send: the good answer, its own refusals, and every fault of facts §1.3.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use chrono::TimeDelta;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    envelope,
    faults::{Fault, FaultRule},
    wire::Fuse,
};

const SESSION_INACTIVE: &str = "A sessão do WhatsApp não está ativa.";

/// Bytes of a cut answer that still arrive: all headers and some of the body.
const CUT_AFTER_BYTES: i64 = 1024;

/// What an answer may tell of the send that it answers.
pub(super) struct Told<'a> {
    pub(super) to: &'a str,
    pub(super) kind: &'a str,
    pub(super) message_id: &'a str,
    pub(super) correlation_id: &'a str,
}

/// A JSON error as the gateway writes it.
pub(super) fn error(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({ "success": false, "error": text }))).into_response()
}

/// 401 for a missing or wrong secret (E5).
pub(super) fn unauthorized() -> Response {
    error(StatusCode::UNAUTHORIZED, "Unauthorized")
}

/// 404 for a channel that does not exist (E9).
pub(super) fn channel_not_found() -> Response {
    error(StatusCode::NOT_FOUND, "Canal não encontrado")
}

/// 404 for a path that does not exist (E10).
pub(super) fn route_not_found() -> Response {
    error(StatusCode::NOT_FOUND, "Route not found")
}

/// 404 while the session is down (conventions A0.5): transient, although it says 404.
pub(super) fn session_inactive(correlation_id: &str) -> Response {
    correlated(StatusCode::NOT_FOUND, SESSION_INACTIVE, correlation_id)
}

/// 400 for a picture that is not bare base64 (E15).
pub(super) fn invalid_base64(kind: &str) -> Response {
    let text = format!("Invalid or empty base64 {kind} data");
    error(StatusCode::BAD_REQUEST, &text)
}

/// The good answer: no message id, it comes with the echo.
pub(super) fn accepted(told: &Told<'_>) -> Response {
    if told.kind == "text" {
        let body = json!({ "success": true, "correlationId": told.correlation_id });
        return Json(body).into_response();
    }
    let body = json!({
        "success": true,
        "messageId": null,
        "correlationId": told.correlation_id,
        "raw": null,
    });
    Json(body).into_response()
}

/// The answer that `rule` makes of a send. Resets burn the fuse of the connection.
pub(super) fn faulty(rule: &FaultRule, told: &Told<'_>, fuse: &Fuse) -> Response {
    let respond = |usual: u16, text: &str| {
        let error = rule.error.clone().unwrap_or_else(|| text.into());
        let body = json!({
            "success": false,
            "error": error,
            "correlationId": told.correlation_id,
        });
        (status(rule, usual), Json(body)).into_response()
    };
    match rule.fault {
        Fault::TimeoutAfterSend
        | Fault::TimeoutBefore
        | Fault::ResetBefore
        | Fault::ResetAfterSend => {
            fuse.burn_after(0);
            StatusCode::OK.into_response()
        }
        Fault::CutAnswer => {
            fuse.burn_after(CUT_AFTER_BYTES);
            let padding = " ".repeat(16 * 1024);
            let body = format!("{{\"success\":true,{padding}\"correlationId\":null}}");
            ([(header::CONTENT_TYPE, "application/json")], body).into_response()
        }
        Fault::Html504Sent | Fault::Html504NotSent => {
            let status = status(rule, 504);
            (status, Html(nginx_page("504 Gateway Time-out"))).into_response()
        }
        Fault::ServerErrorJson => respond(500, "Internal server error"),
        Fault::ServerErrorInvalidJson => {
            let body = "{\"success\":false,\"error\":\"Internal";
            let headers = [(header::CONTENT_TYPE, "application/json")];
            (status(rule, 500), headers, body).into_response()
        }
        Fault::Empty200 => status(rule, 200).into_response(),
        Fault::Empty500 => status(rule, 500).into_response(),
        Fault::SuccessFalse => respond(200, "Falha ao enviar mensagem"),
        Fault::AcceptedNotSent => accepted(told),
        Fault::SessionInactive => respond(404, SESSION_INACTIVE),
        Fault::SessionNotStarted => respond(
            404,
            "Session not started. Please, use the /start-session route",
        ),
        Fault::ChannelNotFound => respond(404, "Canal não encontrado"),
        Fault::RouteNotFound => route_not_found(),
        Fault::UnauthorizedJson => respond(401, "Unauthorized"),
        Fault::UnauthorizedBasicHtml => {
            let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"Restricted\"")];
            let page = Html(nginx_page("401 Authorization Required"));
            (status(rule, 401), challenge, page).into_response()
        }
        Fault::Forbidden => respond(403, "Forbidden"),
        Fault::RateLimited => {
            let mut response = respond(429, "Too many requests");
            if let Some(value) = retry_after(rule.retry_after.as_ref()) {
                response.headers_mut().insert(header::RETRY_AFTER, value);
            }
            response
        }
        Fault::NotExistsDelivered => {
            let text = format!(
                "WPPConnect {} failed: O número {} não existe",
                engine_call(told.kind),
                told.to
            );
            respond(500, &text)
        }
        Fault::NotExists => respond(400, &format!("O número {} não existe.", told.to)),
        Fault::WppconnectTimeout => {
            let call = engine_call(told.kind);
            let text = format!("WPPConnect {call} failed: timeout of 30000ms exceeded");
            respond(500, &text)
        }
        Fault::InvalidBase64 => respond(400, "Invalid or empty base64 image data"),
        Fault::AudioConvertFailed => {
            let body = json!({
                "success": false,
                "error_code": "AUDIO_CONVERT_FAILED",
                "origin": "gateway",
                "reason": "FFMPEG_FAILED",
                "stderr_preview": "Invalid data found when processing input",
            });
            (status(rule, 500), Json(body)).into_response()
        }
        Fault::ErrorObject => {
            let text = rule.error.clone();
            let text = text.unwrap_or_else(|| "Evaluation failed: t is not a function".into());
            let body = json!({
                "success": false,
                "error": { "name": "Error", "code": "ERR_ENGINE", "message": text },
            });
            (status(rule, 500), Json(body)).into_response()
        }
        Fault::ErrorInField => {
            let text = rule.error.clone();
            let text = text.unwrap_or_else(|| SESSION_INACTIVE.into());
            let body = in_field(rule.field.as_deref().unwrap_or("message"), text);
            (status(rule, 400), Json(body)).into_response()
        }
        Fault::NoIdInAnswer => Json(json!({ "success": true })).into_response(),
        Fault::MessageIdInAnswer => {
            let body = json!({
                "success": true,
                "messageId": told.message_id,
                "correlationId": told.correlation_id,
            });
            Json(body).into_response()
        }
        // These do not decide the answer: `FaultBook::meet` never puts them here.
        Fault::NoEcho
        | Fault::NoAcks
        | Fault::OnlyAck1
        | Fault::AckFailed
        | Fault::AcksBeforeResponse
        | Fault::DuplicatedWebhooks
        | Fault::ShuffledWebhooks
        | Fault::LateWebhooks
        | Fault::SlowAnswer
        | Fault::QrFailed => accepted(told),
    }
}

/// 500 of a session that is half alive (E11).
pub(super) fn qr_failed(rule: &FaultRule) -> Response {
    let text = "WPPConnect getQRCode failed: Invalid QR code response from server";
    error(status(rule, 500), text)
}

fn correlated(status: StatusCode, text: &str, correlation_id: &str) -> Response {
    let body = json!({ "success": false, "error": text, "correlationId": correlation_id });
    (status, Json(body)).into_response()
}

fn status(rule: &FaultRule, usual: u16) -> StatusCode {
    StatusCode::from_u16(rule.status.unwrap_or(usual)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn nginx_page(title: &str) -> String {
    format!(
        "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n\
         <hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
    )
}

/// A number is seconds, "date:+N" a date N seconds ahead, and anything else goes out as it is.
fn retry_after(asked: Option<&Value>) -> Option<HeaderValue> {
    let text = match asked {
        None => "1".to_owned(),
        Some(Value::String(text)) => match text.strip_prefix("date:").map(str::parse::<i64>) {
            Some(Ok(seconds)) => {
                let at = envelope::now() + TimeDelta::seconds(seconds);
                at.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
            }
            _ => text.clone(),
        },
        Some(other) => other.to_string(),
    };
    HeaderValue::from_str(&text).ok()
}

fn in_field(field: &str, text: Value) -> Value {
    let mut body = json!({ "success": false, "correlationId": Uuid::new_v4() });
    match field.strip_prefix("data.") {
        Some(inner) => body["data"] = json!({ inner: text }),
        None => body[field] = text,
    }
    body
}

fn engine_call(kind: &str) -> &'static str {
    match kind {
        "image" => "sendImageBase64",
        "audio" => "sendPttFromBase64",
        "document" | "video" => "sendFileFromBase64",
        _ => "sendText",
    }
}
