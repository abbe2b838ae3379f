//! What leaves when: two numbers that do not delay each other, a backlog that drains in order, one
//! release leader at a time, replies in the order of their thread, and retries that are never early.

mod draining;
mod leaders;
mod numbers;
mod replies;
mod retries;
mod two_numbers;
