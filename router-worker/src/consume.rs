//! Takes work messages from `hub.events.route`; the only file here that sees the broker.

use shared::broker::burial::Burial;
use shared::broker::{DeadItem, Handler, Incoming, NotRecorded, Verdict};
use shared::domain::failure::FailureCode;
use shared::domain::message::Work;
use shared::runtime::batcher::{Batcher, Rejected};

use crate::route::{Route, RouteRequest, Routed};

/// Routes what it takes.
pub(crate) struct RouteHandler {
    pub(crate) route: Batcher<Route>,
    /// For messages that came back often: they run alone (design §3).
    pub(crate) alone: Batcher<Route>,
    pub(crate) burial: Burial,
}

impl Handler for RouteHandler {
    async fn handle(&self, incoming: Incoming) -> Verdict {
        let Work::Route { event_id, run, .. } = incoming.message.work else {
            return Verdict::Dead(FailureCode::MessageUnreadable);
        };
        let batcher = if incoming.alone {
            &self.alone
        } else {
            &self.route
        };
        match batcher.submit(RouteRequest { event_id, run }).await {
            Ok(Routed::Stored) => Verdict::Done,
            Ok(Routed::NoSuchEvent) => Verdict::Dead(FailureCode::SubjectNotFound),
            Err(Rejected::Data) => Verdict::Dead(FailureCode::DataRefused),
            Err(Rejected::Panicked) => Verdict::Dead(FailureCode::Panicked),
            Err(Rejected::Unavailable | Rejected::Stopping) => Verdict::Hold,
        }
    }

    async fn dead(&self, item: DeadItem) -> Result<(), NotRecorded> {
        self.burial.bury(item).await
    }
}
