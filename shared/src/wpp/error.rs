//! What goes wrong with requests that send no message.

use std::fmt;
use std::time::Duration;

use crate::domain::failure::{FailureClass, FailureCode};

/// A request to the gateway other than a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Is the gateway there, and is our secret right?
    Health,
    /// The list of its channels.
    ListChannels,
    /// One channel's state.
    ChannelStatus,
    /// Start of a channel's session.
    StartSession,
    /// Where the gateway is to post its events.
    RegisterWebhook,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Health => "the health check",
            Self::ListChannels => "the list of channels",
            Self::ChannelStatus => "the look at a channel",
            Self::StartSession => "the start of a session",
            Self::RegisterWebhook => "the registration of the webhook",
        })
    }
}

/// A request that sends no message failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{operation} failed at the WPP Gateway: {code}")]
pub struct WppError {
    /// What was asked.
    pub operation: Operation,
    /// Why it failed.
    pub code: FailureCode,
    /// The status, if there was an answer.
    pub http_status: Option<u16>,
    /// How long the gateway asks to wait.
    pub retry_after: Option<Duration>,
    /// The start of what was answered, scrubbed; for the operator, never for logic.
    pub excerpt: String,
}

impl WppError {
    /// True when the same request may well work later. Each of them may be repeated without
    /// harm, so an unknown outcome is only a reason to ask again (facts §1.3 E1).
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        self.code.is_transient() || matches!(self.code.class(), FailureClass::UnknownOutcome)
    }
}
