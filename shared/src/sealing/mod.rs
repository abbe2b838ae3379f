//! Encryption at rest of payloads and message texts (product 8.4): the keys, the form that a sealed value
//! has, and whether a process has the keys that the database asks for. Knows no table; the store seals what
//! it writes and opens what it reads.
//!
//! The cipher is XChaCha20-Poly1305: its nonce of 24 bytes is drawn at random for each value without any
//! chance of a second one, so that no process has to count. What is bound to a value besides: the version of
//! the form, the key's id, the column, and the id of the row. A sealed value that is moved into another row
//! or column, or that is changed by one bit, does not open.
//!
//! Without keys nothing is sealed, and nothing costs more than a look at the first bytes of a value.

mod args;
mod envelope;
mod keyring;
mod place;

pub use args::SealingArgs;
pub use envelope::sealed_with;
pub use keyring::{KEY_BYTES, Keyring, KeyringError, LONGEST_KEY_ID, OpenError, Registered};
pub use place::{Column, Place};

#[cfg(test)]
mod tests;
