//! Which deliveries of a channel are taken and settled, and how far they may be acknowledged.
//!
//! `multiple` acknowledges everything up to a tag, so it may only name the end of the contiguous
//! settled prefix (design §2); what settles out of order waits here.

use std::collections::VecDeque;

/// The deliveries of one channel.
#[derive(Default)]
pub(super) struct Ledger {
    taken: VecDeque<Entry>,
}

struct Entry {
    tag: u64,
    published_ms: Option<i64>,
    settled: bool,
}

impl Ledger {
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
        if let Ok(index) = self.taken.binary_search_by_key(&tag, |entry| entry.tag) {
            self.taken[index].settled = true;
        }
    }

    /// The tag to acknowledge up to, once; `None` when nothing new may be acknowledged.
    pub(super) fn acknowledge(&mut self) -> Option<u64> {
        let mut last = None;
        while let Some(entry) = self.taken.pop_front_if(|entry| entry.settled) {
            last = Some(entry.tag);
        }
        last
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
        let mut ledger = Ledger::default();
        for tag in 1..=4 {
            ledger.take(tag, None);
        }
        ledger.settle(2);
        ledger.settle(3);
        assert_eq!(ledger.acknowledge(), None);
        ledger.settle(1);
        assert_eq!(ledger.acknowledge(), Some(3));
        assert_eq!(ledger.acknowledge(), None);
        ledger.settle(4);
        assert_eq!(ledger.acknowledge(), Some(4));
    }

    #[test]
    fn the_oldest_unsettled_is_told_by_publish_time_not_by_arrival() {
        let mut ledger = Ledger::default();
        ledger.take(1, Some(30));
        ledger.take(2, Some(10));
        ledger.take(3, None);
        assert_eq!(ledger.oldest_unsettled_ms(), Some(10));
        ledger.settle(2);
        assert_eq!(ledger.oldest_unsettled_ms(), Some(30));
    }
}
