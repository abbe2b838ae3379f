//! The doors of the registry: `POST /webhook/{source}` for every source that has one. They know no
//! format; adding a source adds its door without a line here.
//!
//! Invariant: nothing comes in that carries no key of the source, and what comes in is stored before
//! it is answered.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use shared::domain::credential::Credential;
use shared::domain::ids::EventId;
use shared::source::{AuthError, Door, DoorSecrets, Reading, Source};

use super::problem::{Code, Problem};
use super::{ApiState, read_body, webhooks};

/// What whoever posts is told: each event that came in, new or known.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Stored {
    /// True.
    success: bool,
    /// The events, in the order in which they stood there.
    event_ids: Vec<EventId>,
}

pub(crate) async fn receive(
    state: ApiState,
    source: &'static dyn Source,
    door: Door,
    request: Request,
) -> Response {
    let now = state.clock.now();
    let client = state.guard.proxies.client_of_request(&request);
    let name = source.name();
    let key = match state.opened_by(source, request.headers(), client, now) {
        Ok(key) => key,
        Err(problem) => return state.turn_away(name, client, problem).await,
    };
    state.uses.mark(key.id, now);
    match store(&state, source, door, request, now).await {
        Ok(event_ids) => {
            let stored = Stored {
                success: true,
                event_ids,
            };
            (StatusCode::OK, Json(stored)).into_response()
        }
        Err(problem) => webhooks::refuse(&state, name, name, problem).await,
    }
}

impl ApiState {
    /// The source's key that a request shows, if it comes from where the source may speak. As at
    /// the other doors of providers, no limit and no shut-out stands here.
    fn opened_by(
        &self,
        source: &dyn Source,
        headers: &HeaderMap,
        client: IpAddr,
        now: DateTime<Utc>,
    ) -> Result<Arc<Credential>, Problem> {
        let directory = self.directory.get();
        let name = source.name();
        let mut told = AuthError::DoorShut;
        // Each is tried: which one it was is kept, so that an old one is seen to be out of use.
        for (hash, key) in directory.door_keys(name, now) {
            match source.authenticate(headers, &DoorSecrets::of_key(*hash)) {
                Ok(()) if directory.lets_in(name, client) => return Ok(Arc::clone(key)),
                Ok(()) => {
                    let detail = "the source may not speak from this address";
                    return Err(Problem::new(Code::Unauthenticated, detail));
                }
                Err(error) => told = error,
            }
        }
        self.guard.failed(client);
        Err(Problem::new(Code::Unauthenticated, told.to_string()))
    }
}

async fn store(
    state: &ApiState,
    source: &dyn Source,
    door: Door,
    request: Request,
    now: DateTime<Utc>,
) -> Result<Vec<EventId>, Problem> {
    let body = read_body(request, door.largest_body).await?;
    let events = match source.read(&body, now) {
        Ok(Reading::Events(events)) => events,
        Ok(Reading::Drop(reason)) => {
            let dropped = &state.metrics.dropped;
            dropped.with_label_values(&[reason.as_str()]).inc();
            return Ok(Vec::new());
        }
        Err(problems) => {
            let syntax = problems.iter().any(|problem| problem.code.is_syntax());
            let code = match syntax {
                true => Code::MalformedJson,
                false => Code::InvalidEvent,
            };
            return Err(Problem::of_fields(code, problems));
        }
    };
    // Together they are one batch to the database. One that is not stored makes the request one
    // that is to be repeated; its keys make that safe.
    let storing = events.into_iter().map(|event| {
        // One of several brings its own part: the whole is not copied for each.
        let whole: &[u8] = if event.redacted_body() { &[] } else { &body };
        webhooks::store(state, event, whole, now)
    });
    futures_util::future::join_all(storing)
        .await
        .into_iter()
        .collect()
}
