//! The forms in which events come in, as the description of the API has them. They are read by
//! `shared::source`, which knows more than a schema can say.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};
use shared::domain::event::Key;

use super::events::LARGEST_BATCH;

/// An event in the form of our own systems.
pub(super) struct NativeEvent;

impl JsonSchema for NativeEvent {
    fn schema_name() -> Cow<'static, str> {
        "Event".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let short = |longest: usize, about: &str| json!({"type": ["string", "null"], "minLength": 1, "maxLength": longest, "description": about});
        json_schema!({
            "description": "An event. Members that are not named here are ignored; null counts as missing, except for `payload`.",
            "type": "object",
            "required": ["event_type", "source_system", "payload"],
            "properties": {
                "event_type": {"type": "string", "minLength": 1, "maxLength": 100, "pattern": "^[A-Za-z0-9_-]+(\\.[A-Za-z0-9_-]+)*$", "description": "What happened, in dotted words. The set is open. No number of 8 digits or more: it is a label."},
                "source_system": {"type": "string", "minLength": 1, "maxLength": 50, "pattern": "^[A-Za-z0-9_.-]+$", "description": "The credential's own source."},
                "payload": {"type": "object", "description": "What the event says."},
                "tenant_id": {"type": ["integer", "null"], "format": "int64", "minimum": 1, "maximum": i64::MAX, "description": "A tenant that Posto knows."},
                "idempotency_key": short(Key::LONGEST, "What makes a repeated request the same event."),
                "event_id": {"type": ["string", "integer", "null"], "minLength": 1, "maxLength": 255, "description": "The source's own id; the key when there is no other."},
                "trace_id": {"type": ["string", "null"], "pattern": "^([0-9a-fA-F]{32}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})$", "description": "The trace to join: 32 hexadecimal digits, not all zero, or a UUID."},
                "correlation_id": short(128, "Groups events; without one, the trace."),
                "causation_id": short(128, "What caused it."),
                "occurred_at": {"type": ["string", "integer", "null"], "description": "RFC 3339 with its zone, or epoch seconds or milliseconds; from 2000-01-01 to 24 hours from now. Without it: now."},
                "metadata": {"type": ["object", "null"], "description": "The source's remarks."},
            },
        })
    }
}

/// What `application/json` may be: an event, several, or what the headers say that it is.
pub(super) struct PostedJson;

impl JsonSchema for PostedJson {
    fn schema_name() -> Cow<'static, str> {
        "PostedJson".into()
    }

    fn json_schema(schemas: &mut SchemaGenerator) -> Schema {
        let event = schemas.subschema_for::<NativeEvent>();
        json_schema!({
            "description": "An event, or a list of them.",
            "anyOf": [event, {"type": "array", "items": event, "minItems": 1, "maxItems": LARGEST_BATCH}],
        })
    }
}

/// A CloudEvent in the structured mode.
pub(super) struct CloudEvent;

impl JsonSchema for CloudEvent {
    fn schema_name() -> Cow<'static, str> {
        "CloudEvent".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A CloudEvent 1.0. `source` and `id` are its key.",
            "type": "object",
            "required": ["specversion", "id", "source", "type", "data"],
            "properties": {
                "specversion": {"const": "1.0"},
                "id": {"type": "string", "minLength": 1},
                "source": {"type": "string", "minLength": 1, "description": "Its last part that the credential speaks for is the source."},
                "type": {"type": "string", "minLength": 1, "maxLength": 115},
                "time": {"type": "string", "format": "date-time"},
                "datacontenttype": {"type": "string"},
                "sourcesystem": {"type": "string"},
                "tenantid": {"type": ["string", "integer"]},
                "correlationid": {"type": "string"},
                "causationid": {"type": "string"},
                "traceparent": {"type": "string"},
                "data": {"type": "object"},
            },
        })
    }
}

/// A list of CloudEvents.
pub(super) struct CloudEvents;

impl JsonSchema for CloudEvents {
    fn schema_name() -> Cow<'static, str> {
        "CloudEvents".into()
    }

    fn json_schema(schemas: &mut SchemaGenerator) -> Schema {
        let event = schemas.subschema_for::<CloudEvent>();
        json_schema!({"type": "array", "items": event, "maxItems": LARGEST_BATCH})
    }
}

/// What a provider posts, in its own words.
pub(super) struct Foreign;

impl JsonSchema for Foreign {
    fn schema_name() -> Cow<'static, str> {
        "Foreign".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"description": "JSON as the provider writes it; whatever it is, it is stored."})
    }
}

/// An event for the page, and for whoever tries the API.
pub(super) fn overdue() -> Value {
    json!({
        "event_type": "billing.invoice.overdue",
        "source_system": "billing",
        "idempotency_key": "billing:invoice:503:overdue_7d:2026-02-05",
        "payload": {"invoice_id": 503, "phone": "(47) 99990-0011", "description": "Hospedagem", "amount": "59.80", "due_date": "2026-01-27"},
    })
}

/// The same as a CloudEvent.
pub(super) fn overdue_cloud_event() -> Value {
    json!({
        "specversion": "1.0",
        "id": "503-overdue_7d",
        "source": "/pixelhub/billing",
        "type": "br.com.pixel12.billing.invoice.overdue",
        "time": "2026-02-05T12:00:00Z",
        "datacontenttype": "application/json",
        "data": {"invoice_id": 503, "phone": "(47) 99990-0011", "description": "Hospedagem", "amount": "59.80", "due_date": "2026-01-27"},
    })
}
