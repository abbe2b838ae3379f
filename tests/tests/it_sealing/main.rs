//! Encryption at rest, through a whole Posto.

mod at_rest;
mod rotation;
mod start;
mod support;
