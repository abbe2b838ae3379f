//! The orders of operators, as the description of the API has them. They are read field by field
//! (`fields`), each thing that is wrong told with its place.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};
use shared::domain::channel::Channel;
use shared::domain::credential::CredentialKind;
use shared::domain::delivery::Finding;
use shared::domain::message::WorkQueue;
use shared::domain::redrive::LetterState;

use super::fields::LONGEST_TEXT;
use crate::networks::PRESETS;

/// A text of an order; null counts as missing.
pub(super) fn text(about: &str) -> Value {
    json!({"type": ["string", "null"], "minLength": 1, "maxLength": LONGEST_TEXT, "description": about})
}

fn flag(about: &str) -> Value {
    json!({"type": ["boolean", "null"], "description": about})
}

fn ids(about: &str, most: usize) -> Value {
    json!({"type": "array", "items": {"type": "string", "format": "uuid"}, "minItems": 1, "maxItems": most, "description": about})
}

fn time(about: &str) -> Value {
    json!({"type": ["string", "null"], "format": "date-time", "description": about})
}

/// Every state of a letter.
pub(super) fn letter_states() -> Vec<&'static str> {
    LetterState::ALL.map(LetterState::as_str).to_vec()
}

/// Every channel.
pub(super) fn channels() -> Vec<&'static str> {
    Channel::ALL
        .iter()
        .map(|channel| channel.as_str())
        .collect()
}

/// Every work queue.
pub(super) fn queues() -> Vec<&'static str> {
    WorkQueue::ALL.map(WorkQueue::name).to_vec()
}

/// An order: its own fields, and those that every order has. What is not named is refused.
fn order(about: &str, required: &[&str], own: Value) -> Schema {
    let Value::Object(mut fields) = own else {
        return Schema::default();
    };
    fields.insert(
        "actor".to_owned(),
        text("Who gives the order; else `X-Actor`."),
    );
    fields.entry("reason").or_insert_with(|| text("Why."));
    let required = required.to_vec();
    json_schema!({
        "description": about,
        "type": "object",
        "required": required,
        "additionalProperties": false,
        "properties": Value::Object(fields),
    })
}

macro_rules! orders {
    ($($(#[$doc:meta])* $name:ident => $schema:expr;)+) => {
        $(
            $(#[$doc])*
            pub(super) struct $name;

            impl JsonSchema for $name {
                fn schema_name() -> Cow<'static, str> {
                    stringify!($name).into()
                }

                fn json_schema(_: &mut SchemaGenerator) -> Schema {
                    $schema
                }
            }
        )+
    };
}

orders! {
    /// Letters set going again.
    Redrive => letters("Letters to be set going again, by their ids or by a filter.", json!({
        "force": flag("Also what may have left already."),
    }));
    /// Letters discarded.
    Discard => letters("Letters to be discarded, by their ids or by a filter.", json!({}));
    /// A word about a delivery.
    Settle => order("What became of a delivery whose outcome nobody knew.", &["outcome", "reason"], json!({
        "outcome": {"enum": Finding::ALL.map(Finding::as_str)},
        "resend": flag("Send it once more; only what was not delivered."),
        "reason": {"type": "string", "minLength": 1, "maxLength": LONGEST_TEXT, "description": "How you know."},
    }));
    /// A key to be made.
    CreateKey => order("A key to be made.", &["source"], json!({
        "source": {"type": "string", "minLength": 1, "maxLength": LONGEST_TEXT, "description": "Whom it speaks for."},
        "kind": {"enum": kinds(), "description": "`bearer` is shown, `hmac` is signed with."},
        "label": text("What people call it."),
        "tenants": {"type": "array", "items": {"type": "integer", "format": "int64", "minimum": i64::MIN, "maximum": i64::MAX}, "minItems": 1, "maxItems": super::keys::MOST, "description": "Those it is bound to; without it, all."},
        "event_types": {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": LONGEST_TEXT}, "minItems": 1, "maxItems": super::keys::MOST, "description": "Those it is bound to, exact or with `*`; without it, all."},
        "valid_until": time("When it ends; without it, never."),
    }));
    /// A key to be rotated.
    RotateKey => order("A key whose successor is to be made.", &[], json!({
        "overlap_seconds": {"type": ["integer", "null"], "minimum": 0, "maximum": crate::keys::LONGEST_OVERLAP.as_secs(), "description": "How long the old one stays valid."},
    }));
    /// A key to be revoked.
    RevokeKey => order("A key that is to end at once and for good.", &[], json!({}));
    /// Networks of a source.
    SetNetworks => order("From where a source may speak: one of `networks`, `preset` and `any`.", &[], json!({
        "networks": {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "maxItems": super::doors::MOST_NETWORKS, "description": "Like 203.0.113.0/24."},
        "preset": {"enum": PRESETS, "description": "A ready list."},
        "any": flag("From everywhere again."),
    }));
    /// A module to be switched.
    SetModule => order("Who is to serve a module.", &["mode"], json!({
        "mode": {"enum": super::modules::WORDS, "description": "`live` is Posto, `shadow` is Posto and nothing leaves, `off` is PixelHub; `default` takes the switch away."},
        "tenant_id": {"type": ["integer", "null"], "format": "int64", "minimum": i64::MIN, "maximum": i64::MAX, "description": "For this tenant alone; without it, for all that have no switch of their own."},
    }));
    /// An address to be let in.
    LiftBlock => order("An address that is to be let in again.", &["address"], json!({
        "address": {"type": "string", "minLength": 1, "maxLength": LONGEST_TEXT, "description": "As the list has it."},
    }));
}

fn kinds() -> Vec<Option<&'static str>> {
    let kinds = CredentialKind::ALL.map(CredentialKind::as_str);
    kinds.into_iter().map(Some).chain([None]).collect()
}

/// An order about letters.
fn letters(about: &str, own: Value) -> Schema {
    let with_null = |values: Vec<&'static str>| -> Vec<Option<&'static str>> {
        values.into_iter().map(Some).chain([None]).collect()
    };
    let filter = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "state": {"enum": ["dead", null]},
            "failure_code": text("Why they died."),
            "channel": {"enum": with_null(channels())},
            "template": text("The template."),
            "event_type": text("The event's type."),
            "tenant_id": {"type": ["integer", "null"], "format": "int64", "minimum": i64::MIN, "maximum": i64::MAX},
            "queue": {"enum": with_null(queues())},
            "since": time("Given up at this time or later."),
            "until": time("Given up before this time."),
        },
    });
    let mut fields = Map::new();
    fields.insert(
        "ids".to_owned(),
        ids("The letters.", super::dead_letters::MOST_IDS),
    );
    fields.insert("filter".to_owned(), filter);
    fields.insert("expected_count".to_owned(), json!({"type": ["integer", "null"], "format": "int64", "minimum": i64::MIN, "maximum": i64::MAX, "description": "With a filter, unless it is a dry run: how many you mean."}));
    fields.insert("dry_run".to_owned(), flag("Only count."));
    if let Value::Object(own) = own {
        fields.extend(own);
    }
    let mut schema = order(about, &[], fields.into());
    schema.insert(
        "oneOf".to_owned(),
        json!([{"required": ["ids"]}, {"required": ["filter"]}]),
    );
    schema
}
