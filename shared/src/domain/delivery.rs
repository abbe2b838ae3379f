//! The life of a delivery: its states and the transitions that are lawful.
//!
//! Every change of a delivery's state, wherever it comes from, is one of these functions; the
//! store writes the result by compare-and-set. Evidence lattice (design §1, States):
//! queued < claimed < unknown < failed < sent < delivered < read.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::failure::FailureCode;

macro_rules! states {
    ($($(#[$doc:meta])* $variant:ident = $text:literal;)+) => {
        /// Where a delivery stands.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum DeliveryState { $($(#[$doc])* $variant,)+ }

        impl DeliveryState {
            /// Every state.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The text in rows, labels and answers.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

states! {
    /// Waits to be tried: in a work queue, or for its next attempt's time.
    Queued = "queued";
    /// May not leave now (session down, paused); keeps its reason and burns no attempt.
    Held = "held";
    /// An attempt is open.
    Claimed = "claimed";
    /// The gateway took it.
    Sent = "sent";
    /// The recipient's device has it.
    Delivered = "delivered";
    /// The recipient read it.
    Read = "read";
    /// Known not to have reached the recipient, and no more tries by ourselves.
    Failed = "failed";
    /// Given up: a dead letter waits for a person.
    Dead = "dead";
    /// It may have left; evidence, policy or a person settles it.
    Unknown = "unknown";
    /// A policy said that it must not leave.
    Suppressed = "suppressed";
    /// Withdrawn before it left.
    Cancelled = "cancelled";
    /// Planned by a dry run; never leaves.
    Simulated = "simulated";
}

/// The text is no state of the set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown delivery state")]
pub struct UnknownState;

impl FromStr for DeliveryState {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .iter()
            .copied()
            .find(|state| state.as_str() == text)
            .ok_or(UnknownState)
    }
}

impl fmt::Display for DeliveryState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an ack says, whatever numbers the provider uses for it (facts §1.5, conventions A3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// WhatsApp says that it failed (levels −1 … −7).
    ProviderFailed,
    /// It left: an echo, or the server's ack.
    Sent,
    /// The device has it.
    Delivered,
    /// It was read or played.
    Read,
}

impl Evidence {
    /// Reads a WPPConnect ack level; `None` where the level says nothing about delivery
    /// (0 is a clock, 5 is a peer message, more is unknown).
    #[must_use]
    pub const fn from_wppconnect_ack(level: i32) -> Option<Self> {
        match level {
            -7..=-1 => Some(Self::ProviderFailed),
            1 => Some(Self::Sent),
            2 => Some(Self::Delivered),
            3 | 4 => Some(Self::Read),
            _ => None,
        }
    }
}

impl DeliveryState {
    /// True when nothing more happens to the delivery by itself; late evidence may still move it
    /// up the lattice.
    #[must_use]
    pub const fn is_settled(self) -> bool {
        !matches!(
            self,
            Self::Queued | Self::Held | Self::Claimed | Self::Unknown
        )
    }

    /// True while it is still to leave, or is leaving: a younger reply of its thread waits for it
    /// (design §1.11).
    #[must_use]
    pub const fn waits_or_is_claimed(self) -> bool {
        matches!(self, Self::Queued | Self::Held | Self::Claimed)
    }

    /// The state after a receipt, or `None` when it changes nothing.
    ///
    /// Invariant: `delivered` and `read` never fall; a failure reported by the provider moves
    /// only `claimed`, `unknown` and `sent`; any proof that the message is out wins over
    /// everything that guessed otherwise, `failed` and `dead` too (incident 34).
    #[must_use]
    pub const fn after_evidence(self, evidence: Evidence) -> Option<Self> {
        match evidence {
            Evidence::ProviderFailed => match self {
                Self::Claimed | Self::Unknown | Self::Sent => Some(Self::Failed),
                _ => None,
            },
            Evidence::Sent => match self {
                Self::Sent | Self::Delivered | Self::Read | Self::Simulated => None,
                _ => Some(Self::Sent),
            },
            Evidence::Delivered => match self {
                Self::Delivered | Self::Read | Self::Simulated => None,
                _ => Some(Self::Delivered),
            },
            Evidence::Read => match self {
                Self::Read | Self::Simulated => None,
                _ => Some(Self::Read),
            },
        }
    }

    /// The state after an attempt was concluded, or `None` when what is known already weighs
    /// more. `conclusion` is where the attempt alone would lead.
    ///
    /// Only a delivery that is `claimed`, or `unknown` because the attempt was late, follows its
    /// attempt; whatever evidence, a cancel or a redrive made of it meanwhile stands. One
    /// exception: a proof of sending lifts any state that evidence of sending would lift.
    #[must_use]
    pub const fn after_attempt(self, conclusion: Self) -> Option<Self> {
        match (self, conclusion) {
            (
                Self::Claimed,
                Self::Queued
                | Self::Held
                | Self::Sent
                | Self::Delivered
                | Self::Failed
                | Self::Dead
                | Self::Unknown,
            ) => Some(conclusion),
            (_, Self::Sent) => self.after_evidence(Evidence::Sent),
            (_, Self::Delivered) => self.after_evidence(Evidence::Delivered),
            (Self::Unknown, Self::Queued | Self::Held | Self::Failed | Self::Dead) => {
                Some(conclusion)
            }
            _ => None,
        }
    }

    /// The state after a redrive, or `None` when there is nothing to redrive. Whether an *unknown*
    /// may be redriven at all, `domain::redrive` decides (design §3).
    #[must_use]
    pub const fn after_redrive(self) -> Option<Self> {
        match self {
            Self::Dead | Self::Unknown => Some(Self::Queued),
            _ => None,
        }
    }

    /// The state after a person said what became of an *unknown*, or `None` for every other state:
    /// those are known. Evidence that comes later still follows the lattice.
    #[must_use]
    pub const fn settled_by_hand(self, finding: Finding) -> Option<Self> {
        match (self, finding) {
            (Self::Unknown, Finding::Delivered) => Some(Self::Delivered),
            (Self::Unknown, Finding::NotDelivered) => Some(Self::Failed),
            _ => None,
        }
    }
}

/// What a person found out about a delivery whose outcome is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// The recipient has it.
    Delivered,
    /// The recipient does not have it.
    NotDelivered,
}

impl Finding {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Delivered, Self::NotDelivered];

    /// The text in requests, audit lines and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::NotDelivered => "not_delivered",
        }
    }
}

/// A state, with what else the lattice asks for: whether WhatsApp itself refused the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    state: DeliveryState,
    is_refused: bool,
}

impl Standing {
    /// Reads a delivery's row.
    #[must_use]
    pub fn new(state: DeliveryState, failure_code: Option<&str>) -> Self {
        let is_refused = state == DeliveryState::Failed
            && failure_code == Some(FailureCode::ProviderRejected.as_str());
        Self { state, is_refused }
    }

    /// The state.
    #[must_use]
    pub const fn state(self) -> DeliveryState {
        self.state
    }

    /// The state after an ack; see [`DeliveryState::after_evidence`].
    #[must_use]
    pub const fn after_ack(self, evidence: Evidence) -> Option<DeliveryState> {
        self.state.after_evidence(evidence)
    }

    /// The state after an echo. It tells that the message was handed over, which comes before
    /// every ack, however late it is heard: it does not lift what WhatsApp refused afterwards.
    #[must_use]
    pub const fn after_echo(self) -> Option<DeliveryState> {
        if self.is_refused {
            return None;
        }
        self.state.after_evidence(Evidence::Sent)
    }

    /// The state after an attempt was concluded; see [`DeliveryState::after_attempt`]. An answer
    /// that comes after its echo and acks knows no more than the echo.
    #[must_use]
    pub const fn after_attempt(self, conclusion: DeliveryState) -> Option<DeliveryState> {
        match conclusion {
            DeliveryState::Sent if self.is_refused => None,
            _ => self.state.after_attempt(conclusion),
        }
    }
}

#[cfg(test)]
mod orders_tests;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rank(state: DeliveryState) -> u8 {
        match state {
            DeliveryState::Queued => 0,
            DeliveryState::Claimed => 1,
            DeliveryState::Unknown => 2,
            DeliveryState::Failed => 3,
            DeliveryState::Sent => 4,
            DeliveryState::Delivered => 5,
            DeliveryState::Read => 6,
            other => panic!("{other} is outside the lattice of evidence"),
        }
    }

    fn evidence() -> impl Strategy<Value = Evidence> {
        prop_oneof![
            Just(Evidence::ProviderFailed),
            Just(Evidence::Sent),
            Just(Evidence::Delivered),
            Just(Evidence::Read),
        ]
    }

    #[test]
    fn ack_levels_read_as_the_engine_means_them() {
        let cases = [
            (-7, Some(Evidence::ProviderFailed)),
            (-1, Some(Evidence::ProviderFailed)),
            (0, None),
            (1, Some(Evidence::Sent)),
            (2, Some(Evidence::Delivered)),
            (3, Some(Evidence::Read)),
            (4, Some(Evidence::Read)),
            (5, None),
            (99, None),
        ];
        for (level, expected) in cases {
            assert_eq!(
                Evidence::from_wppconnect_ack(level),
                expected,
                "level {level}"
            );
        }
    }

    #[test]
    fn a_number_reported_as_missing_ends_delivered_when_an_ack_comes() {
        assert_eq!(
            DeliveryState::Failed.after_evidence(Evidence::Delivered),
            Some(DeliveryState::Delivered)
        );
    }

    #[test]
    fn a_late_result_wins_over_unknown_but_not_over_evidence() {
        assert_eq!(
            DeliveryState::Unknown.after_attempt(DeliveryState::Sent),
            Some(DeliveryState::Sent)
        );
        assert_eq!(DeliveryState::Read.after_attempt(DeliveryState::Sent), None);
        assert_eq!(
            DeliveryState::Delivered.after_attempt(DeliveryState::Failed),
            None
        );
        assert_eq!(
            DeliveryState::Cancelled.after_attempt(DeliveryState::Queued),
            None
        );
    }

    #[test]
    fn a_person_settles_only_what_is_unknown_and_evidence_still_has_the_last_word() {
        for state in DeliveryState::ALL {
            let settled = Finding::ALL.map(|finding| state.settled_by_hand(finding));
            let may = *state == DeliveryState::Unknown;
            assert_eq!(settled.map(|to| to.is_some()), [may; 2], "{state}");
        }
        let failed = DeliveryState::Unknown
            .settled_by_hand(Finding::NotDelivered)
            .unwrap();
        assert_eq!(
            failed.after_evidence(Evidence::Read),
            Some(DeliveryState::Read)
        );
    }

    proptest! {
        #[test]
        fn evidence_in_any_order_with_repeats_ends_in_the_same_state(
            mut acks in proptest::collection::vec(evidence(), 1..8),
            swaps in proptest::collection::vec((0usize..8, 0usize..8), 0..8),
        ) {
            let end = |acks: &[Evidence]| acks.iter().fold(DeliveryState::Claimed, |state, evidence| {
                state.after_evidence(*evidence).unwrap_or(state)
            });
            let positive = |acks: &[Evidence]| acks.iter().filter(|e| **e > Evidence::Sent).count() > 0;
            let before = end(&acks);
            for (a, b) in swaps {
                let len = acks.len();
                acks.swap(a % len, b % len);
            }
            // A provider failure and a mere "sent" contradict each other: the later one stands.
            // Every proof that a device has the message ends the argument in any order.
            if positive(&acks) {
                prop_assert_eq!(end(&acks), before);
            }
        }

        #[test]
        fn delivered_and_read_never_fall(acks in proptest::collection::vec(evidence(), 0..12)) {
            let mut state = DeliveryState::Claimed;
            for ack in acks {
                let next = state.after_evidence(ack).unwrap_or(state);
                if rank(state) >= 5 {
                    prop_assert!(rank(next) >= rank(state));
                }
                state = next;
            }
        }
    }
}
