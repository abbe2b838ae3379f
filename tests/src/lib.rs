//! End-to-end tests of Posto and the tools they share with the demo.

pub mod gateway_sim;
pub mod load;
mod plain_http;
pub mod service;
pub mod world;
