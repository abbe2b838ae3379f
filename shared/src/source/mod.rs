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
pub mod whapi;
pub mod wpp_gateway;

use axum::http::HeaderMap;
use chrono::{DateTime, Utc};
use serde_json::Value;

pub use auth::{AuthError, DoorSecrets};
pub use problem::{Problem, ProblemCode, parse_json};

use crate::domain::event::{IncomingEvent, NormalisedEvent, NormalisedKind};
use crate::domain::failure::FailureCode;
use crate::domain::ids::TenantId;

/// Every source with a format of its own.
pub static REGISTRY: &[&dyn Source] = &[
    &generic::Generic,
    &wpp_gateway::WppGateway,
    &asaas::Asaas,
    &whapi::Whapi,
];

/// The doors that the registry opens: `POST /webhook/{name}` of every source that has one.
pub fn doors() -> impl Iterator<Item = (&'static dyn Source, Door)> {
    let sources = REGISTRY.iter().copied();
    sources.filter_map(|source| Some((source, source.door()?)))
}

/// A door that needs nothing of its own: it opens to a key of its source, stores what the source
/// reads, and answers 200 once it is stored. A provider that needs other answers (Asaas) or has
/// several addresses (the gateway) has a handler of its own instead.
#[derive(Debug, Clone, Copy)]
pub struct Door {
    /// The largest body, in bytes.
    pub largest_body: usize,
    /// Whose door it is and what comes in by it, in a sentence, for the description of the API.
    pub about: &'static str,
}

impl Door {
    /// The address of a source's door.
    #[must_use]
    pub fn path(source: &dyn Source) -> String {
        format!("/webhook/{}", source.name())
    }
}

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

    /// The door that Posto opens for it; none where the source speaks through another one.
    fn door(&self) -> Option<Door> {
        None
    }

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

impl StoredEvent<'_> {
    /// What the router knows before anything of the payload is read; a source fills in the rest.
    #[must_use]
    pub fn unread(&self) -> NormalisedEvent {
        NormalisedEvent {
            event_type: self.event_type.to_owned(),
            source_system: self.source_system.to_owned(),
            tenant_id: self.tenant_id,
            channel_account: None,
            direction: None,
            contact: None,
            text: None,
            media: None,
            occurred_at: self.occurred_at.unwrap_or(self.received_at),
            kind: NormalisedKind::Unhandled,
        }
    }
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
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_is_at_the_name_of_its_source_and_says_what_it_is_for() {
        let mut paths: Vec<String> = doors().map(|(source, _)| Door::path(source)).collect();
        assert!(paths.contains(&"/webhook/whapi_cloud".to_owned()));
        for (source, door) in doors() {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
            assert!(source.name().bytes().all(plain), "{}", source.name());
            assert!(door.about.ends_with('.') && door.largest_body > 0);
        }
        let all = paths.len();
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), all);
    }

    #[test]
    fn every_source_is_found_by_its_name_and_strangers_speak_the_generic_form() {
        for source in REGISTRY {
            assert_eq!(of(source.name()).name(), source.name());
        }
        assert_eq!(of("billing").name(), "generic");
    }
}
