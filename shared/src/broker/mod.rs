//! The only code that knows AMQP: topology, the two connections, publishing, consuming, the relay
//! and the form of dead letters (design §3).
//!
//! Invariants: no type of the client library appears in a public signature; nothing here knows
//! SQL (the relay asks for it through [`relay::OutboxStore`]); messages leave only through
//! [`relay`], from rows that are already committed (design §1.2).

pub mod consumer;
pub mod dead;
pub mod health;
pub mod publisher;
pub mod relay;
pub mod session;
pub mod topology;

mod confirms;
mod consume_channel;
mod consume_loop;
mod declare;
mod headers;
mod ledger;
mod link;
mod parcel;
mod relay_metrics;
mod socket;
mod sweeper;
