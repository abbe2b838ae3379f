//! Who a message comes from or goes to: phones, WhatsApp ids and message ids. The one parser of
//! each (facts §8, incident 27).
//!
//! Invariant: the address that a provider gave is kept as it came and is what we send to; it is
//! never rewritten. Two addresses are compared by their *match key*, which does not see the ninth
//! digit (facts §5.1, conventions D6). Printing an address shows it masked; `expose` does not.

mod jid;
mod message_key;
mod phone;

pub use jid::{InvalidJid, Jid, JidKind, contact_key_of};
pub use message_key::{InvalidMessageKey, MessageKey};
pub(crate) use phone::is_area_code;
pub use phone::{InvalidPhone, Phone};

/// Longer texts are no address; the bound keeps the parsers cheap on hostile input.
const LONGEST_ADDRESS: usize = 128;

#[cfg(test)]
mod tests;
