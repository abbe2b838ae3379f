//! What Asaas posts. Fifteen answers in a row that are not exactly 200 stop the customer's queue
//! until somebody starts it again by hand (conventions §B1); so there are three answers and no
//! other: 200 once it is stored, whatever it is; 401 for a bad token; 503 when it is not stored.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use http_body_util::BodyExt as _;
use shared::domain::event::IncomingEvent;
use shared::source::asaas::{self, Asaas};
use shared::source::{Reading, Source as _};

use super::answers::Success;
use super::problem::{Code, Problem};
use super::{ApiState, webhooks};

/// So much of a body is kept, in bytes; real ones have a few thousand. What is longer is cut and
/// answered 200 all the same: a letter tells of it, and Asaas can be asked for the rest, while a
/// queue that stops takes every payment with it.
const LARGEST_KEPT: usize = 4 << 20;
/// How long a body may take to arrive. Asaas itself waits 10 s for the answer.
const SLOWEST_BODY: Duration = Duration::from_secs(9);

/// The door's name, a metric label.
const DOOR: &str = "asaas";

/// Every answer there is.
#[derive(Clone, Debug)]
enum Answer {
    Stored,
    BadToken(Problem),
    NotStored(Problem),
}

pub(crate) async fn post(State(state): State<ApiState>, request: Request) -> Response {
    let client = state.guard.proxies.client_of_request(&request);
    let answer = receive(&state, request, client).await;
    if let Answer::BadToken(problem) | Answer::NotStored(problem) = &answer {
        let code = problem.code.as_str();
        state.metrics.refused.with_label_values(&[DOOR, code]).inc();
        tracing::warn!(
            source = DOOR,
            outcome = "refused",
            failure.code = code,
            "event.refused"
        );
    }
    if matches!(answer, Answer::BadToken(_)) {
        state.guard.hold(client).await;
    }
    let response = match answer {
        Answer::Stored => (StatusCode::OK, Json(Success::YES)).into_response(),
        Answer::BadToken(problem) | Answer::NotStored(problem) => problem.into_response(),
    };
    state
        .metrics
        .asaas_answers
        .with_label_values(&[response.status().as_str()])
        .inc();
    response
}

async fn receive(state: &ApiState, request: Request, client: IpAddr) -> Answer {
    let authentic = state.authentic(&Asaas, &state.asaas_secrets, request.headers(), client);
    if let Err(problem) = authentic {
        // Also from an address that Asaas does not speak from: there is no 403 here.
        return Answer::BadToken(Problem::new(Code::Unauthenticated, problem.detail));
    }
    let Some(received) = read_body(request.into_body()).await else {
        return Answer::NotStored(Problem::new(
            Code::Unavailable,
            "the body did not arrive whole; send it again",
        ));
    };
    let now = state.clock.now();
    let event = read_event(&received, now);
    match webhooks::store(state, event, &received.bytes, now).await {
        Ok(_) => Answer::Stored,
        Err(_) => Answer::NotStored(Problem::new(
            Code::Unavailable,
            "the event could not be stored now; send it again",
        )),
    }
}

/// A body, as far as it is kept.
struct Received {
    bytes: Vec<u8>,
    is_cut: bool,
}

/// Reads a body to its end; `None` when it breaks off or takes too long. What is not kept is read
/// too: a caller that may not finish would not see the answer.
async fn read_body(mut body: Body) -> Option<Received> {
    let reading = async {
        let mut received = Received {
            bytes: Vec::new(),
            is_cut: false,
        };
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.ok()?.into_data() else {
                continue;
            };
            let room = LARGEST_KEPT - received.bytes.len();
            received.is_cut |= data.len() > room;
            received
                .bytes
                .extend_from_slice(&data[..data.len().min(room)]);
        }
        Some(received)
    };
    tokio::time::timeout(SLOWEST_BODY, reading)
        .await
        .ok()
        .flatten()
}

/// The event of a body. Should reading it fail in a way that nobody thought of, it is kept as bytes
/// that cannot be read, and the next event finds the door open (incident 19).
fn read_event(received: &Received, now: DateTime<Utc>) -> IncomingEvent {
    let read = std::panic::catch_unwind(AssertUnwindSafe(|| Asaas.read(&received.bytes, now)));
    let mut event = match read {
        Ok(Ok(Reading::Events(mut events))) if events.len() == 1 => events.remove(0),
        _ => asaas::unreadable(&received.bytes),
    };
    if received.is_cut {
        event.metadata["kept_bytes"] = LARGEST_KEPT.into();
    }
    event
}
