//! PixelHub itself: where the requests of a module go that is off, and how its answers come back. It checks
//! who is asking by itself (its sessions are cookies); Posto's credentials and tokens of its own stay here.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Response as HttpResponse, StatusCode, header,
};
use axum::response::Response;
use bytes::Bytes;
use clap::Args;
use reqwest::Url;
use shared::outbound::{self, OutboundArgs};
use shared::runtime::telemetry::chain;

use crate::api::problem::{Code, Problem};

/// PixelHub may take so long. Its slowest page asks the gateway, which has 30 s itself.
const LONGEST: Duration = Duration::from_secs(40);
const CONNECT: Duration = Duration::from_secs(5);
/// The largest answer, in bytes; more is no answer.
const LARGEST_ANSWER: usize = 10 << 20;
/// Marks what was passed on, so that an address that leads back here is noticed.
const MARK: HeaderName = HeaderName::from_static("x-posto-passed-on");
/// What may come of passing a request on: the values of a metric's label.
pub(crate) const PASSED_ON: [&str; 6] = [
    ANSWERED,
    Failure::NotSet.as_str(),
    Failure::Loop.as_str(),
    Failure::Unreachable.as_str(),
    Failure::NoAnswer.as_str(),
    Failure::TooLarge.as_str(),
];
/// PixelHub answered, whatever it said.
pub(super) const ANSWERED: &str = "answered";

/// What of a request is PixelHub's business.
const ASKED_WITH: [HeaderName; 10] = [
    header::ACCEPT,
    header::ACCEPT_LANGUAGE,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::ORIGIN,
    header::REFERER,
    header::USER_AGENT,
    HeaderName::from_static("x-requested-with"),
];
/// What of an answer is the caller's.
const ANSWERED_WITH: [HeaderName; 14] = [
    header::CACHE_CONTROL,
    header::CONTENT_DISPOSITION,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_SECURITY_POLICY,
    header::CONTENT_TYPE,
    header::ETAG,
    header::EXPIRES,
    header::LAST_MODIFIED,
    header::LOCATION,
    header::RETRY_AFTER,
    header::SET_COOKIE,
    header::VARY,
    header::X_FRAME_OPTIONS,
];

/// Where PixelHub is.
#[derive(Clone, Debug, Args)]
pub struct UpstreamArgs {
    /// PixelHub's own address, where requests of modules that are off are passed on to.
    #[arg(
        id = "pixelhub_base_url",
        long = "pixelhub-base-url",
        env = "PIXELHUB_BASE_URL"
    )]
    pub base_url: Option<String>,
}

/// Why there is no answer of PixelHub's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// No address is set.
    NotSet,
    /// The address leads back to Posto.
    Loop,
    /// PixelHub was not reached: it has seen nothing.
    Unreachable,
    /// It took too long, or its answer broke off: what it did is not known.
    NoAnswer,
    /// Its answer is too large.
    TooLarge,
}

impl Failure {
    /// The metric label.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::NotSet => "not_set",
            Self::Loop => "loop",
            Self::Unreachable => "unreachable",
            Self::NoAnswer => "no_answer",
            Self::TooLarge => "too_large",
        }
    }

    /// What the caller is told.
    pub(super) fn problem(self) -> Problem {
        let (code, detail) = match self {
            Self::NotSet => (
                Code::ModuleOff,
                "the module is switched off here, and PIXELHUB_BASE_URL names nobody who serves it",
            ),
            Self::Loop => (
                Code::PixelhubUnavailable,
                "PIXELHUB_BASE_URL leads back to Posto",
            ),
            Self::Unreachable => (
                Code::PixelhubUnavailable,
                "PixelHub could not be reached; nothing was done",
            ),
            Self::NoAnswer => (
                Code::PixelhubUnavailable,
                "PixelHub did not answer in time; what it did is not known",
            ),
            Self::TooLarge => (Code::PixelhubUnavailable, "PixelHub's answer is too large"),
        };
        Problem::new(code, detail)
    }
}

/// PixelHub, where it is known where that is. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Upstream(Option<Arc<Target>>);

#[derive(Debug)]
struct Target {
    base: Url,
    client: reqwest::Client,
}

impl Upstream {
    /// # Errors
    /// The address is none that requests may go to: the process should not start.
    pub(crate) fn new(args: &UpstreamArgs, outbound: &OutboundArgs) -> anyhow::Result<Self> {
        let Some(text) = args.base_url.as_deref().map(str::trim) else {
            return Ok(Self::default());
        };
        if text.is_empty() {
            return Ok(Self::default());
        }
        let base = base(text)?;
        let client = outbound::client_for(&base, &outbound.guard())
            .context("PIXELHUB_BASE_URL leads to an address that requests may not go to")?
            .connect_timeout(CONNECT)
            .timeout(LONGEST)
            .build()
            .context("the HTTP client for PIXELHUB_BASE_URL cannot be built")?;
        Ok(Self(Some(Arc::new(Target { base, client }))))
    }

    /// Passes a request on, once, and answers what PixelHub answers: a redirect too is the caller's.
    pub(super) async fn pass_on(
        &self,
        parts: &Parts,
        body: Bytes,
        client: IpAddr,
    ) -> Result<Response, Failure> {
        let target = self.0.as_deref().ok_or(Failure::NotSet)?;
        if parts.headers.contains_key(&MARK) {
            return Err(Failure::Loop);
        }
        let request = target
            .client
            .request(parts.method.clone(), target.address_of(parts))
            .headers(asked_with(&parts.headers, client))
            .body(body);
        let mut answer = request.send().await.map_err(|error| {
            let failure = if error.is_connect() {
                Failure::Unreachable
            } else {
                Failure::NoAnswer
            };
            tracing::warn!(
                outcome = failure.as_str(),
                error = %chain(&error.without_url()),
                "PixelHub did not answer a request that was passed on"
            );
            failure
        })?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = outbound::read_body(&mut answer, LARGEST_ANSWER + 1)
            .await
            .map_err(|_| Failure::NoAnswer)?;
        if body.len() > LARGEST_ANSWER {
            return Err(Failure::TooLarge);
        }
        Ok(answered(status, &headers, body))
    }
}

impl Target {
    /// The same path and query at PixelHub.
    fn address_of(&self, parts: &Parts) -> Url {
        let mut address = self.base.clone();
        let prefix = self.base.path().trim_end_matches('/');
        address.set_path(&format!("{prefix}{}", parts.uri.path()));
        address.set_query(parts.uri.query());
        address
    }
}

fn base(text: &str) -> anyhow::Result<Url> {
    const WRONG: &str = "PIXELHUB_BASE_URL is no http(s) address of a host (without credentials, query or fragment)";
    let url = Url::parse(text).context(WRONG)?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    ensure!(plain, WRONG);
    Ok(url)
}

fn asked_with(headers: &HeaderMap, client: IpAddr) -> HeaderMap {
    let mut kept = some_of(headers, &ASKED_WITH);
    if let Ok(client) = HeaderValue::from_str(&client.to_string()) {
        kept.insert("x-forwarded-for", client);
    }
    if let Some(host) = headers.get(header::HOST) {
        kept.insert("x-forwarded-host", host.clone());
    }
    kept.insert(MARK, HeaderValue::from_static("1"));
    kept
}

fn answered(status: StatusCode, headers: &HeaderMap, body: Vec<u8>) -> Response {
    let mut response: Response = HttpResponse::new(Body::from(body));
    *response.status_mut() = status;
    *response.headers_mut() = some_of(headers, &ANSWERED_WITH);
    response
}

fn some_of(headers: &HeaderMap, names: &[HeaderName]) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for name in names {
        for value in headers.get_all(name) {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    #[test]
    fn only_a_plain_address_of_a_host_is_taken() {
        for (text, ok) in [
            ("https://painel.example", true),
            ("http://127.0.0.1:3000/prefix/", true),
            ("painel.example", false),
            ("ftp://painel.example", false),
            ("https://user:pass@painel.example", false),
            ("https://painel.example/?a=b", false),
            ("https://painel.example/#x", false),
        ] {
            assert_eq!(base(text).is_ok(), ok, "{text}");
        }
    }

    #[test]
    fn path_and_query_stay_behind_the_bases_own_path() {
        let request = Request::get("http://posto.example/chat/order?order_id=7&x=%2F").body(());
        let (parts, ()) = request.unwrap().into_parts();
        for (at, wanted) in [
            (
                "https://p.example",
                "https://p.example/chat/order?order_id=7&x=%2F",
            ),
            (
                "https://p.example/hub/",
                "https://p.example/hub/chat/order?order_id=7&x=%2F",
            ),
        ] {
            // An error means that a provider is installed already, and any provider will do.
            let client =
                outbound::client_for(&base("http://1.1.1.1").unwrap(), &Default::default());
            let target = Target {
                base: base(at).unwrap(),
                client: client.unwrap().build().unwrap(),
            };
            assert_eq!(target.address_of(&parts).as_str(), wanted);
        }
    }

    #[test]
    fn cookies_go_along_and_postos_own_credentials_do_not() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("cookie", "PHPSESSID=1"),
            ("authorization", "Bearer posto_x"),
            ("x-event-secret", "posto_x"),
            ("x-order-token", "t"),
            ("x-forwarded-for", "1.1.1.1"),
            ("host", "hub.example"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let kept = asked_with(&headers, "203.0.113.9".parse().unwrap());
        assert_eq!(kept.get("cookie").unwrap(), "PHPSESSID=1");
        assert_eq!(kept.get("x-forwarded-for").unwrap(), "203.0.113.9");
        assert_eq!(kept.get("x-forwarded-host").unwrap(), "hub.example");
        for name in ["authorization", "x-event-secret", "x-order-token", "host"] {
            assert!(!kept.contains_key(name), "{name}");
        }
    }

    #[test]
    fn every_cookie_of_an_answer_comes_back() {
        let mut headers = HeaderMap::new();
        headers.append("set-cookie", HeaderValue::from_static("a=1"));
        headers.append("set-cookie", HeaderValue::from_static("b=2"));
        headers.insert("connection", HeaderValue::from_static("close"));
        let response = answered(StatusCode::FOUND, &headers, Vec::new());
        assert_eq!(response.headers().get_all("set-cookie").iter().count(), 2);
        assert!(!response.headers().contains_key("connection"));
        assert_eq!(response.status(), 302);
    }
}
