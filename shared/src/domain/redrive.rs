//! What may be done with a dead letter: pure, over what the letter and its subject are right now.
//!
//! The API, the management UI's shovel and the one more try after a letter of the broker all ask
//! the same function, so a letter leads to the same end whichever way it is moved (design §3).

use std::fmt;
use std::str::FromStr;

use super::delivery::DeliveryState;
use super::failure::{FailureClass, FailureCode};

/// What a letter is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubjectKind {
    /// An event that could not be routed.
    Event,
    /// A delivery that was given up.
    Delivery,
    /// A receipt that could not be applied.
    Receipt,
    /// Bytes that are no message of ours.
    Message,
}

impl SubjectKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Event, Self::Delivery, Self::Receipt, Self::Message];

    /// The text in rows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Delivery => "delivery",
            Self::Receipt => "receipt",
            Self::Message => "message",
        }
    }
}

/// The state of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LetterState {
    /// It waits for a person.
    Dead,
    /// Its subject was set going again.
    Redriven,
    /// A person decided that nothing more is to happen.
    Discarded,
    /// Its subject reached its end by another way.
    Superseded,
}

impl LetterState {
    /// Every state.
    pub const ALL: [Self; 4] = [
        Self::Dead,
        Self::Redriven,
        Self::Discarded,
        Self::Superseded,
    ];

    /// The text in rows, labels and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Redriven => "redriven",
            Self::Discarded => "discarded",
            Self::Superseded => "superseded",
        }
    }
}

/// The text is none of the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("none of the set")]
pub struct NotOfTheSet;

macro_rules! read_from_its_text {
    ($($set:ident)+) => { $(
        impl FromStr for $set {
            type Err = NotOfTheSet;

            fn from_str(text: &str) -> Result<Self, NotOfTheSet> {
                Self::ALL.into_iter().find(|one| one.as_str() == text).ok_or(NotOfTheSet)
            }
        }

        impl fmt::Display for $set {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )+ };
}
read_from_its_text!(SubjectKind LetterState);

/// The subject of a letter, as it stands now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A delivery.
    Delivery {
        /// Its state.
        state: DeliveryState,
        /// It is of the letter's generation: nobody redrove it since.
        same_generation: bool,
        /// One of its attempts has no known outcome: the message may have left already.
        in_doubt: bool,
        /// What was planned is what it died of, or it was never wholly planned.
        to_plan: bool,
    },
    /// The decision about an event.
    Routing {
        /// It failed, and nobody asked for another.
        failed: bool,
        /// As for deliveries.
        same_generation: bool,
    },
    /// A receipt.
    Receipt {
        /// It was given up.
        ignored: bool,
        /// As for deliveries.
        same_generation: bool,
    },
    /// Bytes that are no message of ours.
    Unreadable,
    /// There is no such row.
    Gone,
}

/// How a subject is set going again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// The delivery is tried as it was planned.
    Resend,
    /// The delivery is planned again, in place, then tried.
    Replan,
    /// The event is decided about again.
    Route,
    /// The receipt is applied again.
    Apply,
}

impl Way {
    /// The text in answers and audit lines.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resend => "resend",
            Self::Replan => "replan",
            Self::Route => "route",
            Self::Apply => "apply",
        }
    }
}

/// Why a letter is left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refusal {
    /// Somebody redrove it before.
    AlreadyRedriven,
    /// Somebody discarded it before.
    AlreadyDiscarded,
    /// Its subject reached its end by another way; the letter is settled with that.
    Superseded,
    /// The message may have left: only a person may say that it shall go (once more).
    NeedsForce,
    /// Nobody knows what the bytes wanted.
    Unreadable,
    /// Its subject is under way, or ended as what no redrive mends.
    NotDead,
    /// Its subject is not there any more.
    SubjectGone,
    /// There is no such letter.
    NotFound,
}

impl Refusal {
    /// The stable text in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AlreadyRedriven => "already_redriven",
            Self::AlreadyDiscarded => "already_discarded",
            Self::Superseded => "superseded",
            Self::NeedsForce => "needs_force",
            Self::Unreadable => "unreadable",
            Self::NotDead => "not_dead",
            Self::SubjectGone => "subject_gone",
            Self::NotFound => "not_found",
        }
    }

    /// A sentence for the operator.
    #[must_use]
    pub const fn detail(self) -> &'static str {
        match self {
            Self::AlreadyRedriven => "it was redriven before",
            Self::AlreadyDiscarded => "it was discarded before",
            Self::Superseded => "what it is about reached its end by another way",
            Self::NeedsForce => {
                "an attempt has no known outcome, so the message may have left: look at the phone, then redrive with `force`, or discard"
            }
            Self::Unreadable => {
                "the bytes are no message of Posto, so nobody knows what they wanted; discard it"
            }
            Self::NotDead => "what it is about is under way, or ended as what no redrive mends",
            Self::SubjectGone => "what it is about is not there any more; discard it",
            Self::NotFound => "there is no letter of that id",
        }
    }
}

/// Decides whether a letter may be redriven, and how.
///
/// Invariant: a letter is redriven at most once, and only while its subject is dead in the very
/// generation that the letter was written for; so whoever asks second is told so.
///
/// # Errors
/// Why the letter is left as it is.
pub fn judge(letter: LetterState, subject: Standing, force: bool) -> Result<Way, Refusal> {
    match letter {
        LetterState::Dead => {}
        LetterState::Redriven => return Err(Refusal::AlreadyRedriven),
        LetterState::Discarded => return Err(Refusal::AlreadyDiscarded),
        LetterState::Superseded => return Err(Refusal::Superseded),
    }
    match subject {
        Standing::Delivery {
            state:
                DeliveryState::Sent
                | DeliveryState::Delivered
                | DeliveryState::Read
                | DeliveryState::Cancelled
                | DeliveryState::Suppressed,
            ..
        } => Err(Refusal::Superseded),
        Standing::Delivery {
            state,
            same_generation,
            in_doubt,
            to_plan,
        } => {
            if !same_generation || state.after_redrive().is_none() {
                return Err(Refusal::NotDead);
            }
            if !force && (in_doubt || state == DeliveryState::Unknown) {
                return Err(Refusal::NeedsForce);
            }
            Ok(if to_plan { Way::Replan } else { Way::Resend })
        }
        Standing::Routing {
            failed,
            same_generation,
        } => redrive_of(failed, same_generation, Way::Route),
        Standing::Receipt {
            ignored,
            same_generation,
        } => redrive_of(ignored, same_generation, Way::Apply),
        Standing::Unreadable => Err(Refusal::Unreadable),
        Standing::Gone => Err(Refusal::SubjectGone),
    }
}

const fn redrive_of(given_up: bool, same_generation: bool, way: Way) -> Result<Way, Refusal> {
    if !same_generation {
        Err(Refusal::NotDead)
    } else if given_up {
        Ok(way)
    } else {
        Err(Refusal::Superseded)
    }
}

/// Decides whether a letter may be discarded.
///
/// # Errors
/// Why the letter is left as it is.
pub const fn judge_discard(letter: LetterState) -> Result<(), Refusal> {
    match letter {
        LetterState::Dead => Ok(()),
        LetterState::Redriven => Err(Refusal::AlreadyRedriven),
        LetterState::Discarded => Err(Refusal::AlreadyDiscarded),
        LetterState::Superseded => Err(Refusal::Superseded),
    }
}

/// Whether a delivery that died of `code` is planned again when it is redriven: a person mended
/// words or set-up, which what was rendered before knows nothing of. `whole` tells that it has all
/// that its channel needs.
#[must_use]
pub fn to_plan(code: Option<&str>, whole: bool) -> bool {
    let class = code
        .and_then(|code| code.parse::<FailureCode>().ok())
        .map(FailureCode::class);
    !whole || matches!(class, Some(FailureClass::Content | FailureClass::Config))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(state: DeliveryState) -> Standing {
        Standing::Delivery {
            state,
            same_generation: true,
            in_doubt: false,
            to_plan: false,
        }
    }

    #[test]
    fn only_what_is_dead_in_the_letters_own_generation_is_redriven() {
        for state in DeliveryState::ALL {
            let judged = judge(LetterState::Dead, delivery(*state), true);
            match state {
                DeliveryState::Dead | DeliveryState::Unknown => {
                    assert_eq!(judged, Ok(Way::Resend), "{state}");
                }
                DeliveryState::Sent
                | DeliveryState::Delivered
                | DeliveryState::Read
                | DeliveryState::Cancelled
                | DeliveryState::Suppressed => {
                    assert_eq!(judged, Err(Refusal::Superseded), "{state}");
                }
                _ => assert_eq!(judged, Err(Refusal::NotDead), "{state}"),
            }
            let older = Standing::Delivery {
                state: *state,
                same_generation: false,
                in_doubt: false,
                to_plan: false,
            };
            assert!(judge(LetterState::Dead, older, true).is_err(), "{state}");
        }
    }

    #[test]
    fn what_may_have_left_needs_force() {
        let in_doubt = Standing::Delivery {
            state: DeliveryState::Dead,
            same_generation: true,
            in_doubt: true,
            to_plan: true,
        };
        for subject in [in_doubt, delivery(DeliveryState::Unknown)] {
            let judged = judge(LetterState::Dead, subject, false);
            assert_eq!(judged, Err(Refusal::NeedsForce), "{subject:?}");
            assert!(judge(LetterState::Dead, subject, true).is_ok());
        }
    }

    #[test]
    fn a_letter_is_settled_once() {
        let dead = delivery(DeliveryState::Dead);
        for state in LetterState::ALL {
            let open = state == LetterState::Dead;
            assert_eq!(judge(state, dead, true).is_ok(), open, "{state}");
            assert_eq!(judge_discard(state).is_ok(), open, "{state}");
        }
    }

    #[test]
    fn events_and_receipts_go_again_while_they_are_given_up() {
        let cases = [
            (true, true, Ok(Way::Route)),
            (false, true, Err(Refusal::Superseded)),
            (true, false, Err(Refusal::NotDead)),
        ];
        for (failed, same_generation, wanted) in cases {
            let subject = Standing::Routing {
                failed,
                same_generation,
            };
            assert_eq!(judge(LetterState::Dead, subject, false), wanted);
        }
        let receipt = Standing::Receipt {
            ignored: true,
            same_generation: true,
        };
        assert_eq!(judge(LetterState::Dead, receipt, false), Ok(Way::Apply));
    }

    #[test]
    fn nobody_redrives_bytes_that_nobody_understands() {
        let judged = |subject| judge(LetterState::Dead, subject, true);
        assert_eq!(judged(Standing::Unreadable), Err(Refusal::Unreadable));
        assert_eq!(judged(Standing::Gone), Err(Refusal::SubjectGone));
    }

    #[test]
    fn words_and_set_up_are_planned_again_and_the_rest_goes_as_it_was() {
        let cases = [
            ("template_variable_missing", true, true),
            ("channel_not_configured", true, true),
            ("content_rejected", true, true),
            ("gateway_throttled", true, false),
            ("panicked", true, false),
            ("panicked", false, true),
            ("a_code_of_tomorrow", true, false),
        ];
        for (code, whole, wanted) in cases {
            assert_eq!(to_plan(Some(code), whole), wanted, "{code} {whole}");
        }
        assert!(!to_plan(None, true));
    }

    #[test]
    fn every_text_reads_back() {
        for kind in SubjectKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
        for state in LetterState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
    }
}
