//! The outbox, the publishers and the broker (`shared/src/broker/{relay,sweeper,reconcile}.rs`,
//! `shared/src/store/{outbox,reconcile}.rs`).

use shared::domain::delivery::DeliveryState;

use crate::action::{Action, Fault};
use crate::bag::Full;
use crate::protocol::Protocol;
use crate::state::{Message, Next, OutboxRow, State, Taken};

impl Protocol {
    /// Writes a row in the transaction of the data; its copy is handed to the hot path.
    pub(crate) fn write_message(&self, state: &mut State, message: Message) -> Result<(), Full> {
        self.write(state, message, false)
    }

    /// Writes a letter.
    pub(crate) fn write_letter(&self, state: &mut State, message: Message) -> Result<(), Full> {
        self.write(state, message, true)
    }

    fn write(&self, state: &mut State, message: Message, letter: bool) -> Result<(), Full> {
        state.outbox.put(OutboxRow {
            message,
            letter,
            lapsed: false,
            copy: true,
            confirmed: false,
            only_copy: !self.rules.outbox,
        })
    }

    pub(crate) fn mouth_actions(&self, state: &State, actions: &mut Vec<Action>) {
        let faulty = state.faults_left > 0;
        let mut held = false;
        for row in state.outbox.distinct() {
            held |= row.copy || row.confirmed;
            if row.copy {
                actions.push(Action::Publish(row));
                if faulty {
                    actions.push(Action::Fault(Fault::PublishLost(row)));
                    actions.push(Action::Fault(Fault::ConfirmLost(row)));
                }
            }
            if row.confirmed {
                actions.push(Action::Delete(row));
            }
            if row.lapsed {
                actions.push(Action::Sweep(row));
            } else if !row.copy && !row.confirmed {
                actions.push(Action::RowLapses(row));
            } else if faulty && !row.only_copy {
                actions.push(Action::Fault(Fault::PublisherSlow(row)));
            }
        }
        if faulty && held {
            actions.push(Action::Fault(Fault::PublisherDies));
        }
        if faulty && self.bounds.broker_may_be_wiped {
            actions.push(Action::Fault(Fault::BrokerWiped));
        }
        if self.rules.reconciler && looks_lost(state) {
            if has_message(state) {
                if faulty {
                    actions.push(Action::Fault(Fault::Misjudged));
                }
            } else {
                actions.push(Action::Reconcile);
            }
        }
    }

    /// `Mouth::publish` and the confirm that it waits for.
    pub(crate) fn publish(&self, state: &mut State, row: OutboxRow) -> Result<(), Full> {
        deliver(state, row)?;
        let done = OutboxRow {
            copy: false,
            confirmed: true,
            ..row
        };
        if row.only_copy || !self.rules.delete_after_confirm {
            state.outbox.take(row);
        } else {
            state.outbox.replace(row, done);
        }
        Ok(())
    }

    /// A publish that nobody learns of; `arrives` tells whether the broker has it.
    pub(crate) fn publish_unseen(
        &self,
        state: &mut State,
        row: OutboxRow,
        arrives: bool,
    ) -> Result<(), Full> {
        if arrives {
            deliver(state, row)?;
        }
        if row.only_copy || !self.rules.delete_after_confirm {
            state.outbox.take(row);
        } else {
            state.outbox.replace(row, OutboxRow { copy: false, ..row });
        }
        Ok(())
    }

    /// The row's lease ends while a publisher has it: the hot path drops its copy
    /// (`Mouth::publish_offered`).
    pub(crate) fn publisher_slow(&self, state: &mut State, row: OutboxRow) {
        let late = OutboxRow {
            lapsed: true,
            copy: row.copy && !self.rules.hot_path_keeps_its_lease,
            ..row
        };
        state.outbox.replace(row, late);
    }

    /// `reconcile::take_lost_deliveries`.
    pub(crate) fn reconcile(&self, state: &mut State) -> Result<(), Full> {
        let message = state.next_message();
        self.write_message(state, message)
    }

    /// `deliveries::take_due` and the outbox row in the same transaction.
    pub(crate) fn take_due(&self, state: &mut State) -> Result<(), Full> {
        state.row.next = Next::Dispatched;
        let message = state.next_message();
        self.write_message(state, message)
    }
}

/// The process ends with what it had in memory.
pub(crate) fn publisher_dies(state: &mut State) {
    let only_copies: Vec<_> = state.outbox.iter().filter(|row| row.only_copy).collect();
    for row in only_copies {
        state.outbox.take(row);
    }
    state.outbox.change(|row| {
        row.copy = false;
        row.confirmed = false;
    });
}

/// Everything that the broker had is gone, and with it the right to acknowledge.
pub(crate) fn wipe(state: &mut State) {
    state.queue = crate::bag::Bag::EMPTY;
    state.dead_queue = crate::bag::Bag::EMPTY;
    for sender in &mut state.senders {
        if matches!(sender.taken, Taken::Unacked(_)) {
            sender.taken = Taken::Nothing;
        }
    }
}

fn deliver(state: &mut State, row: OutboxRow) -> Result<(), Full> {
    if row.letter {
        state.dead_queue.put(row.message)
    } else {
        state.queue.put(row.message)
    }
}

/// The condition of `take_lost_deliveries`, all but the times.
fn looks_lost(state: &State) -> bool {
    state.row.state == DeliveryState::Queued
        && state.row.next == Next::Dispatched
        && state.outbox.is_empty()
}

/// True when a message that can claim is in the broker, or in the hands of a sender.
fn has_message(state: &State) -> bool {
    let message = state.next_message();
    let held = state
        .senders
        .iter()
        .any(|sender| matches!(sender.taken, Taken::Unacked(own) | Taken::Forgotten(own) if own == message));
    held || state.queue.iter().any(|own| own == message)
}
