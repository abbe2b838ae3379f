//! What travels through the broker: thin messages of ids and non-personal labels.
//!
//! Invariant: no phone, text or payload is ever a field here (design §1.4). Serialisable is a
//! promise: an old form stays decodable for one release, so fields are only added, with a default.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::channel::Channel;
use super::ids::{DeliveryId, EventId, ReceiptId, TenantId, TraceId};
use super::redrive::SubjectKind;

/// The version that this build writes.
pub const VERSION: u8 = 1;

/// One piece of work, as it lies in a work queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkMessage {
    /// The form of the message; see [`VERSION`].
    pub version: u8,
    /// What is to be done, on which subject.
    #[serde(flatten)]
    pub work: Work,
    /// The trace that the subject belongs to.
    pub trace_id: TraceId,
    /// Labels for whoever reads the message in the management UI.
    #[serde(default)]
    pub labels: Labels,
}

impl WorkMessage {
    /// A message of this build's version.
    #[must_use]
    pub const fn new(work: Work, trace_id: TraceId, labels: Labels) -> Self {
        Self {
            version: VERSION,
            work,
            trace_id,
            labels,
        }
    }

    /// Asks for the first decision about an event.
    #[must_use]
    pub const fn route(event_id: EventId, trace_id: TraceId, labels: Labels) -> Self {
        Self::new(
            Work::Route {
                event_id,
                run: 0,
                generation: 0,
            },
            trace_id,
            labels,
        )
    }

    /// Asks for a receipt to be applied.
    #[must_use]
    pub fn apply_receipt(receipt_id: ReceiptId, trace_id: TraceId) -> Self {
        Self::new(
            Work::ApplyReceipt {
                receipt_id,
                generation: 0,
            },
            trace_id,
            Labels::default(),
        )
    }
}

/// The kinds of work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Work {
    /// Decide what an event leads to.
    Route {
        /// The event.
        event_id: EventId,
        /// 0 is the first decision; a replay counts up.
        #[serde(default)]
        run: i32,
        /// Counts redrives by hand.
        #[serde(default)]
        generation: i32,
    },
    /// Try a delivery.
    Deliver {
        /// The delivery.
        delivery_id: DeliveryId,
        /// Where it goes out.
        channel: Channel,
        /// Counts redrives by hand; a copy of an older generation is dropped.
        generation: i32,
        /// The number of the try that this message stands for, from 1.
        attempt: i32,
    },
    /// Plan a delivery again with today's rules, templates and reference data, in place: it was
    /// redriven, and what was planned before is what it died of.
    Replan {
        /// The delivery.
        delivery_id: DeliveryId,
        /// The generation that the redrive gave it.
        generation: i32,
    },
    /// Apply a receipt to the delivery that it is evidence of.
    ApplyReceipt {
        /// The receipt.
        receipt_id: ReceiptId,
        /// Counts redrives by hand.
        #[serde(default)]
        generation: i32,
    },
}

impl Work {
    /// The row that the message is about.
    #[must_use]
    pub const fn subject(&self) -> Uuid {
        match self {
            Self::Route { event_id, .. } => event_id.0,
            Self::Deliver { delivery_id, .. } | Self::Replan { delivery_id, .. } => delivery_id.0,
            Self::ApplyReceipt { receipt_id, .. } => receipt_id.0,
        }
    }

    /// How often the subject had been redriven when the message was written.
    #[must_use]
    pub const fn generation(&self) -> i32 {
        match self {
            Self::Route { generation, .. }
            | Self::Deliver { generation, .. }
            | Self::Replan { generation, .. }
            | Self::ApplyReceipt { generation, .. } => *generation,
        }
    }

    /// What kind of row the message is about.
    #[must_use]
    pub const fn subject_kind(&self) -> SubjectKind {
        match self {
            Self::Route { .. } => SubjectKind::Event,
            Self::Deliver { .. } | Self::Replan { .. } => SubjectKind::Delivery,
            Self::ApplyReceipt { .. } => SubjectKind::Receipt,
        }
    }

    /// The queue that this kind of work goes to.
    #[must_use]
    pub const fn queue(&self) -> WorkQueue {
        match self {
            Self::Route { .. } | Self::Replan { .. } => WorkQueue::Route,
            Self::Deliver { channel, .. } => WorkQueue::Deliver(*channel),
            Self::ApplyReceipt { .. } => WorkQueue::Receipts,
        }
    }

    /// The closed label of the kind.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Route { .. } => "route",
            Self::Deliver { .. } => "deliver",
            Self::Replan { .. } => "replan",
            Self::ApplyReceipt { .. } => "apply_receipt",
        }
    }
}

/// A work queue by its role; its name on a broker is `broker::topology`'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WorkQueue {
    /// Events to be routed.
    Route,
    /// Deliveries of one channel.
    Deliver(Channel),
    /// Receipts to be applied.
    Receipts,
}

impl WorkQueue {
    /// Every work queue.
    pub const ALL: [Self; 5] = [
        Self::Route,
        Self::Deliver(Channel::Whatsapp),
        Self::Deliver(Channel::Chat),
        Self::Deliver(Channel::Email),
        Self::Receipts,
    ];

    /// The queue's name without the topology's prefix (design §3); also its metric label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Route => "hub.events.route",
            Self::Deliver(Channel::Whatsapp) => "hub.deliveries.whatsapp",
            Self::Deliver(Channel::Chat) => "hub.deliveries.chat",
            Self::Deliver(Channel::Email) => "hub.deliveries.email",
            Self::Receipts => "hub.receipts",
        }
    }

    /// The queue of that name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|queue| queue.name() == name)
    }
}

/// Non-personal labels of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// The event's type.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub event_type: String,
    /// The event's source system.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// The tenant, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<TenantId>,
    /// The template's key, for deliveries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// The sending account's slug, for deliveries: its share of the sender is reckoned by it
    /// before anything is read. The claim trusts the row alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The lane, for deliveries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reads_back_what_it_wrote() {
        let message = WorkMessage {
            version: VERSION,
            work: Work::Deliver {
                delivery_id: DeliveryId(Uuid::from_u128(7)),
                channel: Channel::Whatsapp,
                generation: 0,
                attempt: 1,
            },
            trace_id: "0af7651916cd43dd8448eb211c80319c".parse().unwrap(),
            labels: Labels {
                tenant_id: Some(TenantId(1)),
                ..Labels::default()
            },
        };
        let json = serde_json::to_string(&message).unwrap();
        insta::assert_snapshot!(json);
        assert_eq!(serde_json::from_str::<WorkMessage>(&json).unwrap(), message);
    }

    #[test]
    fn every_queue_is_found_by_its_name() {
        for queue in WorkQueue::ALL {
            assert_eq!(WorkQueue::by_name(queue.name()), Some(queue));
        }
    }
}
