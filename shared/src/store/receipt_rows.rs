//! The rows of [`super::receipts`], as its statement takes them: fields in the order of the composite types.

use uuid::Uuid;

use super::composite::composite;
use super::receipts::{Move, Settlement};

/// `hub_delivery_move`
#[derive(sqlx::Encode)]
pub(super) struct MoveRow<'a> {
    id: Uuid,
    old_state: &'static str,
    new_state: &'static str,
    failure_code: Option<&'a str>,
}

composite!(MoveRow<'_>, "hub_delivery_move");

impl<'a> MoveRow<'a> {
    pub(super) fn of(one: &'a Move) -> Self {
        Self {
            id: one.id,
            old_state: one.from.as_str(),
            new_state: one.to.as_str(),
            failure_code: one.failure_code,
        }
    }
}

/// `hub_settled_receipt`
#[derive(sqlx::Encode)]
pub(super) struct SettlementRow<'a> {
    id: Uuid,
    state: &'static str,
    delivery_id: Option<Uuid>,
    attempt_id: Option<Uuid>,
    effect: Option<&'a str>,
    key_id: Option<&'a str>,
}

composite!(SettlementRow<'_>, "hub_settled_receipt");

impl<'a> SettlementRow<'a> {
    pub(super) fn of(settlement: &'a Settlement) -> Self {
        Self {
            id: settlement.id,
            state: settlement.state,
            delivery_id: settlement.delivery_id,
            attempt_id: settlement.attempt_id,
            effect: settlement.effect.as_deref(),
            key_id: settlement.key_id.as_deref(),
        }
    }
}
