//! The client itself: builds the requests, each with its time limit, and hands what comes back to
//! the pure modules beside it.

use std::fmt;
use std::time::Duration;

use reqwest::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, RequestBuilder, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::{Value, json};

use super::classify::{self, SendOutcome};
use super::config::{WppConfig, WppConfigError};
use super::error::{Operation, WppError};
use super::excerpt;
use super::exchange::{Reply, exchange};
use super::retry_after::parse_retry_after;
use super::session::{self, GatewayChannel, SessionStatus};
use crate::domain::failure::FailureCode;
use crate::outbound;

const SECRET: HeaderName = HeaderName::from_static("x-gateway-secret");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Time limits of facts §1.2. A list is slow: the gateway probes every session for it.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
const LIST_TIMEOUT: Duration = Duration::from_secs(90);
const HEALTH_TIMEOUT: Duration = Duration::from_secs(10);

/// Node closes idle connections after 5 s by default. A request written into a connection that
/// the other side is closing has an unknown outcome, so ours are given up a little earlier.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// As many as one process may have sends under way: a connection that is not kept is made anew, at
/// the price of the send itself.
const POOL_MAX_IDLE: usize = 256;

/// A client of one WPP Gateway. Cheap to clone; clones share the connections.
#[derive(Clone)]
pub struct WppClient {
    http: Client,
    base: Url,
    secret: HeaderValue,
    send_timeout: Duration,
}

/// A text to send to one recipient.
#[derive(Clone)]
pub struct SendText {
    /// The gateway's channel, in its exact spelling.
    pub channel: String,
    /// Digits only, with the country code, no plus (facts §1.2); never rewritten here (§0.11).
    pub to: String,
    /// What the recipient reads.
    pub text: String,
    /// Handed through by the gateway; carries our ids, never personal data. Null sends none.
    pub metadata: Value,
    /// The value of `X-Request-Id`, which the gateway logs at each of its steps.
    pub request_id: String,
}

impl fmt::Debug for SendText {
    /// Neither the recipient nor the text, and no metadata.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendText")
            .field("channel", &self.channel)
            .field("request_id", &self.request_id)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for WppClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WppClient")
            .field("base", &self.base.as_str())
            .finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct SendTextBody<'a> {
    channel: &'a str,
    to: &'a str,
    text: &'a str,
    #[serde(skip_serializing_if = "Value::is_null")]
    metadata: &'a Value,
}

impl WppClient {
    /// Makes the client. Its address comes from ops, and still goes through the guard: a name may
    /// lead elsewhere tomorrow. A gateway on a private network is allowed by `OUTBOUND_ALLOW`.
    ///
    /// # Errors
    /// The configuration is unusable: do not start, show the error to the operator.
    pub fn new(config: &WppConfig) -> Result<Self, WppConfigError> {
        let base = config.url()?;
        let secret = config.secret_header()?;
        if config.connect_timeout.is_zero() || config.send_timeout.is_zero() {
            return Err(WppConfigError::ZeroTimeout);
        }
        let http = outbound::client_for(&base, &config.guard)
            .map_err(WppConfigError::Address)?
            .connect_timeout(config.connect_timeout.min(config.send_timeout / 2))
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .pool_max_idle_per_host(POOL_MAX_IDLE);
        Ok(Self {
            http: http.build().map_err(WppConfigError::Client)?,
            base,
            secret,
            send_timeout: config.send_timeout,
        })
    }

    /// Sends a text to one recipient, once. Takes at most the configured send timeout.
    ///
    /// Cancelling the future after its first poll leaves the outcome unknown.
    pub async fn send_text(&self, message: &SendText) -> SendOutcome {
        let body = SendTextBody {
            channel: &message.channel,
            to: &message.to,
            text: &message.text,
            metadata: &message.metadata,
        };
        let request = self
            .http
            .post(self.url(&["api", "messages"]))
            .headers(request_id(&message.request_id))
            .json(&body);
        match exchange(self.signed(request, self.send_timeout)).await {
            Ok(reply) => classify::classify(&reply.answer(), reply.now()),
            Err(broken) => SendOutcome::Refused {
                code: broken.code,
                retry_after: None,
                http_status: broken.http_status,
                excerpt: broken.excerpt,
            },
        }
    }

    /// Asks the gateway whether it is there and takes our secret.
    ///
    /// # Errors
    /// `GatewayRouteNotFound` mostly means the wrong port (facts §1.1): the API lives on 8443.
    pub async fn health(&self) -> Result<(), WppError> {
        let ask = Ask::new(Operation::Health, HEALTH_TIMEOUT);
        let request = self.http.get(self.url(&["api", "health"]));
        let reply = self.ask(&ask, request).await?;
        match classify::read(&reply.answer()) {
            // What a healthy gateway writes was never recorded; an "OK" is as good as JSON.
            Err(refusal)
                if reply.is_success()
                    && matches!(
                        refusal.code,
                        FailureCode::EmptyResponse | FailureCode::GatewayUnreadable
                    ) =>
            {
                Ok(())
            }
            read => ask.judge(read, &reply).map(drop),
        }
    }

    /// The channels that the gateway knows, each with its session's state.
    ///
    /// # Errors
    /// Ask again later when it is transient; else ops have to look at the gateway.
    pub async fn list_channels(&self) -> Result<Vec<GatewayChannel>, WppError> {
        let ask = Ask::new(Operation::ListChannels, LIST_TIMEOUT);
        let body = self
            .ask_json(&ask, self.http.get(self.url(&["api", "channels"])))
            .await?;
        session::read_channels(&body)
            .ok_or_else(|| ask.error(FailureCode::GatewayUnreadable, excerpt::of_json(&body)))
    }

    /// The state of one channel's session. Advisory: "connected" proves nothing (facts §0.7).
    ///
    /// # Errors
    /// `ChannelNotFound` asks ops to correct the channel; a session that is down is no error but
    /// a state.
    pub async fn channel_status(&self, channel: &str) -> Result<SessionStatus, WppError> {
        let ask = Ask::new(Operation::ChannelStatus, READ_TIMEOUT);
        let url = self.channel_url(&ask, channel, None)?;
        match self.ask_json(&ask, self.http.get(url)).await {
            Ok(body) => Ok(SessionStatus::read(&body)),
            Err(error)
                if matches!(
                    error.code,
                    FailureCode::SessionDown | FailureCode::SessionNotStarted
                ) =>
            {
                Ok(SessionStatus::disconnected(error.code.to_string()))
            }
            Err(error) => Err(error),
        }
    }

    /// Asks the gateway to start the channel's session; give it 2 s before the next send (E12).
    ///
    /// # Errors
    /// `GatewayRouteNotFound` comes from an old wrapper, which cannot do this (facts §1.2).
    pub async fn start_session(&self, channel: &str) -> Result<(), WppError> {
        let ask = Ask::new(Operation::StartSession, READ_TIMEOUT);
        let url = self.channel_url(&ask, channel, Some("start-session"))?;
        let request = self.http.post(url).json(&json!({}));
        self.ask_json(&ask, request).await.map(drop)
    }

    /// Tells the gateway where to post its events: those of one channel, or of all of them.
    ///
    /// # Errors
    /// Ask again later when it is transient; registering twice is harmless.
    pub async fn register_webhook(
        &self,
        channel: Option<&str>,
        url: &str,
        secret: &SecretString,
    ) -> Result<(), WppError> {
        let ask = Ask::new(Operation::RegisterWebhook, READ_TIMEOUT);
        let endpoint = match channel {
            Some(channel) => self.channel_url(&ask, channel, Some("webhook"))?,
            None => self.url(&["api", "webhooks"]),
        };
        let body = json!({ "url": url, "secret": secret.expose_secret() });
        self.ask_json(&ask, self.http.post(endpoint).json(&body))
            .await
            .map(drop)
    }

    /// The address with these path segments, each percent-encoded: ids have spaces (facts §1.1).
    fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .expect("an http address has a path, because the configuration was checked")
            .pop_if_empty()
            .extend(segments);
        url
    }

    fn channel_url(&self, ask: &Ask, channel: &str, tail: Option<&str>) -> Result<Url, WppError> {
        // These would be resolved as path steps, encoded or not, and meet another route.
        if matches!(channel, "" | "." | "..") {
            return Err(ask.error(FailureCode::ChannelNotFound, String::new()));
        }
        let mut segments = vec!["api", "channels", channel];
        segments.extend(tail);
        Ok(self.url(&segments))
    }

    async fn ask_json(&self, ask: &Ask, request: RequestBuilder) -> Result<Value, WppError> {
        let reply = self.ask(ask, request).await?;
        ask.judge(classify::read(&reply.answer()), &reply)
    }

    async fn ask(&self, ask: &Ask, request: RequestBuilder) -> Result<Reply, WppError> {
        let reply = exchange(self.signed(request, ask.timeout)).await;
        reply.map_err(|broken| WppError {
            http_status: broken.http_status,
            ..ask.error(broken.code, broken.excerpt)
        })
    }

    /// What every request carries; the time limit is on all of it, connecting included.
    fn signed(&self, request: RequestBuilder, limit: Duration) -> RequestBuilder {
        request
            .header(SECRET, self.secret.clone())
            .header(ACCEPT, "application/json")
            .timeout(limit)
    }
}

/// `X-Request-Id`, or nothing when the id cannot be a header: it is for reading logs, so a send
/// does not depend on it.
fn request_id(id: &str) -> HeaderMap {
    HeaderValue::from_str(id)
        .ok()
        .filter(|value| !value.is_empty())
        .map(|value| (REQUEST_ID, value))
        .into_iter()
        .collect()
}

/// A request that sends no message, with its time limit.
struct Ask {
    operation: Operation,
    timeout: Duration,
}

impl Ask {
    fn new(operation: Operation, timeout: Duration) -> Self {
        Self { operation, timeout }
    }

    fn error(&self, code: FailureCode, excerpt: String) -> WppError {
        WppError {
            operation: self.operation,
            code,
            http_status: None,
            retry_after: None,
            excerpt,
        }
    }

    fn judge(
        &self,
        read: Result<Value, classify::Refusal>,
        reply: &Reply,
    ) -> Result<Value, WppError> {
        read.map_err(|refusal| {
            // Nothing was to be sent, so a server's error leaves no doubt behind.
            let code = match refusal.code {
                FailureCode::GatewayUnreadable if reply.status >= 500 => {
                    FailureCode::GatewayServerError
                }
                code => code,
            };
            WppError {
                http_status: Some(reply.status),
                retry_after: reply
                    .answer()
                    .retry_after
                    .and_then(|value| parse_retry_after(value, reply.now())),
                ..self.error(code, refusal.excerpt)
            }
        })
    }
}
