//! What the WPP Gateway posts. Authentic bodies are stored before they are answered; the answer
//! is 200 in the words that PixelHub used (facts §1.4), so that the gateway notices no change.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;
use shared::domain::event::IncomingEvent;
use shared::domain::ids::{EventId, TraceId};
use shared::runtime::batcher::Rejected;
use shared::source::wpp_gateway::WppGateway;
use shared::source::{DoorSecrets, Reading, Source};
use shared::store::logs::NewLog;

use super::answers::Success;
use super::problem::{Code, Problem};
use super::{ApiState, LARGEST_WEBHOOK, read_body};
use crate::accept::{AcceptRequest, Accepted, Arrival};

/// Providers look whether the address is alive.
pub(crate) async fn probe() -> impl IntoResponse {
    Json(Success::YES)
}

pub(crate) async fn whatsapp(State(state): State<ApiState>, request: Request) -> Response {
    let door = Door {
        name: "wpp_gateway",
        secrets: Arc::clone(&state.gateway_secrets),
        receipts_only: false,
    };
    receive(&state, request, &door).await
}

/// Receipts alone: anything else is answered, counted and not stored.
pub(crate) async fn delivery_status(State(state): State<ApiState>, request: Request) -> Response {
    let door = Door {
        name: "delivery_status",
        secrets: Arc::clone(&state.status_secrets),
        receipts_only: true,
    };
    receive(&state, request, &door).await
}

/// One of the gateway's addresses.
struct Door {
    /// The metric label.
    name: &'static str,
    secrets: Arc<DoorSecrets>,
    receipts_only: bool,
}

async fn receive(state: &ApiState, request: Request, door: &Door) -> Response {
    let client = state.guard.proxies.client_of_request(&request);
    let authentic = state.authentic(&WppGateway, &door.secrets, request.headers(), client);
    if let Err(problem) = authentic {
        return state.turn_away(door.name, client, problem).await;
    }
    match accept(state, request, door).await {
        Ok(Some(event_id)) => answer("SUCCESS", Some(event_id)),
        Ok(None) => answer("EVENT_SKIPPED", None),
        Err(problem) => refuse(state, door.name, "wpp_gateway", problem).await,
    }
}

async fn accept(
    state: &ApiState,
    request: Request,
    door: &Door,
) -> Result<Option<EventId>, Problem> {
    let body = read_body(request, LARGEST_WEBHOOK).await?;
    let now = state.clock.now();
    let events = match WppGateway.read(&body, now) {
        Ok(Reading::Events(events)) => events,
        Ok(Reading::Drop(reason)) => {
            state
                .metrics
                .dropped
                .with_label_values(&[reason.as_str()])
                .inc();
            return Ok(None);
        }
        Err(problems) => return Err(Problem::of_fields(Code::MalformedJson, problems)),
    };
    let mut first = None;
    for event in events {
        if door.receipts_only && event.event_type != "whatsapp.delivery.ack" {
            state
                .metrics
                .dropped
                .with_label_values(&["not_a_receipt"])
                .inc();
            continue;
        }
        let event_id = store(state, event, &body, now).await?;
        first = first.or(Some(event_id));
    }
    Ok(first)
}

/// An authentic request that could not be kept leaves a row that its trace shows.
pub(super) async fn refuse(
    state: &ApiState,
    door: &str,
    source: &str,
    problem: Problem,
) -> Response {
    let trace_id = TraceId::generate();
    let problem = problem.with_trace(&trace_id);
    let code = problem.code.as_str();
    state.metrics.refused.with_label_values(&[door, code]).inc();
    tracing::warn!(trace_id = %trace_id, source, outcome = "refused", failure.code = code, "event.refused");
    if problem.code != Code::Unavailable {
        let log = NewLog {
            level: "warn",
            trace_id: Some(trace_id.to_string()),
            source_system: Some(source.to_owned()),
            code: code.to_owned(),
            pointer: problem.errors.first().map(|error| error.pointer.clone()),
            message: problem.detail.clone(),
            ..NewLog::default()
        };
        let _ = state.refusals.submit(log).await;
    }
    problem.into_response()
}

/// Stores an authentic event, whatever the database makes of it. Answers the event that has its
/// key: itself, or the one that came before.
///
/// # Errors
/// It is not stored: `unavailable`, or `internal` for a fault of ours.
pub(super) async fn store(
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
        shadow: None,
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

/// What the gateway is told.
#[derive(Serialize, JsonSchema)]
pub(super) struct WebhookAnswer {
    /// True.
    success: bool,
    /// The first event that it brought; none where it brought none.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<EventId>,
    /// `SUCCESS` or `EVENT_SKIPPED`.
    code: &'static str,
}

fn answer(code: &'static str, event_id: Option<EventId>) -> Response {
    let answer = WebhookAnswer {
        success: true,
        event_id,
        code,
    };
    (StatusCode::OK, Json(answer)).into_response()
}
