//! When and whether to try again: pure, with time and chance as arguments.

use std::time::Duration;

use shared::domain::delivery::DeliveryState;
use shared::domain::failure::{FailureClass, FailureCode};

/// The longest wait that a `Retry-After` may ask for; beyond it we ask again ourselves.
const LONGEST_ASKED_WAIT: Duration = Duration::from_secs(3600);
/// The most that chance adds to a wait, as a share of it. Chance only adds: never early.
const JITTER: f64 = 0.25;

/// How a channel's deliveries are tried again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RetryPolicy {
    /// The wait before the first retry; each further one doubles it.
    pub(crate) base: Duration,
    /// The longest wait of our own choosing.
    pub(crate) longest: Duration,
}

impl RetryPolicy {
    /// The wait before the retry of that number (from 1). `chance` is from 0 to 1.
    pub(crate) fn wait(&self, retry: i32, asked: Option<Duration>, chance: f64) -> Duration {
        let doublings = u32::try_from(retry - 1).unwrap_or(0).min(20);
        let own = self.base.saturating_mul(1 << doublings).min(self.longest);
        let floor = own.max(asked.unwrap_or_default().min(LONGEST_ASKED_WAIT));
        floor.mul_f64(1.0 + JITTER * chance.clamp(0.0, 1.0))
    }
}

/// What follows from a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Judgement {
    /// The word for the attempt.
    pub(crate) outcome: &'static str,
    /// Where the delivery goes.
    pub(crate) conclusion: DeliveryState,
    /// When the next attempt is due.
    pub(crate) wait: Option<Duration>,
    /// Why it is held.
    pub(crate) held_reason: Option<&'static str>,
}

impl Judgement {
    const fn of(outcome: &'static str, conclusion: DeliveryState) -> Self {
        Self {
            outcome,
            conclusion,
            wait: None,
            held_reason: None,
        }
    }
}

/// Retries used and had.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// Retries used so far.
    pub(crate) used: i32,
    /// Retries there are.
    pub(crate) limit: i32,
}

/// Judges a failed attempt by what its failure asks for. Nothing is burnt for a session or a
/// gateway that is down, or a set-up that is wrong; an unknown outcome is never answered with a send.
pub(crate) fn judge(
    code: FailureCode,
    asked: Option<Duration>,
    budget: Budget,
    next: impl FnOnce(i32, Option<Duration>) -> Duration,
) -> Judgement {
    match code.class() {
        FailureClass::Transient | FailureClass::Throttled if budget.used < budget.limit => {
            Judgement {
                wait: Some(next(budget.used + 1, asked)),
                ..Judgement::of("retry", DeliveryState::Queued)
            }
        }
        FailureClass::SessionDown | FailureClass::Away | FailureClass::Config => Judgement {
            held_reason: Some(code.as_str()),
            ..Judgement::of("held", DeliveryState::Held)
        },
        FailureClass::UnknownOutcome => Judgement::of("unknown", DeliveryState::Unknown),
        FailureClass::Recipient => Judgement::of("failed", DeliveryState::Failed),
        FailureClass::Transient
        | FailureClass::Throttled
        | FailureClass::Content
        | FailureClass::Internal => Judgement::of("failed", DeliveryState::Dead),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        base: Duration::from_secs(5),
        longest: Duration::from_secs(300),
    };

    fn judged(code: FailureCode, used: i32) -> Judgement {
        judge(code, None, Budget { used, limit: 3 }, |retry, asked| {
            POLICY.wait(retry, asked, 0.0)
        })
    }

    #[test]
    fn three_retries_follow_the_first_attempt_and_then_it_is_dead() {
        let waits: Vec<_> = (0..4)
            .map(|used| judged(FailureCode::GatewayServerError, used).wait)
            .collect();
        assert_eq!(
            waits,
            [Some(5), Some(10), Some(20), None].map(|s| s.map(Duration::from_secs))
        );
        assert_eq!(
            judged(FailureCode::GatewayServerError, 3).conclusion,
            DeliveryState::Dead
        );
    }

    #[test]
    fn every_failure_leads_where_its_class_asks() {
        for code in FailureCode::ALL {
            let judgement = judged(*code, 0);
            let expected = match code.class() {
                FailureClass::Transient | FailureClass::Throttled => DeliveryState::Queued,
                FailureClass::SessionDown | FailureClass::Away | FailureClass::Config => {
                    DeliveryState::Held
                }
                FailureClass::UnknownOutcome => DeliveryState::Unknown,
                FailureClass::Recipient => DeliveryState::Failed,
                FailureClass::Content | FailureClass::Internal => DeliveryState::Dead,
            };
            assert_eq!(judgement.conclusion, expected, "{code}");
            assert_eq!(
                judgement.wait.is_some(),
                expected == DeliveryState::Queued,
                "{code}"
            );
        }
    }

    #[test]
    fn chance_spreads_what_failed_together_over_a_quarter_of_the_wait() {
        let waits = [0.0, 0.5, 1.0].map(|chance| POLICY.wait(2, None, chance));
        assert_eq!(waits, [10_000, 11_250, 12_500].map(Duration::from_millis));
        // Also what all were asked to wait.
        let asked = Some(Duration::from_secs(60));
        assert_eq!(POLICY.wait(1, asked, 1.0), Duration::from_secs(75));
    }

    proptest! {
        #[test]
        fn a_retry_is_never_early_and_never_endless(
            retry in 1i32..1000, chance in 0.0f64..1.0, asked in proptest::option::of(0u64..1_000_000),
        ) {
            let asked = asked.map(Duration::from_secs);
            let wait = POLICY.wait(retry, asked, chance);
            prop_assert!(wait >= POLICY.base);
            prop_assert!(wait >= asked.unwrap_or_default().min(LONGEST_ASKED_WAIT));
            prop_assert!(wait <= LONGEST_ASKED_WAIT.mul_f64(1.0 + JITTER));
        }
    }
}
