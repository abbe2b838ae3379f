//! The AMQP side of a consumer: one channel, its subscription, and what was taken on it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};
use tokio::time::timeout;
use tracing::warn;

use super::consumer::ConsumerConfig;
use super::declare::is_not_found;
use super::ledger::Ledger;
use super::link::Live;
use super::parcel::Parcel;
use super::session::Session;
use super::topology::Queue;

/// An answer that takes longer comes from a broker that is not there any more.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The share of the prefetch that may be settled and wait behind one that is not.
const STUCK_SHARE: u16 = 4;

/// Why a channel serves no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// We were asked to stop.
    Stopped,
    /// Channel or connection broke.
    Lost,
    /// We closed it to subscribe anew.
    Anew,
    /// The queue is not there, or the broker cancelled the consumer.
    Missing,
}

/// What the subscription yielded; `None` is its end.
pub(super) struct Taken(Option<lapin::Result<Delivery>>);

pub(super) struct ConsumeChannel {
    queue: Queue,
    live: Arc<Live>,
    channel: Channel,
    /// `None` once it stops.
    subscription: Option<Consumer>,
    ledger: Ledger,
}

impl ConsumeChannel {
    /// Opens a channel and subscribes.
    pub(super) async fn open(
        live: &Arc<Live>,
        session: &Session,
        config: &ConsumerConfig,
    ) -> Result<Self, Ended> {
        let channel = live.open_channel().await.map_err(|e| ended(&e))?;
        let qos = channel.basic_qos(config.prefetch, BasicQosOptions::default());
        live.guard(qos).await.map_err(|e| ended(&e))?;
        let subscribing = channel.basic_consume(
            session.topology().queue(config.queue).into(),
            config.name.as_str().into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let subscription = live.guard(subscribing).await.map_err(|e| ended(&e))?;
        Ok(Self {
            queue: config.queue,
            live: Arc::clone(live),
            channel,
            subscription: Some(subscription),
            ledger: Ledger::new(usize::from(config.prefetch / STUCK_SHARE)),
        })
    }

    /// Waits for the next delivery; for ever once unsubscribed. Cancel safe.
    pub(super) async fn next(&mut self) -> Taken {
        match &mut self.subscription {
            Some(subscription) => Taken(subscription.next().await),
            None => std::future::pending().await,
        }
    }

    /// Books a delivery.
    pub(super) fn take(&mut self, taken: Taken) -> Result<Parcel, Ended> {
        match taken.0 {
            Some(Ok(delivery)) => Ok(self.book(delivery)),
            Some(Err(error)) => Err(ended(&error)),
            // The broker ends a subscription of a healthy channel when its queue goes away.
            None if self.channel.status().connected() => Err(Ended::Missing),
            None => Err(Ended::Lost),
        }
    }

    /// Unsubscribes; channel and unacknowledged messages stay. Answers what had been on its way.
    ///
    /// Only for a stop: a quorum queue returns what it has sent and the channel has not yet passed
    /// on, and each return counts against the delivery limit.
    pub(super) async fn unsubscribe(&mut self) -> Result<Vec<Parcel>, Ended> {
        let Some(mut subscription) = self.subscription.take() else {
            return Ok(Vec::new());
        };
        let drain = async {
            self.channel
                .basic_cancel(subscription.tag(), BasicCancelOptions::default())
                .await?;
            let mut rest = Vec::new();
            while let Some(delivery) = subscription.next().await {
                rest.push(delivery?);
            }
            Ok::<_, lapin::Error>(rest)
        };
        match timeout(ANSWER_TIMEOUT, drain).await {
            Ok(Ok(rest)) => Ok(rest.into_iter().map(|d| self.book(d)).collect()),
            Ok(Err(error)) => Err(ended(&error)),
            Err(_) => Err(Ended::Lost),
        }
    }

    /// A delivery needs no more work.
    pub(super) fn settle(&mut self, tag: u64) {
        self.ledger.settle(tag);
    }

    /// How many are settled and not acknowledged.
    pub(super) fn settled(&self) -> usize {
        self.ledger.settled()
    }

    /// Acknowledges the contiguous settled prefix, if it grew, and one by one what would wait too
    /// long behind one that is not settled.
    pub(super) async fn acknowledge(&mut self) -> Result<(), Ended> {
        let now = self.ledger.acknowledge();
        let up_to = now.up_to.map(|tag| (tag, true));
        let single = now.single.into_iter().map(|tag| (tag, false));
        for (tag, multiple) in up_to.into_iter().chain(single) {
            let acknowledging = self.channel.basic_ack(tag, BasicAckOptions { multiple });
            match timeout(ANSWER_TIMEOUT, self.live.guard(acknowledging)).await {
                Ok(done) => done.map_err(|e| ended(&e))?,
                Err(_) => {
                    warn!(
                        queue = self.queue.label(),
                        "an acknowledgement could not be written"
                    );
                    return Err(Ended::Lost);
                }
            }
        }
        Ok(())
    }

    pub(super) fn oldest_unsettled_ms(&self) -> Option<i64> {
        self.ledger.oldest_unsettled_ms()
    }

    /// Closes; what is not acknowledged goes back to the queue.
    pub(super) async fn close(&mut self) {
        let _acknowledged_or_gone = self.acknowledge().await;
        let closing = self.channel.close(200, "stopped".into());
        let _closed_or_gone = timeout(ANSWER_TIMEOUT, closing).await;
    }

    fn book(&mut self, delivery: Delivery) -> Parcel {
        let parcel = Parcel::new(self.queue, delivery);
        self.ledger.take(parcel.tag, parcel.published_ms());
        parcel
    }
}

fn ended(error: &lapin::Error) -> Ended {
    if is_not_found(error) {
        return Ended::Missing;
    }
    warn!(error = %error, "a consuming channel broke");
    Ended::Lost
}
