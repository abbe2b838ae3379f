//! What must hold: in every state, in every step, and at rest.

use shared::domain::delivery::DeliveryState;

use crate::action::{Action, Person};
use crate::checker::Witness;
use crate::state::{Letter, Outcome, Payment, Sender, State};

/// At most one request possibly out, unless the policy or a person asked for another.
pub const ONE_UNLESS_ASKED: &str =
    "at most one request is possibly out, unless a resend was asked for";
/// Whatever was asked for: never two requests at the same time.
pub const NEVER_TWO_AT_ONCE: &str = "never two requests on the wire at once";
/// Whoever concluded an attempt can rely on it.
pub const BEGUN_WHILE_OPEN: &str = "a request begins only while its attempt is open";
/// The payment rule.
pub const NO_CLAIM_AFTER_CANCEL: &str = "no claim after a cancel";
/// A retry is never early.
pub const NEVER_EARLY: &str = "no attempt before it is due";
/// Settled states move only as the lattice or a redrive lets them.
pub const SETTLED_STAYS: &str = "nothing settled is lost";
/// What the gateway said and we wrote down is not forgotten.
pub const KNOWN_COUNTS: &str = "what is known to be sent counts as sent";
/// A person finds whatever was given up.
pub const DEAD_HAS_LETTER: &str = "what is dead has its letter";
/// A person finds nothing else.
pub const LETTER_HAS_DEAD: &str = "an open letter is about something dead";
/// A copy that nobody waits for takes nothing with it.
pub const DIES_OF_ITS_OWN: &str = "a delivery dies of no message but the one it waits for";
/// At rest, everything came to its end.
pub const NOTHING_IS_LOST: &str = "nothing is lost: at rest all work has come to its end";

/// Which properties a state breaks.
pub(crate) fn broken(state: &State) -> impl Iterator<Item = &'static str> + use<> {
    let dead = state.row.state == DeliveryState::Dead;
    let lettered = matches!(state.letter(), Some(Letter::Dead | Letter::Discarded));
    let stray = (0..).zip(&state.letters).any(|(generation, letter)| {
        *letter == Some(Letter::Dead) && !(dead && generation == state.row.generation)
    });
    let arrived = matches!(
        state.row.state,
        DeliveryState::Sent | DeliveryState::Delivered | DeliveryState::Read
    );
    [
        (state.seen.possibly_out > 1, ONE_UNLESS_ASKED),
        (state.on_wire() > 1, NEVER_TWO_AT_ONCE),
        (
            state.seen.recorded_sent && !arrived && !state.seen.provider_failed,
            KNOWN_COUNTS,
        ),
        (dead && !lettered, DEAD_HAS_LETTER),
        (stray, LETTER_HAS_DEAD),
    ]
    .into_iter()
    .filter_map(|(broken, name)| broken.then_some(name))
}

/// Which property a state breaks by being at rest.
pub(crate) fn broken_at_rest(state: &State) -> Option<&'static str> {
    let open = state
        .attempts
        .iter()
        .flatten()
        .any(|attempt| attempt.outcome == Outcome::Open);
    let waits = matches!(
        state.row.state,
        DeliveryState::Queued | DeliveryState::Held | DeliveryState::Claimed
    );
    let busy = state.senders != [Sender::IDLE; 2];
    (open || waits || busy || !state.outbox.is_empty() || !state.queue.is_empty())
        .then_some(NOTHING_IS_LOST)
}

/// Whether a step moved a settled delivery against the lattice. Proof of sending lifts, the
/// provider's own failure takes `sent` back, a redrive of what is dead begins a new generation.
pub(crate) fn unsettled(before: &State, action: Action, after: &State) -> Option<&'static str> {
    use DeliveryState as D;
    let (from, to) = (before.row.state, after.row.state);
    if !from.is_settled() || from == to {
        return None;
    }
    let proven = matches!(to, D::Sent | D::Delivered | D::Read) && rank(to) > rank(from);
    let lawful = match action {
        Action::Evidence(_) => proven || (from == D::Sent && to == D::Failed),
        // A broker's letter dies and is tried once more in one step, from a state that waits.
        Action::Person(Person::Redrives(_)) | Action::Consume(..) => {
            from == D::Dead && after.row.generation > before.row.generation
        }
        _ => proven,
    };
    (!lawful).then_some(SETTLED_STAYS)
}

/// The place in the lattice of evidence; `dead` and `cancelled` guess, as `failed` does.
const fn rank(state: DeliveryState) -> u8 {
    match state {
        DeliveryState::Sent => 2,
        DeliveryState::Delivered => 3,
        DeliveryState::Read => 4,
        _ => 1,
    }
}

/// What must have been seen, else nothing above says much.
pub(crate) const WITNESSES: &[Witness<State>] = &[
    ("a delivery is sent", |state| {
        state.row.state == DeliveryState::Sent
    }),
    ("a delivery is delivered", |state| {
        state.row.state == DeliveryState::Delivered
    }),
    ("a delivery is dead", |state| {
        state.row.state == DeliveryState::Dead
    }),
    ("a delivery is unknown", |state| {
        state.row.state == DeliveryState::Unknown
    }),
    ("a delivery is failed", |state| {
        state.row.state == DeliveryState::Failed
    }),
    ("a delivery is held", |state| {
        state.row.state == DeliveryState::Held
    }),
    ("a delivery is cancelled", |state| {
        state.row.state == DeliveryState::Cancelled
    }),
    ("two copies of a message are in the queue", |state| {
        state.queue.iter().count() > state.queue.distinct().count()
    }),
    ("a message comes while its attempt is open", |state| {
        state.row.state == DeliveryState::Claimed
            && state
                .queue
                .iter()
                .any(|message| message.attempt() == state.row.attempt_count)
    }),
    ("a row of the outbox is swept", |state| {
        state.outbox.iter().any(|row| row.lapsed)
    }),
    ("a retry is sent", |state| {
        state.row.attempt_count > 1 && state.row.state == DeliveryState::Sent
    }),
    ("a resend that was asked for is sent", |state| {
        state.seen.resend_asked && state.row.state == DeliveryState::Sent
    }),
    ("a redriven delivery is sent", |state| {
        state.letters[0] == Some(Letter::Redriven) && state.row.state == DeliveryState::Sent
    }),
    ("a redriven delivery dies again", |state| {
        state.row.generation > 0 && state.row.state == DeliveryState::Dead
    }),
    ("a letter was moved back by hand", |state| {
        state.queue.iter().any(|message| message.is_by_hand())
    }),
    ("a letter is superseded", |state| {
        state.letters.contains(&Some(Letter::Superseded))
    }),
    ("two attempts are under way in memory", |state| {
        state.tasks().count() > 1
    }),
    (
        "a sent delivery is called failed by its provider",
        |state| state.seen.provider_failed && state.row.state == DeliveryState::Failed,
    ),
    (
        "a payment is routed while the delivery is claimed",
        |state| state.payment == Payment::Routed && state.row.state == DeliveryState::Claimed,
    ),
];
