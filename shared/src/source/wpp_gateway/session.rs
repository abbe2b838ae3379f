//! Session changes: whether a sending account can send, by the provider's word (facts §1.6).

use super::envelope::{Envelope, flag, label};
use crate::domain::event::{NormalisedEvent, NormalisedKind, SessionState};
use crate::domain::text::fold_name;

/// A session change in an envelope.
pub(super) struct Session {
    pub(super) raw_status: String,
    state: SessionState,
}

impl Session {
    /// The first word that tells up from down decides; the first word of all is what is shown.
    pub(super) fn read(envelope: &Envelope<'_>) -> Self {
        let words: Vec<String> = envelope
            .values(&[], &["/status", "/state"])
            .chain(envelope.values(
                &[
                    "/connection/status",
                    "/connection/state",
                    "/data/status",
                    "/data/state",
                ],
                &["/event"],
            ))
            .filter_map(|value| value.as_str())
            .map(label)
            .filter(|word| !word.is_empty())
            .collect();
        let connected = envelope
            .values(&["/connection/connected", "/connected"], &["/connected"])
            .find_map(flag)
            .map(|connected| {
                if connected {
                    SessionState::Up
                } else {
                    SessionState::Down
                }
            });
        let state = words
            .iter()
            .map(|word| state_of(word))
            .find(|state| *state != SessionState::Other)
            .or(connected)
            .unwrap_or(SessionState::Other);
        Self {
            raw_status: words.into_iter().next().unwrap_or_default(),
            state,
        }
    }

    /// Writes the change into the event.
    pub(super) fn fill(&self, event: &mut NormalisedEvent) {
        event.kind = NormalisedKind::Session {
            state: self.state,
            raw_status: self.raw_status.clone(),
        };
    }
}

/// `unavailable` is the word for a contact that went offline; alone it proves nothing about a
/// session. A code to scan means that the session is not logged in.
fn state_of(word: &str) -> SessionState {
    match fold_name(word).as_str() {
        "inchat" | "islogged" | "qrreadsuccess" | "connected" | "open" | "authenticated"
        | "available" | "ready" => SessionState::Up,
        "disconnectedmobile" | "desconnectedmobile" | "phonenotconnected" | "browserclose"
        | "serverclose" | "autoclosecalled" | "notlogged" | "deletetoken" | "qrreadfail"
        | "qrreaderror" | "close" | "closed" | "disconnected" | "closesession"
        | "logoutsession" | "logout" | "auth_failure" | "delete_session" | "qr_required"
        | "qrcode" | "qr" | "phonecode" => SessionState::Down,
        _ => SessionState::Other,
    }
}
