//! Which deliveries of a channel are taken and settled, and how far they may be acknowledged.
//!
//! `multiple` acknowledges everything up to a tag, so it may only name the end of the contiguous
//! settled prefix (design §2); what settles out of order waits here. Not without bound: unacknowledged
//! messages count against the prefetch, and one that takes long would shut the consumer for all
//! behind it. Once many wait behind one, they are acknowledged one by one.

use std::collections::VecDeque;

/// The deliveries of one channel.
pub(super) struct Ledger {
    taken: VecDeque<Entry>,
    /// How many are settled and not acknowledged.
    settled: usize,
    /// How many may be.
    patience: usize,
}

/// What may be acknowledged now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Acknowledgements {
    /// Everything up to this tag.
    pub(super) up_to: Option<u64>,
    /// These tags alone.
    pub(super) single: Vec<u64>,
}

struct Entry {
    tag: u64,
    published_ms: Option<i64>,
    settled: bool,
}

impl Ledger {
    /// A ledger that lets so many settled ones wait behind one that is not.
    pub(super) fn new(patience: usize) -> Self {
        Self {
            taken: VecDeque::new(),
            settled: 0,
            patience,
        }
    }

    /// A delivery arrived; tags of a channel only grow.
    pub(super) fn take(&mut self, tag: u64, published_ms: Option<i64>) {
        self.taken.push_back(Entry {
            tag,
            published_ms,
            settled: false,
        });
    }

    /// A delivery needs no more work. Unknown tags are ignored.
    pub(super) fn settle(&mut self, tag: u64) {
        if let Ok(index) = self.taken.binary_search_by_key(&tag, |entry| entry.tag)
            && !std::mem::replace(&mut self.taken[index].settled, true)
        {
            self.settled += 1;
        }
    }

    /// How many are settled and were not answered by [`Self::acknowledge`] yet.
    pub(super) const fn settled(&self) -> usize {
        self.settled
    }

    /// What to acknowledge, once.
    pub(super) fn acknowledge(&mut self) -> Acknowledgements {
        let mut now = Acknowledgements::default();
        while let Some(entry) = self.taken.pop_front_if(|entry| entry.settled) {
            now.up_to = Some(entry.tag);
            self.settled -= 1;
        }
        if self.settled > self.patience {
            self.taken.retain(|entry| {
                if entry.settled {
                    now.single.push(entry.tag);
                }
                !entry.settled
            });
            self.settled = 0;
        }
        now
    }

    /// The oldest publish time among what is not settled.
    pub(super) fn oldest_unsettled_ms(&self) -> Option<i64> {
        self.taken
            .iter()
            .filter(|entry| !entry.settled)
            .filter_map(|entry| entry.published_ms)
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_settles_out_of_order_waits_for_the_prefix() {
        let mut ledger = Ledger::new(2);
        for tag in 1..=4 {
            ledger.take(tag, None);
        }
        ledger.settle(2);
        ledger.settle(3);
        assert_eq!(ledger.acknowledge(), now(None, &[]));
        ledger.settle(1);
        assert_eq!(ledger.acknowledge(), now(Some(3), &[]));
        assert_eq!(ledger.acknowledge(), now(None, &[]));
        ledger.settle(4);
        assert_eq!(ledger.acknowledge(), now(Some(4), &[]));
    }

    #[test]
    fn one_that_takes_long_keeps_the_others_only_as_long_as_they_are_few() {
        let mut ledger = Ledger::new(2);
        for tag in 1..=6 {
            ledger.take(tag, Some(0));
        }
        for tag in [3, 5, 5] {
            ledger.settle(tag);
        }
        assert_eq!(ledger.acknowledge(), now(None, &[]));
        ledger.settle(2);
        assert_eq!(ledger.acknowledge(), now(None, &[2, 3, 5]));
        assert_eq!(ledger.acknowledge(), now(None, &[]));
        // A tag that is gone already settles nothing, and the prefix is told by what is left.
        for tag in [3, 1, 4] {
            ledger.settle(tag);
        }
        assert_eq!(ledger.acknowledge(), now(Some(4), &[]));
        assert_eq!(ledger.oldest_unsettled_ms(), Some(0));
        ledger.settle(6);
        assert_eq!(ledger.acknowledge(), now(Some(6), &[]));
    }

    fn now(up_to: Option<u64>, single: &[u64]) -> Acknowledgements {
        Acknowledgements {
            up_to,
            single: single.to_vec(),
        }
    }

    #[test]
    fn the_oldest_unsettled_is_told_by_publish_time_not_by_arrival() {
        let mut ledger = Ledger::new(9);
        ledger.take(1, Some(30));
        ledger.take(2, Some(10));
        ledger.take(3, None);
        assert_eq!(ledger.oldest_unsettled_ms(), Some(10));
        ledger.settle(2);
        assert_eq!(ledger.oldest_unsettled_ms(), Some(30));
    }
}
