//! How soon a run may follow those before it: a bucket of tokens, pure.

use std::time::Duration;

use tokio::time::Instant;

/// Lets runs begin as they come while they are rare, and at most one in `interval` once `burst` of them
/// came faster than that (the generic cell rate algorithm, ITU-T I.371).
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    tolerance: Duration,
    /// When the bucket would be full again.
    full_at: Instant,
}

impl Pace {
    /// A full bucket of `burst` tokens, one of which comes back in each `interval`.
    pub(super) fn new(interval: Duration, burst: u32, now: Instant) -> Self {
        Self {
            interval,
            tolerance: interval * burst.saturating_sub(1),
            full_at: now,
        }
    }

    /// The soonest moment at which the next run may begin; in the past when it may begin at once.
    pub(super) fn next(&self) -> Instant {
        self.full_at
            .checked_sub(self.tolerance)
            .unwrap_or(self.full_at)
    }

    /// Takes the token of a run that begins now.
    pub(super) fn begin(&mut self, now: Instant) {
        self.full_at = self.full_at.max(now) + self.interval;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Begins runs that are wanted one in each `every`, as soon as they may; answers how long each waited.
    fn waits(every: Duration, runs: u32) -> Vec<Duration> {
        let start = Instant::now();
        let mut pace = Pace::new(4 * MS, 8, start);
        let mut free = start;
        (0..runs)
            .map(|n| {
                let wanted = start + every * n;
                let begun = wanted.max(pace.next()).max(free);
                pace.begin(begun);
                free = begun;
                begun - wanted
            })
            .collect()
    }

    #[test]
    fn runs_that_are_rare_never_wait() {
        assert!(waits(5 * MS, 1_000).iter().all(Duration::is_zero));
    }

    #[test]
    fn a_few_at_once_do_not_wait_and_those_after_them_are_an_interval_apart() {
        let waits = waits(Duration::ZERO, 12);
        assert!(waits[..8].iter().all(Duration::is_zero), "{waits:?}");
        assert_eq!(waits[8..], [4 * MS, 8 * MS, 12 * MS, 16 * MS]);
    }

    #[test]
    fn many_begin_no_faster_than_one_in_an_interval() {
        let waits = waits(MS, 1_000);
        let last = MS * 999 + waits[999];
        assert!(last >= 4 * MS * (999 - 8), "the last began after {last:?}");
    }
}
