//! What the three processes of Posto share: the domain, the doors in, all SQL, the broker,
//! what goes out, the client of the WPP Gateway and the running of a process.
//!
//! Entry rule: two binaries use it today and their disagreeing would be a bug (SQL is the one
//! exception, it lives here whole). Arrows: `store → domain ← source`; `store → sealing`; `broker → domain`, `store`
//! (the relay its outbox; burial and reconciliation the rows that they speak for); `outbound → domain`;
//! `wpp → domain`, `outbound`; `runtime` knows none of the other rooms. Kept by `tests/tests/house.rs`.

pub mod broker;
pub mod domain;
pub mod outbound;
pub mod runtime;
pub mod sealing;
pub mod source;
pub mod store;
pub mod wpp;
