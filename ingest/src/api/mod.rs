//! The public listener: what source systems and the gateway post, and what a source may ask
//! about its own events.

mod answers;
pub(crate) mod asaas;
pub(crate) mod auth;
pub(crate) mod events;
mod forms;
mod headers;
pub(crate) mod problem;
pub(crate) mod refusals;
pub(crate) mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::routing::{get, post};
use bytes::Bytes;
use shared::runtime::batcher::Batcher;
use shared::runtime::clock::Clock;
use shared::source::DoorSecrets;
use shared::store::config::DirectoryCache;
use sqlx::PgPool;

use crate::accept::Accept;
use crate::metrics::Metrics;
use auth::Bootstrap;
use problem::{Code, Problem};
use refusals::LogRefusals;

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
    pub(crate) directory: DirectoryCache,
    pub(crate) accept: Batcher<Accept>,
    pub(crate) refusals: Batcher<LogRefusals>,
    pub(crate) bootstrap: Arc<Bootstrap>,
    pub(crate) gateway_secrets: Arc<DoorSecrets>,
    pub(crate) status_secrets: Arc<DoorSecrets>,
    pub(crate) asaas_secrets: Arc<DoorSecrets>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
}

/// The routes of the public listener.
pub(crate) fn router(state: ApiState) -> Router {
    Router::new()
        .route("/api/events", post(events::post))
        .route("/api/events/{id}", get(events::get))
        .route(
            "/api/whatsapp/webhook",
            post(webhooks::whatsapp).get(webhooks::probe),
        )
        .route(
            "/webhook/whatsapp/delivery-status",
            post(webhooks::delivery_status).get(webhooks::probe),
        )
        .route("/webhook/asaas", post(asaas::post).get(webhooks::probe))
        .fallback(async || Problem::new(Code::NotFound, "there is nothing at this address"))
        .method_not_allowed_fallback(async || {
            Problem::new(
                Code::MethodNotAllowed,
                "the address does not take this method",
            )
        })
        .with_state(state)
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
