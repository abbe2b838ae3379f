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
use shared::sealing::Keyring;
use shared::store::chat::{NewChatMessage, ThreadRef};
use shared::store::deliveries::{self, LockedDelivery};
use shared::store::outbox::OutboxRow;
use shared::store::receipts::{self, Move, OpenReceipt, Settlement, UnexplainedEcho};
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
    pub(crate) seals: Keyring,
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
            next = match self.round(&mut conn, &next).await {
                Ok(bindable) => bindable,
                // What a later round found has messages of its own: one whose data is refused must
                // not make dead letters of the receipts that led to it, which are applied.
                Err(StoreError::Data(_)) if round > 0 => break,
                Err(error) => return Err(error),
            };
        }
        Ok(vec![(); items.len()])
    }
}

/// What evidence does, decided over locked rows.
#[derive(Default)]
struct Verdicts {
    moves: Vec<Move>,
    settlements: Vec<Settlement>,
    /// Replies that were concluded: the next of their thread may follow.
    replies: Vec<Uuid>,
}

impl ApplyReceipts {
    /// Applies receipts, and answers those that can be bound by now. A transaction of its own, in two
    /// where echoes are to be explained: receipts that are locked after the deliveries of others would
    /// be against the order of every other batch.
    async fn round(&self, conn: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<Uuid>, StoreError> {
        let mut tx = conn.begin().await?;
        let (unexplained, open): (Vec<_>, Vec<_>) = receipts::lock_open(&mut tx, ids)
            .await?
            .into_iter()
            .partition(|receipt| receipt.kind == "echo" && receipt.delivery.is_none());
        let (open, mut bindable) = one_message_each(open);
        let settlements = bindable.iter().map(|id| unbound(*id)).collect();
        let (mut named, rows) = self.apply(&mut tx, &open, settlements).await?;
        failpoint!(ReceiptWritten);
        tx.commit().await?;
        failpoint!(ReceiptCommitted);
        self.relay.hand_over(rows);
        if !unexplained.is_empty() {
            let ids: Vec<Uuid> = unexplained.iter().map(|receipt| receipt.id).collect();
            let mut tx = conn.begin().await?;
            let (more, rivals, rows) = self.explain(&mut tx, &ids).await?;
            failpoint!(ReceiptWritten);
            tx.commit().await?;
            failpoint!(ReceiptCommitted);
            self.relay.hand_over(rows);
            named.extend(more);
            bindable.extend(rivals);
        }
        // After the commit: what is stored meanwhile finds the attempt by itself (design §1.10).
        if !named.is_empty() {
            bindable.extend(receipts::waiting_for_attempts(conn, &named).await?);
        }
        Ok(bindable)
    }

    /// Finds what echoes are of, and applies them. Answers the attempts that got their key id, the
    /// receipts to be looked at again, and messages.
    async fn explain(
        &self,
        conn: &mut PgConnection,
        ids: &[Uuid],
    ) -> Result<(Vec<Uuid>, Vec<Uuid>, Vec<OutboxRow>), StoreError> {
        let echoes = receipts::lock_unexplained(conn, ids, &self.seals).await?;
        let mut settlements = Vec::new();
        let mut typed = Vec::new();
        for echo in echoes.iter().filter(|echo| echo.delivery_id.is_none()) {
            let mut settlement = unbound(echo.id);
            if is_typed_on_the_phone(echo) {
                typed.extend(device_message(echo));
                settlement.state = "applied";
                settlement.effect = Some("typed on the phone".to_owned());
            }
            settlements.push(settlement);
        }
        let mut ids: Vec<Uuid> = echoes.iter().filter_map(|echo| echo.delivery_id).collect();
        ids.sort_unstable();
        ids.dedup();
        let locked: HashMap<Uuid, LockedDelivery> = deliveries::lock(conn, &ids)
            .await?
            .into_iter()
            .map(|delivery| (delivery.id, delivery))
            .collect();
        let explained = echoes.into_iter().filter_map(|echo| {
            let delivery = locked.get(&echo.delivery_id?)?.clone();
            Some(OpenReceipt {
                id: echo.id,
                kind: "echo".to_owned(),
                evidence: echo.evidence,
                provider_message_id: echo.provider_message_id,
                attempt_id: echo.attempt_id,
                is_nameless: echo.is_nameless,
                delivery: Some(delivery),
            })
        });
        let (open, rivals) = one_message_each(explained.collect());
        settlements.extend(rivals.iter().map(|id| unbound(*id)));
        chat::append(conn, &typed, &self.seals).await?;
        let (named, rows) = self.apply(conn, &open, settlements).await?;
        Ok((named, rivals, rows))
    }

    /// Moves the deliveries and settles the receipts, besides what is settled already. Answers the
    /// attempts that got their key id, and messages of replies that may follow now.
    async fn apply(
        &self,
        conn: &mut PgConnection,
        open: &[OpenReceipt],
        settlements: Vec<Settlement>,
    ) -> Result<(Vec<Uuid>, Vec<OutboxRow>), StoreError> {
        let mut verdicts = self.weigh(open);
        verdicts.settlements.extend(settlements);
        let named = receipts::apply(conn, &verdicts.moves, &verdicts.settlements).await?;
        for settlement in &verdicts.settlements {
            self.metrics
                .receipts
                .with_label_values(&[settlement.state])
                .inc();
        }
        let risen: Vec<Uuid> = verdicts
            .moves
            .iter()
            .filter(|one| one.from == DeliveryState::Dead)
            .map(|one| one.id)
            .collect();
        if !risen.is_empty() {
            let superseded = dead_letters::supersede(conn, &risen).await?;
            self.metrics.letters.settled(Action::Superseded, superseded);
        }
        let rows = record::release_next_replies(conn, &verdicts.replies).await?;
        Ok((named, rows))
    }

    /// What each receipt does to its delivery, one after the other. An ack of what nobody sent yet is
    /// kept.
    fn weigh(&self, open: &[OpenReceipt]) -> Verdicts {
        let mut by_delivery: BTreeMap<Uuid, Vec<(&OpenReceipt, &LockedDelivery)>> = BTreeMap::new();
        let mut verdicts = Verdicts::default();
        for receipt in open {
            match &receipt.delivery {
                Some(delivery) => {
                    let all = by_delivery.entry(delivery.id).or_default();
                    all.push((receipt, delivery));
                }
                None => verdicts.settlements.push(unbound(receipt.id)),
            }
        }
        for receipts in by_delivery.values() {
            let (_, delivery) = receipts[0];
            let Ok(from) = delivery.state.parse::<DeliveryState>() else {
                continue;
            };
            let mut state = from;
            let mut code = delivery.failure_code.as_deref();
            let mut refused = None;
            for (receipt, _) in receipts {
                let standing = Standing::new(state, code);
                let evidence = evidence_of(receipt);
                let next = match evidence {
                    Some(_) if receipt.kind == "echo" => standing.after_echo(),
                    Some(evidence) => standing.after_ack(evidence),
                    None => None,
                };
                if next.is_some() {
                    refused = (evidence == Some(Evidence::ProviderFailed))
                        .then_some(FailureCode::ProviderRejected.as_str());
                    code = refused;
                }
                verdicts.settlements.push(Settlement {
                    id: receipt.id,
                    state: "applied",
                    delivery_id: Some(delivery.id),
                    attempt_id: receipt.attempt_id,
                    effect: Some(match next {
                        Some(next) => format!("{state} -> {next}"),
                        None => format!("stays {state}"),
                    }),
                    key_id: receipt
                        .provider_message_id
                        .clone()
                        .filter(|_| receipt.is_nameless),
                });
                state = next.unwrap_or(state);
            }
            if state != from {
                if record::blocks_replies(delivery) && from.waits_or_is_claimed() {
                    verdicts.replies.push(delivery.id);
                }
                verdicts.moves.push(Move {
                    id: delivery.id,
                    from,
                    to: state,
                    failure_code: refused,
                });
                self.tell(delivery, from, state);
            }
        }
        verdicts
    }

    fn tell(&self, delivery: &LockedDelivery, from: DeliveryState, to: DeliveryState) {
        self.metrics.moved.with_label_values(&[to.as_str()]).inc();
        for stage in stages(from, to) {
            self.metrics
                .reached(&delivery.channel, stage, delivery.event_id);
        }
        tracing::info!(
            trace_id = delivery.trace_id,
            tenant.id = delivery.tenant_id,
            delivery.id = %delivery.id,
            delivery.channel = delivery.channel,
            outcome = to.as_str(),
            "delivery.moved"
        );
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
        key_id: None,
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
fn is_typed_on_the_phone(echo: &UnexplainedEcho) -> bool {
    let patience_is_over = echo.body_text.is_some() && echo.age_s > ECHO_PATIENCE_S;
    echo.delivery_ref.is_none() && echo.same_text == 0 && (echo.candidates == 0 || patience_is_over)
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
fn device_message(echo: &UnexplainedEcho) -> Option<NewChatMessage> {
    Some(NewChatMessage {
        thread: ThreadRef::Contact {
            channel_id: echo.channel_id.clone(),
            contact_key: echo.recipient_key.clone()?,
        },
        role: "assistant".to_owned(),
        origin: "device".to_owned(),
        content: echo.body_text.clone().unwrap_or_default(),
        message_id: echo.provider_message_id.clone(),
        delivery_id: None,
        event_id: echo.event_id,
        trace_id: echo.trace_id.clone(),
        correlation_id: None,
        source_system: "wpp_gateway".to_owned(),
        occurred_at: echo.provider_at,
        contact_address: echo.recipient.clone(),
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
