//! One request and one answer on the wire: bounded in size, and told apart when no whole answer
//! comes. Knows nothing of what was asked.

use std::time::SystemTime;

use chrono::{DateTime, Utc};
use reqwest::RequestBuilder;
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};

use super::classify::Answer;
use super::excerpt;
use super::retry_after::parse_http_date;
use crate::domain::failure::FailureCode;
use crate::outbound;

/// More than any answer to a text needs; what is longer is cut and then, mostly, unreadable.
const MAX_BODY_BYTES: usize = 256 * 1024;

/// Writes the request once and reads the answer. The request's time limit holds from here to the
/// last byte of the body.
pub(super) async fn exchange(request: RequestBuilder) -> Result<Reply, Broken> {
    let mut response = request.send().await.map_err(|e| Broken::new(&e, None))?;
    let status = response.status().as_u16();
    let headers = std::mem::take(response.headers_mut());
    let body = outbound::read_body(&mut response, MAX_BODY_BYTES).await;
    let body = body.map_err(|e| Broken::new(&e, Some(status)))?;
    Ok(Reply {
        status,
        headers,
        body,
    })
}

/// A whole answer, or as much of it as is read.
pub(super) struct Reply {
    pub(super) status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Reply {
    pub(super) fn answer(&self) -> Answer<'_> {
        Answer {
            status: self.status,
            content_type: header(&self.headers, CONTENT_TYPE),
            www_authenticate: self.challenge(),
            retry_after: header(&self.headers, RETRY_AFTER),
            body: &self.body,
        }
    }

    /// The challenge that tells most: Basic if there is one among several headers.
    fn challenge(&self) -> Option<&str> {
        let all = self.headers.get_all(WWW_AUTHENTICATE).iter();
        let mut challenges = all.filter_map(|value| value.to_str().ok());
        let first = challenges.next()?;
        let is_basic = |value: &&str| value.to_ascii_lowercase().starts_with("basic");
        Some(challenges.find(is_basic).unwrap_or(first))
    }

    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The time by the clock that wrote the answer, so that a date in it counts from the same
    /// clock; ours only if it names none. A wait is measured by it, nothing is stamped.
    pub(super) fn now(&self) -> DateTime<Utc> {
        header(&self.headers, DATE)
            .and_then(parse_http_date)
            .unwrap_or_else(|| SystemTime::now().into())
    }
}

fn header(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// No whole answer came.
pub(super) struct Broken {
    pub(super) code: FailureCode,
    pub(super) http_status: Option<u16>,
    pub(super) excerpt: String,
}

impl Broken {
    /// E1, E2. Before the connection stands nothing was written (the connector's limit covers
    /// name resolution, TCP and TLS, and is shorter than the whole limit); after that everything may have
    /// been, so whatever is no connect error is of unknown outcome.
    fn new(error: &reqwest::Error, http_status: Option<u16>) -> Self {
        let code = if error.is_connect() || error.is_builder() {
            FailureCode::GatewayUnreachable
        } else if error.is_timeout() {
            FailureCode::GatewayTimeout
        } else {
            FailureCode::ConnectionReset
        };
        Self {
            code,
            http_status,
            excerpt: excerpt::of_text(&innermost(error)),
        }
    }
}

/// The text of the first cause. The outer ones repeat the address.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
