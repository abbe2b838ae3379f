//! The broker's part against a real RabbitMQ: `AMQP_URL` names it. Each test has a topology of
//! its own (random prefix) and removes it afterwards.

#![allow(clippy::unwrap_used)]

mod consuming;
mod holding;
mod outage;
mod publishing;
mod relaying;
mod support;
