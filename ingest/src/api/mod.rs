//! The public listener: what source systems and the gateway post, and what a source may ask
//! about its own events.

pub(crate) mod answers;
pub(crate) mod asaas;
pub(crate) mod auth;
mod bodies;
mod described;
mod doors;
pub(crate) mod events;
pub(crate) mod forms;
pub(crate) mod headers;
pub(crate) mod problem;
pub(crate) mod refusals;
mod signed;
pub(crate) mod uses;
pub(crate) mod webhooks;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde_json::Value;
use shared::runtime::batcher::Batcher;
use shared::runtime::clock::Clock;
use shared::sealing::Keyring;
use shared::source::{DoorSecrets, Source};
use shared::store::config::DirectoryCache;
use sqlx::PgPool;

use crate::accept::Accept;
use crate::guard::Guard;
use crate::metrics::Metrics;
use crate::pixelhub::Upstream;
use auth::{Bootstrap, Caller};
use problem::{Code, Problem};
use refusals::LogRefusals;
use uses::Uses;

/// The largest body of `POST /api/events`, in bytes. CloudEvents asks for at least 64 KiB.
pub(crate) const LARGEST_EVENT: usize = 1 << 20;
/// The largest body of the gateway's webhook, in bytes: media come inline (facts §1.3 E17).
pub(crate) const LARGEST_WEBHOOK: usize = 25 << 20;
/// How long a body may take to arrive.
const SLOWEST_BODY: Duration = Duration::from_secs(30);

/// What the handlers of the public listener work with.
#[derive(Clone)]
pub(crate) struct ApiState {
    pub(crate) pool: PgPool,
    pub(crate) seals: Keyring,
    pub(crate) directory: DirectoryCache,
    pub(crate) accept: Batcher<Accept>,
    pub(crate) refusals: Batcher<LogRefusals>,
    pub(crate) bootstrap: Arc<Bootstrap>,
    pub(crate) uses: Arc<Uses>,
    pub(crate) guard: Arc<Guard>,
    pub(crate) gateway_secrets: Arc<DoorSecrets>,
    pub(crate) status_secrets: Arc<DoorSecrets>,
    pub(crate) asaas_secrets: Arc<DoorSecrets>,
    pub(crate) upstream: Upstream,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
}

impl ApiState {
    /// The authenticated caller of a request, if it may come from where it does; its credential
    /// counts as used. A source's own credential opens from an address that is shut out too: it
    /// cannot be guessed, and others may share the address.
    pub(crate) fn admit(
        &self,
        headers: &HeaderMap,
        client: IpAddr,
        now: DateTime<Utc>,
    ) -> Result<Caller, Problem> {
        let directory = self.directory.get();
        let caller = auth::caller(headers, &directory, &self.bootstrap, now);
        let is_known = matches!(caller, Some(Caller::Known(_)));
        if let (false, Some(seconds)) = (is_known, self.guard.shut_out(client)) {
            return Err(shut_out(seconds));
        }
        // Not before: a flood from an address must not use up what others there may bring.
        self.guard.take_request(client).map_err(Problem::of_limit)?;
        match caller {
            Some(Caller::Known(credential)) => {
                if !directory.lets_in(&credential.source_system, client) {
                    return Err(address_forbidden());
                }
                self.uses.mark(credential.id, now);
                Ok(Caller::Known(credential))
            }
            Some(Caller::Bootstrap(mut sources)) => {
                let some = !sources.is_empty();
                sources.retain(|source| directory.lets_in(source, client));
                if some && sources.is_empty() {
                    return Err(address_forbidden());
                }
                Ok(Caller::Bootstrap(sources))
            }
            None => Err(self.stranger(client)),
        }
    }

    /// Whether a request to a provider's own door is the provider's, and comes from where it may. No
    /// limit and no shut-out stands here: what an authentic provider brings may not come again.
    pub(crate) fn authentic(
        &self,
        source: &dyn Source,
        secrets: &DoorSecrets,
        headers: &HeaderMap,
        client: IpAddr,
    ) -> Result<(), Problem> {
        if let Err(error) = source.authenticate(headers, secrets) {
            self.guard.failed(client);
            return Err(Problem::new(Code::Unauthenticated, error.to_string()));
        }
        if self.directory.get().lets_in(source.name(), client) {
            Ok(())
        } else {
            let detail = "the source may not speak from this address";
            Err(Problem::new(Code::Unauthenticated, detail))
        }
    }

    /// Counts that somebody failed to authenticate at the generic door, and says what they are told.
    pub(crate) fn stranger(&self, client: IpAddr) -> Problem {
        if let Some(seconds) = self.guard.shut_out(client) {
            return shut_out(seconds);
        }
        self.guard.failed(client);
        Problem::new(
            Code::Unauthenticated,
            "send the source's credential as `Authorization: Bearer …`",
        )
    }

    /// Answers somebody who did not get past a door: a number on a metric, and nothing else.
    pub(crate) async fn turn_away(&self, door: &str, client: IpAddr, problem: Problem) -> Response {
        if matches!(problem.code, Code::Unauthenticated | Code::AddressShutOut) {
            self.guard.hold(client).await;
        }
        self.metrics
            .refused
            .with_label_values(&[door, problem.code.as_str()])
            .inc();
        problem.into_response()
    }
}

pub(crate) fn shut_out(seconds: u64) -> Problem {
    Problem::new(
        Code::AddressShutOut,
        "too many requests of this address carried no valid credential",
    )
    .with_retry_after(seconds)
}

fn address_forbidden() -> Problem {
    Problem::new(
        Code::AddressForbidden,
        "the source may not speak from this address",
    )
}

/// The public listener.
pub(crate) fn router(state: ApiState) -> Router {
    let (router, _) = described::api().finish();
    router
        .fallback(async || Problem::new(Code::NotFound, "there is nothing at this address"))
        .method_not_allowed_fallback(async || {
            Problem::new(
                Code::MethodNotAllowed,
                "the address does not take this method",
            )
        })
        .with_state(state)
}

/// What is said of them.
pub(crate) fn document() -> Value {
    described::api().finish().1
}

/// Reads a body within its bounds of size and time.
pub(crate) async fn read_body(request: Request, largest: usize) -> Result<Bytes, Problem> {
    let too_large = || {
        Problem::new(
            Code::BodyTooLarge,
            format!("the body is larger than {largest} bytes"),
        )
    };
    let declared = request
        .headers()
        .get(axum::http::header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > largest) {
        return Err(too_large());
    }
    let body: Body = request.into_body();
    match tokio::time::timeout(SLOWEST_BODY, axum::body::to_bytes(body, largest)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_length_limit(&error) => Err(too_large()),
        // The caller hung up, or its body broke off: hardly anybody reads this answer.
        Ok(Err(_)) => Err(Problem::new(Code::MalformedJson, "the body broke off")),
        Err(_) => Err(Problem::new(
            Code::BodyTooSlow,
            "the body took too long to arrive",
        )),
    }
}

fn is_length_limit(error: &axum::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if cause.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        source = cause.source();
    }
    false
}
