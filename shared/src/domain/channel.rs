//! The ways out. A new channel is one arm here, one driver file and one registry line.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A way to reach somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// WhatsApp, through the WPP Gateway.
    Whatsapp,
    /// The internal chat: a message on one of our own threads.
    Chat,
    /// E-mail by SMTP.
    Email,
}

impl Channel {
    /// Every channel; queues, dead queues and drivers are derived from it.
    pub const ALL: [Self; 3] = [Self::Whatsapp, Self::Chat, Self::Email];

    /// The name in rules, queues and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Whatsapp => "whatsapp",
            Self::Chat => "chat",
            Self::Email => "email",
        }
    }
}

/// The text names no channel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown channel")]
pub struct UnknownChannel;

impl FromStr for Channel {
    type Err = UnknownChannel;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|channel| channel.as_str() == text)
            .ok_or(UnknownChannel)
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
