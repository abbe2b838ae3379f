//! The places to send from, shared fairly between accounts: one number that is slow must not take
//! them all, nor fill what the consumer may have in hand (design §1.9).
//!
//! One rule serves both: *an account has at most so many times what it leaves free to others*. With
//! three times, one alone may have 48 of 64 places, two have 27 each and leave 10, and whoever comes
//! next always finds one as long as any is free. No rate, nothing to tune.
//!
//! An account that moves may have more wait than its share of the room: while it empties its queue
//! faster than somebody loses patience it is in nobody's way, and setting its messages aside as data
//! would cost more than the sends themselves. The first that loses patience makes it *slow*: it has
//! its share of the room alone until nothing of it waits any more, or so many were served without
//! another losing patience that it was a moment's hiccup.
//!
//! Knows accounts and lanes by name alone; what finds no place becomes data elsewhere.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::oneshot;

/// How many times what it leaves free an account may have of the places to send from.
const SHARE: usize = 3;
/// The lanes, by who is served first.
const LANES: usize = 3;
/// How many an account serves before it is no longer slow.
const PROBATION: u32 = 500;

/// All places of this process; clones share them.
#[derive(Clone)]
pub(crate) struct Slots(Arc<Mutex<Book>>);

/// A place to send from; given back when it is dropped.
pub(crate) struct Slot {
    slots: Slots,
    /// Whose it is, until it is given back.
    account: Option<String>,
}

/// What somebody who asks for a place is told.
pub(crate) enum Place {
    /// Here it is.
    Now(Slot),
    /// It comes in turn.
    Soon(Turn),
    /// It comes in turn, but not at any price: say so when it takes too long
    /// ([`Slots::lost_patience`]).
    Perhaps(Turn),
    /// The account has all that it may have, and enough of it waits.
    Full,
}

/// A place in the queue for a place; `None` when there will be none any more.
pub(crate) struct Turn(oneshot::Receiver<Slot>);

impl Future for Turn {
    type Output = Option<Slot>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(Result::ok)
    }
}

struct Book {
    /// Places to send from that nobody has.
    free: usize,
    /// Places to wait in that nobody has.
    room: usize,
    /// Counts what was granted, to serve equals in turn.
    granted: u64,
    accounts: HashMap<String, Account>,
}

#[derive(Default)]
struct Account {
    sending: usize,
    waiting: [VecDeque<Waiting>; LANES],
    /// When it was served last.
    served: u64,
    /// Above 0: somebody has waited too long for one of its places, and so many are to be served
    /// before that is forgotten.
    probation: u32,
}

struct Waiting {
    turn: oneshot::Sender<Slot>,
    /// Whether it has one of the places to wait in.
    has_room: bool,
}

impl Account {
    fn waits(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }

    /// The one that is served next, off the queue.
    fn next(&mut self) -> Option<Waiting> {
        let next = self.waiting.iter_mut().find_map(VecDeque::pop_front);
        self.probation = match self.waits() {
            0 => 0,
            _ => self.probation.saturating_sub(1),
        };
        next
    }

    fn is_slow(&self) -> bool {
        self.probation > 0
    }

    fn is_idle(&self) -> bool {
        self.sending == 0 && self.waits() == 0
    }
}

impl Slots {
    /// So many places to send from, and so many to wait in.
    pub(crate) fn new(sending: usize, waiting: usize) -> Self {
        Self(Arc::new(Mutex::new(Book {
            free: sending,
            room: waiting,
            granted: 0,
            accounts: HashMap::new(),
        })))
    }

    /// Asks for a place for a delivery of that account and lane.
    pub(crate) fn ask(&self, account: &str, lane: &str) -> Place {
        let mut book = self.book();
        let mine = book.accounts.get(account);
        let (sending, waits) = mine.map_or((0, 0), |mine| (mine.sending, mine.waits()));
        if waits == 0 && may_send(sending, book.free) {
            book.take(account);
            return Place::Now(self.slot(account));
        }
        let rank = rank(lane);
        let has_room = may_wait(rank, waits, book.room);
        if !has_room && mine.is_some_and(Account::is_slow) {
            return Place::Full;
        }
        let (sender, turn) = oneshot::channel();
        book.room -= usize::from(has_room);
        let mine = book.accounts.entry(account.to_owned()).or_default();
        mine.waiting[rank].push_back(Waiting {
            turn: sender,
            has_room,
        });
        if has_room {
            Place::Soon(Turn(turn))
        } else {
            Place::Perhaps(Turn(turn))
        }
    }

    /// Somebody gave up waiting for a place of this account.
    pub(crate) fn lost_patience(&self, account: &str) {
        if let Some(mine) = self.book().accounts.get_mut(account) {
            mine.probation = if mine.waits() > 0 { PROBATION } else { 0 };
        }
    }

    /// Takes a place back and gives places to those who may have one now.
    fn give_back(&self, account: &str) {
        let mut back = vec![account.to_owned()];
        while let Some(account) = back.pop() {
            let granted = {
                let mut book = self.book();
                book.release(&account);
                book.grant_all()
            };
            for (account, waiting) in granted {
                // Whoever has left the queue meanwhile gives the place back; not by dropping it
                // here, which would come back to this function once for each of them.
                if let Err(mut slot) = waiting.turn.send(self.slot(&account)) {
                    back.extend(slot.account.take());
                }
            }
        }
    }

    fn slot(&self, account: &str) -> Slot {
        Slot {
            slots: self.clone(),
            account: Some(account.to_owned()),
        }
    }

    /// The books stay right when somebody panics: nothing is half written under the lock.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(account) = self.account.take() {
            self.slots.give_back(&account);
        }
    }
}

impl Book {
    fn take(&mut self, account: &str) {
        self.free -= 1;
        self.granted += 1;
        let served = self.granted;
        let mine = self.accounts.entry(account.to_owned()).or_default();
        mine.sending += 1;
        mine.served = served;
    }

    fn release(&mut self, account: &str) {
        self.free += 1;
        if let Some(mine) = self.accounts.get_mut(account) {
            mine.sending -= 1;
            if mine.is_idle() {
                self.accounts.remove(account);
            }
        }
    }

    /// Gives each free place to the account that has the fewest of those that may have it; among
    /// equals to the one that was served longest ago.
    fn grant_all(&mut self) -> Vec<(String, Waiting)> {
        let mut granted = Vec::new();
        loop {
            let next = self
                .accounts
                .iter()
                .filter(|(_, it)| it.waits() > 0 && may_send(it.sending, self.free))
                .min_by_key(|(_, it)| (it.sending, it.served))
                .map(|(account, _)| account.clone());
            let Some(account) = next else { return granted };
            let first = self.accounts.get_mut(&account).and_then(Account::next);
            let Some(waiting) = first else { return granted };
            self.room += usize::from(waiting.has_room);
            self.take(&account);
            granted.push((account, waiting));
        }
    }
}

/// Whether an account that has `sending` places may have one of those that are free.
fn may_send(sending: usize, free: usize) -> bool {
    sending < SHARE * free
}

/// Whether a delivery may wait here, behind `waits` of its account. A crowd of a lower lane always
/// leaves room for a higher one.
fn may_wait(rank: usize, waits: usize, room: usize) -> bool {
    match rank {
        0 => waits < room,
        1 => 4 * waits < 3 * room,
        _ => 2 * waits < room,
    }
}

/// The place of a lane; a message that names none is as urgent as a notice.
fn rank(lane: &str) -> usize {
    match lane {
        "reply" => 0,
        "bulk" => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Asks until it is told to wait; answers what it got.
    fn fill(slots: &Slots, account: &str) -> Vec<Slot> {
        std::iter::from_fn(|| match slots.ask(account, "notice") {
            Place::Now(slot) => Some(slot),
            _ => None,
        })
        .collect()
    }

    /// The only place, where there is one.
    fn the_only(slots: &Slots, account: &str) -> Vec<Slot> {
        match slots.ask(account, "notice") {
            Place::Now(slot) => vec![slot],
            _ => panic!("it is free"),
        }
    }

    /// Queues until it is full, for an account that is slow; answers who waits.
    fn crowd(slots: &Slots, account: &str, lane: &str) -> Vec<Turn> {
        std::iter::from_fn(|| match slots.ask(account, lane) {
            Place::Soon(turn) => {
                slots.lost_patience(account);
                Some(turn)
            }
            _ => None,
        })
        .collect()
    }

    #[test]
    fn one_alone_has_most_and_each_newcomer_still_finds_some() {
        let slots = Slots::new(64, 0);
        let mut held = Vec::new();
        let mut got = Vec::new();
        for account in ["a", "b", "c"] {
            let mine = fill(&slots, account);
            got.push(mine.len());
            held.push(mine);
        }
        assert_eq!(got, [48, 12, 3]);
    }

    #[test]
    fn few_places_are_shared_too() {
        for (places, most) in [(1, 1), (2, 2), (3, 3), (4, 3), (8, 6)] {
            assert_eq!(fill(&Slots::new(places, 0), "a").len(), most, "of {places}");
        }
    }

    #[test]
    fn a_crowd_leaves_room_for_others_and_for_higher_lanes() {
        let slots = Slots::new(1, 500);
        let _sending = the_only(&slots, "a");
        let bulk = crowd(&slots, "a", "bulk");
        let notices = crowd(&slots, "a", "notice");
        let replies = crowd(&slots, "a", "reply");
        assert_eq!((bulk.len(), notices.len(), replies.len()), (167, 48, 35));
        assert!(!crowd(&slots, "b", "bulk").is_empty(), "others wait beside");
    }

    #[test]
    fn an_account_that_moves_may_have_all_wait_until_one_loses_patience() {
        let slots = Slots::new(1, 4);
        let mut sending = the_only(&slots, "a");
        let mut turns: Vec<_> = (0..100)
            .map(|_| match slots.ask("a", "notice") {
                Place::Soon(turn) | Place::Perhaps(turn) => turn,
                _ => panic!("it may wait"),
            })
            .collect();
        assert_eq!(slots.book().room, 2, "the room itself is shared as ever");
        drop(turns.pop());
        slots.lost_patience("a");
        assert!(matches!(slots.ask("a", "notice"), Place::Full));
        for turn in &mut turns {
            sending.clear();
            sending.push(turn.0.try_recv().expect("each in turn"));
        }
        sending.clear();
        assert!(slots.book().accounts.is_empty());
        let _sending = the_only(&slots, "a");
        let _turns: Vec<_> = (0..9).map(|_| slots.ask("a", "notice")).collect();
        assert!(
            matches!(slots.ask("a", "notice"), Place::Perhaps(_)),
            "it moves again"
        );
    }

    #[test]
    fn a_hiccup_is_forgotten_when_enough_were_served_since() {
        let slots = Slots::new(1, 4);
        let mut sending = the_only(&slots, "a");
        let ask = || match slots.ask("a", "notice") {
            Place::Soon(turn) | Place::Perhaps(turn) => Some(turn),
            Place::Full => None,
            Place::Now(_) => panic!("others wait"),
        };
        let mut turns: VecDeque<_> = (0..600).filter_map(|_| ask()).collect();
        slots.lost_patience("a");
        for served in 0..PROBATION {
            assert!(ask().is_none(), "slow, {served} served since");
            sending.clear();
            let mut turn = turns.pop_front().expect("enough wait");
            sending.push(turn.0.try_recv().expect("each in turn"));
        }
        assert!(ask().is_some(), "it moves");
    }

    #[test]
    fn replies_are_served_before_notices_before_bulk_and_each_in_turn() {
        let slots = Slots::new(1, 500);
        let mut sending = the_only(&slots, "a");
        let asked = ["bulk", "notice", "reply", "bulk", "reply"];
        let mut turns: Vec<_> = asked
            .iter()
            .map(|lane| match slots.ask("a", lane) {
                Place::Soon(turn) => (*lane, turn),
                _ => panic!("there is room to wait"),
            })
            .collect();
        let mut served = Vec::new();
        while !turns.is_empty() {
            sending.clear();
            let at = turns.iter_mut().position(|(_, turn)| {
                turn.0.try_recv().is_ok_and(|slot| {
                    sending.push(slot);
                    true
                })
            });
            served.push(turns.remove(at.expect("one is served")).0);
        }
        assert_eq!(served, ["reply", "reply", "notice", "bulk", "bulk"]);
    }

    #[test]
    fn whoever_left_the_queue_gives_the_place_to_the_next() {
        let slots = Slots::new(1, 500);
        let sending = the_only(&slots, "a");
        let left = crowd(&slots, "a", "notice");
        let Place::Soon(mut stayed) = slots.ask("b", "notice") else {
            panic!("there is room to wait")
        };
        drop(left);
        drop(sending);
        assert!(stayed.0.try_recv().is_ok());
        let book = slots.book();
        assert_eq!((book.free, book.room), (1, 500));
        assert!(
            book.accounts.is_empty(),
            "nothing is remembered of who is gone"
        );
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Asks,
        GivesBack,
        LosesPatience,
    }

    /// What the accounts do, in turn.
    fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
        use Step::{Asks, GivesBack, LosesPatience};
        let step = prop_oneof![6 => Just(Asks), 5 => Just(GivesBack), 1 => Just(LosesPatience)];
        proptest::collection::vec((0usize..5, step), 0..400)
    }

    proptest! {
        #[test]
        fn no_place_is_lost_or_made_and_nobody_has_more_than_the_rule_allows(
            places in 1usize..70, steps in steps(),
        ) {
            let slots = Slots::new(places, 20);
            let mut sending: Vec<Vec<Slot>> = (0..5).map(|_| Vec::new()).collect();
            // With whether it has room.
            let mut waiting: Vec<Vec<(Turn, bool)>> = (0..5).map(|_| Vec::new()).collect();
            for (account, step) in steps {
                let name = account.to_string();
                match step {
                    Step::Asks => match slots.ask(&name, "notice") {
                        Place::Now(slot) => {
                            sending[account].push(slot);
                            let free = slots.book().free;
                            prop_assert!(sending[account].len() <= SHARE * (free + 1));
                        }
                        Place::Soon(turn) => waiting[account].push((turn, true)),
                        Place::Perhaps(turn) => waiting[account].push((turn, false)),
                        Place::Full => prop_assert!(slots.book().accounts[&name].is_slow()),
                    },
                    Step::GivesBack => {
                        sending[account].pop();
                    }
                    Step::LosesPatience => {
                        if let Some(at) = waiting[account].iter().position(|(_, room)| !room) {
                            waiting[account].remove(at);
                            slots.lost_patience(&name);
                        }
                    }
                }
                for account in 0..5 {
                    waiting[account].retain_mut(|(turn, _)| match turn.0.try_recv() {
                        Ok(slot) => { sending[account].push(slot); false }
                        Err(_) => true,
                    });
                }
                let out: usize = sending.iter().map(Vec::len).sum();
                let queued = waiting.iter().flatten().filter(|(_, room)| *room).count();
                let book = slots.book();
                prop_assert_eq!(book.free + out, places);
                prop_assert_eq!(book.room + queued, 20);
                // Nobody waits who may send.
                for (name, account) in &book.accounts {
                    prop_assert!(account.waits() == 0 || !may_send(account.sending, book.free), "{}", name);
                }
            }
        }
    }
}
