//! The gateway simulator, driven over real HTTP.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails, and unwrap says where"
)]

mod api;
mod faults;
mod incidents;
mod receiver;
mod restart;
mod sends;
