//! Results: recorded by their senders, concluded by the reaper, followed by the policy
//! (`delivery-worker/src/{record,reaper,retry}.rs`), and evidence (`receipt.rs`).

use shared::domain::delivery::{DeliveryState, Evidence, Standing};
use shared::domain::failure::FailureCode;

use crate::action::{Action, Fault};
use crate::bag::Full;
use crate::protocol::Protocol;
use crate::rules::Policy;
use crate::sender::open;
use crate::state::{Answer, Lease, Letter, Message, Next, Outcome, Stage, State};

/// What a result says, as `AttemptResult` does.
struct Verdict {
    outcome: Outcome,
    conclusion: DeliveryState,
    next: Next,
    burns_retry: u8,
}

impl Verdict {
    const fn of(outcome: Outcome, conclusion: DeliveryState) -> Self {
        Self {
            outcome,
            conclusion,
            next: Next::Dispatched,
            burns_retry: 0,
        }
    }
}

impl Protocol {
    pub(crate) fn record_actions(&self, state: &State, actions: &mut Vec<Action>) {
        let faulty = state.faults_left > 0;
        for (number, attempt) in (1..).zip(state.attempts.iter().flatten()) {
            if attempt.outcome != Outcome::Open {
                continue;
            }
            let stage = state
                .tasks()
                .find(|task| task.number == number)
                .map(|task| task.stage);
            let ends = match stage {
                None => true,
                // Begun too late: the lease ends while the request is out.
                Some(Stage::OnWire) => attempt.lease == Lease::Half,
                Some(_) => false,
            };
            if ends && attempt.lease != Lease::Lapsed {
                actions.push(Action::LeaseLapses(number));
            }
            if self.rules.reaper && (attempt.lease == Lease::Lapsed || !self.rules.reaper_waits) {
                actions.push(Action::Reap(number));
                if faulty && state.reaper_saw.is_none() {
                    actions.push(Action::Fault(Fault::ReaperSlow(number)));
                }
            }
        }
        if state.reaper_saw.is_some() {
            actions.push(Action::ReapLate);
        }
        if self.policy_speaks(state) {
            actions.push(Action::ResendByPolicy);
        }
        if state.seen.out {
            for evidence in [
                Evidence::Sent,
                Evidence::Delivered,
                Evidence::ProviderFailed,
            ] {
                let again = evidence == Evidence::ProviderFailed && state.seen.provider_failed;
                if !again && after_evidence(state, evidence).is_some() {
                    actions.push(Action::Evidence(evidence));
                }
            }
        }
    }

    /// `deliveries::resendable_unknown`, all but the window.
    fn policy_speaks(&self, state: &State) -> bool {
        let unknowns = state
            .attempts
            .iter()
            .flatten()
            .filter(|attempt| attempt.outcome == Outcome::Unknown)
            .count();
        let allowed = match self.policy {
            Policy::Park => false,
            Policy::Resend => true,
            Policy::ResendIfSilent => unknowns == 1,
        };
        allowed
            && state.row.state == DeliveryState::Unknown
            && state.row.retry_count < self.bounds.retries
    }

    /// `Reaper::resend_by_policy`.
    pub(crate) fn resend_by_policy(&self, state: &mut State) {
        state.row.state = DeliveryState::Queued;
        state.row.next = Next::Due;
        state.row.retry_count += 1;
        resend_is_asked(state);
    }

    /// Records the result that a sender has in memory.
    pub(crate) fn record(&self, state: &mut State, index: usize) -> Result<(), Full> {
        let Some(task) = state.senders[index].task else {
            return Ok(());
        };
        let Stage::Answered(answer) = task.stage else {
            return Ok(());
        };
        let unclaimed = !self.rules.claim_before_send && state.attempt(task.number).is_none();
        if unclaimed && state.row.state == DeliveryState::Queued {
            open(state, task.number);
        }
        state.seen.recorded_sent |= answer == Answer::Sent;
        // `record.rs` `session_states`.
        match answer {
            Answer::Sent => state.account_down = false,
            Answer::SessionDown => state.account_down = true,
            _ => {}
        }
        let verdict = self.judge(state, answer);
        self.conclude(state, task.number, &verdict)
    }

    /// `retry::judge`, and `WhatsappSender::result`.
    fn judge(&self, state: &State, answer: Answer) -> Verdict {
        let retries_left = state.row.retry_count < self.bounds.retries;
        let retry = Verdict {
            next: Next::Later,
            burns_retry: 1,
            ..Verdict::of(Outcome::Closed, DeliveryState::Queued)
        };
        match answer {
            Answer::Sent => Verdict::of(Outcome::Sent, DeliveryState::Sent),
            Answer::Transient if retries_left => retry,
            Answer::Unclear if retries_left && !self.rules.unclear_is_unknown => retry,
            Answer::Transient | Answer::Content => {
                Verdict::of(Outcome::Closed, DeliveryState::Dead)
            }
            Answer::Recipient => Verdict::of(Outcome::Closed, DeliveryState::Failed),
            Answer::SessionDown => Verdict::of(Outcome::Closed, DeliveryState::Held),
            Answer::Unclear => Verdict::of(Outcome::Unknown, DeliveryState::Unknown),
            Answer::NotBegun => Verdict {
                next: Next::Due,
                ..Verdict::of(Outcome::Closed, DeliveryState::Queued)
            },
        }
    }

    /// `Reaper::conclude_lapsed`.
    pub(crate) fn reap(&self, state: &mut State, number: u8) -> Result<(), Full> {
        let verdict = if self.rules.reaper_says_unknown {
            Verdict::of(Outcome::Unknown, DeliveryState::Unknown)
        } else {
            self.judge(state, Answer::NotBegun)
        };
        self.conclude(state, number, &verdict)
    }

    /// `record::conclude`: closes the attempt and moves the delivery.
    fn conclude(&self, state: &mut State, number: u8, verdict: &Verdict) -> Result<(), Full> {
        let row = state.row;
        let Some(attempt) = state.attempt_mut(number) else {
            return Ok(());
        };
        let closes = match attempt.outcome {
            Outcome::Open => true,
            Outcome::Unknown => self.rules.late_result_wins,
            Outcome::Sent | Outcome::Closed => false,
        };
        if closes {
            attempt.outcome = verdict.outcome;
        }
        let newest = number == row.attempt_count && attempt.generation == row.generation;
        let current = closes && (newest || !self.rules.results_follow_attempt);
        let proves = verdict.conclusion == DeliveryState::Sent && self.rules.late_result_wins;
        if !current && !proves {
            return Ok(());
        }
        let to = if self.rules.results_follow_lattice {
            standing(state).after_attempt(verdict.conclusion)
        } else {
            Some(verdict.conclusion)
        };
        let Some(to) = to else { return Ok(()) };
        state.row.state = to;
        state.row.next = verdict.next;
        state.row.retry_count += verdict.burns_retry;
        if row.state == DeliveryState::Dead
            && to != DeliveryState::Dead
            && self.rules.late_result_settles_letter
        {
            supersede(state);
        }
        if to == DeliveryState::Dead {
            let message = Message::new(state.row.generation, state.row.attempt_count);
            self.bury(state, message)?;
        }
        Ok(())
    }

    /// `dead::record`, and the letter of one that is new.
    pub(crate) fn bury(&self, state: &mut State, message: Message) -> Result<(), Full> {
        if insert_letter(state, message.generation()) {
            self.write_letter(state, message)?;
        }
        Ok(())
    }

    /// `ApplyReceipts`: evidence moves the delivery up the lattice.
    pub(crate) fn apply_evidence(&self, state: &mut State, evidence: Evidence) {
        let Some(to) = after_evidence(state, evidence) else {
            return;
        };
        state.seen.provider_failed |= evidence == Evidence::ProviderFailed;
        if state.row.state == DeliveryState::Dead {
            supersede(state);
        }
        state.row.state = to;
        state.row.next = Next::Dispatched;
    }
}

/// The row as `record.rs` and `receipt.rs` read it: nothing else than WhatsApp's refusal makes a
/// failed delivery of one that it was said to have taken.
fn standing(state: &State) -> Standing {
    let code = FailureCode::ProviderRejected.as_str();
    Standing::new(state.row.state, state.seen.provider_failed.then_some(code))
}

/// An echo tells that it was sent, acks the rest.
fn after_evidence(state: &State, evidence: Evidence) -> Option<DeliveryState> {
    match evidence {
        Evidence::Sent => standing(state).after_echo(),
        _ => standing(state).after_ack(evidence),
    }
}

/// One letter for each generation; answers whether it is new.
pub(crate) fn insert_letter(state: &mut State, generation: u8) -> bool {
    let letter = &mut state.letters[usize::from(generation)];
    let new = letter.is_none();
    if new {
        *letter = Some(Letter::Dead);
    }
    new
}

/// `dead_letters::supersede`.
pub(crate) fn supersede(state: &mut State) {
    for letter in state.letters.iter_mut().flatten() {
        if *letter == Letter::Dead {
            *letter = Letter::Superseded;
        }
    }
}

/// The policy or a person asks for one more request: what was sent before is forgiven.
pub(crate) fn resend_is_asked(state: &mut State) {
    state.seen.possibly_out = u8::try_from(state.on_wire()).unwrap_or(u8::MAX);
    state.seen.resend_asked = true;
}
