//! PixelHub's own addresses: the same paths, parameters and answers (facts §7), with credentials, tenant
//! checks, and without their defects. A file per address; each turns what it is told into an event, and
//! reads Posto's own data.
//!
//! The walk: `visit` (who asks, for whom, and whether the module is Posto's at all) → the address's own file
//! → `answers` (what PixelHub said) or `upstream` (a module that is off is PixelHub's to answer).
//! `params`, `events`, `page` and `told` are pure.

mod answers;
mod entry;
mod events;
mod generic_log;
mod message;
mod messages;
mod order;
mod page;
mod params;
mod timeline;
mod told;
mod upstream;
mod visit;

use crate::api::ApiState;
use crate::routes::Routes;
pub use upstream::UpstreamArgs;
pub(crate) use upstream::{PASSED_ON, Upstream};

/// The source whose credential PixelHub's server shows.
pub(crate) const SOURCE: &str = "pixelhub";
/// The door's name, a metric label.
pub(crate) const DOOR: &str = "pixelhub";

/// PixelHub's addresses.
pub(crate) fn routes() -> Routes<ApiState> {
    Routes::new()
        .post("/tenants/whatsapp-generic-log", generic_log::post)
        .get("/tenants/whatsapp-timeline-ajax", timeline::get)
        .get("/chat/order", order::get)
        .post("/chat/message", message::post)
        .get("/chat/messages", messages::get)
}
