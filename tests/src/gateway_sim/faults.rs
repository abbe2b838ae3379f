//! The ways in which the gateway misbehaves, and who is hit by them next.
//!
//! Owns the catalogue ([`Fault`]) and the book of armed rules. How a fault looks on the wire is
//! `answer`'s, what it does to webhooks is `script`'s.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{jid, lock};

/// What becomes of the message that a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Refused at the door: not listed in `/_sim/messages`, nothing leaves.
    Refused,
    /// Listed with `went_out: false`: it was taken in, and nothing leaves.
    Stays,
    /// Listed with `went_out: true`: it leaves, echo and acks follow, only the answer misleads.
    Leaves,
    /// The answer is as it should be; the webhooks are not.
    Webhooks,
    /// The answer only comes late.
    Timing,
    /// Not about sends: it hits `GET /api/channels/{id}/qr`.
    Qr,
}

macro_rules! catalogue {
    ($($variant:ident $name:literal $effect:ident $fact:literal $what:literal)*) => {
        /// One way to misbehave; the wire name is the snake-case form.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Fault {
            $(#[doc = $what] #[serde(rename = $name)] $variant,)*
        }

        impl Fault {
            /// Every fault, in the order of the documentation.
            pub const ALL: &[Fault] = &[$(Fault::$variant),*];

            /// The name used in `POST /_sim/faults`.
            pub fn name(self) -> &'static str {
                match self { $(Fault::$variant => $name,)* }
            }

            /// What becomes of the message, unless the rule's `went_out` says otherwise.
            pub fn effect(self) -> Effect {
                match self { $(Fault::$variant => Effect::$effect,)* }
            }

            /// Where the facts tell of it.
            pub fn fact(self) -> &'static str {
                match self { $(Fault::$variant => $fact,)* }
            }

            /// What the caller sees, in one line.
            pub fn what(self) -> &'static str {
                match self { $(Fault::$variant => $what,)* }
            }
        }
    };
}

catalogue! {
    TimeoutAfterSend "timeout_after_send" Leaves "E1" "The message leaves, the answer never comes (held for delay_ms, default 120000, then reset)."
    TimeoutBefore "timeout_before" Stays "E1" "Nothing leaves, and the answer never comes either."
    Html504Sent "html_504_sent" Leaves "E6" "nginx answers 504 with its HTML page although the message left."
    Html504NotSent "html_504_not_sent" Stays "E6" "nginx answers 504 with its HTML page and nothing left."
    ServerErrorJson "server_error_json" Stays "E8" "500 with a JSON error."
    ServerErrorInvalidJson "server_error_invalid_json" Stays "E7" "500 with a body that is not JSON."
    Empty200 "empty_200" Leaves "E3" "200 with an empty body."
    Empty500 "empty_500" Stays "E3" "500 with an empty body."
    SuccessFalse "success_false" Stays "E19" "200 with success:false in the body."
    AcceptedNotSent "accepted_not_sent" Stays "§1.7 Q12" "A perfect success answer, and nothing is ever sent (zombie session)."
    SessionInactive "session_inactive" Refused "A0.5" "404 'A sessão do WhatsApp não está ativa.'"
    SessionNotStarted "session_not_started" Refused "E12" "404 'Session not started. Please, use the /start-session route'."
    ChannelNotFound "channel_not_found" Refused "E9" "404 'Canal não encontrado'."
    RouteNotFound "route_not_found" Refused "E10" "404 'Route not found': wrapper too old, or the wrong port."
    UnauthorizedJson "unauthorized_json" Refused "E5" "401 JSON, as for a wrong secret."
    UnauthorizedBasicHtml "unauthorized_basic_html" Refused "E4" "401 of nginx: HTML and WWW-Authenticate: Basic."
    Forbidden "forbidden" Refused "E5" "403 JSON."
    RateLimited "rate_limited" Refused "conventions E5" "429; Retry-After is retry_after: seconds, a date ('date:+3', three seconds ahead) or any other text as it is."
    NotExistsDelivered "not_exists_delivered" Leaves "E13" "500 'O número 55… não existe' although the message is delivered."
    NotExists "not_exists" Stays "E13" "400 'O número 55… não existe.', and it is true."
    WppconnectTimeout "wppconnect_timeout" Leaves "E14" "500 'WPPConnect … timeout of 30000ms exceeded'."
    ResetBefore "reset_before" Refused "E2" "The connection is reset before the message is taken in."
    ResetAfterSend "reset_after_send" Leaves "E1" "The message leaves, then the connection is reset without an answer."
    CutAnswer "cut_answer" Leaves "E1" "The message leaves; the 200 answer breaks off in the middle of its body."
    InvalidBase64 "invalid_base64" Refused "E15" "400 'Invalid or empty base64 image data'."
    AudioConvertFailed "audio_convert_failed" Refused "E16" "500 with error_code AUDIO_CONVERT_FAILED, origin and reason."
    ErrorObject "error_object" Stays "E8" "500 whose error value is an object."
    ErrorInField "error_in_field" Stays "E8" "400 with the error text in the member named by field: error, message, error_message, details or data.error."
    NoIdInAnswer "no_id_in_answer" Leaves "E18" "200 {success:true} without any id."
    MessageIdInAnswer "message_id_in_answer" Leaves "§1.2" "200 with messageId beside correlationId, as media sends have it."
    NoEcho "no_echo" Webhooks "§0.4" "The echo webhook never comes."
    NoAcks "no_acks" Webhooks "A6" "No ack webhook comes."
    OnlyAck1 "only_ack_1" Webhooks "A3" "Only ack 1 comes: the recipient blocked the sender, or is off."
    AckFailed "ack_failed" Webhooks "§1.5" "Accepted, echoed, then ack -1: WhatsApp refused it (went_out: false)."
    AcksBeforeResponse "acks_before_response" Webhooks "A5" "All webhooks are delivered before the HTTP answer is written."
    DuplicatedWebhooks "duplicated_webhooks" Webhooks "A6" "Every webhook comes twice, with different event_ids."
    ShuffledWebhooks "shuffled_webhooks" Webhooks "A3" "The webhooks of a message come in another order."
    LateWebhooks "late_webhooks" Webhooks "A0.7" "The webhooks of a message come delay_ms later than usual."
    SlowAnswer "slow_answer" Timing "A0.7" "The message leaves at once, the (good) answer comes after delay_ms."
    QrFailed "qr_failed" Qr "E11" "GET …/qr answers 500 'getQRCode failed: Invalid QR code response from server'."
}

impl Fault {
    fn decides_the_answer(self) -> bool {
        matches!(
            self.effect(),
            Effect::Refused | Effect::Stays | Effect::Leaves
        )
    }
}

/// Which fault, for whom, and how often: the body of `POST /_sim/faults`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// The way to misbehave.
    pub fault: Fault,
    /// Only these recipients, in any spelling of the number; nobody named means everybody.
    #[serde(default, deserialize_with = "one_or_many")]
    pub to: Option<Vec<String>>,
    /// Only this channel.
    #[serde(default)]
    pub channel: Option<String>,
    /// For so many sends that match; without a number until it is removed.
    #[serde(default)]
    pub calls: Option<u64>,
    /// Wait so long before the answer.
    #[serde(default)]
    pub delay_ms: Option<u64>,
    /// `rate_limited`: the header's value.
    #[serde(default)]
    pub retry_after: Option<Value>,
    /// Answer with this status instead of the fault's own.
    #[serde(default)]
    pub status: Option<u16>,
    /// `error_in_field`: which member carries the text.
    #[serde(default)]
    pub field: Option<String>,
    /// The error text (or object) instead of the fault's own.
    #[serde(default)]
    pub error: Option<Value>,
    /// Overrides whether the message leaves, for the faults that decide the answer.
    #[serde(default)]
    pub went_out: Option<bool>,
}

impl FaultRule {
    /// A rule that hits every send until it is removed.
    pub fn new(fault: Fault) -> Self {
        Self {
            fault,
            to: None,
            channel: None,
            calls: None,
            delay_ms: None,
            retry_after: None,
            status: None,
            field: None,
            error: None,
            went_out: None,
        }
    }

    /// The same rule, for one recipient only.
    #[must_use]
    pub fn to(mut self, recipient: &str) -> Self {
        self.to
            .get_or_insert_with(Vec::new)
            .push(recipient.to_owned());
        self
    }

    /// The same rule, for the next `calls` matching sends only.
    #[must_use]
    pub fn times(mut self, calls: u64) -> Self {
        self.calls = Some(calls);
        self
    }

    /// The same rule with a delay.
    #[must_use]
    pub fn delayed(mut self, delay_ms: u64) -> Self {
        self.delay_ms = Some(delay_ms);
        self
    }

    /// What becomes of the message under this rule.
    pub(super) fn effect(&self) -> Effect {
        match self.went_out {
            Some(leaves) if self.fault.decides_the_answer() => {
                if leaves {
                    Effect::Leaves
                } else if self.fault.effect() == Effect::Refused {
                    Effect::Refused
                } else {
                    Effect::Stays
                }
            }
            _ => self.fault.effect(),
        }
    }
}

/// An armed rule as `GET /_sim/faults` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct ArmedFault {
    /// Number of the rule, in order of arming.
    pub id: u64,
    /// The rule as it was armed.
    #[serde(flatten)]
    pub rule: Arc<FaultRule>,
    /// How often it has hit.
    pub hits: u64,
    #[serde(skip)]
    recipients: Option<HashSet<String>>,
}

impl ArmedFault {
    fn meets(&self, recipient_key: &str, channel: &str) -> bool {
        self.rule.calls.is_none_or(|calls| self.hits < calls)
            && self.rule.channel.as_deref().is_none_or(|it| it == channel)
            && self
                .recipients
                .as_ref()
                .is_none_or(|keys| keys.contains(recipient_key))
    }

    fn hit(&mut self) -> Arc<FaultRule> {
        self.hits += 1;
        Arc::clone(&self.rule)
    }
}

/// The faults that one send meets.
#[derive(Default)]
pub(super) struct Met {
    /// The rule that decides the answer.
    pub(super) answer: Option<Arc<FaultRule>>,
    /// Rules that change timing and webhooks; several may apply at once.
    pub(super) others: Vec<Arc<FaultRule>>,
}

impl Met {
    /// The rule for `fault`, when this send met it.
    pub(super) fn other(&self, fault: Fault) -> Option<&FaultRule> {
        self.others
            .iter()
            .map(AsRef::as_ref)
            .find(|rule| rule.fault == fault)
    }

    /// Names of all that was met.
    pub(super) fn faults(&self) -> Vec<Fault> {
        let rules = self.answer.iter().chain(&self.others);
        rules.map(|rule| rule.fault).collect()
    }
}

/// The armed rules.
#[derive(Default)]
pub(super) struct FaultBook {
    armed: AtomicBool,
    inner: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    last_id: u64,
    rules: Vec<ArmedFault>,
}

impl FaultBook {
    /// Arms a rule; it comes after those that are armed already.
    pub(super) fn arm(&self, rule: FaultRule) -> ArmedFault {
        let mut book = lock(&self.inner);
        book.last_id += 1;
        let recipients = rule
            .to
            .as_ref()
            .filter(|to| !to.is_empty())
            .map(|to| to.iter().map(|it| jid::match_key(it)).collect());
        let armed = ArmedFault {
            id: book.last_id,
            rule: Arc::new(rule),
            hits: 0,
            recipients,
        };
        book.rules.push(armed.clone());
        self.armed.store(true, Ordering::Release);
        armed
    }

    /// Removes every rule and says how many there were.
    pub(super) fn clear(&self) -> usize {
        let mut book = lock(&self.inner);
        self.armed.store(false, Ordering::Release);
        std::mem::take(&mut book.rules).len()
    }

    /// Removes one rule.
    pub(super) fn disarm(&self, id: u64) -> bool {
        let mut book = lock(&self.inner);
        let before = book.rules.len();
        book.rules.retain(|rule| rule.id != id);
        book.rules.len() < before
    }

    /// All armed rules with their hits, the spent ones included.
    pub(super) fn list(&self) -> Vec<ArmedFault> {
        lock(&self.inner).rules.clone()
    }

    /// What a send meets; counts the hits. A send that does not leave spends no webhook fault.
    pub(super) fn meet(&self, recipient_key: &str, channel: &str) -> Met {
        let mut met = Met::default();
        if !self.armed.load(Ordering::Acquire) {
            return met;
        }
        let mut book = lock(&self.inner);
        met.answer = book
            .rules
            .iter_mut()
            .find(|it| it.rule.fault.decides_the_answer() && it.meets(recipient_key, channel))
            .map(ArmedFault::hit);
        let leaves = met
            .answer
            .as_ref()
            .is_none_or(|rule| rule.effect() == Effect::Leaves);
        for armed in &mut book.rules {
            let applies = match armed.rule.fault.effect() {
                Effect::Webhooks => leaves,
                Effect::Timing => true,
                Effect::Refused | Effect::Stays | Effect::Leaves | Effect::Qr => false,
            };
            if applies
                && met.other(armed.rule.fault).is_none()
                && armed.meets(recipient_key, channel)
            {
                met.others.push(armed.hit());
            }
        }
        met
    }

    /// Whether the QR code of `channel` fails this time.
    pub(super) fn meet_qr(&self, channel: &str) -> Option<Arc<FaultRule>> {
        lock(&self.inner)
            .rules
            .iter_mut()
            .find(|it| it.rule.fault == Fault::QrFailed && it.meets("", channel))
            .map(ArmedFault::hit)
    }
}

/// Accepts `"to": "55…"` as well as `"to": ["55…"]`.
fn one_or_many<'de, D>(deserializer: D) -> Result<Option<Vec<String>>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(
        Option::<OneOrMany>::deserialize(deserializer)?.map(|it| match it {
            OneOrMany::One(recipient) => vec![recipient],
            OneOrMany::Many(recipients) => recipients,
        }),
    )
}
