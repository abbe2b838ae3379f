//! `GET /admin/ledger`: where everything stands and what contradicts itself, in the same numbers
//! as the metrics, with the ids of the rows at fault.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::{AdminState, unavailable};
use crate::ledger::{FINDINGS, Look};

/// What a look at the ledger saw.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Ledger")]
pub(super) struct LookBody {
    /// Nothing contradicts itself.
    balanced: bool,
    /// How many rows do.
    imbalance: i64,
    /// What is wrong, by its name.
    wrong: Vec<Wrong>,
    /// Every event ever accepted.
    events: Events,
    /// Deliveries by state; none before the first walk has ended.
    deliveries: BTreeMap<&'static str, Option<i64>>,
    /// What is not settled, by queue and state.
    waiting: Vec<Waiting>,
    /// Letters that nobody settled.
    dead_letters: Vec<Letters>,
    /// What is to leave.
    outbox: Outbox,
}

/// One kind of thing that is wrong.
#[derive(Serialize, JsonSchema)]
struct Wrong {
    /// Its name.
    finding: String,
    /// What it means.
    means: &'static str,
    /// How many.
    count: i64,
    /// The first of them.
    ids: Vec<Uuid>,
}

/// Events by what was decided.
#[derive(Serialize, JsonSchema)]
struct Events {
    /// A rule met them.
    routed: i64,
    /// None did.
    unrouted: i64,
    /// Both.
    total: i64,
}

/// What waits in one state.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Waiting")]
struct Waiting {
    /// The work queue.
    queue: String,
    /// The state.
    state: String,
    /// How many.
    depth: i64,
    /// How long the longest has waited.
    oldest_seconds: f64,
}

/// Open letters of one kind.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "OpenLetters")]
struct Letters {
    /// The work queue.
    queue: String,
    /// What they died of.
    failure_code: String,
    /// How many.
    open: i64,
}

/// The outbox.
#[derive(Serialize, JsonSchema)]
struct Outbox {
    /// How many messages.
    depth: i64,
    /// How long the oldest has waited.
    oldest_seconds: f64,
}

impl LookBody {
    fn of(look: &Look) -> Self {
        let meaning = |finding: &str| {
            let known = FINDINGS.iter().find(|known| known.0 == finding);
            known.map_or("", |known| known.1)
        };
        let wrong = look.wrong.iter().map(|(finding, found)| Wrong {
            finding: finding.clone(),
            means: meaning(finding),
            count: found.count,
            ids: found.ids.clone(),
        });
        let waiting = look.waiting.iter().map(|waiting| Waiting {
            queue: waiting.queue.clone(),
            state: waiting.state.clone(),
            depth: waiting.depth,
            oldest_seconds: waiting.oldest_s,
        });
        let letters = look.letters.iter().map(|letters| Letters {
            queue: letters.queue.clone(),
            failure_code: letters.failure_code.clone(),
            open: letters.open,
        });
        Self {
            balanced: look.imbalance() == 0,
            imbalance: look.imbalance(),
            wrong: wrong.collect(),
            events: Events {
                routed: look.routed,
                unrouted: look.unrouted,
                total: look.routed + look.unrouted,
            },
            deliveries: look.deliveries.clone(),
            waiting: waiting.collect(),
            dead_letters: letters.collect(),
            outbox: Outbox {
                depth: look.outbox.0,
                oldest_seconds: look.outbox.1,
            },
        }
    }
}

/// Looks now, and answers what it saw.
pub(super) async fn ledger(State(state): State<AdminState>) -> Response {
    match state.auditor.look().await {
        Ok(look) => Json(LookBody::of(&look)).into_response(),
        Err(error) => unavailable(&error),
    }
}
