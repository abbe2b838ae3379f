//! What the WPP Gateway posts. Authentic bodies are stored before they are answered; the answer
//! is 200 in the words that PixelHub used (facts §1.4), so that the gateway notices no change.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use shared::domain::event::IncomingEvent;
use shared::domain::ids::{EventId, TraceId};
use shared::runtime::batcher::Rejected;
use shared::source::wpp_gateway::WppGateway;
use shared::source::{DoorSecrets, Reading, Source};

use super::problem::{Code, Problem};
use super::{ApiState, LARGEST_WEBHOOK, read_body};
use crate::accept::{AcceptRequest, Accepted, Arrival};

/// Providers look whether the address is alive.
pub(crate) async fn probe() -> impl IntoResponse {
    Json(json!({"success": true}))
}

pub(crate) async fn whatsapp(State(state): State<ApiState>, request: Request) -> Response {
    let secrets = std::sync::Arc::clone(&state.gateway_secrets);
    receive(&state, request, &secrets, |_| true).await
}

/// Receipts alone: anything else is answered, counted and not stored.
pub(crate) async fn delivery_status(State(state): State<ApiState>, request: Request) -> Response {
    let secrets = std::sync::Arc::clone(&state.status_secrets);
    receive(&state, request, &secrets, |event| {
        event.event_type == "whatsapp.delivery.ack"
    })
    .await
}

async fn receive(
    state: &ApiState,
    request: Request,
    secrets: &DoorSecrets,
    wanted: impl Fn(&IncomingEvent) -> bool,
) -> Response {
    let refused = |code: Code| {
        state
            .metrics
            .refused
            .with_label_values(&["wpp_gateway", code.as_str()])
            .inc()
    };
    if let Err(error) = WppGateway.authenticate(request.headers(), secrets) {
        refused(Code::Unauthenticated);
        return Problem::new(Code::Unauthenticated, error.to_string()).into_response();
    }
    let body = match read_body(request, LARGEST_WEBHOOK).await {
        Ok(body) => body,
        Err(problem) => {
            refused(problem.code);
            return problem.into_response();
        }
    };
    let now = state.clock.now();
    let events = match WppGateway.read(&body, now) {
        Ok(Reading::Events(events)) => events,
        Ok(Reading::Drop(reason)) => {
            state
                .metrics
                .dropped
                .with_label_values(&[reason.as_str()])
                .inc();
            return answer("EVENT_SKIPPED", None);
        }
        Err(problems) => {
            refused(Code::MalformedJson);
            let detail = problems
                .first()
                .map_or_else(String::new, |problem| problem.detail.clone());
            return Problem::new(Code::MalformedJson, detail).into_response();
        }
    };
    let mut first = None;
    for event in events {
        if !wanted(&event) {
            state
                .metrics
                .dropped
                .with_label_values(&["not_a_receipt"])
                .inc();
            continue;
        }
        match store(state, event, &body, now).await {
            Ok(event_id) => first = first.or(Some(event_id)),
            Err(problem) => {
                refused(problem.code);
                return problem.into_response();
            }
        }
    }
    match first {
        Some(event_id) => answer("SUCCESS", Some(event_id)),
        None => answer("EVENT_SKIPPED", None),
    }
}

async fn store(
    state: &ApiState,
    event: IncomingEvent,
    body: &[u8],
    now: chrono::DateTime<chrono::Utc>,
) -> Result<EventId, Problem> {
    let (source, event_type) = (event.source_system.clone(), event.event_type.clone());
    let arrival = Arrival {
        scope: 0,
        trace_id: TraceId::generate(),
        received_at: now,
        body: body.to_vec(),
    };
    let request = AcceptRequest::new(event, arrival, &state.directory.get());
    let trace_id = request.trace_id().to_owned();
    let unavailable = || {
        Problem::new(
            Code::Unavailable,
            "the event could not be stored now; send it again",
        )
    };
    let accepted = match state.accept.submit(request.clone()).await {
        // It is authentic, so its bytes are kept, whatever the database makes of them.
        Err(Rejected::Data) => state.accept.submit(request.bare()).await,
        other => other,
    };
    let accepted = accepted.map_err(|rejected| match rejected {
        Rejected::Unavailable | Rejected::Stopping => unavailable(),
        Rejected::Data | Rejected::Panicked => {
            Problem::new(Code::Internal, "the event could not be stored")
        }
    })?;
    let (event_id, outcome) = match accepted {
        Accepted::New { event_id } => (event_id, "new"),
        Accepted::Duplicate { event_id, .. } | Accepted::KeyReused { event_id } => {
            (event_id, "duplicate")
        }
    };
    state
        .metrics
        .accepted
        .with_label_values(&[source.as_str(), outcome])
        .inc();
    tracing::info!(trace_id, source, event.id = %event_id, event.type = event_type, outcome, "event.accepted");
    Ok(event_id)
}

fn answer(code: &'static str, event_id: Option<EventId>) -> Response {
    let body = match event_id {
        Some(event_id) => json!({"success": true, "event_id": event_id, "code": code}),
        None => json!({"success": true, "code": code}),
    };
    (StatusCode::OK, Json(body)).into_response()
}
