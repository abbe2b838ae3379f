//! The decision, pure: an event, the configuration and nothing else → what is to be done, with
//! the reason for each yes and no. Dry runs and replays ask the same function.

mod metadata;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use chrono::NaiveDate;
use serde::Serialize;
use serde_json::value::to_raw_value;
use serde_json::{Map, Value, json};
use shared::domain::channel::Channel;
use shared::domain::delivery::DeliveryState;
use shared::domain::directory::{Directory, text_hash};
use shared::domain::event::{Charge, ChargeStatus, NormalisedEvent, NormalisedKind};
use shared::domain::expression::Facts;
use shared::domain::failure::{FailureClass, FailureCode};
use shared::domain::ids::TenantId;
use shared::domain::rule::{Rule, Verdict};
use shared::store::plans::DecisionJson;

use crate::hearing::{self, Evidence, account_id};
use crate::recipient::{self, TenantFinding};
use crate::render;

/// What is told of a quarantined event.
pub(crate) const QUARANTINED: &str = "what the event names belongs to different tenants";

/// Everything that one event leads to.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Whose event it is.
    pub(crate) tenant: TenantFinding,
    /// What came of each rule.
    pub(crate) tried: Vec<Tried>,
    /// What is to go out.
    pub(crate) deliveries: Vec<Planned>,
    /// Evidence to be applied.
    pub(crate) evidence: Option<Evidence>,
    /// A session that came or went.
    pub(crate) session: Option<(String, &'static str, String)>,
    /// What happened besides, or why nothing did.
    pub(crate) note: Option<&'static str>,
    /// How a charge stands that the event is about.
    pub(crate) charge: Option<Charge>,
}

/// What came of one rule.
#[derive(Clone, Debug)]
pub(crate) struct Tried {
    pub(crate) rule: Arc<Rule>,
    pub(crate) verdict: Verdict,
}

/// One delivery of the plan.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) channel: Channel,
    pub(crate) channel_id: Option<String>,
    pub(crate) rule_id: i64,
    pub(crate) lane: String,
    pub(crate) template_id: Option<i64>,
    pub(crate) template_key: Option<String>,
    pub(crate) recipient: Option<String>,
    pub(crate) recipient_key: Option<String>,
    pub(crate) recipient_name: Option<String>,
    pub(crate) text: Option<String>,
    pub(crate) text_hash: Option<Vec<u8>>,
    pub(crate) detail: Value,
    pub(crate) unknown_policy: String,
    /// Why it cannot be tried, with a word for a person.
    pub(crate) failure: Option<(FailureCode, String)>,
    /// Whether it is only told what would have left.
    pub(crate) simulated: bool,
}

impl Planned {
    /// Where the delivery begins: most failures wait for a person, a recipient nobody can mend. What is
    /// simulated ends there, with what would have failed.
    pub(crate) fn state(&self) -> DeliveryState {
        match &self.failure {
            _ if self.simulated => DeliveryState::Simulated,
            None => DeliveryState::Queued,
            Some((code, _)) if code.class() == FailureClass::Recipient => DeliveryState::Failed,
            Some(_) => DeliveryState::Dead,
        }
    }
}

impl Plan {
    /// The same decision, of which nothing leaves.
    pub(crate) fn simulate(&mut self) {
        for planned in &mut self.deliveries {
            planned.simulated = true;
        }
        self.note = self
            .note
            .or(Some("the module is in shadow: nothing leaves"));
    }

    /// Why nothing may be planned: the event is quarantined.
    pub(crate) fn failure(&self) -> Option<FailureCode> {
        self.tenant
            .is_contradiction()
            .then_some(FailureCode::TenantMismatch)
    }

    /// `routed` when it led to anything, or a rule said that nothing leaves; else `unrouted`.
    /// `failed` when the event is quarantined.
    pub(crate) fn state(&self) -> &'static str {
        if self.failure().is_some() {
            return "failed";
        }
        let decided = self.tried.iter().any(|tried| tried.verdict == Verdict::Won);
        if decided || self.evidence.is_some() || self.session.is_some() {
            "routed"
        } else {
            "unrouted"
        }
    }

    /// The stored decision. Holds no personal data.
    pub(crate) fn decision(&self) -> DecisionJson {
        let decision = Decision {
            tenant: DecidedTenant {
                id: self.tenant.tenant,
                how: self.tenant.how,
                candidates: &self.tenant.candidates,
            },
            rules: self.tried.iter().map(DecidedRule::of).collect(),
            deliveries: self.deliveries.iter().map(DecidedDelivery::of).collect(),
            evidence: self.evidence.as_ref().map(|evidence| evidence.kind),
            session: self.session.as_ref().map(|session| session.1),
            note: self.note,
            charge: self.charge.map(|charge| DecidedCharge {
                status: charge.status.map(ChargeStatus::as_str),
                due: charge.due,
            }),
        };
        to_raw_value(&decision).expect("because plain data always has a JSON form")
    }
}

/// The form of a stored decision.
#[derive(Serialize)]
struct Decision<'a> {
    tenant: DecidedTenant<'a>,
    rules: Vec<DecidedRule<'a>>,
    deliveries: Vec<DecidedDelivery<'a>>,
    evidence: Option<&'static str>,
    session: Option<&'static str>,
    note: Option<&'static str>,
    charge: Option<DecidedCharge>,
}

#[derive(Serialize)]
struct DecidedCharge {
    status: Option<&'static str>,
    due: Option<NaiveDate>,
}

#[derive(Serialize)]
struct DecidedTenant<'a> {
    id: Option<TenantId>,
    how: &'static str,
    candidates: &'a [TenantId],
}

#[derive(Serialize)]
struct DecidedRule<'a> {
    rule_id: i64,
    name: &'a str,
    channel: &'static str,
    #[serde(flatten)]
    verdict: &'a Verdict,
}

impl<'a> DecidedRule<'a> {
    fn of(tried: &'a Tried) -> Self {
        Self {
            rule_id: tried.rule.id,
            name: &tried.rule.name,
            channel: tried.rule.channel_label(),
            verdict: &tried.verdict,
        }
    }
}

#[derive(Serialize)]
struct DecidedDelivery<'a> {
    channel: &'static str,
    channel_account: Option<&'a str>,
    rule_id: i64,
    template: Option<&'a str>,
    state: &'static str,
    failure_code: Option<FailureCode>,
    failure_detail: Option<&'a str>,
}

impl<'a> DecidedDelivery<'a> {
    fn of(planned: &'a Planned) -> Self {
        let failure = planned.failure.as_ref();
        Self {
            channel: planned.channel.as_str(),
            channel_account: planned.channel_id.as_deref(),
            rule_id: planned.rule_id,
            template: planned.template_key.as_deref(),
            state: planned.state().as_str(),
            failure_code: failure.map(|failure| failure.0),
            failure_detail: failure.map(|failure| failure.1.as_str()),
        }
    }
}

/// Decides. `payload` is the event's own, for conditions and templates; `finding` is whose it is.
pub(crate) fn plan(
    event: &NormalisedEvent,
    payload: &Value,
    finding: TenantFinding,
    directory: &Directory,
) -> Plan {
    let tenant = finding.tenant.and_then(|id| directory.tenants.get(&id));
    let facts = Facts::new(
        (&event.event_type, &event.source_system),
        payload,
        tenant.map(|tenant| (tenant.id, tenant.calling_name())),
    );
    // What may be somebody else's is kept and shown, and no rule is asked.
    let (tried, winners) = if finding.is_contradiction() {
        (Vec::new(), Vec::new())
    } else {
        try_rules(event, finding.tenant, &facts, directory)
    };
    let mut plan = Plan {
        tenant: finding,
        tried,
        deliveries: Vec::new(),
        evidence: hearing::evidence(event, directory),
        session: hearing::session(event, directory),
        note: None,
        charge: match &event.kind {
            NormalisedKind::Books(books) => books.charge,
            _ => None,
        },
    };
    for rule in winners {
        let Some(channel) = rule.channel else {
            continue;
        };
        let planned = match channel {
            Channel::Whatsapp => whatsapp(event, &rule, &facts, (plan.tenant.tenant, directory)),
            Channel::Chat => match chat(event, &rule, payload, directory) {
                Ok(planned) => planned,
                Err(note) => {
                    plan.note = Some(note);
                    continue;
                }
            },
            Channel::Email => unavailable(&rule, channel),
        };
        plan.deliveries.push(planned);
    }
    plan
}

/// Tries every rule; one wins per channel (lowest priority number, then most specific, then
/// oldest), rules of different channels all fire.
fn try_rules(
    event: &NormalisedEvent,
    tenant: Option<TenantId>,
    facts: &Facts<'_>,
    directory: &Directory,
) -> (Vec<Tried>, Vec<Arc<Rule>>) {
    let mut tried = Vec::with_capacity(directory.rules.len());
    let mut fitting: Vec<(&Arc<Rule>, usize)> = Vec::new();
    for rule in &directory.rules {
        let verdict = rule
            .scope_verdict(&event.event_type, &event.source_system, tenant)
            .or_else(|| {
                match rule
                    .condition
                    .as_ref()
                    .map(|condition| condition.holds(facts))
                {
                    None | Some(Ok(true)) => None,
                    Some(Ok(false)) => Some(Verdict::ConditionFalse),
                    Some(Err(detail)) => Some(Verdict::ConditionInvalid { detail }),
                }
            });
        if verdict.is_none() {
            fitting.push((rule, tried.len()));
        }
        tried.push(Tried {
            rule: Arc::clone(rule),
            verdict: verdict.unwrap_or(Verdict::Won),
        });
    }
    fitting.sort_by_key(|(rule, _)| Reverse(rule.rank()));
    fitting.reverse();
    let mut won: HashMap<Option<Channel>, i64> = HashMap::new();
    let mut winners = Vec::new();
    for (rule, index) in fitting {
        match won.get(&rule.channel) {
            Some(by) => tried[index].verdict = Verdict::Outranked { by: *by },
            None => {
                won.insert(rule.channel, rule.id);
                winners.push(Arc::clone(rule));
            }
        }
    }
    (tried, winners)
}

fn whatsapp(
    event: &NormalisedEvent,
    rule: &Rule,
    facts: &Facts<'_>,
    (tenant, directory): (Option<TenantId>, &Directory),
) -> Planned {
    let mut planned = empty(rule, Channel::Whatsapp);
    match recipient::account(event, tenant, directory) {
        Ok(account) => planned.channel_id = Some(account.id.clone()),
        Err(code) => planned.fail(code, "no sending account is configured for the tenant"),
    }
    let known = tenant.and_then(|tenant| directory.tenants.get(&tenant));
    match recipient::phone(event, known.map(AsRef::as_ref)) {
        Ok(phone) => {
            planned.recipient = Some(phone.expose().to_owned());
            planned.recipient_key = Some(format!("tel:{}", phone.match_key()));
        }
        Err(code) => planned.fail(
            code,
            "the event and the tenant name no phone that can be one",
        ),
    }
    match render::render(rule, Channel::Whatsapp, facts, directory) {
        Ok(rendered) => {
            planned.template_id = Some(rendered.template_id);
            planned.template_key = Some(rendered.template_key);
            planned.lane = rendered.lane;
            planned.unknown_policy = rendered.unknown_policy;
            match rendered.text {
                Ok(text) => {
                    planned.text_hash = Some(text_hash(&directory.hash_key, &text));
                    planned.text = Some(text);
                }
                Err(error) => planned.fail(error.code, &error.detail),
            }
        }
        Err(error) => planned.fail(error.code, &error.detail),
    }
    planned
}

/// A message on a thread: what a contact wrote, or what a system says on a thread that it names.
fn chat(
    event: &NormalisedEvent,
    rule: &Rule,
    payload: &Value,
    directory: &Directory,
) -> Result<Planned, &'static str> {
    let mut planned = empty(rule, Channel::Chat);
    "reply".clone_into(&mut planned.lane);
    let mut detail = Map::new();
    detail.insert("occurred_at".to_owned(), json!(event.occurred_at));
    if let NormalisedKind::InboundMessage { key_id, content } = &event.kind {
        let contact = event.contact.as_ref().ok_or("names no contact")?;
        planned.channel_id = event
            .channel_account
            .as_deref()
            .map(|raw| account_id(raw, directory));
        planned.recipient = Some(contact.address.clone());
        planned.recipient_key = contact.contact_key.clone();
        planned.recipient_name = contact.name.clone().filter(|_| !contact.is_group);
        planned.text = Some(
            event
                .text
                .as_ref()
                .map(|text| text.expose().to_owned())
                .unwrap_or_default(),
        );
        detail.insert("origin".to_owned(), json!("contact"));
        detail.insert("message_id".to_owned(), json!(key_id));
        detail.insert("metadata".to_owned(), metadata::of(event, *content));
    } else {
        for name in ["thread_id", "order_id", "role"] {
            if let Some(value) = payload.get(name).filter(|value| !value.is_null()) {
                detail.insert(name.to_owned(), value.clone());
            }
        }
        let role = payload.get("role").filter(|role| !role.is_null());
        if role.is_some_and(|role| {
            !["system", "assistant", "user", "tool"]
                .iter()
                .any(|known| role == known)
        }) {
            detail.remove("role");
            planned.fail(
                FailureCode::PayloadUnreadable,
                "role is system, assistant, user or tool",
            );
        }
        let numbers = ["thread_id", "order_id"]
            .into_iter()
            .filter_map(|name| detail.get(name));
        if numbers.into_iter().any(|number| !number.is_i64()) {
            planned.fail(
                FailureCode::PayloadUnreadable,
                "thread_id and order_id are whole numbers",
            );
        }
        // Nobody of ours writes as `user`: it is the contact, and counts as unread.
        if detail.get("role").is_none_or(|role| role == "user") {
            detail.insert("origin".to_owned(), json!("contact"));
        }
        if !detail.contains_key("thread_id") && !detail.contains_key("order_id") {
            planned.fail(
                FailureCode::RecipientMissing,
                "the event names no thread_id and no order_id",
            );
        }
        planned.text = event.text.as_ref().map(|text| text.expose().to_owned());
        if planned
            .text
            .as_deref()
            .is_none_or(|text| text.trim().is_empty())
        {
            planned.fail(
                FailureCode::TextUnsendable,
                "the event has no text or message",
            );
        }
    }
    planned.detail = Value::Object(detail);
    Ok(planned)
}

fn unavailable(rule: &Rule, channel: Channel) -> Planned {
    let mut planned = empty(rule, channel);
    planned.fail(
        FailureCode::ChannelUnavailable,
        "no driver delivers on this channel yet",
    );
    planned
}

fn empty(rule: &Rule, channel: Channel) -> Planned {
    Planned {
        channel,
        channel_id: None,
        rule_id: rule.id,
        lane: "notice".to_owned(),
        template_id: None,
        template_key: None,
        recipient: None,
        recipient_key: None,
        recipient_name: None,
        text: None,
        text_hash: None,
        detail: json!({}),
        unknown_policy: "park".to_owned(),
        failure: None,
        simulated: false,
    }
}

impl Planned {
    /// The first failure is the one that is told.
    fn fail(&mut self, code: FailureCode, detail: &str) {
        self.failure.get_or_insert((code, detail.to_owned()));
    }
}
