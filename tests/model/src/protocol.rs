//! The model itself: which steps there are, and what each leads to.

use crate::action::{Action, Fault};
use crate::bag::Full;
use crate::checker::{Model, Step, Witness};
use crate::mouth::{publisher_dies, wipe};
use crate::properties;
use crate::rules::{Bounds, Policy, Rules};
use crate::sender::set_stage;
use crate::state::{Answer, Lease, Next, OutboxRow, Stage, State, Taken};
use shared::domain::delivery::DeliveryState;

/// The protocol under some rules, within some bounds.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    /// What it keeps to.
    pub rules: Rules,
    /// What the template says about unknown outcomes.
    pub policy: Policy,
    /// What it has to bear.
    pub bounds: Bounds,
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn start(&self) -> State {
        let mut state = State::planned(self.bounds.faults, self.bounds.people);
        let message = state.next_message();
        self.write_message(&mut state, message)
            .expect("because an empty outbox has room");
        state
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.mouth_actions(state, actions);
        self.sender_actions(state, actions);
        self.record_actions(state, actions);
        self.people_actions(state, actions);
        match (state.row.state, state.row.next) {
            (DeliveryState::Queued, Next::Later) => actions.push(Action::TimePasses),
            (DeliveryState::Queued, Next::Due) => actions.push(Action::TakeDue),
            (DeliveryState::Held, _) if !state.account_down => actions.push(Action::Release),
            _ => {}
        }
        if state.account_down {
            actions.push(Action::AccountUp);
        } else if state.faults_left > 0 {
            actions.push(Action::Fault(Fault::AccountDown));
        }
    }

    fn apply(&self, before: &State, action: Action) -> Step<State> {
        let mut state = *before;
        match self.step(&mut state, action) {
            Ok(broken) => {
                state.senders.sort_unstable();
                Step {
                    broken: broken.or_else(|| properties::unsettled(before, action, &state)),
                    next: Some(state),
                }
            }
            Err(Full) => Step {
                next: None,
                broken: None,
            },
        }
    }

    fn is_of_the_protocol(&self, action: Action) -> bool {
        !matches!(
            action,
            Action::Fault(_) | Action::Person(_) | Action::Evidence(_)
        )
    }

    fn broken(&self, state: &State) -> impl Iterator<Item = &'static str> {
        properties::broken(state)
    }

    fn broken_at_rest(&self, state: &State) -> Option<&'static str> {
        properties::broken_at_rest(state)
    }

    fn witnesses(&self) -> &'static [Witness<State>] {
        properties::WITNESSES
    }

    fn describe(&self, state: &State) -> String {
        let attempts: String = state
            .attempts
            .iter()
            .flatten()
            .map(|attempt| format!(" {:?}", attempt.outcome).to_lowercase())
            .collect();
        format!("{} g{}{attempts}", state.row.state, state.row.generation)
    }
}

impl Protocol {
    fn step(&self, state: &mut State, action: Action) -> Result<Option<&'static str>, Full> {
        match action {
            Action::Publish(row) => self.publish(state, row)?,
            Action::Delete(row) => state.outbox.take(row),
            Action::RowLapses(row) => state.outbox.replace(
                row,
                OutboxRow {
                    lapsed: true,
                    ..row
                },
            ),
            Action::Sweep(row) => {
                let leased = OutboxRow {
                    lapsed: false,
                    copy: true,
                    ..row
                };
                state.outbox.replace(row, leased);
            }
            Action::Consume(index, message) => return self.consume(state, index, message),
            Action::AckFirst(index, message) => {
                state.queue.take(message);
                state.senders[index].taken = Taken::Forgotten(message);
            }
            Action::ClaimForgotten(index) => return self.claim_forgotten(state, index),
            Action::Ack(index) => state.senders[index].taken = Taken::Nothing,
            Action::Begin(index) => return Ok(self.begin(state, index)),
            Action::GiveBack(index) => {
                set_stage(state, index, Stage::Answered(Answer::NotBegun));
            }
            Action::Accept(index) => self.answer(state, index, (Answer::Sent, true)),
            Action::Record(index) => {
                self.record(state, index)?;
                state.senders[index].task = None;
            }
            Action::LeaseLapses(number) => set_lease(state, number, Lease::Lapsed),
            Action::Reap(number) => self.reap(state, number)?,
            Action::ReapLate => {
                if let Some(number) = state.reaper_saw.take() {
                    self.reap(state, number)?;
                }
            }
            Action::ResendByPolicy => self.resend_by_policy(state),
            Action::TimePasses => state.row.next = Next::Due,
            Action::TakeDue => self.take_due(state)?,
            Action::AccountUp => state.account_down = false,
            Action::Release => {
                state.row.state = DeliveryState::Queued;
                state.row.next = Next::Dispatched;
                let message = state.next_message();
                self.write_message(state, message)?;
            }
            Action::Reconcile => self.reconcile(state)?,
            Action::RoutePayment => self.route_payment(state),
            Action::Evidence(evidence) => self.apply_evidence(state, evidence),
            Action::Fault(fault) => return self.fault(state, fault),
            Action::Person(person) => {
                state.people_left -= 1;
                self.person(state, person)?;
            }
        }
        Ok(None)
    }

    fn fault(&self, state: &mut State, fault: Fault) -> Result<Option<&'static str>, Full> {
        state.faults_left -= 1;
        match fault {
            Fault::PublisherDies => publisher_dies(state),
            Fault::PublishLost(row) => self.publish_unseen(state, row, false)?,
            Fault::ConfirmLost(row) => self.publish_unseen(state, row, true)?,
            Fault::PublisherSlow(row) => self.publisher_slow(state, row),
            Fault::Redelivered(index) => {
                let taken = std::mem::replace(&mut state.senders[index].taken, Taken::Nothing);
                if let Taken::Unacked(message) = taken {
                    state.queue.put(message)?;
                }
            }
            Fault::Killed(index, out) => self.kill(state, index, out)?,
            Fault::Paused(number, lease) => set_lease(state, number, lease),
            Fault::Answers(index, answer, out) => self.answer(state, index, (answer, out)),
            Fault::Stopped(index) => {
                set_stage(state, index, Stage::Answered(Answer::NotBegun));
            }
            Fault::CommitUnseen(index) => self.record(state, index)?,
            Fault::AccountDown => state.account_down = true,
            Fault::BrokerWiped => wipe(state),
            Fault::Misjudged => self.reconcile(state)?,
            Fault::ReaperSlow(number) => state.reaper_saw = Some(number),
            Fault::GivenUp(message, by_broker) => return self.give_up(state, message, by_broker),
        }
        Ok(None)
    }
}

fn set_lease(state: &mut State, number: u8, lease: Lease) {
    if let Some(attempt) = state.attempt_mut(number) {
        attempt.lease = lease;
    }
}
