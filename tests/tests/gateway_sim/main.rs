//! The gateway simulator, driven over real HTTP.

mod api;
mod faults;
mod incidents;
mod receiver;
mod restart;
mod sends;
