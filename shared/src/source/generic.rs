//! The form that source systems of our own speak: one JSON object of `POST /api/events`
//! (product 1.1). The HTTP layer splits batches and CloudEvents; here is one item.

mod fields;

use axum::http::HeaderMap;
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};

use self::fields::Fields;
use super::auth::{self, AuthError, DoorSecrets};
use super::problem::{Problem, ProblemCode, parse_json};
use super::{NormaliseError, Reading, Source, StoredEvent};
use crate::domain::address::{Jid, Phone, contact_key_of};
use crate::domain::event::{
    Body, Contact, IncomingEvent, Key, NormalisedEvent, NormalisedKind, body_sha256,
    canonical_sha256,
};
use crate::domain::ids::TenantId;
use crate::domain::text::MessageText;

/// The form of our own source systems.
pub struct Generic;

impl Source for Generic {
    fn name(&self) -> &'static str {
        "generic"
    }

    /// The bootstrap key of the door, `EVENT_INGESTION_SECRET`; credentials per source are rows
    /// and ingest's to check.
    fn authenticate(&self, headers: &HeaderMap, secrets: &DoorSecrets) -> Result<(), AuthError> {
        let presented = auth::header_values(headers, &["authorization", "x-event-secret"]);
        secrets.verify(presented.map(auth::bearer))
    }

    fn read(&self, body: &[u8], now: DateTime<Utc>) -> Result<Reading, Vec<Problem>> {
        let item = parse_json(body).map_err(|problem| vec![problem])?;
        read_item(item, now).map(|event| Reading::Events(vec![event]))
    }

    fn normalise(&self, event: &StoredEvent<'_>) -> Result<NormalisedEvent, NormaliseError> {
        let payload = event
            .payload
            .and_then(Value::as_object)
            .ok_or(NormaliseError::PayloadUnreadable)?;
        Ok(NormalisedEvent {
            event_type: event.event_type.to_owned(),
            source_system: event.source_system.to_owned(),
            tenant_id: event.tenant_id,
            channel_account: channel(payload),
            direction: None,
            contact: contact(payload),
            text: ["text", "message"]
                .iter()
                .find_map(|name| payload.get(*name)?.as_str())
                .and_then(MessageText::new),
            media: None,
            occurred_at: event.occurred_at.unwrap_or(event.received_at),
            kind: NormalisedKind::Generic,
        })
    }
}

/// Reads one item.
///
/// # Errors
///
/// Everything that is wrong with it, each with its place relative to the item.
pub fn read_item(item: Value, now: DateTime<Utc>) -> Result<IncomingEvent, Vec<Problem>> {
    let Value::Object(mut members) = item else {
        return Err(vec![Problem::new(
            ProblemCode::WrongType,
            "",
            "an event is a JSON object",
        )]);
    };
    let payload = members.remove("payload");
    let metadata = members.remove("metadata");
    let mut fields = Fields::of(&members);
    let payload = fields.payload(payload);
    let metadata = fields.metadata(metadata);
    let event_type = fields.event_type();
    let source_system = fields.source_system();
    let tenant_id = fields.tenant_id();
    let idempotency_key = fields.optional_text("idempotency_key", Key::LONGEST);
    let source_event_id = fields.event_id();
    let trace_id = fields.trace_id();
    let correlation_id = fields.optional_text("correlation_id", 128);
    let causation_id = fields.optional_text("causation_id", 128);
    let occurred_at = fields.occurred_at(now);
    let (Some(event_type), Some(source_system), Some(payload)) =
        fields.finish((event_type, source_system, payload))?
    else {
        return Err(Vec::new());
    };

    let key = match idempotency_key.or_else(|| source_event_id.clone()) {
        Some(chosen) => Key::caller(chosen),
        None => content_key(&event_type, tenant_id, &payload, occurred_at),
    };
    let promoted = payload.as_object();
    let billing = source_system == "billing" || event_type.starts_with("billing.");
    Ok(IncomingEvent {
        body_sha256: body_sha256(&event_type, tenant_id, &payload),
        key: Some(key),
        contact_key: promoted
            .and_then(contact)
            .and_then(|contact| contact.contact_key),
        channel_account: promoted.and_then(channel),
        invoice_key: promoted.filter(|_| billing).and_then(invoice_key),
        source_system,
        event_type,
        source_event_id,
        tenant_id,
        trace_id,
        correlation_id,
        causation_id,
        occurred_at,
        payload: Some(payload),
        metadata,
        body: Body::AsReceived,
        provider_message_id: None,
        direction: None,
    })
}

/// What is the same in all of these, and was given no key, is one event.
fn content_key(
    event_type: &str,
    tenant_id: Option<TenantId>,
    payload: &Value,
    occurred_at: Option<DateTime<Utc>>,
) -> Key {
    Key::content(canonical_sha256(&json!({
        "event_type": event_type,
        "tenant_id": tenant_id.map(|id| id.0),
        "payload": payload,
        "occurred_at": occurred_at.map(|at| at.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
    })))
}

/// `invoice:503`, of a number or a text.
fn invoice_key(payload: &Map<String, Value>) -> Option<String> {
    let id = text_or_integer(payload.get("invoice_id")?)?;
    (id.chars().count() <= 64).then(|| format!("invoice:{id}"))
}

fn channel(payload: &Map<String, Value>) -> Option<String> {
    let channel = payload.get("channel")?.as_str()?.trim();
    (!channel.is_empty()).then(|| channel.to_owned())
}

/// Who is to be reached: the first readable address, or the first given one, so that the router
/// can tell a wrong address from a missing one.
fn contact(payload: &Map<String, Value>) -> Option<Contact> {
    let given: Vec<String> = ["phone", "to", "phone_normalized"]
        .iter()
        .filter_map(|name| payload.get(*name).and_then(text_or_integer))
        .collect();
    let name = ["customer_name", "contact_name"]
        .iter()
        .find_map(|name| payload.get(*name)?.as_str())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty());
    let (address, read) = given
        .iter()
        .find_map(|address| Some((address, Some(readable(address)?))))
        .or_else(|| given.first().map(|address| (address, None)))?;
    let (jid, phone, contact_key) = match read {
        Some(Address::Jid(jid)) => {
            let key = jid.contact_key();
            (Some(jid.clone()), jid.phone(), Some(key))
        }
        Some(Address::Phone(phone)) => {
            let key = contact_key_of(&phone);
            (None, Some(phone), Some(key))
        }
        None => (None, None, None),
    };
    Some(Contact {
        address: address.clone(),
        is_group: jid.as_ref().is_some_and(Jid::is_group),
        jid,
        phone,
        contact_key,
        name,
        participant: None,
    })
}

enum Address {
    Phone(Phone),
    Jid(Jid),
}

/// Bare digits of a system of ours are a phone as people in Brazil write it, not a WhatsApp id.
fn readable(address: &str) -> Option<Address> {
    if address.contains('@') {
        Jid::parse(address).ok().map(Address::Jid)
    } else {
        Phone::parse_brazil(address).ok().map(Address::Phone)
    }
}

fn text_or_integer(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) if !number.is_f64() => number.to_string(),
        _ => return None,
    };
    (!text.is_empty() && !text.chars().any(char::is_control)).then_some(text)
}

#[cfg(test)]
mod tests;
