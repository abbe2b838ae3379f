//! Takes work messages from the delivery queues and from `hub.receipts`; the only file here that
//! sees the broker's deliveries.

use shared::broker::burial::Burial;
use shared::broker::by_hand::ByHand;
use shared::broker::dead;
use shared::broker::{DeadItem, Handler, Incoming, NotRecorded, Verdict};
use shared::domain::failure::FailureCode;
use shared::domain::message::Work;
use shared::runtime::batcher::{Batcher, Rejected};

use crate::deliver::{DeliverChat, WhatsappSender, claim_request};
use crate::receipt::ApplyReceipts;

/// Delivers over WhatsApp what it takes.
pub(crate) struct WhatsappHandler {
    pub(crate) sender: WhatsappSender,
    pub(crate) burial: Burial,
    pub(crate) by_hand: ByHand,
}

impl Handler for WhatsappHandler {
    async fn handle(&self, incoming: Incoming) -> Verdict {
        if let Some(verdict) = self.by_hand.take(&incoming).await {
            return verdict;
        }
        let Work::Deliver {
            delivery_id,
            generation,
            attempt,
            ..
        } = incoming.message.work
        else {
            return Verdict::Dead(FailureCode::MessageUnreadable);
        };
        verdict(
            self.sender
                .deliver(
                    claim_request(delivery_id, generation, attempt),
                    &incoming.message.labels,
                )
                .await,
        )
    }

    async fn dead(&self, item: DeadItem) -> Result<(), NotRecorded> {
        self.burial.bury(item).await
    }
}

/// Writes on threads what it takes.
pub(crate) struct ChatHandler {
    pub(crate) chat: Batcher<DeliverChat>,
    pub(crate) burial: Burial,
    pub(crate) by_hand: ByHand,
}

impl Handler for ChatHandler {
    async fn handle(&self, incoming: Incoming) -> Verdict {
        if let Some(verdict) = self.by_hand.take(&incoming).await {
            return verdict;
        }
        let Work::Deliver {
            delivery_id,
            generation,
            attempt,
            ..
        } = incoming.message.work
        else {
            return Verdict::Dead(FailureCode::MessageUnreadable);
        };
        verdict(
            self.chat
                .submit(claim_request(delivery_id, generation, attempt))
                .await,
        )
    }

    async fn dead(&self, item: DeadItem) -> Result<(), NotRecorded> {
        self.burial.bury(item).await
    }
}

/// Applies the receipts that it takes.
pub(crate) struct ReceiptHandler {
    pub(crate) receipts: Batcher<ApplyReceipts>,
    pub(crate) burial: Burial,
    pub(crate) by_hand: ByHand,
}

impl Handler for ReceiptHandler {
    async fn handle(&self, incoming: Incoming) -> Verdict {
        if let Some(verdict) = self.by_hand.take(&incoming).await {
            return verdict;
        }
        let Work::ApplyReceipt { receipt_id, .. } = incoming.message.work else {
            return Verdict::Dead(FailureCode::MessageUnreadable);
        };
        verdict(self.receipts.submit(receipt_id.0).await)
    }

    async fn dead(&self, item: DeadItem) -> Result<(), NotRecorded> {
        self.burial.bury(item).await
    }
}

/// Records the letters that the broker made by itself; our own have their rows already.
pub(crate) struct IntakeHandler {
    pub(crate) burial: Burial,
}

impl Handler for IntakeHandler {
    async fn handle(&self, incoming: Incoming) -> Verdict {
        if dead::letter_id(&incoming.headers).is_some() {
            return Verdict::Done;
        }
        let queue = dead::BrokerDeath::of(&incoming.headers).and_then(|death| death.queue);
        let queue = queue.unwrap_or_else(|| incoming.message.work.queue());
        match self
            .burial
            .note_broker_letter(Some(&incoming.message), queue)
            .await
        {
            Ok(()) => Verdict::Done,
            Err(NotRecorded) => Verdict::Hold,
        }
    }

    /// What cannot be read here lies beside its work queue, and has its row if it is ours.
    async fn dead(&self, item: DeadItem) -> Result<(), NotRecorded> {
        let death = dead::BrokerDeath::of(&item.headers);
        match death.and_then(|death| death.queue) {
            Some(queue) if item.message.is_none() && dead::letter_id(&item.headers).is_none() => {
                self.burial.note_broker_letter(None, queue).await
            }
            _ => Ok(()),
        }
    }
}

fn verdict(done: Result<(), Rejected>) -> Verdict {
    match done {
        Ok(()) => Verdict::Done,
        Err(Rejected::Data) => Verdict::Dead(FailureCode::DataRefused),
        Err(Rejected::Panicked) => Verdict::Dead(FailureCode::Panicked),
        Err(Rejected::Unavailable | Rejected::Stopping) => Verdict::Hold,
    }
}
