//! Deliveries whose outcome nobody knows: found page by page, and settled by hand.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::audit::{self, Author, NewAudit};
use super::deliveries::{self, DueDelivery, StateChange};
use super::outbox::{self, NewMessage, OutboxRow};
use super::{StoreResult, dead_letters, redrive};
use crate::domain::delivery::{DeliveryState, Finding};

/// What a person found out about a delivery, and what is to follow.
#[derive(Clone, Copy, Debug)]
pub struct SettleOrder<'a> {
    /// The delivery.
    pub delivery_id: Uuid,
    /// What became of it.
    pub finding: Finding,
    /// It did not arrive, and is to be sent again.
    pub resend: bool,
    /// Who says so, and why.
    pub author: Author<'a>,
}

/// What came of it.
#[derive(Debug)]
pub enum SettledByHand {
    /// There is no such delivery.
    NotFound,
    /// It is not unknown: what it is, is known.
    NotUnknown(String),
    /// It moved there. The rows are for the relay, after the commit.
    Moved(DeliveryState, Vec<OutboxRow>),
}

/// Settles an *unknown* by hand: the delivery moves, whatever letter stands open for it is
/// superseded, and the audit log tells who said so.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn settle(
    conn: &mut PgConnection,
    order: &SettleOrder<'_>,
) -> StoreResult<SettledByHand> {
    let Some(delivery) = deliveries::lock(conn, &[order.delivery_id])
        .await?
        .into_iter()
        .next()
    else {
        return Ok(SettledByHand::NotFound);
    };
    let from: Option<DeliveryState> = delivery.state.parse().ok();
    let Some((from, to)) = from.and_then(|from| Some((from, from.settled_by_hand(order.finding)?)))
    else {
        return Ok(SettledByHand::NotUnknown(delivery.state));
    };
    let resend = order.resend && order.finding == Finding::NotDelivered;
    let (to, rows) = if resend {
        redrive::requeue(conn, &[(delivery.id, false)]).await?;
        let due = DueDelivery {
            id: delivery.id,
            generation: delivery.generation + 1,
            attempt: delivery.attempt_count + 1,
            channel: delivery.channel.clone(),
            trace_id: delivery.trace_id.clone(),
            event_type: delivery.event_type.clone(),
            source_system: delivery.source_system.clone(),
            tenant_id: delivery.tenant_id,
            channel_id: delivery.channel_id.clone(),
            lane: delivery.lane.clone(),
            template_key: delivery.template_key.clone(),
        };
        let messages = due.message().iter().map(NewMessage::work).collect();
        (DeliveryState::Queued, outbox::insert(conn, messages).await?)
    } else {
        let change = StateChange::plain(delivery.id, from, to);
        deliveries::change_states(conn, &[change]).await?;
        (to, Vec::new())
    };
    dead_letters::supersede(conn, &[delivery.id]).await?;
    let line = NewAudit {
        action: "settled_by_hand",
        subject_kind: "delivery",
        subject_id: Some(delivery.id),
        trace_id: Some(delivery.trace_id),
        detail: json!({
            "outcome": order.finding.as_str(),
            "resend": resend,
            "from": from.as_str(),
            "to": to.as_str(),
            "generation": delivery.generation + i32::from(resend),
        }),
    };
    audit::insert(conn, order.author, &[line]).await?;
    Ok(SettledByHand::Moved(to, rows))
}

/// A delivery in a list, without its words; the recipient is for whoever masks it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct DeliveryLine {
    /// The delivery.
    pub delivery_id: Uuid,
    /// The event.
    pub event_id: Uuid,
    /// The trace, under which the whole story is.
    pub trace_id: String,
    /// Where it stands.
    pub state: String,
    /// The event's type.
    pub event_type: String,
    /// The tenant.
    pub tenant_id: Option<i64>,
    /// The way out.
    pub channel: String,
    /// The sending account.
    pub channel_account: Option<String>,
    /// The template.
    pub template: Option<String>,
    /// The recipient's address.
    pub recipient: Option<String>,
    /// Why.
    pub failure_code: Option<String>,
    /// How often it was redriven.
    pub generation: i32,
    /// Attempts made.
    pub attempt_count: i32,
    /// What becomes of an unknown outcome.
    pub unknown_policy: String,
    /// When it was planned.
    pub created_at: DateTime<Utc>,
    /// When it came to stand so.
    pub updated_at: DateTime<Utc>,
}

/// One page of the deliveries in a state, in the order of their ids, after `after`.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn page(
    conn: &mut PgConnection,
    state: DeliveryState,
    after: Uuid,
    limit: i64,
) -> StoreResult<Vec<DeliveryLine>> {
    let rows = sqlx::query_as!(
        DeliveryLine,
        "select id as delivery_id, event_id, trace_id, state, event_type, tenant_id, channel,
                channel_id as channel_account, template_key as template, recipient, failure_code, generation,
                attempt_count, unknown_policy, created_at, updated_at
         from deliveries where state = $1 and state in ('unknown', 'dead', 'failed') and id > $2 order by id limit $3",
        state.as_str(),
        after,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}
