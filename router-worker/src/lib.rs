//! The router-worker: decides what each event leads to, and writes that decision down.
//!
//! The walk: `consume` (takes work messages) → `route` (load → normalise → decide → commit) →
//! `plan` (the pure decision: rules, tenant) → `recipient` and `render` (whom, through which
//! account, in which words).
//!
//! Must not know: how anything is sent, or how a door authenticates.

pub mod app;
pub mod cli;
mod consume;
mod decide;
mod hearing;
mod letters;
mod metrics;
mod plan;
#[cfg(test)]
mod plan_tests;
pub mod process;
mod recipient;
mod reconsider;
mod render;
mod replan;
mod route;
