//! The delivery-worker: tries deliveries, records what came of each try, and moves them by the
//! evidence that comes back.
//!
//! The walk: `consume` (takes work messages) → `deliver` (claim → ack → send → record) →
//! `driver` (one file per channel). Beside it: `receipt` (evidence → state), `dispatch` (what is
//! due → outbox), `release` (what accounts held → outbox), `slots` (shares the places to send from
//! between accounts), `reaper` (attempts without a result → unknown), `session` (asks after
//! sessions that are down), `retry` (when and whether to try again, pure).
//!
//! Must not know: rules, templates, sources. What it sends was decided and rendered before.

pub mod app;
pub mod cli;
mod consume;
mod deliver;
mod dispatch;
mod driver;
mod early;
mod metrics;
pub mod process;
mod reaper;
mod receipt;
mod record;
mod release;
mod retry;
mod session;
mod slots;

#[cfg(test)]
mod interleaving_tests;
#[cfg(test)]
mod lab_tests;
#[cfg(test)]
mod truth_tests;
#[cfg(test)]
mod unknown_tests;
