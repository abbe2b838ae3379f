//! PixelHub's own addresses: the same paths, parameters and answers (facts §7), with credentials, tenant
//! checks, and without their defects. A file per address; each turns what it is told into an event, and
//! reads Posto's own data.
//!
//! The walk: `visit` (who asks, for whom, and whether the module is Posto's at all) → the address's own file
//! → `answers` (what PixelHub said) or `upstream` (a module that is off is PixelHub's to answer).
//! `params`, `events`, `page` and `told` are pure; `described` mounts the addresses and says what they are.

mod answers;
mod described;
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

pub(crate) use described::describe;
pub use upstream::UpstreamArgs;
pub(crate) use upstream::{PASSED_ON, Upstream};

/// The source whose credential PixelHub's server shows.
pub(crate) const SOURCE: &str = "pixelhub";
/// The door's name, a metric label.
pub(crate) const DOOR: &str = "pixelhub";
