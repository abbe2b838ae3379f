//! POSTs to one plain-HTTP URL over kept-alive connections, and nothing else.
//!
//! The simulator's webhooks and the load tool's events are most of what the two do. A general client
//! costs several times what the bytes do; this one shares its cores with the system under test.

use std::{
    io,
    sync::{Mutex, PoisonError},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// An answer's head or body beyond this is not read; the connection is closed instead.
const MOST_READ: usize = 1024 * 1024;
/// Connections kept for later.
const MOST_IDLE: usize = 256;

/// Why there is no status.
#[derive(Debug)]
pub(crate) enum PostError {
    /// No connection: the receiver has seen nothing.
    Unreachable,
    /// The connection broke, or what came back is no HTTP.
    NoAnswer,
}

/// A receiver of POSTs.
pub(crate) struct PlainHttp {
    address: String,
    head: String,
    idle: Mutex<Vec<TcpStream>>,
}

impl PlainHttp {
    /// `headers` are complete lines, each with its line end; `None` when `url` is not plain HTTP.
    pub(crate) fn new(url: &reqwest::Url, headers: &str) -> Option<Self> {
        let host = url.host_str().filter(|_| url.scheme() == "http")?;
        let address = format!("{host}:{}", url.port_or_known_default()?);
        let query = url.query().map(|query| format!("?{query}"));
        let target = format!("{}{}", url.path(), query.unwrap_or_default());
        Some(Self {
            head: format!(
                "POST {target} HTTP/1.1\r\nhost: {address}\r\naccept: */*\r\n{headers}content-length: "
            ),
            address,
            idle: Mutex::new(Vec::new()),
        })
    }

    /// Posts `body` and returns the status of the answer.
    ///
    /// # Errors
    /// See [`PostError`]; only after `Unreachable` it is sure that nothing arrived.
    pub(crate) async fn post(&self, body: &[u8]) -> Result<u16, PostError> {
        let mut request = Vec::with_capacity(self.head.len() + 16 + body.len());
        request.extend_from_slice(self.head.as_bytes());
        request.extend_from_slice(format!("{}\r\n\r\n", body.len()).as_bytes());
        request.extend_from_slice(body);
        let kept = self.lock().pop();
        if let Some(stream) = kept
            && let Ok(status) = self.exchange(stream, &request).await
        {
            return Ok(status);
        }
        // None was kept, or the receiver had closed it meanwhile: a fresh one tells for sure.
        let stream = TcpStream::connect(&self.address)
            .await
            .map_err(|_| PostError::Unreachable)?;
        // Without it a small request may wait for Nagle; a failure costs only that.
        let _ = stream.set_nodelay(true);
        self.exchange(stream, &request)
            .await
            .map_err(|_| PostError::NoAnswer)
    }

    async fn exchange(&self, mut stream: TcpStream, request: &[u8]) -> io::Result<u16> {
        stream.write_all(request).await?;
        let mut answer = Vec::with_capacity(1024);
        let body_starts = loop {
            if stream.read_buf(&mut answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(end) = answer.windows(4).position(|it| it == b"\r\n\r\n") {
                break end + 4;
            }
            if answer.len() > MOST_READ {
                return Err(io::ErrorKind::InvalidData.into());
            }
        };
        let head = Head::parse(&answer[..body_starts])?;
        if let Some(length) = head.kept_body_length {
            while answer.len() - body_starts < length {
                if stream.read_buf(&mut answer).await? == 0 {
                    return Ok(head.status);
                }
            }
            self.keep(stream);
        }
        Ok(head.status)
    }

    fn keep(&self, stream: TcpStream) {
        let mut idle = self.lock();
        if idle.len() < MOST_IDLE {
            idle.push(stream);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What matters of an answer's head.
struct Head {
    status: u16,
    /// Length of the body, when the connection can be used again after it.
    kept_body_length: Option<usize>,
}

impl Head {
    fn parse(head: &[u8]) -> io::Result<Self> {
        let text = str::from_utf8(head).map_err(|_| io::ErrorKind::InvalidData)?;
        let mut lines = text.split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let status = status_line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .ok_or(io::ErrorKind::InvalidData)?;
        let mut kept_body_length = (status == 204).then_some(0);
        let mut closes = false;
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                kept_body_length = value.parse().ok().filter(|length| *length <= MOST_READ);
            } else if name.eq_ignore_ascii_case("connection") {
                closes = value.eq_ignore_ascii_case("close");
            }
        }
        Ok(Self {
            status,
            kept_body_length: kept_body_length.filter(|_| !closes),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(head: &str) -> (u16, Option<usize>) {
        let head = Head::parse(head.as_bytes()).expect("it is a head");
        (head.status, head.kept_body_length)
    }

    #[test]
    fn a_connection_is_kept_only_when_the_end_of_the_body_is_known() {
        assert_eq!(
            parse("HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n"),
            (200, Some(16))
        );
        assert_eq!(parse("HTTP/1.1 204 No Content\r\n\r\n"), (204, Some(0)));
        for head in [
            "HTTP/1.1 500 Oops\r\ncontent-length: 1\r\nconnection: close\r\n\r\n",
            "HTTP/1.1 500 Oops\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 500 Oops\r\ncontent-length: 99999999\r\n\r\n",
        ] {
            assert_eq!(parse(head), (500, None), "{head}");
        }
        assert!(Head::parse(b"SSH-2.0-OpenSSH\r\n\r\n").is_err());
    }

    #[test]
    fn only_plain_http_is_spoken() {
        let url = |text: &str| reqwest::Url::parse(text).expect("it is a URL");
        let plain = PlainHttp::new(&url("http://hub.example/a?b=c"), "x-y: z\r\n")
            .expect("it is plain HTTP");
        assert_eq!(plain.address, "hub.example:80");
        assert!(
            plain
                .head
                .starts_with("POST /a?b=c HTTP/1.1\r\nhost: hub.example:80\r\n")
        );
        assert!(PlainHttp::new(&url("https://hub.example/"), "").is_none());
    }
}
