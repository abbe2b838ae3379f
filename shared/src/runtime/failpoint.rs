//! Points of the walk at which a test build can be made to die, as by `kill -9`.
//!
//! Invariant: they exist only in builds with the feature `failpoints`, which only the tests ask for;
//! elsewhere [`failpoint!`](crate::failpoint) is nothing at all.

#[cfg(feature = "failpoints")]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::Failpoint;

    /// The point and how often it must be reached: `POSTO_FAILPOINT=route_committed:3`.
    const VARIABLE: &str = "POSTO_FAILPOINT";

    struct Armed {
        point: Failpoint,
        reached: AtomicU32,
        fatal: u32,
    }

    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

    /// Counts that a point was reached; the process ends at once when it was reached often enough.
    ///
    /// # Panics
    /// The variable names no point: a test that cannot fail where it means to is broken.
    pub fn reach(point: Failpoint) {
        let Some(armed) = ARMED.get_or_init(arm) else {
            return;
        };
        if armed.point == point && armed.reached.fetch_add(1, Ordering::SeqCst) + 1 == armed.fatal {
            let _ = rustix::process::kill_process(
                rustix::process::getpid(),
                rustix::process::Signal::KILL,
            );
        }
    }

    fn arm() -> Option<Armed> {
        let asked = std::env::var(VARIABLE)
            .ok()
            .filter(|text| !text.is_empty())?;
        let (name, times) = asked.split_once(':').unwrap_or((&asked, "1"));
        let point = Failpoint::ALL.iter().find(|point| point.name() == name);
        let (Some(point), Ok(fatal)) = (point, times.parse()) else {
            panic!("{VARIABLE}={asked} names no failpoint");
        };
        Some(Armed {
            point: *point,
            reached: AtomicU32::new(0),
            fatal,
        })
    }
}

#[cfg(feature = "failpoints")]
pub use armed::reach;

/// Says that this place was reached; see [`Failpoint`].
#[cfg(feature = "failpoints")]
#[macro_export]
macro_rules! failpoint {
    ($point:ident) => {
        $crate::runtime::failpoint::reach($crate::runtime::failpoint::Failpoint::$point)
    };
}

/// Nothing: this build has no failpoints.
#[cfg(not(feature = "failpoints"))]
#[macro_export]
macro_rules! failpoint {
    ($point:ident) => {};
}

#[cfg(feature = "failpoints")]
macro_rules! failpoints {
    ($($variant:ident = $name:literal, $doc:literal;)+) => {
        /// The steps of the walk, each the moment after what its name says.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Failpoint { $(#[doc = $doc] $variant,)+ }

        impl Failpoint {
            /// Every point, for the chaos suite: it must reach each of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name in `POSTO_FAILPOINT`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

#[cfg(feature = "failpoints")]
failpoints! {
    AcceptBegun = "accept_begun", "Events were taken in and nothing of them is stored.";
    AcceptStored = "accept_stored", "Events are stored, their messages were offered to nobody.";
    AcceptOffered = "accept_offered", "Their messages were offered, their callers have no answer.";
    RelayTaken = "relay_taken", "Outbox rows were taken to be published.";
    RelayConfirmed = "relay_confirmed", "The broker confirmed messages, their rows still stand.";
    RelayDeleted = "relay_deleted", "Rows of confirmed messages were deleted.";
    SweepLeased = "sweep_leased", "The sweeper leased rows and published none of them.";
    RouteBegun = "route_begun", "Work messages were taken, no event is loaded.";
    RouteWritten = "route_written", "Decisions are written and not committed.";
    RouteCommitted = "route_committed", "Decisions are committed, their messages were offered to nobody.";
    RouteOffered = "route_offered", "Their messages were offered, the work messages are not acked.";
    ClaimBegun = "claim_begun", "Work messages were taken, nothing is claimed.";
    ClaimCommitted = "claim_committed", "Attempts are open, the work messages are not acked.";
    SendBegun = "send_begun", "An attempt's request is about to be written.";
    SendAnswered = "send_answered", "The gateway answered and nobody wrote it down.";
    RecordWritten = "record_written", "Results are written and not committed.";
    RecordCommitted = "record_committed", "Results are committed; receipts that waited for them were not looked for.";
    DueWritten = "due_written", "Due deliveries have outbox rows that are not committed.";
    DueCommitted = "due_committed", "They are committed and were offered to nobody.";
    ReleaseCommitted = "release_committed", "Held deliveries became due.";
    ReapWritten = "reap_written", "Lapsed attempts are concluded and not committed.";
    ReapCommitted = "reap_committed", "Lapsed attempts are concluded.";
    ReceiptWritten = "receipt_written", "Evidence moved deliveries and is not committed.";
    ReceiptCommitted = "receipt_committed", "Evidence moved deliveries, the work messages are not acked.";
    ChatWritten = "chat_written", "Chat messages are written and not committed.";
    ChatCommitted = "chat_committed", "Chat messages are committed, the work messages are not acked.";
    BurialWritten = "burial_written", "A letter is written and not committed.";
    BurialCommitted = "burial_committed", "A letter is committed, its message is not acked.";
}
