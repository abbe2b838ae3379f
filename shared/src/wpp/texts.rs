//! The texts of the gateway and of the engine behind it, and what each means (facts §1.3 E8–E16;
//! conventions A0.5, A5, A6). The status code alone tells little: a session that is down is a 404,
//! a number that is taken for missing may be a 400 or a 500.

use serde_json::Value;

use crate::domain::failure::FailureCode::{self, *};

/// Every piece must be in the folded text; the first row that fits wins.
const KNOWN: &[(FailureCode, &[&str])] = &[
    // E15, E16. Before the timeouts: the reason of E16 can be TIMEOUT.
    (ContentRejected, &["invalid or empty base64"]),
    (ContentRejected, &["audio_convert_failed"]),
    (ContentRejected, &["audio_too_large"]),
    (ContentRejected, &["missing_media"]),
    (ContentRejected, &["payloadtoolarge"]),
    (ContentRejected, &["entity too large"]),
    // E12, E11: the session exists and asks for a start. Before the sessions that are down.
    (SessionNotStarted, &["session not started"]),
    (SessionNotStarted, &["/start-session"]),
    (SessionNotStarted, &["sessao nao iniciada"]),
    (SessionNotStarted, &["invalid qr code response"]),
    // A0.5: a 404 that is no missing thing at all.
    (SessionDown, &["sessao", "nao esta ativa"]),
    (SessionDown, &["sessao", "desconectada"]),
    (SessionDown, &["session", "not active"]),
    (SessionDown, &["session", "not connected"]),
    (SessionDown, &["session", "disconnected"]),
    // A6: the browser's page was gone before the call; one that goes away during a call says
    // "Target closed", which is left to the status, so unknown.
    (SessionDown, &["session closed", "page has been closed"]),
    // E13. May be false: an ack wins over it (incident 34).
    (NumberNotOnWhatsapp, &["numero", "nao existe"]),
    (NumberNotOnWhatsapp, &["number", "does not exist"]),
    (NumberNotOnWhatsapp, &["not on whatsapp"]),
    (NumberNotOnWhatsapp, &["no_whatsapp"]),
    // A6: a cold contact whose opaque id the engine cannot find.
    (NumberNotOnWhatsapp, &["no lid for user"]),
    (ChannelNotFound, &["canal nao encontrado"]),
    (ChannelNotFound, &["channel not found"]),
    (ChannelNotFound, &["channel_not_found"]),
    (GatewayRouteNotFound, &["route not found"]),
    (GatewayRouteNotFound, &["route post:/", "not found"]),
    (GatewayRouteNotFound, &["route get:/", "not found"]),
    (GatewayRouteNotFound, &["cannot post /"]),
    (GatewayRouteNotFound, &["cannot get /"]),
    (GatewayThrottled, &["too many requests"]),
    (GatewayThrottled, &["rate limit"]),
    (GatewayThrottled, &["rate-overlimit"]),
    // The wrapper never reached the engine, so nothing was sent. The whole phrase, as Node
    // writes it: "enotfound" alone is also in "MessageNotFound", which proves nothing.
    (GatewayServerError, &["connect econnrefused"]),
    (GatewayServerError, &["getaddrinfo enotfound"]),
    (GatewayServerError, &["getaddrinfo eai_again"]),
    // The wrapper lost the engine after it had asked.
    (ConnectionReset, &["econnreset"]),
    (ConnectionReset, &["socket hang up"]),
    // E14.
    (EngineTimeout, &["30000ms"]),
    (EngineTimeout, &["timeout"]),
    (EngineTimeout, &["timed out"]),
    (EngineTimeout, &["timedout"]),
    (GatewayUnauthorized, &["unauthorized"]),
    (GatewayUnauthorized, &["invalid secret"]),
    (GatewayUnauthorized, &["session and token are correct"]),
];

/// Where a JSON answer keeps its words (E8). A value may be a text or an object of such fields.
const TEXT_FIELDS: &[&str] = &[
    "error",
    "message",
    "error_message",
    "details",
    "detail",
    "error_code",
    "code",
    "reason",
    "errors",
    "description",
];

/// How deep an error object may nest before the rest is ignored.
const MAX_DEPTH: usize = 4;

/// The code that a text is known to mean.
pub(super) fn code_of(text: &str) -> Option<FailureCode> {
    let text = fold(text);
    KNOWN
        .iter()
        .find(|(_, pieces)| pieces.iter().all(|piece| text.contains(piece)))
        .map(|(code, _)| *code)
}

/// Everything that a JSON object says about an error, joined; empty when it says nothing.
/// Only known fields are read: the answer may echo the message, whose words must not count.
pub(super) fn words_of(body: &Value) -> String {
    let mut words = Vec::new();
    gather(body, MAX_DEPTH, &mut words);
    if let Some(data) = body.get("data").filter(|data| data.is_object()) {
        gather(data, MAX_DEPTH, &mut words);
    }
    // "status":"Disconnected" beside an unknown text (wppconnect-server's statusConnection).
    let status = body.get("status").and_then(Value::as_str);
    if status.is_some_and(|status| status.eq_ignore_ascii_case("disconnected")) {
        words.push("session disconnected");
    }
    words.join(" | ")
}

fn gather<'a>(value: &'a Value, depth: usize, words: &mut Vec<&'a str>) {
    if depth == 0 {
        return;
    }
    for field in TEXT_FIELDS.iter().filter_map(|field| value.get(field)) {
        gather_field(field, depth, words);
    }
}

fn gather_field<'a>(field: &'a Value, depth: usize, words: &mut Vec<&'a str>) {
    match field {
        Value::String(text) if !text.trim().is_empty() => words.push(text.trim()),
        Value::Object(_) => gather(field, depth - 1, words),
        Value::Array(items) => {
            for item in items.iter().take(5) {
                match item {
                    Value::String(text) => words.push(text),
                    other => gather(other, depth - 1, words),
                }
            }
        }
        _ => {}
    }
}

/// Lower case without the accents of Portuguese: the same text was seen with and without them.
pub(super) fn fold(text: &str) -> String {
    text.chars()
        .flat_map(char::to_lowercase)
        .map(|c| match c {
            'á' | 'à' | 'â' | 'ã' | 'ä' => 'a',
            'é' | 'ê' | 'è' => 'e',
            'í' => 'i',
            'ó' | 'ô' | 'õ' => 'o',
            'ú' | 'ü' => 'u',
            'ç' => 'c',
            other => other,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_are_found_in_every_field_of_an_error() {
        for body in [
            json!({"error": "Canal não encontrado"}),
            json!({"message": "CANAL NAO ENCONTRADO"}),
            json!({"error_message": "Canal não encontrado"}),
            json!({"details": "Canal não encontrado"}),
            json!({"data": {"error": "Canal não encontrado"}}),
            json!({"error": {"name": "Error", "message": "Canal não encontrado"}}),
            json!({"errors": [{"message": "Canal não encontrado"}]}),
            json!({"errors": ["Canal não encontrado"]}),
            json!({"error_code": "CHANNEL_NOT_FOUND", "error": ""}),
        ] {
            assert_eq!(code_of(&words_of(&body)), Some(ChannelNotFound), "{body}");
        }
    }

    #[test]
    fn the_words_of_the_echoed_message_do_not_count() {
        let body = json!({"error": "boom", "request": {"text": "Canal não encontrado"}});
        assert_eq!(words_of(&body), "boom");
        assert_eq!(code_of("boom"), None);
    }

    #[test]
    fn an_error_that_nests_without_end_is_cut() {
        let mut body = json!({"error": "timeout"});
        for _ in 0..50 {
            body = json!({ "error": body });
        }
        assert_eq!(words_of(&body), "");
    }
}
