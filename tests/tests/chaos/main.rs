//! Chaos: the real processes, the real broker and the real database, killed, cut off, restarted and
//! wiped while at least 200 events are under way. Every scenario ends with the same verdict
//! (`verdict`): the ledger is in balance, and every message is at the gateway exactly once, or its
//! delivery is *unknown* and was never sent again blindly.
//!
//! `./tests/run chaos` runs all of it; those named `brief_…` also run by default.

mod broker;
mod database;
mod gateway;
mod messages;
mod rig;
mod servers;
mod services;
mod steps;
mod traffic;
mod verdict;
