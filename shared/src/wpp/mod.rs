//! The client of the WPP Gateway, the wrapper over WPPConnect that owns the WhatsApp sessions.
//!
//! Owns what the gateway says on the wire and what each answer means: [`classify`] is the one
//! place that decides whether a message left, did not leave, or may have left. Knows nothing of
//! deliveries, retries, pace, tenants or the store; who calls decides what to do with an outcome.
//!
//! Invariants:
//! - A request is written at most once. Nothing in here repeats a send: the gateway has no
//!   idempotency header and sends twice when asked twice (facts §1.2).
//! - Doubt is *unknown*. An answer that proves neither acceptance nor refusal is of the class
//!   [`UnknownOutcome`](crate::domain::failure::FailureClass::UnknownOutcome).
//! - The gateway's words leave this module only scrubbed and shortened.

mod classify;
mod client;
mod config;
mod error;
mod excerpt;
mod exchange;
mod ids;
mod retry_after;
mod session;
mod texts;

#[cfg(test)]
mod classify_tests;
#[cfg(test)]
mod client_tests;
#[cfg(test)]
mod wire_tests;

pub use classify::{Answer, SendOutcome, classify};
pub use client::{SendText, WppClient};
pub use config::{WppArgs, WppConfig, WppConfigError};
pub use error::{Operation, WppError};
pub use retry_after::{MAX_RETRY_AFTER, parse_retry_after};
pub use session::{GatewayChannel, SessionState, SessionStatus};
