//! The second listener: what operators ask and order. Masked unless asked to reveal, which is kept;
//! what is done by hand leaves a line in the audit log.

mod answers;
mod dead_letters;
mod deliveries;
mod described;
mod doors;
mod fields;
mod keys;
mod ledger;
mod modules;
mod orders;

use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::Value;
use shared::broker::relay::Relay;
use shared::domain::ids::{EventId, TraceId};
use shared::runtime::telemetry::chain;
use shared::sealing::Keyring;
use shared::source::DoorSecrets;
use shared::store::logs::{self, NewLog};
use shared::store::scope::Scope;
use shared::store::{StoreError, StoreResult, sessions};
use sqlx::{PgPool, PgTransaction};

use crate::api::problem::{Code, Problem};
use crate::ledger::Auditor;
use crate::metrics::Metrics;
use crate::{openapi, story};
use answers::{ChannelLine, Channels};
use fields::Fields;

/// What the handlers of the admin listener work with.
#[derive(Clone)]
pub(crate) struct AdminState {
    pub(crate) pool: PgPool,
    pub(crate) secrets: Arc<DoorSecrets>,
    pub(crate) relay: Relay,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) auditor: Auditor,
    pub(crate) seals: Keyring,
}

impl AdminState {
    /// A transaction that answers an operator: the agency sees everything, and changes nothing.
    pub(crate) async fn reader(&self) -> StoreResult<PgTransaction<'static>> {
        Scope::Agency.read(&self.pool).await
    }

    /// A transaction that carries out an operator's order; to be committed.
    pub(crate) async fn writer(&self) -> StoreResult<PgTransaction<'static>> {
        Scope::Agency.write(&self.pool).await
    }
}

/// The admin listener.
pub(crate) fn router(state: AdminState) -> Router {
    let (router, _) = described::api().finish();
    router
        .fallback(async || Problem::new(Code::NotFound, "there is nothing at this address"))
        .method_not_allowed_fallback(async || {
            Problem::new(
                Code::MethodNotAllowed,
                "the address does not take this method",
            )
        })
        .layer(axum::middleware::from_fn_with_state(
            state.clone(),
            authenticate,
        ))
        .with_state(state)
}

/// What is said of them.
pub(crate) fn document() -> Value {
    described::api().finish().1
}

/// Everything asks for the token but the description of what is there, which tells nothing of
/// what is stored.
async fn authenticate(State(state): State<AdminState>, request: Request, next: Next) -> Response {
    if matches!(request.uri().path(), openapi::DOCUMENT | openapi::PAGE) {
        return next.run(request).await;
    }
    let presented = request
        .headers()
        .get(AUTHORIZATION)
        .map(|value| value.as_bytes());
    let token = presented
        .and_then(|value| value.strip_prefix(b"Bearer "))
        .map(<[u8]>::trim_ascii);
    match state.secrets.verify(token) {
        Ok(()) => next.run(request).await,
        Err(_) => Problem::new(
            Code::Unauthenticated,
            "send the admin token as `Authorization: Bearer …`",
        )
        .into_response(),
    }
}

#[derive(Deserialize)]
struct View {
    #[serde(default)]
    reveal: bool,
}

async fn trace(
    State(state): State<AdminState>,
    trace_id: Result<Path<TraceId>, PathRejection>,
    view: Result<Query<View>, QueryRejection>,
) -> Response {
    let Ok(Query(view)) = view else {
        return Problem::new(Code::InvalidQuery, "`reveal` is true or false").into_response();
    };
    let Ok(Path(trace_id)) = trace_id else {
        return not_found();
    };
    match story::of_trace((&state.pool, &state.seals), &trace_id).await {
        Ok(Some(story)) if view.reveal => match keep_reveal(&state, &trace_id).await {
            Ok(()) => Json(story).into_response(),
            Err(error) => unavailable(&error),
        },
        Ok(Some(story)) => Json(story.masked()).into_response(),
        Ok(None) => not_found(),
        Err(error) => unavailable(&error),
    }
}

async fn event(
    State(state): State<AdminState>,
    id: Result<Path<EventId>, PathRejection>,
) -> Response {
    let Ok(Path(id)) = id else { return not_found() };
    match story::of_event((&state.pool, &state.seals), id, &[]).await {
        Ok(Some(story)) => Json(story.masked()).into_response(),
        Ok(None) => not_found(),
        Err(error) => unavailable(&error),
    }
}

async fn channels(State(state): State<AdminState>) -> Response {
    let all = async { sessions::all(&mut *state.reader().await?).await };
    match all.await {
        Ok(all) => {
            let lines = all.into_iter().map(|session| ChannelLine {
                id: session.channel_id,
                provider_account: session.provider_account,
                session: session.state,
                held: session.held,
            });
            let channels = lines.collect();
            Json(Channels { channels }).into_response()
        }
        Err(error) => unavailable(&error),
    }
}

/// Who sees personal data leaves a line on the trace that was looked at.
async fn keep_reveal(state: &AdminState, trace_id: &TraceId) -> Result<(), StoreError> {
    let log = NewLog {
        level: "info",
        trace_id: Some(trace_id.to_string()),
        code: "revealed".to_owned(),
        message: "personal data of this trace was shown to an operator".to_owned(),
        ..NewLog::default()
    };
    let mut tx = state.writer().await?;
    logs::insert(&mut tx, &[log]).await?;
    Ok(tx.commit().await?)
}

/// Who gives an order, as they say themselves: the field `actor`, else the header `X-Actor`. The
/// token is one for all operators, so it names nobody.
fn actor(fields: &mut Fields, headers: &HeaderMap) -> String {
    const LONGEST: usize = 100;
    let named = fields.text("actor").or_else(|| {
        let header = headers.get("x-actor")?.to_str().ok()?.trim();
        (!header.is_empty()).then(|| header.to_owned())
    });
    let named = named.unwrap_or_else(|| "operator".to_owned());
    named.chars().take(LONGEST).collect()
}

fn not_found() -> Response {
    Problem::new(Code::NotFound, "there is no such thing").into_response()
}

fn unavailable(error: &StoreError) -> Response {
    tracing::warn!(error = %chain(error), "an operator's question could not be answered");
    Problem::new(Code::Unavailable, "the database is not available").into_response()
}
