//! Every step that the protocol, the world or a person may take.

use std::fmt;

use shared::domain::delivery::Evidence;

use crate::state::{Answer, Lease, Message, OutboxRow};

/// One atomic step: a transaction, a message, a loss.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// A publisher publishes a row and gets its confirm.
    Publish(OutboxRow),
    /// A confirmed row is deleted.
    Delete(OutboxRow),
    /// The lease of a row that nobody has in memory ends.
    RowLapses(OutboxRow),
    /// The sweeper leases a lapsed row.
    Sweep(OutboxRow),
    /// A sender takes a message from the queue and claims with it.
    Consume(usize, Message),
    /// A sender acknowledges a message that it has done nothing with yet (a broken rule).
    AckFirst(usize, Message),
    /// It claims with it.
    ClaimForgotten(usize),
    /// A sender acknowledges what it claimed with.
    Ack(usize),
    /// A sender begins the request.
    Begin(usize),
    /// A sender does not begin it: too much of the lease is gone.
    GiveBack(usize),
    /// The gateway takes the message and says so.
    Accept(usize),
    /// A sender records its result.
    Record(usize),
    /// The lease of an attempt ends.
    LeaseLapses(u8),
    /// The reaper concludes a lapsed attempt.
    Reap(u8),
    /// A reaper concludes what it found lapsed some time ago.
    ReapLate,
    /// The policy sends an unknown once more.
    ResendByPolicy,
    /// The time of the next attempt comes.
    TimePasses,
    /// The due-scanner moves the delivery to the outbox.
    TakeDue,
    /// The account can send again.
    AccountUp,
    /// What is held is released.
    Release,
    /// The reconciler gives a lost delivery a new message.
    Reconcile,
    /// The payment is routed: what waits is cancelled.
    RoutePayment,
    /// What really happened is told by an echo or an ack.
    Evidence(Evidence),
    /// Something goes wrong.
    Fault(Fault),
    /// A person steps in.
    Person(Person),
}

/// What may go wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A process ends between commit and publish, or between confirm and delete.
    PublisherDies,
    /// A publish does not reach the broker.
    PublishLost(OutboxRow),
    /// A publish reaches the broker, its confirm does not come back.
    ConfirmLost(OutboxRow),
    /// A publisher is slower than its row's lease.
    PublisherSlow(OutboxRow),
    /// The connection breaks: what is not acknowledged comes again.
    Redelivered(usize),
    /// A delivery-worker is killed; true: the request that was on the wire arrives nonetheless.
    Killed(usize, bool),
    /// A delivery-worker stands still, or cannot reach the database, for that much of the lease.
    Paused(u8, Lease),
    /// The gateway answers something else; true: although the message goes out.
    Answers(usize, Answer, bool),
    /// A delivery-worker is asked to stop.
    Stopped(usize),
    /// A result is committed, and its sender does not learn of it: it records again.
    CommitUnseen(usize),
    /// The account's session goes down.
    AccountDown,
    /// The broker loses all its data.
    BrokerWiped,
    /// The reconciler takes a message for lost that is not.
    Misjudged,
    /// A reaper reads that an attempt lapsed, and is then slow.
    ReaperSlow(u8),
    /// A message is given up: by its consumer, or (true) by the broker, at the delivery limit.
    GivenUp(Message, bool),
}

/// What a person may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Person {
    /// Redrives the dead letter; true: with force.
    Redrives(bool),
    /// Moves a letter back with the management UI.
    Shovels(Message),
    /// Discards the dead letter.
    Discards,
    /// Says of an unknown that it arrived.
    FindsDelivered,
    /// Says of an unknown that it did not arrive.
    FindsNotDelivered,
    /// Says that it did not arrive and is to be sent again.
    FindsNotDeliveredAndResends,
    /// Pays the invoice.
    Pays,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Publish(row) => write!(f, "{row} is published and confirmed"),
            Self::Delete(row) => write!(f, "the outbox row of {row} is deleted"),
            Self::RowLapses(row) => write!(f, "the outbox lease of {row} ends"),
            Self::Sweep(row) => write!(f, "the sweeper leases {row}"),
            Self::Consume(_, message) => write!(f, "a sender takes {message}"),
            Self::AckFirst(_, message) => write!(f, "a sender takes and acks {message}"),
            Self::ClaimForgotten(_) => f.write_str("it claims with it"),
            Self::Ack(_) => f.write_str("the claimed message is acked"),
            Self::Begin(_) => f.write_str("a request begins"),
            Self::GiveBack(_) => f.write_str("a sender finds too much of its lease gone"),
            Self::Accept(_) => f.write_str("the gateway takes the message and says so"),
            Self::Record(_) => f.write_str("a result is recorded"),
            Self::LeaseLapses(number) => write!(f, "the lease of attempt {number} ends"),
            Self::Reap(number) => write!(f, "the reaper concludes attempt {number}"),
            Self::ReapLate => f.write_str("the slow reaper concludes what it saw"),
            Self::ResendByPolicy => f.write_str("the policy sends once more"),
            Self::TimePasses => f.write_str("the next attempt becomes due"),
            Self::TakeDue => f.write_str("the due-scanner writes its message"),
            Self::AccountUp => f.write_str("the account can send again"),
            Self::Release => f.write_str("what was held is released"),
            Self::Reconcile => f.write_str("the reconciler writes a new message"),
            Self::RoutePayment => f.write_str("the payment is routed"),
            Self::Evidence(evidence) => write!(f, "evidence comes: {evidence:?}"),
            Self::Fault(fault) => fault.fmt(f),
            Self::Person(person) => person.fmt(f),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let although = |out: bool| {
            if out {
                ", although the message goes out"
            } else {
                ""
            }
        };
        match self {
            Self::PublisherDies => f.write_str("FAULT the publishing process dies"),
            Self::PublishLost(row) => write!(f, "FAULT the publish of {row} is lost"),
            Self::ConfirmLost(row) => write!(f, "FAULT {row} is published, its confirm lost"),
            Self::PublisherSlow(row) => {
                write!(f, "FAULT the publisher of {row} is slower than the lease")
            }
            Self::Redelivered(_) => {
                f.write_str("FAULT the connection breaks, the message comes again")
            }
            Self::Killed(_, out) => write!(f, "FAULT a sender is killed{}", although(*out)),
            Self::Paused(number, lease) => {
                write!(
                    f,
                    "FAULT the sender of attempt {number} stands still, lease {lease:?}"
                )
            }
            Self::Answers(_, answer, out) => {
                write!(f, "FAULT the gateway answers {answer:?}{}", although(*out))
            }
            Self::Stopped(_) => f.write_str("FAULT a sender is asked to stop"),
            Self::CommitUnseen(_) => f.write_str("FAULT a result is recorded, its commit unseen"),
            Self::AccountDown => f.write_str("FAULT the account's session goes down"),
            Self::BrokerWiped => f.write_str("FAULT the broker loses its data"),
            Self::Misjudged => f.write_str("FAULT the reconciler thinks that the message is lost"),
            Self::ReaperSlow(number) => {
                write!(f, "FAULT a reaper sees attempt {number} lapsed and is slow")
            }
            Self::GivenUp(message, true) => write!(f, "FAULT the broker gives {message} up"),
            Self::GivenUp(message, false) => write!(f, "FAULT a consumer gives {message} up"),
        }
    }
}

impl fmt::Display for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redrives(false) => "PERSON redrives the letter",
            Self::Redrives(true) => "PERSON redrives the letter with force",
            Self::Shovels(message) => return write!(f, "PERSON moves the letter {message} back"),
            Self::Discards => "PERSON discards the letter",
            Self::FindsDelivered => "PERSON finds that it arrived",
            Self::FindsNotDelivered => "PERSON finds that it did not arrive",
            Self::FindsNotDeliveredAndResends => "PERSON finds that it did not arrive, and resends",
            Self::Pays => "PERSON pays the invoice",
        })
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (generation, attempt) = (self.generation(), self.attempt());
        let moved = if self.is_by_hand() { " (moved)" } else { "" };
        write!(f, "message g{generation}/{attempt}{moved}")
    }
}

impl fmt::Display for OutboxRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.letter {
            f.write_str("the letter of ")?;
        }
        self.message.fmt(f)
    }
}
