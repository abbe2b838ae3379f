//! The thing that an event is about: a charge mostly, else the one object beside the envelope's
//! own members.

use chrono::NaiveDate;
use serde_json::Value;

use super::dates;
use crate::domain::event::ChargeStatus;
use crate::domain::ids::TenantId;

/// Members of the envelope that are no thing.
const ENVELOPE: [&str; 5] = ["id", "event", "dateCreated", "account", "additionalInfo"];

/// The thing, or `Null` where there is none.
pub(super) struct Entity<'a> {
    value: &'a Value,
    is_payment: bool,
}

impl<'a> Entity<'a> {
    pub(super) fn of(event: &'a Value) -> Self {
        let members = event.as_object();
        let payment = members.and_then(|members| members.get("payment"));
        if let Some(payment) = payment.filter(|payment| !payment.is_null()) {
            return Self {
                value: payment,
                is_payment: true,
            };
        }
        let other = members
            .into_iter()
            .flatten()
            .find(|(name, member)| member.is_object() && !ENVELOPE.contains(&name.as_str()));
        Self {
            value: other.map_or(&Value::Null, |(_, member)| member),
            is_payment: false,
        }
    }

    pub(super) fn id(&self) -> Option<String> {
        id(self.value.get("id")).or_else(|| id(Some(self.value)))
    }

    /// The charge: the thing itself, or the one that a fiscal invoice or a refund names.
    pub(super) fn payment_id(&self) -> Option<String> {
        if self.is_payment {
            return self.id();
        }
        let named = self.value.get("payment")?;
        id(named.get("id")).or_else(|| id(Some(named)))
    }

    pub(super) fn customer(&self) -> Option<String> {
        let named = ["customer", "customerId"]
            .iter()
            .find_map(|name| self.value.get(name))?;
        id(named.get("id")).or_else(|| id(Some(named)))
    }

    /// `tenant:42` in `externalReference`, which is ours to set: alone, or among other parts.
    pub(super) fn named_tenant(&self) -> Option<TenantId> {
        let reference = self.value.get("externalReference")?.as_str()?;
        reference
            .split(|c: char| matches!(c, ';' | ',' | '|') || c.is_whitespace())
            .filter_map(|part| part.strip_prefix("tenant:"))
            .find_map(|number| number.parse::<i64>().ok())
            .filter(|number| *number > 0)
            .map(TenantId)
    }

    /// How the charge stands (facts §2.2); `None` when the event does not tell.
    pub(super) fn charge_status(&self) -> Option<ChargeStatus> {
        if !self.is_payment {
            return None;
        }
        if self.is_deleted() {
            return Some(ChargeStatus::Canceled);
        }
        let status = self.value.get("status")?.as_str()?;
        Some(match status {
            "CONFIRMED" | "RECEIVED" | "RECEIVED_IN_CASH" | "DUNNING_RECEIVED" => {
                ChargeStatus::Paid
            }
            "OVERDUE" | "DUNNING_REQUESTED" => ChargeStatus::Overdue,
            "REFUNDED"
            | "CANCELED"
            | "RECEIVED_IN_CASH_UNDONE"
            | "AWAITING_CHARGEBACK_REVERSAL" => ChargeStatus::Canceled,
            status if status.starts_with("CHARGEBACK_") => ChargeStatus::Canceled,
            _ => ChargeStatus::Pending,
        })
    }

    /// When it is due; of a subscription the next charge.
    pub(super) fn due(&self) -> Option<NaiveDate> {
        ["dueDate", "nextDueDate"]
            .iter()
            .find_map(|name| dates::day(self.value.get(name)?))
    }

    /// It comes as a boolean, a text or a number (facts §2.2).
    fn is_deleted(&self) -> bool {
        match self.value.get("deleted") {
            Some(Value::Bool(deleted)) => *deleted,
            Some(Value::String(text)) => text == "true" || text == "1",
            Some(Value::Number(number)) => number.as_i64() == Some(1),
            _ => false,
        }
    }
}

/// An id as Asaas writes it (`evt_…&…`, `pay_…`, a UUID): a text of visible signs that an index
/// can hold.
pub(super) fn id(value: Option<&Value>) -> Option<String> {
    let text = match value? {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) if !number.is_f64() => number.to_string(),
        _ => return None,
    };
    let lawful = (1..=120).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    lawful.then_some(text)
}
