//! What is given up, and what people do about it (`shared/src/broker/burial.rs`, the redrive, the
//! shovel and the settling by hand of design §3), and the payment (design §1.9, §5).

use shared::domain::delivery::{DeliveryState, Finding};

use crate::action::{Action, Fault, Person};
use crate::bag::Full;
use crate::properties;
use crate::protocol::Protocol;
use crate::record::{insert_letter, resend_is_asked, supersede};
use crate::state::{GENERATIONS, Letter, Message, Next, Payment, State};

impl Protocol {
    pub(crate) fn people_actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.faults_left > 0 {
            for message in state
                .queue
                .distinct()
                .filter(|message| !message.is_by_hand())
            {
                for by_broker in [false, true] {
                    actions.push(Action::Fault(Fault::GivenUp(message, by_broker)));
                }
            }
        }
        if state.payment == Payment::Accepted {
            actions.push(Action::RoutePayment);
        }
        if state.people_left == 0 {
            return;
        }
        let mut person = |does| actions.push(Action::Person(does));
        if state.payment == Payment::None {
            person(Person::Pays);
        }
        if self.may_redrive(state, state.row.generation) {
            if state.is_in_doubt() && self.rules.doubt_needs_force {
                person(Person::Redrives(true));
            } else {
                person(Person::Redrives(false));
            }
        }
        if state.letter() == Some(Letter::Dead) {
            person(Person::Discards);
        }
        if state.row.state == DeliveryState::Unknown {
            person(Person::FindsDelivered);
            person(Person::FindsNotDelivered);
            person(Person::FindsNotDeliveredAndResends);
            // Redriven with everything else that failed: nobody said that it may go twice.
            if !self.rules.doubt_needs_force {
                person(Person::Redrives(false));
            }
        }
        for letter in state.dead_queue.distinct() {
            person(Person::Shovels(letter));
        }
    }

    /// The redrive's judgement of a letter: open, of the delivery's own generation, and the
    /// delivery is dead.
    fn may_redrive(&self, state: &State, generation: u8) -> bool {
        let dead = state.row.state == DeliveryState::Dead;
        let letter = state.letters[usize::from(generation)];
        if self.rules.letters_once {
            dead && letter == Some(Letter::Dead) && generation == state.row.generation
        } else {
            dead && letter.is_some()
        }
    }

    pub(crate) fn person(&self, state: &mut State, does: Person) -> Result<(), Full> {
        match does {
            Person::Redrives(force) => {
                let generation = state.row.generation;
                if force {
                    resend_is_asked(state);
                }
                self.redrive(state, generation)
            }
            Person::Shovels(letter) => {
                state.dead_queue.take(letter);
                state.queue.put(letter.moved())
            }
            Person::Discards => {
                state.letters[usize::from(state.row.generation)] = Some(Letter::Discarded);
                Ok(())
            }
            Person::FindsDelivered => {
                self.settle(state, Finding::Delivered);
                Ok(())
            }
            Person::FindsNotDelivered => {
                self.settle(state, Finding::NotDelivered);
                Ok(())
            }
            Person::FindsNotDeliveredAndResends => {
                resend_is_asked(state);
                supersede(state);
                self.requeue(state)
            }
            Person::Pays => {
                state.payment = Payment::Accepted;
                Ok(())
            }
        }
    }

    /// `store::settle`: a person says what became of an unknown.
    fn settle(&self, state: &mut State, finding: Finding) {
        if let Some(to) = state.row.state.settled_by_hand(finding) {
            state.row.state = to;
            supersede(state);
        }
    }

    /// Letter redriven, the subject one generation on with a fresh budget, its outbox row.
    fn redrive(&self, state: &mut State, generation: u8) -> Result<(), Full> {
        if let Some(letter) = &mut state.letters[usize::from(generation)] {
            *letter = Letter::Redriven;
        }
        self.requeue(state)
    }

    fn requeue(&self, state: &mut State) -> Result<(), Full> {
        if self.rules.redrive_raises_generation {
            state.row.generation += 1;
        }
        if usize::from(state.row.generation) >= GENERATIONS {
            return Err(Full);
        }
        state.row.state = DeliveryState::Queued;
        state.row.retry_count = 0;
        state.row.next = Next::Dispatched;
        let message = state.next_message();
        self.write_message(state, message)
    }

    /// A letter that a person moved back to the work queue is a wish to redrive, without force.
    pub(crate) fn moved_back(&self, state: &mut State, letter: Message) -> Result<(), Full> {
        let open = state.letters[usize::from(letter.generation())] == Some(Letter::Dead);
        if self.may_redrive(state, letter.generation()) {
            if state.is_in_doubt() && self.rules.doubt_needs_force {
                let back = letter.back();
                return self.write_letter(state, back);
            }
            return self.redrive(state, letter.generation());
        }
        // Its subject reached its end by another way; every other copy is just dropped.
        let ended = matches!(
            state.row.state,
            DeliveryState::Sent | DeliveryState::Delivered | DeliveryState::Cancelled
        );
        if open && ended {
            state.letters[usize::from(letter.generation())] = Some(Letter::Superseded);
        }
        Ok(())
    }

    /// `Burial::record` and `note_broker_letter`: only a delivery that waits for this very message
    /// dies with it.
    pub(crate) fn give_up(
        &self,
        state: &mut State,
        message: Message,
        by_broker: bool,
    ) -> Result<Option<&'static str>, Full> {
        state.queue.take(message);
        let row = state.row;
        let waits = row.state == DeliveryState::Queued
            && row.generation == message.generation()
            && (row.attempt_count + 1 == message.attempt() || !self.rules.burial_reads_attempt);
        if waits {
            state.row.state = DeliveryState::Dead;
        }
        let stray = waits && row.attempt_count + 1 != message.attempt();
        let broken = stray.then_some(properties::DIES_OF_ITS_OWN);
        if !waits && self.rules.stale_copies_leave_no_letter {
            return Ok(None);
        }
        if !by_broker {
            self.bury(state, message)?;
            return Ok(broken);
        }
        // The letter lies in the dead queue already.
        state.dead_queue.put(message)?;
        if insert_letter(state, message.generation()) {
            if !waits {
                // "Its subject is further on": the letter is settled, and its place taken.
                state.letters[usize::from(message.generation())] = Some(Letter::Superseded);
            } else if !state.is_in_doubt() && !state.seen.retried_alone {
                state.seen.retried_alone = true;
                self.redrive(state, message.generation())?;
            }
        }
        Ok(broken)
    }

    /// The router has the payment: what waits is cancelled.
    pub(crate) fn route_payment(&self, state: &mut State) {
        state.payment = Payment::Routed;
        if matches!(state.row.state, DeliveryState::Queued | DeliveryState::Held) {
            state.row.state = DeliveryState::Cancelled;
        }
    }
}
