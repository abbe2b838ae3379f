//! What the three processes of Posto share: the domain, the doors in, all SQL, the broker,
//! the client of the WPP Gateway and the running of a process.
//!
//! Entry rule: two binaries use it today and their disagreeing would be a bug (SQL is the one
//! exception, it lives here whole). Arrows: `store → domain ← source`; `broker → domain`,
//! `store::outbox`, `store::dead_letters`; `wpp → domain`; `runtime` knows none of the rooms'
//! insides. Kept by `tests/tests/architecture.rs`.

pub mod broker;
pub mod domain;
pub mod runtime;
pub mod source;
pub mod store;
pub mod wpp;
