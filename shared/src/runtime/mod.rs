//! The running of a process: settings, logs, the database pool, stopping, probes and metrics,
//! and the batcher that turns many small commits into few.
//!
//! Knows nothing of what the processes do.

pub mod batcher;
pub mod cli;
pub mod clock;
pub mod failpoint;
pub mod lifecycle;
pub mod memory;
pub mod ops;
mod pace;
pub mod telemetry;
pub mod vitals;
