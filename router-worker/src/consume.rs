//! Takes work messages from `hub.events.route`; the only file here that sees the broker.

use shared::broker::burial::Burial;
use shared::broker::by_hand::ByHand;
use shared::broker::{DeadItem, Handler, Incoming, NotRecorded, Verdict};
use shared::domain::failure::FailureCode;
use shared::domain::message::Work;
use shared::runtime::batcher::{Batcher, Rejected};

use crate::replan::{Replan, ReplanRequest};
use crate::route::{Route, RouteRequest, Routed};

/// Routes what it takes.
pub(crate) struct RouteHandler {
    pub(crate) route: Batcher<Route>,
    /// For messages that came back often: they run alone (design §3).
    pub(crate) alone: Batcher<Route>,
    pub(crate) replan: Batcher<Replan>,
    pub(crate) burial: Burial,
    pub(crate) by_hand: ByHand,
}

impl Handler for RouteHandler {
    async fn handle(&self, incoming: Incoming) -> Verdict {
        if let Some(verdict) = self.by_hand.take(&incoming).await {
            return verdict;
        }
        match incoming.message.work {
            Work::Route {
                event_id,
                run,
                generation,
            } => {
                let request = RouteRequest {
                    event_id,
                    run,
                    generation,
                };
                self.route(request, incoming.alone).await
            }
            Work::Replan {
                delivery_id,
                generation,
            } => {
                let request = ReplanRequest {
                    delivery_id,
                    generation,
                };
                match self.replan.submit(request).await {
                    Ok(()) => Verdict::Done,
                    Err(rejected) => verdict(rejected),
                }
            }
            Work::Deliver { .. } | Work::ApplyReceipt { .. } => {
                Verdict::Dead(FailureCode::MessageUnreadable)
            }
        }
    }

    async fn dead(&self, item: DeadItem) -> Result<(), NotRecorded> {
        self.burial.bury(item).await
    }
}

impl RouteHandler {
    async fn route(&self, request: RouteRequest, alone: bool) -> Verdict {
        let batcher = if alone { &self.alone } else { &self.route };
        match batcher.submit(request).await {
            Ok(Routed::Stored) => Verdict::Done,
            Ok(Routed::NoSuchEvent) => Verdict::Dead(FailureCode::SubjectNotFound),
            Err(rejected) => verdict(rejected),
        }
    }
}

fn verdict(rejected: Rejected) -> Verdict {
    match rejected {
        Rejected::Data => Verdict::Dead(FailureCode::DataRefused),
        Rejected::Panicked => Verdict::Dead(FailureCode::Panicked),
        Rejected::Unavailable | Rejected::Stopping => Verdict::Hold,
    }
}
