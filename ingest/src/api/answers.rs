//! What a caller reads about the events that it posted.

use serde::Serialize;
use shared::domain::ids::EventId;

use super::problem::ProblemBody;

/// What a caller reads about an accepted event.
#[derive(Serialize)]
pub(super) struct AcceptedBody {
    pub(super) event_id: EventId,
    pub(super) trace_id: String,
    pub(super) correlation_id: Option<String>,
    pub(super) status: &'static str,
    pub(super) duplicate: bool,
}

/// One item's result of a batch.
#[derive(Serialize)]
pub(super) struct ItemBody<'a> {
    pub(super) index: usize,
    #[serde(flatten)]
    pub(super) outcome: ItemOutcome<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum ItemOutcome<'a> {
    Accepted(AcceptedBody),
    Refused {
        status: &'static str,
        problem: ProblemBody<'a>,
    },
}
