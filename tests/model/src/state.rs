//! What the model remembers: one delivery with its rows, what the broker and the processes hold,
//! and what a witness of everything would have counted.
//!
//! One delivery is enough: deliveries share no row but their account's, and no step of one looks at
//! another's. What others do to it is here as faults: copies, losses, lookers that are late.

use std::num::NonZeroU8;

use shared::domain::delivery::DeliveryState;

use crate::bag::Bag;

/// Attempts that fit.
pub(crate) const ATTEMPTS: usize = 6;
/// Generations that fit.
pub(crate) const GENERATIONS: usize = 5;

/// Everything.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct State {
    /// The row in `deliveries`.
    pub row: Row,
    /// The rows in `delivery_attempts`, by number.
    pub attempts: [Option<Attempt>; ATTEMPTS],
    /// The rows in `dead_letters`, by generation.
    pub letters: [Option<Letter>; GENERATIONS],
    /// The rows in `outbox`.
    pub outbox: Bag<OutboxRow, 6>,
    /// The work queue.
    pub queue: Bag<Message, 6>,
    /// The dead queue.
    pub dead_queue: Bag<Message, 4>,
    /// The senders, sorted: they are all alike.
    pub senders: [Sender; 2],
    /// An attempt that a reaper found lapsed and has not concluded yet.
    pub reaper_saw: Option<u8>,
    /// The account cannot send.
    pub account_down: bool,
    /// How far the payment has come.
    pub payment: Payment,
    /// What only a witness of everything knows.
    pub seen: Seen,
    /// How many faults may still happen.
    pub faults_left: u8,
    /// How often a person may still step in.
    pub people_left: u8,
}

/// The delivery.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Row {
    /// Its state, with the product's own transitions.
    pub state: DeliveryState,
    /// Its generation.
    pub generation: u8,
    /// Attempts made, over all generations.
    pub attempt_count: u8,
    /// Retries used.
    pub retry_count: u8,
    /// When the next attempt is due.
    pub next: Next,
}

/// `next_attempt_at`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Next {
    /// A message for it is out.
    Dispatched,
    /// In the future.
    Later,
    /// By now.
    Due,
}

/// A try.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Attempt {
    /// The generation it was claimed in.
    pub generation: u8,
    /// What it came to.
    pub outcome: Outcome,
    /// How its lease stands.
    pub lease: Lease,
}

/// `delivery_attempts.outcome`, as far as it makes a difference.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// No result yet.
    Open,
    /// No result will come, or it said nothing.
    Unknown,
    /// The gateway took it.
    Sent,
    /// `retry`, `held`, `failed` or `not_sent`: known not to have left.
    Closed,
}

/// The lease of an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Lease {
    /// A request that begins now ends within it.
    Fresh,
    /// More than half of its margin is gone.
    Half,
    /// Over.
    Lapsed,
}

/// `dead_letters.state`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Letter {
    /// It waits for a person.
    Dead,
    /// It was redriven.
    Redriven,
    /// A person wants no more of it.
    Discarded,
    /// Its subject went on by another way.
    Superseded,
}

/// A message, in the broker or on its way there. One byte, since there may be many: the generation
/// it was made for, the attempt it asks for, and whether it is a letter that a person moved back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Message(NonZeroU8);

impl Message {
    const MOVED: u8 = 0x80;

    /// The message for an attempt, which is numbered from one.
    #[must_use]
    pub fn new(generation: u8, attempt: u8) -> Self {
        debug_assert!(generation < 8 && (1..16).contains(&attempt));
        let packed = NonZeroU8::new(generation << 4 | attempt);
        Self(packed.expect("because attempts are numbered from one"))
    }

    /// The generation it was made for.
    #[must_use]
    pub const fn generation(self) -> u8 {
        (self.0.get() & !Self::MOVED) >> 4
    }

    /// The attempt it asks for.
    #[must_use]
    pub const fn attempt(self) -> u8 {
        self.0.get() & 0x0F
    }

    /// True for a letter that a person moved back.
    #[must_use]
    pub const fn is_by_hand(self) -> bool {
        self.0.get() & Self::MOVED != 0
    }

    /// The letter, moved to the work queue by a person.
    #[must_use]
    pub fn moved(self) -> Self {
        Self(self.0 | Self::MOVED)
    }

    /// The letter, where it belongs.
    #[must_use]
    pub fn back(self) -> Self {
        Self::new(self.generation(), self.attempt())
    }
}

/// A row of the outbox.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct OutboxRow {
    /// What is to leave.
    pub message: Message,
    /// To the dead queue instead of the work queue.
    pub letter: bool,
    /// `available_at` is in the past: the sweeper may take it.
    pub lapsed: bool,
    /// A publisher has it in memory and is going to publish it.
    pub copy: bool,
    /// The broker confirmed it; the row is going to be deleted.
    pub confirmed: bool,
    /// There is no row, only the copy (a broken rule).
    pub only_copy: bool,
}

/// One sender of a delivery-worker.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Sender {
    /// A message that was taken.
    pub taken: Taken,
    /// An attempt under way.
    pub task: Option<Task>,
}

impl Sender {
    /// Nothing to do.
    pub const IDLE: Self = Self {
        taken: Taken::Nothing,
        task: None,
    };
}

/// A message that a sender took.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Taken {
    /// None.
    Nothing,
    /// Claimed, and not acknowledged: it comes again when the connection is lost.
    Unacked(Message),
    /// Acknowledged before it claimed anything (a broken rule).
    Forgotten(Message),
}

/// An attempt under way in memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Task {
    /// Its number.
    pub number: u8,
    /// How far it is.
    pub stage: Stage,
}

/// How far an attempt is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Stage {
    /// Claimed; the request has not begun.
    Claimed,
    /// The request is on the wire.
    OnWire,
    /// There is a result, not recorded yet.
    Answered(Answer),
}

/// What an attempt came to, in the memory of its sender.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Answer {
    /// The gateway took it.
    Sent,
    /// Not sent, for a reason that passes.
    Transient,
    /// Not sent, for a reason that stays: given up.
    Content,
    /// Not sent, says the gateway: there is no such recipient.
    Recipient,
    /// Not sent: the session is down.
    SessionDown,
    /// No answer, or one that says nothing.
    Unclear,
    /// The request was never begun.
    NotBegun,
}

/// A payment of the invoice that the delivery reminds of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Payment {
    /// None.
    None,
    /// Accepted: committed with the guard of its invoice.
    Accepted,
    /// Routed too: what waited is cancelled.
    Routed,
}

/// What only a witness of everything knows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Seen {
    /// Requests that are possibly out and that nobody asked for beyond the first: counted anew
    /// when the policy or a person asks for a resend.
    pub possibly_out: u8,
    /// The message did reach the recipient's side, so that evidence of it may come.
    pub out: bool,
    /// The gateway's word that it took the message was recorded.
    pub recorded_sent: bool,
    /// WhatsApp said that it failed after all.
    pub provider_failed: bool,
    /// A person or the policy asked for a resend.
    pub resend_asked: bool,
    /// The broker's letter had its one more try.
    pub retried_alone: bool,
}

impl State {
    /// A delivery that was just planned: its row and its outbox row are committed.
    #[must_use]
    pub fn planned(faults: u8, people: u8) -> Self {
        Self {
            row: Row {
                state: DeliveryState::Queued,
                generation: 0,
                attempt_count: 0,
                retry_count: 0,
                next: Next::Dispatched,
            },
            attempts: [None; ATTEMPTS],
            letters: [None; GENERATIONS],
            outbox: Bag::EMPTY,
            queue: Bag::EMPTY,
            dead_queue: Bag::EMPTY,
            senders: [Sender::IDLE; 2],
            reaper_saw: None,
            account_down: false,
            payment: Payment::None,
            seen: Seen {
                possibly_out: 0,
                out: false,
                recorded_sent: false,
                provider_failed: false,
                resend_asked: false,
                retried_alone: false,
            },
            faults_left: faults,
            people_left: people,
        }
    }

    /// The attempt of that number.
    #[must_use]
    pub fn attempt(&self, number: u8) -> Option<Attempt> {
        *self.attempts.get(usize::from(number).checked_sub(1)?)?
    }

    /// Where the attempt of that number stands, to change it.
    pub fn attempt_mut(&mut self, number: u8) -> Option<&mut Attempt> {
        self.attempts
            .get_mut(usize::from(number).checked_sub(1)?)?
            .as_mut()
    }

    /// The letter of the delivery's own generation.
    #[must_use]
    pub fn letter(&self) -> Option<Letter> {
        self.letters[usize::from(self.row.generation)]
    }

    /// The message that asks for the next attempt.
    #[must_use]
    pub fn next_message(&self) -> Message {
        Message::new(self.row.generation, self.row.attempt_count + 1)
    }

    /// True when an attempt has no known outcome: the message may have left.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        self.attempts
            .iter()
            .flatten()
            .any(|attempt| matches!(attempt.outcome, Outcome::Open | Outcome::Unknown))
    }

    /// Requests on the wire right now.
    #[must_use]
    pub fn on_wire(&self) -> usize {
        self.tasks()
            .filter(|task| task.stage == Stage::OnWire)
            .count()
    }

    /// Attempts under way.
    pub fn tasks(&self) -> impl Iterator<Item = Task> + '_ {
        self.senders.iter().filter_map(|sender| sender.task)
    }
}
