//! One row for each shape that an answer was seen to have (facts §1.3 E1–E19; conventions A0.5,
//! A5, A6). E1 and E2 have no answer and E17 goes the other way; the first two are in
//! `wire_tests`.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::classify::{Answer, SendOutcome, classify};
use super::retry_after::parse_http_date;
use crate::domain::failure::FailureClass;
use crate::domain::failure::FailureCode::{self, *};

const NGINX_401: &str = "<html>\r\n<head><title>401 Authorization Required</title></head>\r\n<body>\r\n<center><h1>401 Authorization Required</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n";
const NGINX_504: &str = "<html>\n<head><title>504 Gateway Time-out</title></head>\n<body>\n<center><h1>504 Gateway Time-out</h1></center>\n<hr><center>nginx</center>\n</body>\n</html>\n";
const NO_SUCH_NUMBER: &str =
    r#"{"response":null,"status":"Connected","message":"O número 5511999990001 não existe."}"#;

fn now() -> DateTime<Utc> {
    parse_http_date("Mon, 23 Nov 2026 12:00:00 GMT").expect("a date")
}

fn json(status: u16, body: &str) -> Answer<'_> {
    Answer {
        status,
        content_type: Some("application/json; charset=utf-8"),
        body: body.as_bytes(),
        ..Answer::default()
    }
}

fn html(status: u16, body: &str) -> Answer<'_> {
    Answer {
        content_type: Some("text/html"),
        ..json(status, body)
    }
}

fn plain(status: u16, body: &str) -> Answer<'_> {
    Answer {
        content_type: None,
        ..json(status, body)
    }
}

fn refused(row: &str, answer: Answer<'_>, expected: FailureCode) {
    match classify(&answer, now()) {
        SendOutcome::Refused {
            code, http_status, ..
        } => {
            assert_eq!(code, expected, "{row}");
            assert_eq!(http_status, Some(answer.status), "{row}");
        }
        accepted => panic!("{row}: {accepted:?}"),
    }
}

fn accepted(row: &str, answer: Answer<'_>, message: Option<&str>, correlation: Option<&str>) {
    let expected = SendOutcome::Accepted {
        message_id: message.map(str::to_owned),
        correlation_id: correlation.map(str::to_owned),
    };
    assert_eq!(classify(&answer, now()), expected, "{row}");
}

fn sent_by_the_engine(ack: i64, more: &str) -> String {
    format!(
        r#"{{"status":"success","response":[{{"id":"true_208900000000001@lid_3EB0BBE362BD85A00001","viewed":false,"body":"Hi from WPPConnect","type":"chat","subtype":null,"t":1780307691,"from":"554730000001@c.us","to":"208900000000001@lid","ack":{ack},"isNewMsg":true,"mentionedJidList":[]{more}}}],"mapper":"return","session":"s1"}}"#
    )
}

#[test]
fn e3_an_empty_body_is_never_a_success() {
    refused("E3 200", plain(200, ""), EmptyResponse);
    refused("E3 201, spaces", json(201, " \r\n"), EmptyResponse);
    refused("E3 204", plain(204, ""), EmptyResponse);
    refused("E3 500", plain(500, ""), GatewayUnreadable);
    refused("E3 502", plain(502, ""), GatewayUnreadable);
}

#[test]
fn e4_a_proxys_basic_auth_is_not_a_wrong_secret() {
    let basic = |challenge, body| Answer {
        www_authenticate: Some(challenge),
        ..html(401, body)
    };
    let row = "E4 as nginx writes it";
    refused(
        row,
        basic("Basic realm=\"Restricted\"", NGINX_401),
        GatewayProxyUnauthorized,
    );
    refused(
        "E4 no body",
        basic("basic realm=x", ""),
        GatewayProxyUnauthorized,
    );
    refused(
        "E4 among others",
        basic("Bearer, Basic realm=x", "{}"),
        GatewayProxyUnauthorized,
    );
    refused(
        "E4 page alone",
        html(401, NGINX_401),
        GatewayProxyUnauthorized,
    );
    refused(
        "Q13 WAF's page",
        html(403, "<html>403 Forbidden</html>"),
        GatewayProxyUnauthorized,
    );
}

#[test]
fn e5_a_wrong_secret_is_told_by_json() {
    refused(
        "E5 401",
        json(401, r#"{"success":false,"error":"Unauthorized"}"#),
        GatewayUnauthorized,
    );
    refused(
        "E5 403",
        json(403, r#"{"error":"Forbidden"}"#),
        GatewayUnauthorized,
    );
    let engine = r#"{"error":"Check that the Session and Token are correct"}"#;
    refused("engine's token", json(401, engine), GatewayUnauthorized);
    refused("E5 no body", plain(401, ""), GatewayUnauthorized);
    refused("E5 plain", plain(403, "forbidden"), GatewayUnauthorized);
    let bearer = Answer {
        www_authenticate: Some("Bearer realm=\"basic\""),
        ..json(401, r#"{"error":"no"}"#)
    };
    refused("E5 another scheme", bearer, GatewayUnauthorized);
}

#[test]
fn e6_a_page_instead_of_an_answer_leaves_the_outcome_unknown() {
    refused("E6 504", html(504, NGINX_504), GatewayHtmlError);
    refused(
        "E6 502",
        html(502, "<html>502 Bad Gateway</html>"),
        GatewayHtmlError,
    );
    refused(
        "E6 200",
        html(200, "<!doctype html><title>x</title>"),
        GatewayHtmlError,
    );
    refused(
        "E6 no label",
        plain(504, "  <html></html>"),
        GatewayHtmlError,
    );
    refused(
        "E6 label alone",
        html(500, "Internal Server Error"),
        GatewayHtmlError,
    );
    assert_eq!(GatewayHtmlError.class(), FailureClass::UnknownOutcome);
}

#[test]
fn json_that_is_labelled_html_is_still_json() {
    accepted("2xx", html(200, r#"{"success":true}"#), None, None);
    refused(
        "E9",
        html(404, r#"{"error":"Canal não encontrado"}"#),
        ChannelNotFound,
    );
}

#[test]
fn a_page_of_another_site_means_the_wrong_door() {
    // Facts §1.1: port 443 is not the API's, and says so with a page.
    refused(
        "443",
        html(404, "<html>404 Not Found</html>"),
        GatewayRouteNotFound,
    );
    refused(
        "express",
        html(404, "<pre>Cannot POST /api/messages</pre>"),
        GatewayRouteNotFound,
    );
    let http =
        "<h1>400 Bad Request</h1><center>The plain HTTP request was sent to HTTPS port</center>";
    refused("http on 8443", html(400, http), GatewayRouteNotFound);
    refused(
        "http to https",
        html(301, "<h1>301 Moved Permanently</h1>"),
        GatewayRouteNotFound,
    );
    refused("308", plain(308, ""), GatewayRouteNotFound);
    refused("404 empty", plain(404, ""), GatewayRouteNotFound);
    // A redirect that may follow a request that was done.
    refused("302", html(302, "<h1>302 Found</h1>"), GatewayHtmlError);
    refused("303", plain(303, ""), GatewayUnreadable);
}

#[test]
fn e7_what_is_no_json_is_unknown() {
    refused(
        "E7 500",
        plain(500, "Internal Server Error"),
        GatewayUnreadable,
    );
    refused("E7 cut", json(500, r#"{"success":fal"#), GatewayUnreadable);
    refused(
        "2xx cut",
        json(200, r#"{"success":true,"corr"#),
        GatewayUnreadable,
    );
    refused("2xx word", plain(200, "OK"), GatewayUnreadable);
    refused("2xx bare", json(200, "true"), GatewayUnreadable);
    refused(
        "not UTF-8",
        Answer {
            body: b"\xff\xfe{",
            ..plain(200, "")
        },
        GatewayUnreadable,
    );
    refused("400 plain", plain(400, "Bad Request"), GatewayUnreadable);
}

#[test]
fn e8_an_unknown_text_goes_by_the_status() {
    refused(
        "E8 500",
        json(500, r#"{"success":false,"error":"boom"}"#),
        GatewayUnreadable,
    );
    refused(
        "E8 503 object",
        json(503, r#"{"error":{"x":1}}"#),
        GatewayUnreadable,
    );
    refused("E8 400", json(400, r#"{"error":"boom"}"#), GatewayRefused);
    refused(
        "E8 404",
        json(404, r#"{"data":{"error":"boom"}}"#),
        GatewayRefused,
    );
    refused(
        "E8 422",
        json(422, r#"{"message":"text is required"}"#),
        GatewayRefused,
    );
    refused("E8 408", json(408, r#"{"error":"boom"}"#), EngineTimeout);
}

#[test]
fn e8_a_known_text_is_found_in_every_field_and_under_every_status() {
    for body in [
        r#"{"error":"A sessão do WhatsApp não está ativa."}"#,
        r#"{"message":"A sessão do WhatsApp não está ativa."}"#,
        r#"{"error_message":"A sessao do WhatsApp nao esta ativa."}"#,
        r#"{"details":"A sessão do WhatsApp não está ativa."}"#,
        r#"{"data":{"error":"A sessão do WhatsApp não está ativa."}}"#,
        r#"{"error":{"name":"Error","message":"A sessão do WhatsApp não está ativa."}}"#,
    ] {
        for status in [400, 401, 403, 404, 500, 503] {
            refused(body, json(status, body), SessionDown);
        }
    }
}

#[test]
fn a_session_that_is_down_is_a_404_that_is_not_permanent() {
    let gateway = r#"{"success":false,"error":"A sessão do WhatsApp não está ativa.","correlationId":"0d8e7ecc-0000-4000-8000-000000000011"}"#;
    refused("A0.5", json(404, gateway), SessionDown);
    let engine = r#"{"response":null,"status":"Disconnected","message":"A sessão do WhatsApp não está ativa."}"#;
    refused("engine", json(404, engine), SessionDown);
    refused(
        "status alone",
        json(404, r#"{"response":null,"status":"Disconnected"}"#),
        SessionDown,
    );
    let hub = r#"{"success":false,"error_code":"SESSION_DISCONNECTED"}"#;
    refused("hub's code", json(400, hub), SessionDown);
    let page =
        r#"{"error":"Protocol error: Session closed. Most likely the page has been closed."}"#;
    refused("A6", json(500, page), SessionDown);
    assert!(SessionDown.is_transient());
}

#[test]
fn e9_and_e10_are_two_kinds_of_404() {
    refused(
        "E9",
        json(404, r#"{"success":false,"error":"Canal não encontrado"}"#),
        ChannelNotFound,
    );
    refused(
        "E9 code",
        json(400, r#"{"error":"CHANNEL_NOT_FOUND"}"#),
        ChannelNotFound,
    );
    refused(
        "E10",
        json(404, r#"{"success":false,"error":"Route not found"}"#),
        GatewayRouteNotFound,
    );
}

#[test]
fn e11_and_e12_ask_for_a_start_of_the_session() {
    let e11 = r#"{"success":false,"error":"WPPConnect getQRCode failed: Invalid QR code response from server"}"#;
    refused("E11", json(500, e11), SessionNotStarted);
    let e12 =
        r#"{"success":false,"error":"Session not started. Please, use the /start-session route"}"#;
    refused("E12", json(400, e12), SessionNotStarted);
    refused("E12 in 200", json(200, e12), SessionNotStarted);
}

#[test]
fn e13_a_missing_number_may_come_as_any_status() {
    let e13 = r#"{"success":false,"error":"WPPConnect sendImageBase64 failed: O número 5547999990001 não existe"}"#;
    refused("E13 500", json(500, e13), NumberNotOnWhatsapp);
    refused("E13 200", json(200, e13), NumberNotOnWhatsapp);
    refused("engine", json(400, NO_SUCH_NUMBER), NumberNotOnWhatsapp);
    let lid = r#"{"status":"Error","message":"Erro ao enviar a mensagem.","error":{"name":"Error","message":"No LID for user"}}"#;
    refused("A6 no LID", json(500, lid), NumberNotOnWhatsapp);
}

#[test]
fn e14_a_timeout_behind_the_gateway_is_unknown() {
    for text in [
        "WPPConnect sendText failed: timeout of 30000ms exceeded",
        "WPPConnect timeout",
        "Runtime.callFunctionOn timed out.",
        "ETIMEDOUT",
    ] {
        let body = format!(r#"{{"success":false,"error":"{text}"}}"#);
        refused(text, json(500, &body), EngineTimeout);
        refused(text, json(200, &body), EngineTimeout);
    }
    assert_eq!(EngineTimeout.class(), FailureClass::UnknownOutcome);
}

#[test]
fn a_wrapper_that_never_reached_the_engine_sent_nothing() {
    let refused_by_engine = r#"{"error":"connect ECONNREFUSED 172.18.0.2:21465"}"#;
    refused(
        "ECONNREFUSED",
        json(500, refused_by_engine),
        GatewayServerError,
    );
    refused(
        "hung up",
        json(500, r#"{"error":"socket hang up"}"#),
        ConnectionReset,
    );
}

#[test]
fn what_went_away_during_a_call_is_unknown() {
    for text in [
        "Protocol error (Runtime.callFunctionOn): Target closed.",
        "MessageNotFound",
        "read ECONNRESET",
    ] {
        let body = format!(r#"{{"error":"{text}"}}"#);
        let SendOutcome::Refused { code, .. } = classify(&json(500, &body), now()) else {
            panic!("{text} accepted");
        };
        assert_eq!(code.class(), FailureClass::UnknownOutcome, "{text}");
    }
}

#[test]
fn e15_and_e16_are_the_contents_fault() {
    let e15 = r#"{"success":false,"error":"Invalid or empty base64 image data"}"#;
    refused("E15", json(400, e15), ContentRejected);
    for reason in [
        "FFMPEG_NOT_FOUND",
        "FFMPEG_FAILED",
        "TIMEOUT",
        "EXEC_DISABLED",
    ] {
        let e16 = format!(
            r#"{{"success":false,"error_code":"AUDIO_CONVERT_FAILED","origin":"gateway","reason":"{reason}","stderr_preview":""}}"#
        );
        refused(reason, json(500, &e16), ContentRejected);
    }
    refused(
        "413 page",
        html(413, "<h1>413 Request Entity Too Large</h1>"),
        ContentRejected,
    );
    let large = r#"{"error":"PayloadTooLargeError: request entity too large"}"#;
    refused("413 as 500", json(500, large), ContentRejected);
}

#[test]
fn too_many_requests_are_throttled_with_the_wait_that_is_asked() {
    for (header, wait) in [
        (None, None),
        (Some("120"), Some(120)),
        (Some("Mon, 23 Nov 2026 12:00:45 GMT"), Some(45)),
        (Some("Sun, 06 Nov 1994 08:49:37 GMT"), Some(0)),
        (Some("999999"), Some(3600)),
        (Some("soon"), None),
    ] {
        for answer in [
            json(429, r#"{"error":"Too many requests"}"#),
            html(429, "<html>429</html>"),
            plain(429, ""),
        ] {
            let answer = Answer {
                retry_after: header,
                ..answer
            };
            let SendOutcome::Refused {
                code, retry_after, ..
            } = classify(&answer, now())
            else {
                panic!("accepted");
            };
            assert_eq!(code, GatewayThrottled);
            assert_eq!(retry_after, wait.map(Duration::from_secs), "{header:?}");
        }
    }
    refused(
        "by text",
        json(500, r#"{"error":"rate-overlimit"}"#),
        GatewayThrottled,
    );
}

#[test]
fn an_accepted_send_gives_its_ids() {
    let gateway = r#"{"success":true,"correlationId":"abc123xyz"}"#;
    accepted("A0.4", json(200, gateway), None, Some("abc123xyz"));
    let nulls = r#"{"success":true,"message_id":null,"event_id":null,"correlationId":"abc"}"#;
    accepted("Q2", json(200, nulls), None, Some("abc"));
    let image = r#"{"success":true,"messageId":"true_5511999990001@c.us_3EB0","correlationId":"abc","raw":{}}"#;
    accepted(
        "image",
        json(200, image),
        Some("true_5511999990001@c.us_3EB0"),
        Some("abc"),
    );
    let object = r#"{"success":true,"data":{"id":{"fromMe":true,"_serialized":"true_1@c.us_3E"}},"request_id":"r"}"#;
    accepted(
        "A2 id object",
        json(200, object),
        Some("true_1@c.us_3E"),
        Some("r"),
    );
    let bom = "\u{feff}{\"success\":true,\"trace_id\":\"t\"}";
    accepted("byte order mark", json(200, bom), None, Some("t"));
    let told = r#"{"message":"Mensagem enfileirada","correlationId":"abc"}"#;
    accepted("no flag", json(202, told), None, Some("abc"));
}

#[test]
fn e18_a_success_without_any_id_is_accepted_unconfirmed() {
    accepted("E18", json(200, r#"{"success":true}"#), None, None);
    accepted("E18 201", json(201, r#"{"status":"success"}"#), None, None);
    let timeout = r#"{"success":true,"message":"sent, timeout 30000ms disabled"}"#;
    accepted("words of a success", json(200, timeout), None, None);
}

#[test]
fn a_2xx_without_proof_of_success_is_unknown() {
    refused("nothing", json(200, "{}"), GatewayUnreadable);
    refused("empty list", json(200, "[]"), GatewayUnreadable);
    refused("riddle", json(200, r#"{"foo":1}"#), GatewayUnreadable);
    let error = r#"{"error":"boom","correlationId":"abc"}"#;
    refused("error with an id", json(200, error), GatewayUnreadable);
    refused("known text", json(200, NO_SUCH_NUMBER), NumberNotOnWhatsapp);
}

#[test]
fn e19_a_200_that_says_no_is_a_failure() {
    refused("E19", json(200, r#"{"success":false}"#), GatewayRefused);
    refused(
        "E19 text",
        json(200, r#"{"success":false,"error":"boom"}"#),
        GatewayRefused,
    );
    let channel = r#"{"success":false,"error":"Canal não encontrado"}"#;
    refused("E19 known", json(200, channel), ChannelNotFound);
    let id = r#"{"success":false,"correlationId":"abc","messageId":"m"}"#;
    refused("E19 with ids", json(200, id), GatewayRefused);
    refused(
        "E19 as text",
        json(200, r#"{"success":"false"}"#),
        GatewayRefused,
    );
    refused(
        "incident 45",
        json(200, r#"{"sent":false,"id":"m"}"#),
        GatewayRefused,
    );
    let inner = r#"{"success":true,"raw":{"status":"error","message":"No LID for user"}}"#;
    refused("inside", json(200, inner), NumberNotOnWhatsapp);
}

#[test]
fn a5_the_ack_inside_a_success_decides() {
    let id = "true_208900000000001@lid_3EB0BBE362BD85A00001";
    accepted(
        "ack 1",
        json(201, &sent_by_the_engine(1, "")),
        Some(id),
        None,
    );
    accepted(
        "ack 0",
        json(201, &sent_by_the_engine(0, "")),
        Some(id),
        None,
    );
    for ack in -7..0 {
        refused(
            "ack < 0",
            json(201, &sent_by_the_engine(ack, "")),
            ProviderRejected,
        );
    }
    let flagged = sent_by_the_engine(0, r#","isSendFailure":true"#);
    refused("flag alone", json(201, &flagged), ProviderRejected);
    let wrapped = format!(
        r#"{{"success":true,"correlationId":"abc","raw":{}}}"#,
        sent_by_the_engine(-1, r#","isSendFailure":true"#)
    );
    refused("wrapped", json(200, &wrapped), ProviderRejected);
}

#[test]
fn an_excerpt_carries_neither_the_message_nor_the_recipient() {
    for answer in [
        json(201, &sent_by_the_engine(-1, "")),
        json(400, NO_SUCH_NUMBER),
    ] {
        let outcome = classify(&answer, now());
        let shown = format!("{outcome:?}");
        assert!(!shown.contains("5511999990001"), "{shown}");
        assert!(!shown.contains("208900000000001"), "{shown}");
        assert!(!shown.contains("Hi from"), "{shown}");
    }
    let sent = classify(&json(201, &sent_by_the_engine(1, "")), now());
    assert!(!format!("{sent:?}").contains("208900000000001"));
}

#[test]
fn no_bytes_make_it_panic_or_believe() {
    use proptest::prelude::*;
    let status = prop_oneof![200u16..=204, 300u16..=308, 400u16..=429, 500u16..=504];
    proptest!(|(status in status, body in proptest::collection::vec(any::<u8>(), 0..200))| {
        let answer = Answer { status, body: &body, ..Answer::default() };
        // Noise proves nothing, so it is never accepted.
        let refused = matches!(classify(&answer, now()), SendOutcome::Refused { .. });
        prop_assert!(refused);
    });
}
