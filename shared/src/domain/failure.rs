//! The closed set of reasons why something did not go as wanted. Each is a metric label, a value
//! in a row, a field of a log line, and a row of `docs/failure-codes.md`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a failure asks of whoever handles it (facts: conventions §C2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// Not sent; the same request may well work later.
    Transient,
    /// Not sent; the other side asks for a slower pace.
    Throttled,
    /// Not sent; the sending account's session is down. Hold, burn no attempt.
    SessionDown,
    /// Not sent; what we depend on is away. Hold, burn no attempt: nothing is blamed on a message
    /// because a dependency is down (design §1.7).
    Away,
    /// It may have been sent. Never blindly resend (facts §8, incidents 1 and 2).
    UnknownOutcome,
    /// This recipient cannot be reached this way.
    Recipient,
    /// The message itself is at fault; a person has to mend it.
    Content,
    /// Credentials, addresses or set-up are wrong; ops have to mend it.
    Config,
    /// Our own data or code is at fault.
    Internal,
}

impl FailureClass {
    /// The text in rows and headers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Throttled => "throttled",
            Self::SessionDown => "session_down",
            Self::Away => "away",
            Self::UnknownOutcome => "unknown_outcome",
            Self::Recipient => "recipient",
            Self::Content => "content",
            Self::Config => "config",
            Self::Internal => "internal",
        }
    }
}

macro_rules! failure_codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $class:ident;)+) => {
        /// Why something failed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum FailureCode { $($(#[$doc])* $variant,)+ }

        impl FailureCode {
            /// Every code, for metrics' labels and the runbook's completeness test.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The stable text of the code.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// What the failure asks of whoever handles it.
            #[must_use]
            pub const fn class(self) -> FailureClass {
                match self { $(Self::$variant => FailureClass::$class,)+ }
            }
        }
    };
}

failure_codes! {
    /// No connection to the gateway (refused, DNS, TLS): facts §1.3 E2.
    GatewayUnreachable = "gateway_unreachable", Away;
    /// A server error before anything was sent, for requests that send nothing.
    GatewayServerError = "gateway_server_error", Transient;
    /// The engine's session is half alive and asks for a start: E11, E12.
    SessionNotStarted = "session_not_started", Transient;
    /// 429 or a text that says so.
    GatewayThrottled = "gateway_throttled", Throttled;
    /// "A sessão do WhatsApp não está ativa.": conventions A0.5.
    SessionDown = "session_down", SessionDown;
    /// Our own time limit passed after the request was written: E1.
    GatewayTimeout = "gateway_timeout", UnknownOutcome;
    /// The connection broke after the request was written.
    ConnectionReset = "connection_reset", UnknownOutcome;
    /// An HTML page instead of an answer, a 504 mostly: E6.
    GatewayHtmlError = "gateway_html_error", UnknownOutcome;
    /// An empty body with a 2xx: E3.
    EmptyResponse = "empty_response", UnknownOutcome;
    /// An answer that is no JSON, or a 5xx of a send: E7, E8.
    GatewayUnreadable = "gateway_unreadable", UnknownOutcome;
    /// The engine timed out behind the gateway: E14.
    EngineTimeout = "engine_timeout", UnknownOutcome;
    /// The process ended, or lost its lease, with the request possibly written.
    LeaseExpired = "lease_expired", UnknownOutcome;
    /// "O número … não existe": may be false, an ack wins over it (E13, incident 34).
    NumberNotOnWhatsapp = "number_not_on_whatsapp", Recipient;
    /// The payload names no usable address of the recipient.
    RecipientMissing = "recipient_missing", Recipient;
    /// The phone cannot be one (wrong length or area code).
    RecipientInvalid = "recipient_invalid", Recipient;
    /// WhatsApp reported the message as failed (ack −1 … −7).
    ProviderRejected = "provider_rejected", Recipient;
    /// The gateway refused the content (E15, E16).
    ContentRejected = "content_rejected", Content;
    /// A 200 whose body says `success:false`, with no text we know: E19.
    GatewayRefused = "gateway_refused", Content;
    /// The template misses a variable that the event does not carry.
    TemplateVariableMissing = "template_variable_missing", Content;
    /// The template cannot be rendered: bad syntax, a filter refused a value, too much work.
    TemplateInvalid = "template_invalid", Content;
    /// The rule asks for a template that does not exist for the channel.
    TemplateNotFound = "template_not_found", Content;
    /// The rendered text is empty or longer than the channel takes.
    TextUnsendable = "text_unsendable", Content;
    /// A wrong gateway secret (401/403 JSON): E5.
    GatewayUnauthorized = "gateway_unauthorized", Config;
    /// A proxy in front of the gateway asks for Basic auth: E4.
    GatewayProxyUnauthorized = "gateway_proxy_unauthorized", Config;
    /// The gateway does not know the channel: E9.
    ChannelNotFound = "channel_not_found", Config;
    /// The gateway does not know the route: wrapper too old or wrong port (E10).
    GatewayRouteNotFound = "gateway_route_not_found", Config;
    /// No sending account is configured for the tenant on this channel.
    ChannelNotConfigured = "channel_not_configured", Config;
    /// The channel has no driver in this process.
    ChannelUnavailable = "channel_unavailable", Config;
    /// The event could not be normalised: its payload is not what its type promises.
    PayloadUnreadable = "payload_unreadable", Content;
    /// The event says whose it is in two ways that contradict each other; or its invoice is another
    /// tenant's. Quarantined: nothing is planned until a person has looked.
    TenantMismatch = "tenant_mismatch", Content;
    /// The message names a row that does not exist.
    SubjectNotFound = "subject_not_found", Internal;
    /// A broker message that cannot be decoded.
    MessageUnreadable = "message_unreadable", Internal;
    /// The code panicked on this item.
    Panicked = "panicked", Internal;
    /// The database refused this item's data.
    DataRefused = "data_refused", Internal;
    /// The broker gave the message up (delivery limit).
    BrokerDeliveryLimit = "broker_delivery_limit", Internal;
}

impl FailureCode {
    /// True when trying again by ourselves, later, makes sense and risks no double.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        matches!(
            self.class(),
            FailureClass::Transient
                | FailureClass::Throttled
                | FailureClass::SessionDown
                | FailureClass::Away
        )
    }
}

/// The text is no code of the set (a newer version wrote it).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown failure code")]
pub struct UnknownFailureCode;

impl FromStr for FailureCode {
    type Err = UnknownFailureCode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .iter()
            .copied()
            .find(|code| code.as_str() == text)
            .ok_or(UnknownFailureCode)
    }
}

impl fmt::Display for FailureCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for FailureCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
