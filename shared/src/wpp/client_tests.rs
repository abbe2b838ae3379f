//! The client against an HTTP server that behaves.

use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Value, json};
use wiremock::matchers::{body_json, header, header_exists, method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::classify::SendOutcome;
use super::client::{SendText, WppClient};
use super::config::WppConfig;
use super::session::SessionState;
use crate::domain::failure::FailureCode;

pub(super) fn config(base_url: &str) -> WppConfig {
    WppConfig {
        guard: crate::outbound::AddressGuard::allowing(
            ["127.0.0.0/8"]
                .map(|text| text.parse().expect("a network"))
                .into_iter()
                .collect(),
        ),
        ..WppConfig::new(base_url, SecretString::from("gateway-secret"))
    }
}

fn client(base_url: &str) -> WppClient {
    WppClient::new(&config(base_url)).expect("a client")
}

fn message() -> SendText {
    SendText {
        channel: "Pixel12 Digital".to_owned(),
        to: "5511999990001".to_owned(),
        text: "Olá! Sua fatura vence amanhã.".to_owned(),
        metadata: json!({"delivery_id": "0198c0de-0000-7000-8000-000000000001"}),
        request_id: "0198c0de00007000".to_owned(),
    }
}

async fn server_saying(status: u16, body: Value) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(wiremock::matchers::any())
        .respond_with(ResponseTemplate::new(status).set_body_json(body))
        .mount(&server)
        .await;
    server
}

fn code(outcome: &SendOutcome) -> FailureCode {
    match outcome {
        SendOutcome::Refused { code, .. } => *code,
        accepted @ SendOutcome::Accepted { .. } => panic!("{accepted:?}"),
    }
}

async fn only_request(server: &MockServer) -> Request {
    let mut requests = server.received_requests().await.expect("recorded requests");
    assert_eq!(requests.len(), 1);
    requests.remove(0)
}

#[tokio::test]
async fn a_text_is_sent_with_the_secret_the_request_id_and_the_body_of_the_contract() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path("/api/messages"))
        .and(header("X-Gateway-Secret", "gateway-secret"))
        .and(header("X-Request-Id", "0198c0de00007000"))
        .and(header("Content-Type", "application/json"))
        .and(header("Accept", "application/json"))
        .and(header_exists("User-Agent"))
        .and(body_json(json!({
            "channel": "Pixel12 Digital",
            "to": "5511999990001",
            "text": "Olá! Sua fatura vence amanhã.",
            "metadata": {"delivery_id": "0198c0de-0000-7000-8000-000000000001"},
        })))
        .respond_with(
            ResponseTemplate::new(200)
                .set_body_json(json!({"success": true, "correlationId": "abc123xyz"})),
        )
        .expect(1)
        .mount(&server)
        .await;
    assert_eq!(
        client(&server.uri()).send_text(&message()).await,
        SendOutcome::Accepted {
            message_id: None,
            correlation_id: Some("abc123xyz".to_owned()),
        }
    );
}

#[tokio::test]
async fn without_metadata_none_is_sent_and_an_id_that_is_no_header_is_left_out() {
    let server = server_saying(200, json!({"success": true})).await;
    let message = SendText {
        metadata: Value::Null,
        request_id: "line\nbreak".to_owned(),
        ..message()
    };
    client(&server.uri()).send_text(&message).await;
    let request = only_request(&server).await;
    assert!(!request.headers.contains_key("x-request-id"));
    assert!(request.headers.contains_key("x-gateway-secret"));
    let body: Value = request.body_json().expect("json");
    assert_eq!(body.get("metadata"), None);
}

#[tokio::test]
async fn a_path_prefix_of_the_base_address_is_kept() {
    let server = server_saying(200, json!({"success": true})).await;
    for base in ["/wpp", "/wpp/"] {
        client(&format!("{}{base}", server.uri()))
            .send_text(&message())
            .await;
    }
    for request in server.received_requests().await.expect("recorded requests") {
        assert_eq!(request.url.path(), "/wpp/api/messages");
    }
}

#[tokio::test]
async fn a_send_is_never_repeated_by_the_client() {
    for status in [401, 429, 500, 502, 503, 504] {
        let server = server_saying(status, json!({"error": "boom"})).await;
        client(&server.uri()).send_text(&message()).await;
        only_request(&server).await;
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_the_secret_stays_home() {
    let elsewhere = server_saying(200, json!({"success": true})).await;
    for status in [301, 302, 303, 307, 308] {
        let server = MockServer::start().await;
        Mock::given(method("POST"))
            .respond_with(
                ResponseTemplate::new(status)
                    .insert_header("Location", format!("{}/api/messages", elsewhere.uri())),
            )
            .mount(&server)
            .await;
        code(&client(&server.uri()).send_text(&message()).await);
    }
    let leaked = elsewhere
        .received_requests()
        .await
        .expect("recorded requests");
    assert!(leaked.is_empty());
}

#[tokio::test]
async fn an_answer_that_takes_too_long_leaves_the_outcome_unknown() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .respond_with(
            ResponseTemplate::new(200)
                .set_body_json(json!({"success": true}))
                .set_delay(Duration::from_secs(20)),
        )
        .mount(&server)
        .await;
    let config = WppConfig {
        send_timeout: Duration::from_millis(300),
        ..config(&server.uri())
    };
    let client = WppClient::new(&config).expect("a client");
    assert_eq!(
        code(&client.send_text(&message()).await),
        FailureCode::GatewayTimeout
    );
    only_request(&server).await;
}

#[tokio::test]
async fn an_answer_within_the_limit_is_waited_for() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .respond_with(
            ResponseTemplate::new(200)
                .set_body_json(json!({"success": true}))
                .set_delay(Duration::from_millis(200)),
        )
        .mount(&server)
        .await;
    let outcome = client(&server.uri()).send_text(&message()).await;
    assert!(
        matches!(outcome, SendOutcome::Accepted { .. }),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_wait_is_counted_by_the_clock_of_the_one_who_asks_for_it() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .respond_with(
            ResponseTemplate::new(429)
                .insert_header("Date", "Sun, 06 Nov 1994 08:49:37 GMT")
                .insert_header("Retry-After", "Sun, 06 Nov 1994 08:50:07 GMT"),
        )
        .mount(&server)
        .await;
    match client(&server.uri()).send_text(&message()).await {
        SendOutcome::Refused {
            code,
            retry_after,
            http_status,
            ..
        } => {
            assert_eq!(code, FailureCode::GatewayThrottled);
            assert_eq!(retry_after, Some(Duration::from_secs(30)));
            assert_eq!(http_status, Some(429));
        }
        accepted @ SendOutcome::Accepted { .. } => panic!("{accepted:?}"),
    }
}

#[tokio::test]
async fn a_proxys_basic_auth_is_told_from_a_wrong_secret() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .respond_with(
            ResponseTemplate::new(401)
                .append_header("WWW-Authenticate", "Negotiate")
                .append_header("WWW-Authenticate", "Basic realm=\"x\"")
                .set_body_raw("{}", "application/json"),
        )
        .mount(&server)
        .await;
    let outcome = client(&server.uri()).send_text(&message()).await;
    assert_eq!(code(&outcome), FailureCode::GatewayProxyUnauthorized);
    let server = server_saying(401, json!({"success": false, "error": "Unauthorized"})).await;
    let outcome = client(&server.uri()).send_text(&message()).await;
    assert_eq!(code(&outcome), FailureCode::GatewayUnauthorized);
}

#[tokio::test]
async fn a_webhook_is_registered_for_one_channel_or_for_all() {
    let server = server_saying(200, json!({"success": true})).await;
    let client = client(&server.uri());
    let secret = SecretString::from("hook-secret");
    let url = "https://hub.example/api/whatsapp/webhook";
    client
        .register_webhook(None, url, &secret)
        .await
        .expect("registered");
    client
        .register_webhook(Some("Pixel12 Digital/ç%2F"), url, &secret)
        .await
        .expect("registered");
    let requests = server.received_requests().await.expect("recorded requests");
    assert_eq!(requests[0].url.path(), "/api/webhooks");
    assert_eq!(
        requests[1].url.path(),
        "/api/channels/Pixel12%20Digital%2F%C3%A7%252F/webhook"
    );
    for request in &requests {
        assert_eq!(
            request.body_json::<Value>().expect("json"),
            json!({"url": url, "secret": "hook-secret"})
        );
        assert_eq!(request.headers["x-gateway-secret"], "gateway-secret");
    }
}

#[tokio::test]
async fn a_channel_that_is_a_step_in_a_path_is_asked_of_nobody() {
    let server = server_saying(200, json!({"success": true})).await;
    let client = client(&server.uri());
    for channel in ["", ".", ".."] {
        let error = client.channel_status(channel).await.expect_err("refused");
        assert_eq!(error.code, FailureCode::ChannelNotFound);
        assert!(!error.is_transient());
    }
    assert!(
        server
            .received_requests()
            .await
            .expect("recorded requests")
            .is_empty()
    );
}

#[tokio::test]
async fn a_sessions_state_is_read_and_a_dead_session_is_a_state_too() {
    for (status, body, state) in [
        (
            200,
            json!({"success": true, "channel": {"id": "a", "status": "connected"}}),
            SessionState::Connected,
        ),
        (200, json!({"connected": false}), SessionState::Disconnected),
        (
            404,
            json!({"success": false, "error": "A sessão do WhatsApp não está ativa."}),
            SessionState::Disconnected,
        ),
        (
            500,
            json!({"error": "Session not started. Please, use the /start-session route"}),
            SessionState::Disconnected,
        ),
    ] {
        let server = server_saying(status, body.clone()).await;
        let session = client(&server.uri())
            .channel_status("a")
            .await
            .expect("a state");
        assert_eq!(session.state, state, "{body}");
    }
}

#[tokio::test]
async fn channels_are_listed() {
    let body = json!({"success": true, "channels": [
        {"id": "Pixel12 Digital", "name": "Pixel12 Digital", "status": "connected"},
        {"id": "ImobSites", "name": "ImobSites", "status": "qr_required"},
    ]});
    let server = server_saying(200, body).await;
    let channels = client(&server.uri()).list_channels().await.expect("a list");
    assert_eq!(channels.len(), 2);
    assert_eq!(channels[1].id, "ImobSites");
    assert_eq!(channels[1].status.state, SessionState::QrRequired);
    assert_eq!(only_request(&server).await.url.path(), "/api/channels");
}

#[tokio::test]
async fn a_session_is_started_and_an_old_wrapper_says_that_it_cannot() {
    let server = server_saying(200, json!({"success": true})).await;
    client(&server.uri())
        .start_session("a b")
        .await
        .expect("started");
    let request = only_request(&server).await;
    assert_eq!(request.url.path(), "/api/channels/a%20b/start-session");
    assert_eq!(request.body, b"{}");
    let server = server_saying(404, json!({"success": false, "error": "Route not found"})).await;
    let error = client(&server.uri())
        .start_session("a")
        .await
        .expect_err("refused");
    assert_eq!(error.code, FailureCode::GatewayRouteNotFound);
    assert!(!error.is_transient());
}

#[tokio::test]
async fn a_200_that_says_no_is_an_error_of_every_request() {
    let server = server_saying(200, json!({"success": false, "error": "boom"})).await;
    let client = client(&server.uri());
    let secret = SecretString::from("hook-secret");
    let refused = [
        client.health().await.err(),
        client.list_channels().await.err(),
        client.channel_status("a").await.err(),
        client.start_session("a").await.err(),
        client
            .register_webhook(None, "https://hub.example", &secret)
            .await
            .err(),
    ];
    for error in refused {
        let error = error.expect("an error");
        assert_eq!(error.code, FailureCode::GatewayRefused, "{error}");
        assert!(!error.is_transient(), "{error}");
    }
}

#[tokio::test]
async fn a_list_that_is_none_is_not_taken_for_an_empty_one() {
    let server = server_saying(200, json!({"success": true})).await;
    let error = client(&server.uri())
        .list_channels()
        .await
        .expect_err("no list");
    assert_eq!(error.code, FailureCode::GatewayUnreadable);
}

#[tokio::test]
async fn a_servers_error_leaves_no_doubt_where_nothing_is_sent() {
    let server = server_saying(500, json!({"error": "boom"})).await;
    let error = client(&server.uri())
        .list_channels()
        .await
        .expect_err("refused");
    assert_eq!(error.code, FailureCode::GatewayServerError);
    assert!(error.is_transient());
    assert_eq!(error.http_status, Some(500));
    assert_eq!(
        error.to_string(),
        "the list of channels failed at the WPP Gateway: gateway_server_error"
    );
}

#[tokio::test]
async fn health_takes_any_yes_and_no_page() {
    for (template, expected) in [
        (
            ResponseTemplate::new(200).set_body_json(json!({"success": true})),
            None,
        ),
        (ResponseTemplate::new(200).set_body_string("OK"), None),
        (ResponseTemplate::new(204), None),
        (
            ResponseTemplate::new(404).set_body_raw("<html>", "text/html"),
            Some(FailureCode::GatewayRouteNotFound),
        ),
        (
            ResponseTemplate::new(200).set_body_raw("<html>", "text/html"),
            Some(FailureCode::GatewayHtmlError),
        ),
        (
            ResponseTemplate::new(401).set_body_json(json!({"error": "no"})),
            Some(FailureCode::GatewayUnauthorized),
        ),
    ] {
        let server = MockServer::start().await;
        Mock::given(method("GET"))
            .and(path("/api/health"))
            .respond_with(template)
            .mount(&server)
            .await;
        let health = client(&server.uri()).health().await;
        assert_eq!(health.err().map(|error| error.code), expected);
    }
}

#[tokio::test]
async fn nothing_that_is_shown_carries_the_secret_the_phone_or_the_text() {
    let server = server_saying(
        400,
        json!({"error": "O número 5511999990001 não existe.", "text": "Olá! Sua fatura"}),
    )
    .await;
    let client = client(&server.uri());
    let message = message();
    let outcome = client.send_text(&message).await;
    let shown = format!("{client:?} {message:?} {outcome:?}");
    for hidden in ["gateway-secret", "5511999990001", "fatura"] {
        assert!(!shown.contains(hidden), "{hidden} in {shown}");
    }
}

#[test]
fn an_unusable_configuration_makes_no_client() {
    let zero = WppConfig {
        send_timeout: Duration::ZERO,
        ..config("http://127.0.0.1:1")
    };
    assert!(WppClient::new(&zero).is_err());
    assert!(WppClient::new(&config("not an address")).is_err());
    assert!(WppClient::new(&config("http://10.0.0.1:1")).is_err());
    let public_only = WppConfig::new("http://127.0.0.1:1", SecretString::from("s"));
    assert!(WppClient::new(&public_only).is_err());
    assert!(WppClient::new(&config("http://127.0.0.1:1")).is_ok());
    assert!(WppClient::new(&config("https://127.0.0.1:1")).is_ok());
}
