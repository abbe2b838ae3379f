//! Which messages of a chunk are proven to lie in their queues.
//!
//! The broker sends a return before the confirm of the same message. The client library (lapin
//! 4.12, `acknowledgement.rs`) queues returns and gives the oldest to *whichever* confirm of the
//! channel completes next. Hence, for a channel that serves this chunk alone:
//! when every confirm is in, every return has been carried by one of them; and a confirm that
//! carried none found no return waiting, so the return of its own message, if there was one, was
//! carried by a confirm that completed before it.

use std::collections::HashSet;

use lapin::Confirmation;

use super::publisher::{Outcome, PublishError};

/// The confirms of one chunk and the ids of what was returned.
pub(super) struct Confirms {
    confirms: Vec<Option<Confirm>>,
    returned: HashSet<String>,
    /// A return without an id: no ack of the chunk can be trusted.
    unknown_return: bool,
}

#[derive(Clone, Copy)]
enum Confirm {
    Ack { carried_return: bool },
    Nack,
    Closed,
}

impl Confirms {
    /// Of a chunk of `len` messages.
    pub(super) fn new(len: usize) -> Self {
        Self {
            confirms: vec![None; len],
            returned: HashSet::new(),
            unknown_return: false,
        }
    }

    /// The confirm of the message at `index`.
    pub(super) fn add(&mut self, index: usize, confirm: lapin::Result<Confirmation>) {
        let (confirm, returned) = match confirm {
            Ok(Confirmation::Ack(returned)) => {
                let carried_return = returned.is_some();
                (Confirm::Ack { carried_return }, returned)
            }
            Ok(Confirmation::Nack(returned)) => (Confirm::Nack, returned),
            // Not in confirm mode: it proves nothing.
            Ok(Confirmation::NotRequested) | Err(_) => (Confirm::Closed, None),
        };
        self.record(index, confirm);
        if let Some(message) = returned {
            self.record_return(
                message
                    .properties
                    .message_id()
                    .as_ref()
                    .map(|id| id.as_str()),
            );
        }
    }

    /// One outcome per message; `ids` are theirs, in the order of the chunk, and `missing` is why
    /// a confirm did not come.
    pub(super) fn outcomes<'a>(
        &self,
        ids: impl Iterator<Item = &'a str>,
        missing: PublishError,
    ) -> Vec<Outcome> {
        let complete = self
            .confirms
            .iter()
            .all(|confirm| matches!(confirm, Some(Confirm::Ack { .. } | Confirm::Nack)));
        ids.zip(&self.confirms)
            .map(|(id, confirm)| match confirm {
                None => Err(missing),
                Some(Confirm::Closed) => Err(PublishError::ChannelClosed),
                Some(Confirm::Nack) => Err(PublishError::Nack),
                Some(Confirm::Ack { carried_return }) => {
                    let doubtful = self.unknown_return || (*carried_return && !complete);
                    if doubtful || self.returned.contains(id) {
                        Err(PublishError::Returned)
                    } else {
                        Ok(())
                    }
                }
            })
            .collect()
    }

    fn record(&mut self, index: usize, confirm: Confirm) {
        if let Some(slot) = self.confirms.get_mut(index) {
            *slot = Some(confirm);
        }
    }

    fn record_return(&mut self, id: Option<&str>) {
        match id {
            Some(id) if !id.is_empty() => {
                self.returned.insert(id.to_owned());
            }
            _ => self.unknown_return = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Confirm = Confirm::Ack {
        carried_return: false,
    };
    const CARRIER: Confirm = Confirm::Ack {
        carried_return: true,
    };
    const RETURNED: Outcome = Err(PublishError::Returned);

    fn check(confirms: &[Option<Confirm>], returned: &[Option<&str>], expected: &[Outcome]) {
        let mut collected = Confirms::new(confirms.len());
        for (index, confirm) in confirms.iter().enumerate() {
            if let Some(confirm) = confirm {
                collected.record(index, *confirm);
            }
        }
        for id in returned {
            collected.record_return(*id);
        }
        let ids = ["a", "b", "c"].into_iter().take(confirms.len());
        assert_eq!(collected.outcomes(ids, PublishError::Timeout), expected);
    }

    #[test]
    fn a_return_counts_for_its_own_message_not_for_the_confirm_that_carried_it() {
        check(
            &[Some(CARRIER), Some(PLAIN), Some(PLAIN)],
            &[Some("c")],
            &[Ok(()), Ok(()), RETURNED],
        );
    }

    #[test]
    fn a_carrier_is_in_doubt_while_confirms_are_outstanding() {
        check(
            &[Some(CARRIER), Some(PLAIN), None],
            &[Some("c")],
            &[RETURNED, Ok(()), Err(PublishError::Timeout)],
        );
    }

    #[test]
    fn a_return_without_an_id_puts_every_ack_in_doubt() {
        check(
            &[Some(CARRIER), Some(PLAIN), Some(Confirm::Nack)],
            &[None],
            &[RETURNED, RETURNED, Err(PublishError::Nack)],
        );
    }

    #[test]
    fn what_was_not_confirmed_before_the_channel_closed_is_not_confirmed() {
        check(
            &[Some(PLAIN), Some(Confirm::Closed)],
            &[],
            &[Ok(()), Err(PublishError::ChannelClosed)],
        );
    }
}
