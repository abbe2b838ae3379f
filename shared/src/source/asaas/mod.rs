//! Asaas, the payment provider: its webhook tells of charges, subscriptions and its own account
//! (facts §2; conventions §B).
//!
//! Invariant: nothing that is authentic is an error here. Fifteen answers in a row that are not 200
//! stop the customer's queue, so a kind that nobody knows, a customer that nobody knows and bytes
//! that are no JSON are stored like everything else, and it is the router that tells of them.
//!
//! The natural key is Asaas's own `evt_…` with the kind of event, since the documents reuse an id
//! over kinds. An event without an id is known by its kind, the thing it is about and its content.

mod dates;
mod entity;
mod kind;

use axum::http::HeaderMap;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use self::entity::Entity;
use super::auth::{self, AuthError, DoorSecrets};
use super::mend::mend;
use super::problem::{Problem, holds_nul, parse_json};
use super::{NormaliseError, Reading, Source, StoredEvent};
use crate::domain::event::{
    Books, Charge, IncomingEvent, Key, NormalisedEvent, NormalisedKind, body_sha256,
    canonical_sha256,
};

/// The source's name.
pub const NAME: &str = "asaas";

/// JSON that names no kind of event.
pub const UNHANDLED: &str = "asaas.unhandled";
/// Bytes that are no JSON; kept as they came.
pub const UNREADABLE: &str = "asaas.unreadable";

/// The form of Asaas's webhook.
pub struct Asaas;

impl Source for Asaas {
    fn name(&self) -> &'static str {
        NAME
    }

    /// Asaas signs nothing: the token that it was given comes back as it is (conventions §B1).
    fn authenticate(&self, headers: &HeaderMap, secrets: &DoorSecrets) -> Result<(), AuthError> {
        secrets.verify(auth::header_values(
            headers,
            &["asaas-access-token", "x-asaas-access-token"],
        ))
    }

    /// Always one event.
    fn read(&self, body: &[u8], now: DateTime<Utc>) -> Result<Reading, Vec<Problem>> {
        let event = value_of(body).map_or_else(|| unreadable(body), |value| read_value(value, now));
        Ok(Reading::Events(vec![event]))
    }

    fn normalise(&self, event: &StoredEvent<'_>) -> Result<NormalisedEvent, NormaliseError> {
        let from_body;
        let value = match event.payload {
            Some(payload) => payload,
            None => {
                from_body = value_of(event.body).ok_or(NormaliseError::PayloadUnreadable)?;
                &from_body
            }
        };
        let entity = Entity::of(value);
        Ok(NormalisedEvent {
            kind: NormalisedKind::Books(Books {
                customer: entity.customer(),
                account: account(value),
                named_tenant: entity.named_tenant(),
                charge: entity.payment_id().map(|_| Charge {
                    status: entity.charge_status(),
                    due: entity.due(),
                }),
            }),
            ..event.unread()
        })
    }
}

/// The event of bytes that cannot be read, for whoever has to store them all the same.
#[must_use]
pub fn unreadable(body: &[u8]) -> IncomingEvent {
    let hash: [u8; 32] = Sha256::digest(body).into();
    let key = Key::natural(format!("asaas:bytes:{}", hex::encode(hash)));
    blank(UNREADABLE, key, hash)
}

fn value_of(body: &[u8]) -> Option<Value> {
    parse_json(body)
        .ok()
        .or_else(|| serde_json::from_slice(&mend(body)).ok())
}

fn read_value(value: Value, now: DateTime<Utc>) -> IncomingEvent {
    let name = value
        .get("event")
        .and_then(Value::as_str)
        .filter(|name| kind::is_name(name));
    let event_type = name.map_or_else(|| UNHANDLED.to_owned(), kind::event_type);
    let id = entity::id(value.get("id"));
    let entity = Entity::of(&value);
    let key = natural_key(&value, (name, id.as_deref()), &entity);
    let invoice_key = entity.payment_id().map(|id| format!("asaas:{id}"));
    let hash = body_sha256(&event_type, None, &value);
    IncomingEvent {
        source_event_id: id,
        // All that becomes of one charge is one group.
        correlation_id: invoice_key.clone(),
        occurred_at: value
            .get("dateCreated")
            .and_then(|at| dates::moment(at, now)),
        metadata: name.map_or_else(|| json!({}), |name| json!({"raw_event_type": name})),
        invoice_key,
        payload: (!holds_nul(&value)).then_some(value),
        ..blank(&event_type, key, hash)
    }
}

/// `asaas:{kind}:{evt_…}`, or what else makes the event this one: two that are alike in kind, thing
/// and content are one that was sent twice.
fn natural_key(
    value: &Value,
    (name, id): (Option<&str>, Option<&str>),
    entity: &Entity<'_>,
) -> Key {
    let name = name.unwrap_or("unhandled");
    match id {
        Some(id) => Key::natural(format!("asaas:{name}:{id}")),
        None => {
            let thing = entity.id().unwrap_or_default();
            let hash = hex::encode(canonical_sha256(value));
            Key::natural(format!("asaas:{name}:{thing}:{hash}"))
        }
    }
}

/// The (sub)account that the webhook is of.
fn account(value: &Value) -> Option<String> {
    entity::id(value.get("account")?.get("id"))
}

fn blank(event_type: &str, key: Key, body_sha256: [u8; 32]) -> IncomingEvent {
    IncomingEvent::new(NAME, event_type, key, body_sha256)
}

#[cfg(test)]
mod tests;
