mod properties;
mod samples;

use super::*;
use crate::domain::event::{ChargeStatus, KeyOrigin};
use crate::domain::ids::TenantId;

macro_rules! fixtures {
    ($($name:literal),+ $(,)?) => {
        /// Every sample, by its name.
        const FIXTURES: &[(&str, &str)] = &[
            $(($name, include_str!(concat!("../fixtures/asaas/", $name, ".json")))),+
        ];
    };
}

fixtures! {
    "31_asaas_payment_created_by_customer_id",
    "32_asaas_payment_overdue_known_invoice",
    "33_asaas_payment_received_known_invoice",
    "access-token-created",
    "balance-value-blocked",
    "bill-paid-no-id",
    "internal-transfer-debit",
    "payment-overdue-boleto",
    "payment-received",
    "payment-received-in-cash-undone",
    "payment-split-done",
    "pix-automatic-authorization-activated-no-id",
    "subscription-created",
    "transfer-created-no-id",
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_796_000_000, 0).unwrap()
}

fn sample(name: &str) -> &'static [u8] {
    let found = FIXTURES.iter().find(|(known, _)| *known == name);
    found
        .unwrap_or_else(|| panic!("no sample {name}"))
        .1
        .as_bytes()
}

fn event_of(body: &[u8]) -> IncomingEvent {
    match Asaas.read(body, now()).unwrap() {
        Reading::Events(mut events) if events.len() == 1 => events.remove(0),
        other => panic!("one event, not {other:?}"),
    }
}

fn normalised_of(event: &IncomingEvent, body: &[u8]) -> Result<NormalisedEvent, NormaliseError> {
    Asaas.normalise(&StoredEvent {
        source_system: &event.source_system,
        event_type: &event.event_type,
        tenant_id: event.tenant_id,
        payload: event.payload.as_ref(),
        body,
        occurred_at: event.occurred_at,
        received_at: now(),
    })
}

fn books_of(body: &[u8]) -> Books {
    match normalised_of(&event_of(body), body).unwrap().kind {
        NormalisedKind::Books(books) => books,
        other => panic!("books, not {other:?}"),
    }
}

fn key(event: &IncomingEvent) -> &str {
    event.key.as_ref().unwrap().expose()
}

/// All that is read, in clear: the samples' data is invented.
fn summary(body: &[u8]) -> Value {
    let event = event_of(body);
    let books = books_of(body);
    json!({
        "event_type": event.event_type,
        "key": key(&event),
        "source_event_id": event.source_event_id,
        "correlation_id": event.correlation_id,
        "occurred_at": event.occurred_at,
        "invoice_key": event.invoice_key,
        "metadata": event.metadata,
        "payload_kept_whole": event.payload == serde_json::from_slice(body).ok(),
        "books": {
            "customer": books.customer,
            "account": books.account,
            "named_tenant": books.named_tenant,
            "charge": books.charge.map(|charge| json!({
                "status": charge.status.map(ChargeStatus::as_str),
                "due": charge.due,
            })),
        }
    })
}
