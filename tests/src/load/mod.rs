//! Measures a whole Posto under load: the three services, PostgreSQL and RabbitMQ as real processes
//! on this machine, posts over HTTP, and the gateway simulator at the far end.
//!
//! A *figure* says what is done and what of it is told; running it once is a *trial*. The tool and
//! the simulator share the machine's cores with what they measure: their CPU is shown, and not counted.
//! `docs/performance.md` has what came of it.

pub mod arrivals;
pub mod event;
pub mod figure;
pub mod fleet;
pub mod history;
pub mod latency;
pub mod post;
pub mod processes;
pub mod report;
pub mod strangers;
pub mod trial;
