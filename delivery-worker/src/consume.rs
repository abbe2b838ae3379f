//! Takes work messages from the delivery queues and from `hub.receipts`; the only file here that
//! sees the broker's deliveries.

use shared::broker::burial::Burial;
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
}

impl Handler for WhatsappHandler {
    async fn handle(&self, incoming: Incoming) -> Verdict {
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
                .deliver(claim_request(delivery_id, generation, attempt))
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
}

impl Handler for ChatHandler {
    async fn handle(&self, incoming: Incoming) -> Verdict {
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
}

impl Handler for ReceiptHandler {
    async fn handle(&self, incoming: Incoming) -> Verdict {
        let Work::ApplyReceipt { receipt_id } = incoming.message.work else {
            return Verdict::Dead(FailureCode::MessageUnreadable);
        };
        verdict(self.receipts.submit(receipt_id.0).await)
    }

    async fn dead(&self, item: DeadItem) -> Result<(), NotRecorded> {
        self.burial.bury(item).await
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
