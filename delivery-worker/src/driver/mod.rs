//! One file per channel that leaves the house. The chat does not: its "send" is a row of ours, so
//! `driver::chat` writes it in the transaction of the claim.

pub(crate) mod chat;
pub(crate) mod whatsapp;

use std::time::Duration;

use shared::domain::failure::FailureCode;

/// What a driver says of one send.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// The provider took it.
    Sent {
        /// The provider's key id, where it gave one.
        message_id: Option<String>,
        /// The gateway's id of the send, where it gave one.
        correlation_id: Option<String>,
    },
    /// It did not go as wanted; the code's class tells whether it may have left.
    Failed {
        /// Why.
        code: FailureCode,
        /// How long the provider asks us to wait.
        retry_after: Option<Duration>,
        /// The HTTP status of the answer.
        http_status: Option<u16>,
        /// What the provider answered, shortened and scrubbed.
        excerpt: Option<String>,
    },
}

impl Outcome {
    pub(crate) const fn failed(code: FailureCode) -> Self {
        Self::Failed {
            code,
            retry_after: None,
            http_status: None,
            excerpt: None,
        }
    }
}
