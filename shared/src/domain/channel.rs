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

/// A setting that each channel may have its own value of: one for all, and exceptions, as in
/// `5s,email=60s`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerChannel<T> {
    usual: T,
    exceptions: Vec<(Channel, T)>,
}

impl<T: Copy> PerChannel<T> {
    /// The value for a channel.
    pub fn of(&self, channel: Channel) -> T {
        let exception = self.exceptions.iter().find(|(own, _)| *own == channel);
        exception.map_or(self.usual, |(_, value)| *value)
    }
}

impl<T> PerChannel<T> {
    /// The same value for every channel.
    pub const fn all(value: T) -> Self {
        Self {
            usual: value,
            exceptions: Vec::new(),
        }
    }

    /// Reads the value for all, then the exceptions, each part by `read`.
    ///
    /// # Errors
    /// What is wrong with the text, for whoever set it.
    pub fn parse(text: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<Self, String> {
        let mut parts = text.split(',').map(str::trim);
        let mut setting = Self::all(read(parts.next().unwrap_or_default())?);
        for part in parts {
            let (name, value) = part
                .split_once('=')
                .ok_or_else(|| format!("{part:?} is no exception like email=60s"))?;
            let channel: Channel = name
                .trim()
                .parse()
                .map_err(|_| format!("{name:?} is no channel"))?;
            if setting.exceptions.iter().any(|(own, _)| *own == channel) {
                return Err(format!("{channel} is there twice"));
            }
            setting.exceptions.push((channel, read(value.trim())?));
        }
        Ok(setting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<PerChannel<i32>, String> {
        PerChannel::parse(text, |text| text.parse().map_err(|_| format!("{text:?}?")))
    }

    #[test]
    fn a_channel_without_an_exception_has_the_usual_value() {
        assert_eq!(read("3"), Ok(PerChannel::all(3)));
        let setting = read("3, email=5,chat=0").unwrap();
        let values = Channel::ALL.map(|channel| setting.of(channel));
        assert_eq!(values, [3, 0, 5]);
    }

    #[test]
    fn a_mistake_is_told() {
        for text in [
            "",
            "email=5",
            "3,5",
            "3,fax=1",
            "3,email=x",
            "3,email=1,email=2",
            "3,",
        ] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }
}
