//! The use case: claim → ack → send → record. Never a network call inside a transaction.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::domain::delivery::DeliveryState;
use shared::domain::failure::FailureCode;
use shared::domain::ids::{AttemptId, DeliveryId};
use shared::domain::message::Labels;
use shared::failpoint;
use shared::runtime::batcher::{BatchJob, Batcher, Rejected};
use shared::sealing::Keyring;
use shared::store::attempts::{self, AttemptResult, ClaimRequest, ClaimedDelivery, Room};
use shared::store::{StoreError, chat};
use shared::wpp::WppClient;
use sqlx::{Connection, PgPool};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::driver::{self, Outcome};
use crate::metrics::Metrics;
use crate::record::{Record, Recorded};
use crate::retry::{Budget, RetryPolicy, judge};
use crate::slots::{Place, Slot, Slots, Turn};

/// How much longer than a send's own time limit its lease is.
const LEASE_MARGIN: Duration = Duration::from_secs(15);

/// How long a delivery waits for a place beyond its account's share of the room: then it is held,
/// and its message is in nobody's way any more.
const PATIENCE: Duration = Duration::from_secs(3);

/// The lease of an attempt whose send may take `send_timeout`.
pub(crate) fn lease(send_timeout: Duration) -> Duration {
    send_timeout + LEASE_MARGIN
}

/// The batch job that opens attempts for WhatsApp.
pub(crate) struct Claim {
    pub(crate) pool: PgPool,
    pub(crate) worker: String,
    pub(crate) lease: Duration,
    pub(crate) seals: Keyring,
}

impl BatchJob for Claim {
    type Item = ClaimRequest;
    type Done = Option<ClaimedDelivery>;
    type Error = StoreError;

    async fn run(&self, items: &[ClaimRequest]) -> Result<Vec<Self::Done>, StoreError> {
        failpoint!(ClaimBegun);
        let mut requests: Vec<&ClaimRequest> = items.iter().collect();
        requests.sort_by_key(|request| (request.delivery_id, request.generation, request.attempt));
        // Copies of one message in one batch: the first opens the attempt, the others find it open.
        requests.dedup_by_key(|request| (request.delivery_id, request.generation, request.attempt));
        let by = (self.worker.as_str(), self.lease.as_secs_f64());
        let mut conn = self.pool.acquire().await?;
        let mut claimed = attempts::claim(&mut conn, &requests, by, &self.seals).await?;
        failpoint!(ClaimCommitted);
        Ok(items
            .iter()
            .map(|item| {
                let index = claimed
                    .iter()
                    .position(|delivery| delivery.attempt_id == item.attempt_id)?;
                Some(claimed.swap_remove(index))
            })
            .collect())
    }
}

/// Sends what was claimed over WhatsApp, and records it.
#[derive(Clone)]
pub(crate) struct WhatsappSender {
    pub(crate) client: WppClient,
    pub(crate) claim: Batcher<Claim>,
    pub(crate) record: Batcher<Record>,
    pub(crate) policy: RetryPolicy,
    pub(crate) slots: Slots,
    pub(crate) tasks: TaskTracker,
    pub(crate) stopping: CancellationToken,
    pub(crate) metrics: Arc<Metrics>,
}

impl WhatsappSender {
    /// Claims the delivery and sends it in a task of its own; done means that the message may be
    /// acked, since from the claim on the attempt's row carries the work. A request that claims
    /// nothing is a stale copy, or its delivery is held.
    ///
    /// What its account has no room for, or not soon enough, is held, so that what waits here for a place to send from
    /// is bounded for each account and the consumer's hands stay free for the others.
    ///
    /// # Errors
    /// As [`Batcher::submit`].
    pub(crate) async fn deliver(
        &self,
        mut request: ClaimRequest,
        labels: &Labels,
    ) -> Result<(), Rejected> {
        let (account, lane) = (labels.account.as_deref(), labels.lane.as_deref());
        // Taken before the claim: nothing waits between claim and send.
        let asked = self
            .slots
            .ask(account.unwrap_or_default(), lane.unwrap_or_default());
        let slot = match asked {
            Place::Now(slot) => Some(slot),
            Place::Soon(turn) => Some(self.wait(turn).await?),
            Place::Perhaps(turn) => match timeout(PATIENCE, self.wait(turn)).await {
                Ok(slot) => Some(slot?),
                Err(_) => {
                    self.slots.lost_patience(account.unwrap_or_default());
                    None
                }
            },
            Place::Full => None,
        };
        if self.stopping.is_cancelled() {
            return Err(Rejected::Stopping);
        }
        if slot.is_none() {
            request.room = Room::No;
        }
        let claimed_at = Instant::now();
        let Some(delivery) = self.claim.submit(request).await? else {
            self.metrics.stale_copies.inc();
            return Ok(());
        };
        let sender = self.clone();
        self.tasks.spawn(async move {
            sender.send_and_record(delivery, claimed_at).await;
            // Kept until the result is recorded: so many sends are unknown at most if we die.
            drop(slot);
        });
        Ok(())
    }

    /// Waits for a place, but not beyond the stop of the process.
    async fn wait(&self, turn: Turn) -> Result<Slot, Rejected> {
        tokio::select! {
            slot = turn => slot.ok_or(Rejected::Stopping),
            () = self.stopping.cancelled() => Err(Rejected::Stopping),
        }
    }

    async fn send_and_record(&self, delivery: ClaimedDelivery, claimed_at: Instant) {
        let begun = Instant::now();
        // A late start might end after the lease; a stopping process closes what it has not begun.
        let outcome = if claimed_at.elapsed() > LEASE_MARGIN / 2 || self.stopping.is_cancelled() {
            None
        } else {
            if delivery.attempt == 1 {
                self.metrics
                    .reached(&delivery.channel, "requested", delivery.event_id);
            }
            failpoint!(SendBegun);
            let outcome = driver::whatsapp::send(&self.client, &delivery).await;
            failpoint!(SendAnswered);
            Some(outcome)
        };
        let result = self.result(&delivery, outcome, begun.elapsed());
        self.log(&delivery, &result);
        let asleep = result.failure_code == Some(FailureCode::SessionNotStarted.as_str());
        self.record(Recorded {
            result,
            channel_id: delivery.channel_id.clone(),
        })
        .await;
        if asleep && let Some(account) = &delivery.provider_account {
            // Facts §1.3 E12: the retry finds the session started. A failure here is the retry's to meet.
            let _ = Box::pin(self.client.start_session(account)).await;
        }
    }

    /// Records a result; what the database refuses of it is the provider's free text, without
    /// which the outcome is still worth keeping.
    async fn record(&self, recorded: Recorded) {
        let bare = Recorded {
            result: recorded.result.without_texts(),
            channel_id: recorded.channel_id.clone(),
        };
        if self.record.submit(recorded).await == Err(Rejected::Data) {
            let _ = Box::pin(self.record.submit(bare)).await;
        }
    }

    fn result(
        &self,
        delivery: &ClaimedDelivery,
        outcome: Option<Outcome>,
        took: Duration,
    ) -> AttemptResult {
        let mut result = AttemptResult {
            attempt_id: delivery.attempt_id,
            delivery_id: delivery.id,
            outcome: "not_sent",
            conclusion: DeliveryState::Queued,
            failure_code: None,
            http_status: None,
            response_excerpt: None,
            gateway_correlation_id: None,
            provider_message_id: None,
            duration_ms: took.as_secs_f64() * 1000.0,
            retry_after_s: None,
            held_reason: None,
        };
        match outcome {
            None => result.retry_after_s = Some(0.0),
            Some(Outcome::Sent {
                message_id,
                correlation_id,
            }) => {
                result.outcome = "sent";
                result.conclusion = DeliveryState::Sent;
                result.provider_message_id = message_id;
                result.gateway_correlation_id = correlation_id;
            }
            Some(Outcome::Failed {
                code,
                retry_after,
                http_status,
                excerpt,
            }) => {
                let budget = Budget {
                    used: delivery.retry_count,
                    limit: delivery.max_retries,
                };
                let chance = rand::random();
                let judgement = judge(code, retry_after, budget, |retry, asked| {
                    self.policy.wait(retry, asked, chance)
                });
                result.outcome = judgement.outcome;
                result.conclusion = judgement.conclusion;
                result.failure_code = Some(code.as_str());
                result.http_status = http_status.map(i32::from);
                result.response_excerpt = excerpt;
                result.retry_after_s = judgement.wait.map(|wait| wait.as_secs_f64());
                result.held_reason = judgement.held_reason;
            }
        }
        result
    }

    fn log(&self, delivery: &ClaimedDelivery, result: &AttemptResult) {
        self.metrics
            .send_duration
            .observe(result.duration_ms / 1000.0);
        if result.outcome == "sent" {
            self.metrics
                .reached(&delivery.channel, "sent", delivery.event_id);
            self.metrics.sent_by(delivery.channel_id.as_deref());
        }
        tracing::info!(
            trace_id = delivery.trace_id,
            tenant.id = delivery.tenant_id,
            event.id = %delivery.event_id,
            delivery.id = %delivery.id,
            delivery.channel = delivery.channel,
            delivery.attempt = delivery.attempt,
            outcome = result.outcome,
            failure.code = result.failure_code,
            duration_ms = result.duration_ms,
            "delivery.attempted"
        );
    }
}

/// The batch job of the chat: its send is a row of ours, so claim, message and record are one
/// transaction.
pub(crate) struct DeliverChat {
    pub(crate) pool: PgPool,
    pub(crate) worker: String,
    pub(crate) relay: shared::broker::relay::Relay,
    pub(crate) clock: Arc<dyn shared::runtime::clock::Clock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) seals: Keyring,
}

impl BatchJob for DeliverChat {
    type Item = ClaimRequest;
    type Done = ();
    type Error = StoreError;

    async fn run(&self, items: &[ClaimRequest]) -> Result<Vec<()>, StoreError> {
        let mut requests: Vec<&ClaimRequest> = items.iter().collect();
        requests.sort_by_key(|request| (request.delivery_id, request.generation, request.attempt));
        requests.dedup_by_key(|request| (request.delivery_id, request.generation, request.attempt));
        let mut conn = self.pool.acquire().await?;
        let mut tx = conn.begin().await?;
        let lease = lease(Duration::ZERO).as_secs_f64();
        let claimed =
            attempts::claim(&mut tx, &requests, (&self.worker, lease), &self.seals).await?;
        let messages: Vec<_> = claimed.iter().map(driver::chat::message).collect();
        let known: Vec<_> = messages.iter().flatten().cloned().collect();
        let mut threads = chat::append(&mut tx, &known, &self.seals)
            .await?
            .into_iter();
        let results: Vec<AttemptResult> = claimed
            .iter()
            .zip(&messages)
            .map(|(delivery, message)| {
                let thread = message.as_ref().and_then(|_| threads.next().flatten());
                chat_result(delivery, thread.is_some())
            })
            .collect();
        let rows = crate::record::conclude(
            &mut tx,
            &results.iter().collect::<Vec<_>>(),
            self.clock.as_ref(),
        )
        .await?;
        failpoint!(ChatWritten);
        tx.commit().await?;
        failpoint!(ChatCommitted);
        self.metrics.letters.recorded(&rows);
        self.relay.hand_over(rows);
        for (delivery, result) in claimed.iter().zip(&results) {
            self.metrics.attempt(result.outcome, result.failure_code);
            if result.outcome == "sent" {
                self.metrics
                    .reached(&delivery.channel, "delivered", delivery.event_id);
            }
            tracing::info!(
                trace_id = delivery.trace_id,
                tenant.id = delivery.tenant_id,
                event.id = %delivery.event_id,
                delivery.id = %delivery.id,
                delivery.channel = delivery.channel,
                delivery.attempt = delivery.attempt,
                outcome = result.outcome,
                failure.code = result.failure_code,
                "delivery.attempted"
            );
        }
        Ok(vec![(); items.len()])
    }
}

/// A message on a thread is delivered when it is stored; a thread that does not exist is nobody.
fn chat_result(delivery: &ClaimedDelivery, stored: bool) -> AttemptResult {
    AttemptResult {
        attempt_id: delivery.attempt_id,
        delivery_id: delivery.id,
        outcome: if stored { "sent" } else { "failed" },
        conclusion: if stored {
            DeliveryState::Delivered
        } else {
            DeliveryState::Failed
        },
        failure_code: (!stored).then_some(FailureCode::RecipientMissing.as_str()),
        http_status: None,
        response_excerpt: None,
        gateway_correlation_id: None,
        provider_message_id: None,
        duration_ms: 0.0,
        retry_after_s: None,
        held_reason: None,
    }
}

/// The claim that a work message asks for.
pub(crate) fn claim_request(
    delivery_id: DeliveryId,
    generation: i32,
    attempt: i32,
) -> ClaimRequest {
    ClaimRequest {
        attempt_id: AttemptId::generate().0,
        delivery_id: delivery_id.0,
        generation,
        attempt,
        room: Room::Yes,
    }
}
