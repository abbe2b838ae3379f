//! The pure heart: what the words of the product mean and which changes of state are lawful.
//!
//! Invariant: no async, no I/O, no clock and no chance in here; time and randomness come in as
//! arguments. Nothing here knows how it is stored, sent or received.

pub mod address;
pub mod channel;
pub mod credential;
pub mod delivery;
pub mod directory;
pub mod event;
pub mod expression;
pub mod failure;
pub mod ids;
pub mod mask;
pub mod message;
pub mod module;
pub mod network;
pub mod personal;
pub mod redrive;
pub mod rule;
pub mod template;
pub mod text;
