//! Whatever is posted gets a clear answer (RFC 9457), is never a server error, and leaves nothing
//! among the events when it is refused.

mod gateway_door;
mod hostile_bytes;
mod public_door;
mod strangers;

use std::time::Duration;

use posto_tests::world::http::Answer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Asserts that an answer is a problem of that status and code, in the form of RFC 9457.
fn assert_problem(what: &str, answer: &Answer, status: u16, code: &str) {
    let body = &answer.body;
    assert_eq!(answer.status, status, "{what}: {body}");
    let content_type = answer.headers.get("content-type");
    assert_eq!(
        content_type.and_then(|value| value.to_str().ok()),
        Some("application/problem+json"),
        "{what}: {body}"
    );
    assert_eq!(body["code"], code, "{what}: {body}");
    assert_eq!(body["type"], format!("urn:posto:problem:{code}"), "{what}");
    assert_eq!(body["status"], status, "{what}");
    for text in ["title", "detail"] {
        assert!(
            body[text].as_str().is_some_and(|text| !text.is_empty()),
            "{what} has no {text}: {body}"
        );
    }
}

/// How a large body is sent.
#[derive(Clone, Copy, Debug)]
enum Large {
    /// Its length stands in a header; the answer must not wait for the body, so none is sent.
    Declared(usize),
    /// In chunks, and no header tells how many.
    Chunked(usize),
}

/// Posts a body that is too large and asserts that the answer says so. Spoken by hand: whoever
/// refuses a body reads no more of it, and HTTP clients then report that they could not write.
async fn assert_too_large(url: &str, header: &str, large: Large) {
    const CHUNK: usize = 64 * 1024;
    let address = url.strip_prefix("http://").unwrap_or(url);
    let (host, path) = address.split_once('/').unwrap_or((address, ""));
    let (length, chunks) = match large {
        Large::Declared(bytes) => (format!("content-length: {bytes}"), 0),
        Large::Chunked(bytes) => (
            "transfer-encoding: chunked".to_owned(),
            bytes.div_ceil(CHUNK),
        ),
    };
    let head = format!(
        "POST /{path} HTTP/1.1\r\nhost: {host}\r\n{header}\r\ncontent-type: application/json\r\n{length}\r\n\r\n"
    );
    let stream = TcpStream::connect(host)
        .await
        .expect("because the door is open");
    let (mut reader, mut writer) = stream.into_split();
    let writing = tokio::spawn(async move {
        writer.write_all(head.as_bytes()).await?;
        let chunk = format!("{CHUNK:x}\r\n{}\r\n", " ".repeat(CHUNK));
        for _ in 0..chunks {
            writer.write_all(chunk.as_bytes()).await?;
        }
        // Kept open: the end of what is written would be the end of the conversation.
        Ok::<_, std::io::Error>(writer)
    });
    let mut answer = vec![0; 4096];
    let read = tokio::time::timeout(Duration::from_secs(30), reader.read(&mut answer))
        .await
        .expect("because an answer comes in time")
        .expect("because an answer comes before the connection ends");
    writing.abort();
    let text = String::from_utf8_lossy(&answer[..read]).into_owned();
    assert!(text.starts_with("HTTP/1.1 413 "), "{large:?}: {text}");
    assert!(
        text.contains("application/problem+json"),
        "{large:?}: {text}"
    );
    assert!(
        text.contains("\"code\":\"body_too_large\""),
        "{large:?}: {text}"
    );
}
