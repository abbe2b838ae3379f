//! `/_sim`: what tests and scripts read and steer. Needs no secret, so listen on loopback.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path, Query, State},
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use futures_util::stream;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    Sim,
    faults::{Fault, FaultRule},
    incidents, jid,
    messages::Entry,
};

/// How many messages of a long list are written at once.
const CHUNK: usize = 1_000;

/// Length of the whole list, whatever part of it is answered.
const TOTAL_COUNT: HeaderName = HeaderName::from_static("x-total-count");

/// Routes below `/_sim`.
pub(super) fn router() -> Router<Arc<Sim>> {
    Router::new()
        .route("/messages", get(list_messages))
        .route("/messages/count", get(count_messages))
        .route("/arrivals", get(list_arrivals))
        .route(
            "/faults",
            get(list_faults).post(arm_faults).delete(clear_faults),
        )
        .route("/faults/{id}", delete(disarm_fault))
        .route("/inbound", post(incidents::inbound))
        .route("/session", post(incidents::session))
        .route("/presence", post(incidents::presence))
        .route("/reset", post(reset))
        .route("/settings", get(show_settings).post(change_settings))
        .route("/stats", get(stats))
}

/// Reads a control body; a mistake is told in words, because a person made it.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Box<Response>> {
    serde_json::from_slice(body).map_err(|error| Box::new(refuse(&error.to_string())))
}

/// 422 with a reason.
pub(super) fn refuse(reason: &str) -> Response {
    let body = Json(json!({ "error": reason }));
    (StatusCode::UNPROCESSABLE_ENTITY, body).into_response()
}

#[derive(Deserialize)]
struct Wanted {
    #[serde(default)]
    since: usize,
    limit: Option<usize>,
    to: Option<String>,
    went_out: Option<bool>,
}

impl Wanted {
    fn select(&self, sim: &Sim) -> Vec<Arc<Entry>> {
        let mut entries = sim.messages.since(self.since);
        if let Some(key) = self.to.as_deref().map(jid::match_key) {
            entries.retain(|entry| entry.is_for(&key));
        }
        if let Some(went_out) = self.went_out {
            entries.retain(|entry| entry.went_out() == went_out);
        }
        entries.truncate(self.limit.unwrap_or(usize::MAX));
        entries
    }
}

/// Streams the list: a hundred thousand messages are never one string.
async fn list_messages(State(sim): State<Arc<Sim>>, Query(wanted): Query<Wanted>) -> Response {
    let total = sim.messages.len().to_string();
    let entries = wanted.select(&sim);
    let count = entries.len().div_ceil(CHUNK).max(1);
    let chunks = (0..count).map(move |nth| {
        let end = entries.len().min((nth + 1) * CHUNK);
        let part: Vec<_> = entries[nth * CHUNK..end]
            .iter()
            .map(|entry| entry.json())
            .collect();
        let open = if nth == 0 { "[" } else { ",\n" };
        let close = if nth + 1 == count { "]\n" } else { "" };
        let chunk = format!("{open}{}{close}", part.join(",\n"));
        Ok::<_, Infallible>(Bytes::from(chunk))
    });
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (TOTAL_COUNT, total.as_str()),
    ];
    (headers, Body::from_stream(stream::iter(chunks))).into_response()
}

async fn count_messages(State(sim): State<Arc<Sim>>, Query(wanted): Query<Wanted>) -> Json<Value> {
    let entries = wanted.select(&sim);
    let went_out = entries.iter().filter(|entry| entry.went_out()).count();
    Json(json!({ "count": entries.len(), "went_out": went_out }))
}

/// What a load tool needs of very many messages: for whom and when, nothing else.
async fn list_arrivals(State(sim): State<Arc<Sim>>, Query(wanted): Query<Wanted>) -> Response {
    let entries = wanted.select(&sim);
    let arrivals: Vec<_> = entries.iter().map(|entry| entry.arrival()).collect();
    Json(arrivals).into_response()
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    Many(Vec<Value>),
    One(Value),
}

async fn arm_faults(State(sim): State<Arc<Sim>>, body: Bytes) -> Response {
    let rules = parse::<OneOrMany>(&body).and_then(|rules| {
        let rules = match rules {
            OneOrMany::Many(rules) => rules,
            OneOrMany::One(rule) => vec![rule],
        };
        rules
            .into_iter()
            .map(|rule| {
                serde_json::from_value::<FaultRule>(rule)
                    .map_err(|error| Box::new(refuse(&error.to_string())))
            })
            .collect::<Result<Vec<_>, _>>()
    });
    match rules {
        Ok(rules) => {
            let armed: Vec<_> = rules.into_iter().map(|rule| sim.faults.arm(rule)).collect();
            (StatusCode::CREATED, Json(json!({ "faults": armed }))).into_response()
        }
        Err(refusal) => *refusal,
    }
}

async fn list_faults(State(sim): State<Arc<Sim>>) -> Json<Value> {
    let known: Vec<_> = Fault::ALL
        .iter()
        .map(|fault| {
            json!({
                "fault": fault, "effect": fault.effect(), "fact": fault.fact(), "what": fault.what(),
            })
        })
        .collect();
    Json(json!({ "faults": sim.faults.list(), "known": known }))
}

async fn clear_faults(State(sim): State<Arc<Sim>>) -> Json<Value> {
    Json(json!({ "removed": sim.faults.clear() }))
}

async fn disarm_fault(State(sim): State<Arc<Sim>>, Path(id): Path<u64>) -> Json<Value> {
    Json(json!({ "removed": usize::from(sim.faults.disarm(id)) }))
}

async fn reset(State(sim): State<Arc<Sim>>) -> Json<Value> {
    sim.reset();
    Json(json!({ "ok": true }))
}

async fn show_settings(State(sim): State<Arc<Sim>>) -> Response {
    Json(sim.settings().as_ref()).into_response()
}

/// Changes the settings that are named and leaves the others.
async fn change_settings(State(sim): State<Arc<Sim>>, body: Bytes) -> Response {
    let changed = parse::<serde_json::Map<String, Value>>(&body).and_then(|changes| {
        let mut settings = serde_json::to_value(sim.settings().as_ref()).unwrap_or_default();
        for (name, value) in changes {
            settings[name] = value;
        }
        serde_json::from_value(settings).map_err(|error| Box::new(refuse(&error.to_string())))
    });
    match changed {
        Ok(settings) => {
            sim.set_settings(settings);
            Json(sim.settings().as_ref()).into_response()
        }
        Err(refusal) => *refusal,
    }
}

async fn stats(State(sim): State<Arc<Sim>>) -> Json<Value> {
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Json(json!({
        "sends": {
            "received": read(&sim.sends.received),
            "refused": read(&sim.sends.refused),
            "stayed": read(&sim.sends.stayed),
            "went_out": read(&sim.sends.went_out),
        },
        "messages": sim.messages.len(),
        "webhooks": sim.courier.stats(),
    }))
}
