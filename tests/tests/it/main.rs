//! End-to-end scenarios: real PostgreSQL, real RabbitMQ, real HTTP, the gateway simulator.

mod chat;
mod explained;
mod gateway_door;
mod idempotency;
mod personal_data;
mod the_walk;
