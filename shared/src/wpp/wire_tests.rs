//! The client against sockets that misbehave: what HTTP servers in tests cannot do.

use std::future::Future;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::classify::SendOutcome;
use super::client::{SendText, WppClient};
use super::client_tests::config;
use super::config::WppConfig;
use crate::domain::failure::{FailureClass, FailureCode};

/// Far beyond what the test needs; no case may wait for it.
const LONG: Duration = Duration::from_secs(60);

/// Serves one connection with `serve`, then ends.
async fn listen<F, S>(serve: S) -> (String, JoinHandle<()>)
where
    S: FnOnce(TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let task = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.expect("a connection");
        serve(socket).await;
    });
    (address.to_string(), task)
}

/// Reads until the request has ended: the text of the message is the last field of its body.
async fn read_request(socket: &mut TcpStream) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"\"text\":\"oi\"}") {
        assert_ne!(socket.read_buf(&mut request).await.expect("bytes"), 0);
    }
    String::from_utf8(request).expect("text")
}

async fn answer(mut socket: TcpStream, bytes: Vec<u8>) {
    read_request(&mut socket).await;
    // The client may hang up in the middle of an answer that is too long for it.
    let _ = socket.write_all(&bytes).await;
}

/// Reads until the client hangs up.
async fn hold(mut socket: TcpStream) {
    let mut sink = Vec::new();
    let _ = socket.read_to_end(&mut sink).await;
}

/// Closes with RST instead of FIN, as a killed process or a firewall does.
fn reset(socket: TcpStream) {
    let socket = socket.into_std().expect("a std socket");
    let socket = tokio::net::TcpSocket::from_std_stream(socket);
    socket.set_zero_linger().expect("linger");
}

async fn send(base_url: &str, limit: Duration) -> SendOutcome {
    let config = WppConfig {
        send_timeout: limit,
        ..config(base_url)
    };
    let message = SendText {
        channel: "a".to_owned(),
        to: "5511999990001".to_owned(),
        text: "oi".to_owned(),
        metadata: Value::Null,
        request_id: "r".to_owned(),
    };
    let client = WppClient::new(&config).expect("a client");
    tokio::time::timeout(LONG / 2, client.send_text(&message))
        .await
        .expect("an outcome in time")
}

/// The code and the status of a refusal.
fn refusal(outcome: SendOutcome) -> (FailureCode, Option<u16>) {
    match outcome {
        SendOutcome::Refused {
            code, http_status, ..
        } => (code, http_status),
        accepted @ SendOutcome::Accepted { .. } => panic!("{accepted:?}"),
    }
}

#[tokio::test]
async fn a_refused_connection_sent_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let outcome = send(&format!("http://{address}"), LONG).await;
    assert_eq!(refusal(outcome), (FailureCode::GatewayUnreachable, None));
    assert_eq!(FailureCode::GatewayUnreachable.class(), FailureClass::Away);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_sent_nothing() {
    // No label is longer than 63 bytes (RFC 1035 §2.3.4), so no resolver is ever asked.
    let outcome = send(&format!("http://{}.invalid:1", "a".repeat(64)), LONG).await;
    assert_eq!(refusal(outcome), (FailureCode::GatewayUnreachable, None));
}

#[tokio::test]
async fn a_tls_handshake_that_fails_sent_nothing() {
    let (address, server) = listen(|mut socket| async move {
        let mut hello = [0; 16];
        socket.read_exact(&mut hello).await.expect("a hello");
        socket
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .expect("written");
    })
    .await;
    let outcome = send(&format!("https://{address}"), LONG).await;
    assert_eq!(refusal(outcome), (FailureCode::GatewayUnreachable, None));
    server.await.expect("served");
}

#[tokio::test]
async fn a_connection_that_does_not_stand_in_time_sent_nothing() {
    // TCP stands, TLS never does: the connect limit is half of the whole one, so it tells first.
    let (address, server) = listen(hold).await;
    let outcome = send(&format!("https://{address}"), Duration::from_millis(600)).await;
    assert_eq!(refusal(outcome), (FailureCode::GatewayUnreachable, None));
    server.await.expect("served");
}

#[tokio::test]
async fn silence_after_the_request_is_unknown() {
    let (address, server) = listen(|mut socket| async move {
        read_request(&mut socket).await;
        hold(socket).await;
    })
    .await;
    let outcome = send(&format!("http://{address}"), Duration::from_millis(400)).await;
    assert_eq!(refusal(outcome), (FailureCode::GatewayTimeout, None));
    assert_eq!(
        FailureCode::GatewayTimeout.class(),
        FailureClass::UnknownOutcome
    );
    server.await.expect("served");
}

#[tokio::test]
async fn a_reset_after_the_request_is_unknown() {
    let (address, server) = listen(|mut socket| async move {
        read_request(&mut socket).await;
        reset(socket);
    })
    .await;
    let outcome = send(&format!("http://{address}"), LONG).await;
    assert_eq!(refusal(outcome), (FailureCode::ConnectionReset, None));
    assert_eq!(
        FailureCode::ConnectionReset.class(),
        FailureClass::UnknownOutcome
    );
    server.await.expect("served");
}

#[tokio::test]
async fn a_close_after_the_request_is_unknown() {
    let (address, server) = listen(|mut socket| async move {
        read_request(&mut socket).await;
    })
    .await;
    let outcome = send(&format!("http://{address}"), LONG).await;
    assert_eq!(refusal(outcome), (FailureCode::ConnectionReset, None));
    server.await.expect("served");
}

#[tokio::test]
async fn a_reset_of_a_standing_connection_before_the_request_was_read_is_unknown_too() {
    // From here it cannot be told whether the other side had read it, so no claim is made.
    let (address, server) = listen(|socket| async move { reset(socket) }).await;
    let (code, status) = refusal(send(&format!("http://{address}"), LONG).await);
    assert_eq!(code, FailureCode::ConnectionReset);
    assert_eq!(status, None);
    server.await.expect("served");
}

#[tokio::test]
async fn an_answer_that_is_no_http_is_unknown() {
    let (address, server) =
        listen(|socket| answer(socket, b"SSH-2.0-OpenSSH_9.2\r\n".to_vec())).await;
    let outcome = send(&format!("http://{address}"), LONG).await;
    assert_eq!(refusal(outcome), (FailureCode::ConnectionReset, None));
    server.await.expect("served");
}

#[tokio::test]
async fn an_empty_body_is_unknown() {
    let (address, server) = listen(|socket| {
        answer(
            socket,
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec(),
        )
    })
    .await;
    let outcome = send(&format!("http://{address}"), LONG).await;
    assert_eq!(refusal(outcome), (FailureCode::EmptyResponse, Some(200)));
    server.await.expect("served");
}

#[tokio::test]
async fn nginxs_page_of_a_504_is_unknown() {
    let page = "<html><head><title>504 Gateway Time-out</title></head></html>";
    let bytes = format!(
        "HTTP/1.1 504 Gateway Time-out\r\nServer: nginx\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: keep-alive\r\n\r\n{page}",
        page.len()
    );
    let (address, server) = listen(|socket| answer(socket, bytes.into_bytes())).await;
    let outcome = send(&format!("http://{address}"), LONG).await;
    assert_eq!(refusal(outcome), (FailureCode::GatewayHtmlError, Some(504)));
    server.await.expect("served");
}

#[tokio::test]
async fn a_body_that_drips_past_the_limit_is_unknown() {
    let (address, server) = listen(|mut socket| async move {
        read_request(&mut socket).await;
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n{\"success\":true,";
        socket.write_all(head).await.expect("written");
        // A byte at a time keeps every limit on idleness away; only the total one can end it.
        while socket.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let outcome = send(&format!("http://{address}"), Duration::from_millis(500)).await;
    assert_eq!(refusal(outcome), (FailureCode::GatewayTimeout, Some(200)));
    server.await.expect("served");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_unknown() {
    let bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"success\":true".to_vec();
    let (address, server) = listen(|socket| answer(socket, bytes)).await;
    let outcome = send(&format!("http://{address}"), LONG).await;
    assert_eq!(refusal(outcome), (FailureCode::ConnectionReset, Some(200)));
    server.await.expect("served");
}

#[tokio::test]
async fn a_body_without_end_is_cut_and_not_believed() {
    let (address, server) = listen(|mut socket| async move {
        read_request(&mut socket).await;
        let head =
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{\"success\":true,\"x\":\"";
        socket.write_all(head).await.expect("written");
        // Ends only because the client stops reading and hangs up.
        let block = vec![b'a'; 64 * 1024];
        while socket.write_all(&block).await.is_ok() {}
    })
    .await;
    let outcome = send(&format!("http://{address}"), LONG).await;
    assert_eq!(
        refusal(outcome),
        (FailureCode::GatewayUnreadable, Some(200))
    );
    server.await.expect("served");
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_request() {
    let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n{\"success\":true}";
    let (address, server) = listen(move |mut socket| async move {
        for _ in 0..2 {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                assert_ne!(socket.read_buf(&mut request).await.expect("bytes"), 0);
            }
            socket.write_all(ok).await.expect("written");
        }
    })
    .await;
    let client = WppClient::new(&config(&format!("http://{address}"))).expect("a client");
    // The listener takes one connection only, so the second answer proves that it was kept.
    client.health().await.expect("well");
    client.health().await.expect("still well");
    server.await.expect("served");
}
