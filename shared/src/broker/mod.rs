//! The only code that knows AMQP: topology, the two connections, publishing, consuming, the relay
//! and the form of dead letters (design §3).
//!
//! Invariants: no type of the client library appears in a public signature; messages leave only
//! through [`relay`], from rows that are already committed (design §1.2). The relay itself knows no
//! SQL (it asks through [`relay::OutboxStore`]); [`outbox`], [`burial`], [`by_hand`], [`tidy`] and
//! [`reconcile`] bind it to the store.

pub mod args;
pub mod burial;
pub mod by_hand;
pub mod consumer;
pub mod dead;
pub mod dead_metrics;
pub mod health;
pub mod management;
pub mod outbox;
pub mod publisher;
pub mod reconcile;
pub mod relay;
pub mod session;
pub mod tidy;
pub mod topology;
pub mod witness;

mod broker_letters;
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

pub use args::BrokerArgs;
pub use consumer::{
    ConsumerConfig, ConsumerState, ConsumerView, DeadItem, Handler, Incoming, NotRecorded, Verdict,
    consume,
};
pub use session::Session;
pub use topology::Queue;
