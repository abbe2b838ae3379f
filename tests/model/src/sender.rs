//! The delivery-worker's sender: claim → ack → send (`delivery-worker/src/{consume,deliver}.rs`,
//! `shared/src/store/attempts.rs` `claim`).

use shared::domain::delivery::DeliveryState;

use crate::action::{Action, Fault};
use crate::bag::Full;
use crate::properties;
use crate::protocol::Protocol;
use crate::state::{
    ATTEMPTS, Answer, Attempt, Lease, Message, Next, Outcome, Payment, Sender, Stage, State, Taken,
    Task,
};

/// What a message can do with the row as it is.
enum Claim {
    /// Nothing: it is a stale copy.
    Stale,
    /// The invoice is paid.
    Cancels,
    /// The account cannot send.
    Holds,
    /// Opens the attempt of that number.
    Opens(u8),
}

impl Protocol {
    pub(crate) fn sender_actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (index, sender) in state.senders.iter().enumerate() {
            // The senders are alike: what one may do, its twin need not do too.
            if index > 0 && state.senders[index - 1] == *sender {
                continue;
            }
            self.actions_of(state, (index, sender), actions);
        }
    }

    fn actions_of(
        &self,
        state: &State,
        (index, sender): (usize, &Sender),
        actions: &mut Vec<Action>,
    ) {
        let faulty = state.faults_left > 0;
        match sender.taken {
            Taken::Nothing if sender.task.is_none() => {
                for message in state.queue.distinct() {
                    actions.push(if self.rules.claim_before_ack || message.is_by_hand() {
                        Action::Consume(index, message)
                    } else {
                        Action::AckFirst(index, message)
                    });
                }
            }
            Taken::Unacked(_) => {
                // Where nothing was claimed, the ack follows the result.
                if self.rules.claim_before_send || sender.task.is_none() {
                    actions.push(Action::Ack(index));
                }
                if faulty {
                    actions.push(Action::Fault(Fault::Redelivered(index)));
                }
            }
            Taken::Forgotten(_) => actions.push(Action::ClaimForgotten(index)),
            Taken::Nothing => {}
        }
        if let Some(task) = sender.task {
            self.actions_of_task(state, (index, task), actions);
        }
        if faulty && *sender != Sender::IDLE {
            actions.push(Action::Fault(Fault::Killed(index, false)));
            if sender.task.is_some_and(|task| task.stage == Stage::OnWire) {
                actions.push(Action::Fault(Fault::Killed(index, true)));
            }
        }
    }

    fn actions_of_task(
        &self,
        state: &State,
        (index, task): (usize, Task),
        actions: &mut Vec<Action>,
    ) {
        let faulty = state.faults_left > 0;
        let lease = state
            .attempt(task.number)
            .map_or(Lease::Fresh, |attempt| attempt.lease);
        match task.stage {
            Stage::Claimed => {
                actions.push(if lease == Lease::Fresh || !self.rules.half_lease {
                    Action::Begin(index)
                } else {
                    Action::GiveBack(index)
                });
                if faulty {
                    actions.push(Action::Fault(Fault::Stopped(index)));
                }
            }
            Stage::OnWire => {
                actions.push(Action::Accept(index));
                if faulty {
                    for (answer, out) in [
                        (Answer::Transient, false),
                        (Answer::Content, false),
                        (Answer::Recipient, false),
                        (Answer::Recipient, true),
                        (Answer::SessionDown, false),
                        (Answer::Unclear, false),
                        (Answer::Unclear, true),
                    ] {
                        actions.push(Action::Fault(Fault::Answers(index, answer, out)));
                    }
                    if !self.rules.stop_finishes_begun {
                        actions.push(Action::Fault(Fault::Stopped(index)));
                    }
                }
            }
            Stage::Answered(_) => {
                actions.push(Action::Record(index));
                if faulty && self.rules.claim_before_send {
                    actions.push(Action::Fault(Fault::CommitUnseen(index)));
                }
            }
        }
        // While a request is on the wire its lease cannot end: the total timeout is shorter. A
        // process that stands still meanwhile has its answer, or its timeout, when it wakes.
        if faulty && task.stage != Stage::OnWire && state.attempt(task.number).is_some() {
            if lease == Lease::Fresh && task.stage == Stage::Claimed {
                actions.push(Action::Fault(Fault::Paused(task.number, Lease::Half)));
            }
            if lease != Lease::Lapsed {
                actions.push(Action::Fault(Fault::Paused(task.number, Lease::Lapsed)));
            }
        }
    }

    /// Takes a message and claims with it.
    pub(crate) fn consume(
        &self,
        state: &mut State,
        index: usize,
        message: Message,
    ) -> Result<Option<&'static str>, Full> {
        state.queue.take(message);
        if message.is_by_hand() {
            self.moved_back(state, message)?;
            return Ok(None);
        }
        let taken = Taken::Unacked(message);
        self.claim(state, index, (message, taken))
    }

    /// Claims with what was acknowledged before (a broken rule).
    pub(crate) fn claim_forgotten(
        &self,
        state: &mut State,
        index: usize,
    ) -> Result<Option<&'static str>, Full> {
        let Taken::Forgotten(message) = state.senders[index].taken else {
            return Ok(None);
        };
        state.senders[index].taken = Taken::Nothing;
        self.claim(state, index, (message, Taken::Nothing))
    }

    /// The one statement of `attempts::claim`.
    fn claim(
        &self,
        state: &mut State,
        index: usize,
        (message, taken): (Message, Taken),
    ) -> Result<Option<&'static str>, Full> {
        match self.judge_claim(state, message) {
            Claim::Stale => Ok(None),
            Claim::Cancels => {
                state.row.state = DeliveryState::Cancelled;
                Ok(None)
            }
            Claim::Holds => {
                state.row.state = DeliveryState::Held;
                Ok(None)
            }
            Claim::Opens(number) => {
                let broken = broken_by_claim(state);
                if usize::from(number) > ATTEMPTS {
                    return Err(Full);
                }
                state.senders[index] = Sender {
                    taken,
                    task: Some(Task {
                        number,
                        stage: Stage::Claimed,
                    }),
                };
                if self.rules.claim_before_send {
                    open(state, number);
                }
                Ok(broken)
            }
        }
    }

    fn judge_claim(&self, state: &State, message: Message) -> Claim {
        let (rules, row) = (&self.rules, &state.row);
        let next = row.attempt_count + 1;
        let fits = (row.state == DeliveryState::Queued || !rules.claim_reads_state)
            && (message.generation() == row.generation || !rules.claim_reads_generation)
            && (message.attempt() == next || !rules.claim_reads_attempt)
            && (row.next != Next::Later || !rules.claim_reads_due);
        // Part 5 builds the guard; until then this is the design's word (product 5.8, design §5).
        let guarded = match state.payment {
            Payment::None => false,
            Payment::Accepted => true,
            Payment::Routed => rules.guard_stays,
        };
        if !fits {
            Claim::Stale
        } else if guarded && rules.guard_in_claim {
            Claim::Cancels
        } else if state.account_down {
            Claim::Holds
        } else {
            Claim::Opens(next)
        }
    }

    /// Begins the request.
    pub(crate) fn begin(&self, state: &mut State, index: usize) -> Option<&'static str> {
        let task = state.senders[index].task?;
        let open = state
            .attempt(task.number)
            .is_some_and(|attempt| attempt.outcome == Outcome::Open);
        set_stage(state, index, Stage::OnWire);
        // Two are one too many already; more need not be told apart.
        state.seen.possibly_out = (state.seen.possibly_out + 1).min(3);
        (!open).then_some(properties::BEGUN_WHILE_OPEN)
    }

    /// The gateway's answer comes; `out` tells what it did.
    pub(crate) fn answer(&self, state: &mut State, index: usize, (answer, out): (Answer, bool)) {
        state.seen.out |= out;
        let known_not_out = match answer {
            Answer::Transient | Answer::Content | Answer::SessionDown => true,
            Answer::Recipient => !out,
            Answer::Sent | Answer::Unclear | Answer::NotBegun => false,
        };
        if known_not_out {
            state.seen.possibly_out = state.seen.possibly_out.saturating_sub(1);
        }
        set_stage(state, index, Stage::Answered(answer));
    }

    /// kill -9: what was in memory is gone, what was not acknowledged comes again.
    pub(crate) fn kill(&self, state: &mut State, index: usize, out: bool) -> Result<(), Full> {
        state.seen.out |= out;
        let sender = std::mem::replace(&mut state.senders[index], Sender::IDLE);
        match sender.taken {
            Taken::Unacked(message) => state.queue.put(message),
            Taken::Nothing | Taken::Forgotten(_) => Ok(()),
        }
    }
}

/// Moves a task on.
pub(crate) fn set_stage(state: &mut State, index: usize, stage: Stage) {
    if let Some(task) = &mut state.senders[index].task {
        task.stage = stage;
    }
}

/// Opens an attempt: the row is claimed, the attempt carries the work.
pub(crate) fn open(state: &mut State, number: u8) {
    state.row.state = DeliveryState::Claimed;
    state.row.attempt_count = number;
    state.row.next = Next::Dispatched;
    state.attempts[usize::from(number) - 1] = Some(Attempt {
        generation: state.row.generation,
        outcome: Outcome::Open,
        lease: Lease::Fresh,
    });
}

fn broken_by_claim(state: &State) -> Option<&'static str> {
    if state.payment != Payment::None {
        Some(properties::NO_CLAIM_AFTER_CANCEL)
    } else if state.row.next == Next::Later {
        Some(properties::NEVER_EARLY)
    } else {
        None
    }
}
