//! Evidence moves deliveries: an echo or an ack is bound to the attempt that it is about, and its
//! delivery follows the lattice of `domain::delivery`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use shared::broker::dead_metrics::Action;
use shared::broker::relay::Relay;
use shared::domain::delivery::{DeliveryState, Evidence, Standing};
use shared::domain::failure::FailureCode;
use shared::failpoint;
use shared::runtime::batcher::BatchJob;
use shared::store::chat::{NewChatMessage, ThreadRef};
use shared::store::deliveries::{self, StateChange};
use shared::store::outbox::OutboxRow;
use shared::store::receipts::{self, OpenReceipt, Settlement};
use shared::store::{StoreError, chat, dead_letters};
use sqlx::{Connection, PgConnection, PgPool};
use uuid::Uuid;

use crate::metrics::Metrics;
use crate::record;

/// How often a batch looks for receipts that its own bindings made bindable: an echo brings the
/// key id that its acks wait for.
const ROUNDS: usize = 4;
/// How long the echo of an open send may take, in seconds, before another text to the same
/// recipient counts as typed on the phone.
const ECHO_PATIENCE_S: f64 = 120.0;

/// The batch job that applies receipts.
pub(crate) struct ApplyReceipts {
    pub(crate) pool: PgPool,
    pub(crate) relay: Relay,
    pub(crate) metrics: Arc<Metrics>,
}

impl BatchJob for ApplyReceipts {
    type Item = Uuid;
    type Done = ();
    type Error = StoreError;

    async fn run(&self, items: &[Uuid]) -> Result<Vec<()>, StoreError> {
        let mut conn = self.pool.acquire().await?;
        let mut next: Vec<Uuid> = items.to_vec();
        for round in 0..ROUNDS {
            // Acks may come in one batch with their echo: the first round finds nothing for them.
            next.sort_unstable();
            next.dedup();
            if next.is_empty() {
                break;
            }
            // A transaction for each round: receipts of a later round would be locked after the
            // deliveries of an earlier one, against the order of every other batch.
            let mut tx = conn.begin().await?;
            let applied = match self.apply(&mut tx, &next).await {
                Ok(applied) => applied,
                // What a later round found has messages of its own: one whose data is refused must
                // not make dead letters of the receipts that led to it, which are applied.
                Err(StoreError::Data(_)) if round > 0 => break,
                Err(error) => return Err(error),
            };
            failpoint!(ReceiptWritten);
            tx.commit().await?;
            failpoint!(ReceiptCommitted);
            self.relay.hand_over(applied.rows);
            next = applied.bindable;
        }
        Ok(vec![(); items.len()])
    }
}

/// What came of applying receipts.
struct Applied {
    /// Messages of replies that may follow now.
    rows: Vec<OutboxRow>,
    /// Receipts that can be bound now.
    bindable: Vec<Uuid>,
}

impl ApplyReceipts {
    /// Applies receipts.
    async fn apply(&self, conn: &mut PgConnection, ids: &[Uuid]) -> Result<Applied, StoreError> {
        let (open, rivals) = one_message_each(receipts::lock_open(conn, ids).await?);
        let (mut settlements, rows) = self.move_deliveries(conn, &open).await?;
        settlements.extend(rivals.iter().map(|id| unbound(*id)));
        let mut typed = Vec::new();
        for receipt in open.iter().filter(|receipt| receipt.delivery_id.is_none()) {
            let mut settlement = unbound(receipt.id);
            if is_typed_on_the_phone(receipt) {
                typed.extend(device_message(receipt));
                settlement.state = "applied";
                settlement.effect = Some("typed on the phone".to_owned());
            }
            settlements.push(settlement);
        }
        chat::append(conn, &typed).await?;
        receipts::settle(conn, &settlements).await?;
        for settlement in &settlements {
            self.metrics
                .receipts
                .with_label_values(&[settlement.state])
                .inc();
        }
        let echoed: Vec<Uuid> = open
            .iter()
            .filter(|receipt| receipt.kind == "echo")
            .filter_map(|receipt| receipt.attempt_id)
            .collect();
        let mut bindable = rivals;
        if !echoed.is_empty() {
            bindable.extend(receipts::waiting_for_attempts(conn, &echoed).await?);
        }
        Ok(Applied { rows, bindable })
    }

    async fn move_deliveries(
        &self,
        conn: &mut PgConnection,
        open: &[OpenReceipt],
    ) -> Result<(Vec<Settlement>, Vec<OutboxRow>), StoreError> {
        let mut by_delivery: BTreeMap<Uuid, Vec<&OpenReceipt>> = BTreeMap::new();
        for receipt in open {
            if let Some(delivery) = receipt.delivery_id {
                by_delivery.entry(delivery).or_default().push(receipt);
            }
        }
        let ids: Vec<Uuid> = by_delivery.keys().copied().collect();
        let mut changes = Vec::new();
        let mut settlements = Vec::new();
        let mut replies = Vec::new();
        for delivery in deliveries::lock(conn, &ids).await? {
            let Ok(from) = delivery.state.parse::<DeliveryState>() else {
                continue;
            };
            let mut state = from;
            let mut code = delivery.failure_code.as_deref();
            for receipt in by_delivery.remove(&delivery.id).unwrap_or_default() {
                let standing = Standing::new(state, code);
                let evidence = evidence_of(receipt);
                let next = match evidence {
                    Some(_) if receipt.kind == "echo" => standing.after_echo(),
                    Some(evidence) => standing.after_ack(evidence),
                    None => None,
                };
                if next.is_some() {
                    code = (evidence == Some(Evidence::ProviderFailed))
                        .then_some(FailureCode::ProviderRejected.as_str());
                }
                settlements.push(Settlement {
                    id: receipt.id,
                    state: "applied",
                    delivery_id: Some(delivery.id),
                    attempt_id: receipt.attempt_id,
                    effect: Some(match next {
                        Some(next) => format!("{state} -> {next}"),
                        None => format!("stays {state}"),
                    }),
                });
                state = next.unwrap_or(state);
            }
            if state != from {
                if record::blocks_replies(&delivery) && from.waits_or_is_claimed() {
                    replies.push(delivery.id);
                }
                changes.push(StateChange {
                    failure_code: code.map(str::to_owned),
                    ..StateChange::plain(delivery.id, from, state)
                });
                self.metrics
                    .moved
                    .with_label_values(&[state.as_str()])
                    .inc();
                for stage in stages(from, state) {
                    self.metrics
                        .reached(&delivery.channel, stage, delivery.event_id);
                }
                tracing::info!(
                    trace_id = delivery.trace_id,
                    tenant.id = delivery.tenant_id,
                    delivery.id = %delivery.id,
                    delivery.channel = delivery.channel,
                    outcome = state.as_str(),
                    "delivery.moved"
                );
            }
        }
        deliveries::change_states(conn, &changes).await?;
        let risen: Vec<Uuid> = changes
            .iter()
            .filter(|change| change.from == DeliveryState::Dead)
            .map(|change| change.id)
            .collect();
        let superseded = dead_letters::supersede(conn, &risen).await?;
        self.metrics.letters.settled(Action::Superseded, superseded);
        let rows = record::release_next_replies(conn, &replies).await?;
        Ok((settlements, rows))
    }
}

/// The stages that a change of state was the first to prove. An answer of the gateway tells of
/// `sent` itself, unless it never came.
fn stages(from: DeliveryState, to: DeliveryState) -> Vec<&'static str> {
    let arrived = |state| matches!(state, DeliveryState::Delivered | DeliveryState::Read);
    let answered = matches!(from, DeliveryState::Claimed | DeliveryState::Sent) || arrived(from);
    let mut stages = Vec::new();
    if !answered && (to == DeliveryState::Sent || arrived(to)) {
        stages.push("sent");
    }
    if arrived(to) && !arrived(from) {
        stages.push("delivered");
    }
    if to == DeliveryState::Read {
        stages.push("read");
    }
    stages
}

fn unbound(id: Uuid) -> Settlement {
    Settlement {
        id,
        state: "unbound",
        delivery_id: None,
        attempt_id: None,
        effect: None,
    }
}

/// An attempt is one message. Of two messages whose echoes were both taken for its own, one is; the
/// other is looked at again when that is known, and its id is answered.
fn one_message_each(open: Vec<OpenReceipt>) -> (Vec<OpenReceipt>, Vec<Uuid>) {
    let mut messages: HashMap<Uuid, String> = HashMap::new();
    let mut rivals = Vec::new();
    let open = open
        .into_iter()
        .filter(|receipt| {
            let (Some(attempt), Some(key), "echo") = (
                receipt.attempt_id,
                &receipt.provider_message_id,
                receipt.kind.as_str(),
            ) else {
                return true;
            };
            let own = messages.entry(attempt).or_insert_with(|| key.clone()) == key;
            if !own {
                rivals.push(receipt.id);
            }
            own
        })
        .collect();
    (open, rivals)
}

/// An echo that no send of ours explains: none to that recipient had that text, and none is open, or
/// the echoes of those that are open had time to come. One that names a send of ours never is.
fn is_typed_on_the_phone(receipt: &OpenReceipt) -> bool {
    let patience_is_over = receipt.body_text.is_some() && receipt.age_s > ECHO_PATIENCE_S;
    receipt.kind == "echo"
        && receipt.delivery_ref.is_none()
        && receipt.same_text == 0
        && (receipt.candidates == 0 || patience_is_over)
}

fn evidence_of(receipt: &OpenReceipt) -> Option<Evidence> {
    match receipt.evidence.as_deref() {
        Some("provider_failed") => Some(Evidence::ProviderFailed),
        Some("sent") => Some(Evidence::Sent),
        Some("delivered") => Some(Evidence::Delivered),
        Some("read") => Some(Evidence::Read),
        _ => None,
    }
}

/// A message of ours that no send of ours explains: somebody typed it on the phone. It pauses
/// automation on its thread and counts as nothing unread.
fn device_message(receipt: &OpenReceipt) -> Option<NewChatMessage> {
    Some(NewChatMessage {
        thread: ThreadRef::Contact {
            channel_id: receipt.channel_id.clone(),
            contact_key: receipt.recipient_key.clone()?,
        },
        role: "assistant".to_owned(),
        origin: "device".to_owned(),
        content: receipt.body_text.clone().unwrap_or_default(),
        message_id: receipt.provider_message_id.clone(),
        delivery_id: None,
        event_id: receipt.event_id,
        trace_id: receipt.trace_id.clone(),
        correlation_id: None,
        source_system: "wpp_gateway".to_owned(),
        occurred_at: receipt.provider_at,
        contact_address: receipt.recipient.clone(),
        contact_name: None,
        customer_id: None,
        metadata: serde_json::json!({}),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_told_once_by_whatever_proves_it_first() {
        use DeliveryState::{Claimed, Delivered, Failed, Read, Sent, Unknown};
        let cases: [(DeliveryState, DeliveryState, &[&str]); 7] = [
            (Claimed, Sent, &[]),
            (Sent, Delivered, &["delivered"]),
            (Delivered, Read, &["read"]),
            (Sent, Read, &["delivered", "read"]),
            (Unknown, Sent, &["sent"]),
            (Unknown, Read, &["sent", "delivered", "read"]),
            (Sent, Failed, &[]),
        ];
        for (from, to, expected) in cases {
            assert_eq!(stages(from, to), expected, "{from} to {to}");
        }
    }
}
