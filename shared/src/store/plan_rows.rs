//! The rows of [`super::plans`], as its statement takes them: fields in the order of the composite types.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::types::Json;
use uuid::Uuid;

use super::composite::composite;
use super::deliveries::NewDelivery;
use super::outbox::{MessageJson, NewMessage};
use super::plans::{DecisionJson, NewRouting};
use super::receipts::NewReceipt;
use crate::sealing::{Column, Keyring, Place};

/// `hub_new_routing`
#[derive(sqlx::Encode)]
pub(super) struct RoutingRow<'a> {
    id: Uuid,
    event_id: Uuid,
    run: i32,
    trace_id: &'a str,
    tenant_id: Option<i64>,
    event_type: &'a str,
    source_system: &'a str,
    state: &'static str,
    decision: Json<&'a DecisionJson>,
    failure_code: Option<&'static str>,
    error_message: Option<&'a str>,
    processing_time_ms: f64,
}

composite!(RoutingRow<'_>, "hub_new_routing");

impl<'a> RoutingRow<'a> {
    pub(super) fn of(routing: &'a NewRouting) -> Self {
        Self {
            id: routing.id,
            event_id: routing.event_id,
            run: routing.run,
            trace_id: &routing.trace_id,
            tenant_id: routing.tenant_id,
            event_type: &routing.event_type,
            source_system: &routing.source_system,
            state: routing.state,
            decision: Json(&routing.decision),
            failure_code: routing.failure_code,
            error_message: routing.error_message.as_deref(),
            processing_time_ms: routing.processing_time_ms,
        }
    }
}

/// `hub_new_delivery`
#[derive(sqlx::Encode)]
pub(super) struct DeliveryRow<'a> {
    id: Uuid,
    routing_id: Uuid,
    ordinal: i32,
    event_id: Uuid,
    event_type: &'a str,
    source_system: &'a str,
    trace_id: &'a str,
    correlation_id: Option<&'a str>,
    tenant_id: Option<i64>,
    channel: &'a str,
    channel_id: Option<&'a str>,
    lane: &'a str,
    rule_id: Option<i64>,
    template_id: Option<i64>,
    template_key: Option<&'a str>,
    recipient: Option<&'a str>,
    recipient_key: Option<&'a str>,
    recipient_name: Option<&'a str>,
    body_text: Option<Cow<'a, str>>,
    body_hash: Option<&'a [u8]>,
    invoice_key: Option<&'a str>,
    detail: Json<&'a Value>,
    unknown_policy: &'a str,
    state: &'static str,
    failure_code: Option<&'static str>,
    failure_detail: Option<&'a str>,
    max_retries: i32,
}

composite!(DeliveryRow<'_>, "hub_new_delivery");

impl<'a> DeliveryRow<'a> {
    pub(super) fn of(delivery: &'a NewDelivery, seals: &Keyring) -> Self {
        let place = Place::new(Column::DeliveryText, delivery.id);
        Self {
            id: delivery.id,
            routing_id: delivery.routing_id,
            ordinal: delivery.ordinal,
            event_id: delivery.event_id,
            event_type: &delivery.event_type,
            source_system: &delivery.source_system,
            trace_id: &delivery.trace_id,
            correlation_id: delivery.correlation_id.as_deref(),
            tenant_id: delivery.tenant_id,
            channel: &delivery.channel,
            channel_id: delivery.channel_id.as_deref(),
            lane: &delivery.lane,
            rule_id: delivery.rule_id,
            template_id: delivery.template_id,
            template_key: delivery.template_key.as_deref(),
            recipient: delivery.recipient.as_deref(),
            recipient_key: delivery.recipient_key.as_deref(),
            recipient_name: delivery.recipient_name.as_deref(),
            body_text: delivery
                .body_text
                .as_deref()
                .map(|text| seals.seal_text(place, text)),
            body_hash: delivery.body_hash.as_deref(),
            invoice_key: delivery.invoice_key.as_deref(),
            detail: Json(&delivery.detail),
            unknown_policy: &delivery.unknown_policy,
            state: delivery.state.as_str(),
            failure_code: delivery.failure_code,
            failure_detail: delivery.failure_detail.as_deref(),
            max_retries: delivery.max_retries,
        }
    }
}

/// `hub_planned_message`
#[derive(sqlx::Encode)]
pub(super) struct MessageRow<'a> {
    routing_id: Uuid,
    target: &'a str,
    subject_id: Uuid,
    body: Json<&'a MessageJson>,
}

composite!(MessageRow<'_>, "hub_planned_message");

impl<'a> MessageRow<'a> {
    pub(super) fn of(routing_id: Uuid, message: &'a NewMessage) -> Self {
        Self {
            routing_id,
            target: &message.target,
            subject_id: message.subject_id,
            body: Json(&message.body),
        }
    }
}

/// `hub_new_receipt`
#[derive(sqlx::Encode)]
pub(super) struct ReceiptRow<'a> {
    routing_id: Uuid,
    id: Uuid,
    event_id: Uuid,
    trace_id: &'a str,
    kind: &'static str,
    channel_id: &'a str,
    level: Option<i32>,
    evidence: Option<&'static str>,
    provider_message_id: Option<&'a str>,
    gateway_correlation_id: Option<&'a str>,
    delivery_ref: Option<Uuid>,
    recipient_key: Option<&'a str>,
    recipient: Option<&'a str>,
    body_text: Option<Cow<'a, str>>,
    body_hash: Option<&'a [u8]>,
    provider_at: DateTime<Utc>,
}

composite!(ReceiptRow<'_>, "hub_new_receipt");

impl<'a> ReceiptRow<'a> {
    pub(super) fn of(routing_id: Uuid, receipt: &'a NewReceipt, seals: &Keyring) -> Self {
        let place = Place::new(Column::ReceiptText, receipt.id);
        Self {
            routing_id,
            id: receipt.id,
            event_id: receipt.event_id,
            trace_id: &receipt.trace_id,
            kind: receipt.kind,
            channel_id: &receipt.channel_id,
            level: receipt.level,
            evidence: receipt.evidence,
            provider_message_id: receipt.provider_message_id.as_deref(),
            gateway_correlation_id: receipt.gateway_correlation_id.as_deref(),
            delivery_ref: receipt.delivery_ref,
            recipient_key: receipt.recipient_key.as_deref(),
            recipient: receipt.recipient.as_deref(),
            body_text: receipt
                .body_text
                .as_deref()
                .map(|text| seals.seal_text(place, text)),
            body_hash: receipt.body_hash.as_deref(),
            provider_at: receipt.provider_at,
        }
    }
}
