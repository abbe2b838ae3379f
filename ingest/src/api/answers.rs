//! What a caller reads about the events that it posted.

use schemars::JsonSchema;
use serde::Serialize;
use shared::domain::ids::EventId;

use super::problem::ProblemBody;

/// What a caller reads about an accepted event.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Accepted")]
pub(super) struct AcceptedBody {
    /// The event.
    pub(super) event_id: EventId,
    /// The trace under which everything is found that comes of it.
    pub(super) trace_id: String,
    /// Groups events.
    pub(super) correlation_id: Option<String>,
    /// `accepted`.
    pub(super) status: &'static str,
    /// It was here before; this is that one.
    pub(super) duplicate: bool,
}

/// One item's result of a batch.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Item")]
pub(super) struct ItemBody<'a> {
    /// Its place in the batch.
    pub(super) index: usize,
    #[serde(flatten)]
    pub(super) outcome: ItemOutcome<'a>,
}

/// What became of one item.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "ItemOutcome")]
pub(super) enum ItemOutcome<'a> {
    /// It is stored.
    Accepted(AcceptedBody),
    /// It is not.
    Refused {
        /// `refused`.
        status: &'static str,
        /// Why.
        problem: ProblemBody<'a>,
    },
}

/// What is answered to a post: about one event, or about each of several.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Answered")]
pub(super) enum Answered<'a> {
    /// One.
    One(AcceptedBody),
    /// Several.
    Several(Vec<ItemBody<'a>>),
}

/// Where there is nothing to tell but that it went well.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Success {
    /// True.
    success: bool,
}

impl Success {
    /// It went well.
    pub(crate) const YES: Self = Self { success: true };
}
