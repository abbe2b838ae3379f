//! Business time. Leases never use it: they are set and compared by the database's own `now()`.

use chrono::{DateTime, Utc};

/// Where business time comes from; tests give their own.
pub trait Clock: Send + Sync + 'static {
    /// The moment, in UTC.
    fn now(&self) -> DateTime<Utc>;
}

/// The machine's clock, the one home of `Utc::now` (see `clippy.toml`).
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}
