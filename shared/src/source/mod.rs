//! The doors in: one pure file (or folder) per event source. A source knows one foreign format:
//! how its requests prove that they are authentic, what makes two of them the same event, and
//! what they say. Storing, answering and deciding are not its business.
//!
//! Adding a source is one file and one line in [`REGISTRY`]; every source system of our own
//! speaks [`generic`] and needs neither.

pub mod asaas;
pub mod auth;
pub mod cloud_events;
pub mod generic;
mod mend;
pub mod problem;
pub mod standard_webhooks;
mod time;
pub mod wpp_gateway;

use axum::http::HeaderMap;
use chrono::{DateTime, Utc};
use serde_json::Value;

pub use auth::{AuthError, DoorSecrets};
pub use problem::{Problem, ProblemCode, parse_json};

use crate::domain::event::{IncomingEvent, NormalisedEvent};
use crate::domain::failure::FailureCode;
use crate::domain::ids::TenantId;

/// Every source with a format of its own.
pub static REGISTRY: &[&dyn Source] = &[&generic::Generic, &wpp_gateway::WppGateway, &asaas::Asaas];

/// The source that reads the events of a source system: its own format's, or [`generic`].
#[must_use]
pub fn of(source_system: &str) -> &'static dyn Source {
    REGISTRY
        .iter()
        .copied()
        .find(|source| source.name() == source_system)
        .unwrap_or(&generic::Generic)
}

/// One foreign format. Pure: no I/O, no clock.
pub trait Source: Sync {
    /// The name: the `source_system` of its events, a metric label.
    fn name(&self) -> &'static str;

    /// Checks that a request to the source's own door is authentic.
    ///
    /// # Errors
    ///
    /// Answer 401 or 403, store nothing, count it.
    fn authenticate(&self, headers: &HeaderMap, secrets: &DoorSecrets) -> Result<(), AuthError>;

    /// Reads the body of an authentic request. `now` bounds the times that are believed.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, each with its place; nothing of it may be stored.
    fn read(&self, body: &[u8], now: DateTime<Utc>) -> Result<Reading, Vec<Problem>>;

    /// Reads a stored event for the router.
    ///
    /// # Errors
    ///
    /// The event can never be routed as it is stored: fail its routing with the error's code.
    fn normalise(&self, event: &StoredEvent<'_>) -> Result<NormalisedEvent, NormaliseError>;
}

/// What came of reading a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    /// These are to be stored before the answer.
    Events(Vec<IncomingEvent>),
    /// Authentic noise: count it, store nothing, answer as if it were stored.
    Drop(DropReason),
}

/// Why something authentic is not worth storing; a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// A contact came or went: 88 % of all traffic (facts §0.3).
    Presence,
}

impl DropReason {
    /// The label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Presence => "presence",
        }
    }
}

/// What the store has of an event, as far as reading it again needs it.
#[derive(Clone, Copy)]
pub struct StoredEvent<'a> {
    /// Whose event it is.
    pub source_system: &'a str,
    /// What happened.
    pub event_type: &'a str,
    /// The customer that the source named.
    pub tenant_id: Option<TenantId>,
    /// The payload; `None` when jsonb could not hold it.
    pub payload: Option<&'a Value>,
    /// The kept bytes, read when there is no payload.
    pub body: &'a [u8],
    /// When it happened, if the source told.
    pub occurred_at: Option<DateTime<Utc>>,
    /// When it was received.
    pub received_at: DateTime<Utc>,
}

/// A stored event cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NormaliseError {
    /// Neither payload nor body is what the event's type promises.
    #[error("the payload cannot be read")]
    PayloadUnreadable,
}

impl NormaliseError {
    /// The code under which the routing fails.
    #[must_use]
    pub const fn code(self) -> FailureCode {
        match self {
            Self::PayloadUnreadable => FailureCode::PayloadUnreadable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_is_found_by_its_name_and_strangers_speak_the_generic_form() {
        for source in REGISTRY {
            assert_eq!(of(source.name()).name(), source.name());
        }
        assert_eq!(of("billing").name(), "generic");
    }
}
