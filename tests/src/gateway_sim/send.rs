//! `POST /api/messages`: takes a message in, decides whether it leaves, and answers.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::{
    body::Bytes,
    extract::{ConnectInfo, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::SecondsFormat;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::{
    Sim,
    answer::{self, Told},
    channels::{Channel, Session},
    envelope,
    faults::{Effect, Fault, FaultRule, Met},
    jid,
    messages::Message,
    script::{self, Pace},
    wire::Fuse,
};

/// A timeout is held for so long when its rule names no delay: longer than any caller waits.
const HELD_MS: u64 = 120_000;
/// A slow answer takes so long when its rule names no delay.
const SLOW_MS: u64 = 1_000;

/// Body of a send (facts §1.2); what the gateway ignores is ignored here too.
#[derive(Deserialize)]
struct SendBody {
    #[serde(default)]
    channel: String,
    #[serde(default)]
    to: String,
    text: Option<String>,
    caption: Option<String>,
    #[serde(default = "text_type")]
    r#type: String,
    base64: Option<String>,
    #[serde(rename = "base64Ptt")]
    base64_ptt: Option<String>,
    url: Option<String>,
    #[serde(rename = "fileName")]
    file_name: Option<String>,
    metadata: Option<Value>,
}

fn text_type() -> String {
    "text".to_owned()
}

/// Takes one message.
pub(super) async fn send(
    State(sim): State<Arc<Sim>>,
    ConnectInfo(fuse): ConnectInfo<Fuse>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    sim.sends.received.fetch_add(1, Ordering::Relaxed);
    let request_id = headers.get("x-request-id");
    let request_id = request_id.and_then(|value| value.to_str().ok());
    let correlation_id = Uuid::new_v4().to_string();
    let (request, channel, chat) = match admit(&sim, &body, &correlation_id) {
        Ok(admitted) => admitted,
        Err(refusal) => {
            sim.sends.refused.fetch_add(1, Ordering::Relaxed);
            return *refusal;
        }
    };
    let met = sim.faults.meet(&jid::match_key(&chat), &channel.id);
    let message = Message {
        id: message_id(&chat, &channel),
        channel: request.channel,
        to: request.to,
        text: request
            .text
            .filter(|text| !text.is_empty())
            .or(request.caption)
            .unwrap_or_default(),
        r#type: request.r#type,
        at: envelope::now().to_rfc3339_opts(SecondsFormat::Micros, true),
        request_id: request_id.map(str::to_owned),
        metadata: request.metadata,
        went_out: false,
        correlation_id,
        chat,
        faults: met.faults(),
        webhooks: Vec::new(),
    };
    process(&sim, message, &met, &fuse).await
}

/// Lists the message and lets it leave, as far as the faults that it met allow, then answers.
async fn process(sim: &Arc<Sim>, mut message: Message, met: &Met, fuse: &Fuse) -> Response {
    let effect = met.answer.as_ref().map_or(Effect::Leaves, |it| it.effect());
    let told_to = message.to.clone();
    let told_kind = message.r#type.clone();
    let told_id = message.id.clone();
    let told_correlation = message.correlation_id.clone();
    let told = Told {
        to: &told_to,
        kind: &told_kind,
        message_id: &told_id,
        correlation_id: &told_correlation,
    };
    match effect {
        Effect::Refused => {
            sim.sends.refused.fetch_add(1, Ordering::Relaxed);
        }
        Effect::Stays => {
            sim.sends.stayed.fetch_add(1, Ordering::Relaxed);
            sim.messages.push(&message);
        }
        Effect::Leaves | Effect::Webhooks | Effect::Timing | Effect::Qr => {
            message.webhooks = script::plan(&sim.settings(), met, sim.messages.len());
            // An ack -1 says that WhatsApp did not take it: no customer has it.
            message.went_out = met.other(Fault::AckFailed).is_none();
            let counter = if message.went_out {
                &sim.sends.went_out
            } else {
                &sim.sends.stayed
            };
            counter.fetch_add(1, Ordering::Relaxed);
            sim.messages.push(&message);
            tell(sim, message, met).await;
        }
    }
    sim.pause(Duration::from_millis(delay_ms(sim, met))).await;
    match &met.answer {
        Some(rule) => answer::faulty(rule, &told, fuse),
        None => answer::accepted(&told),
    }
}

/// Starts the webhooks of a message, or waits for them when they must come before the answer.
async fn tell(sim: &Arc<Sim>, message: Message, met: &Met) {
    let late = met.other(Fault::LateWebhooks);
    let late = late.map_or(0, |rule| rule.delay_ms.unwrap_or(SLOW_MS));
    let before_response = met.other(Fault::AcksBeforeResponse).is_some();
    let pace = if before_response {
        Pace::AtOnce
    } else {
        Pace::Usual {
            late: Duration::from_millis(late),
        }
    };
    // A task of its own: a caller that hangs up does not silence the gateway.
    let telling = tokio::spawn(script::tell(Arc::clone(sim), message, pace));
    if before_response && telling.await.is_err() {
        tracing::error!("the webhooks of a message ended badly");
    }
}

fn delay_ms(sim: &Sim, met: &Met) -> u64 {
    let usual = |rule: &FaultRule| match rule.fault {
        Fault::TimeoutAfterSend | Fault::TimeoutBefore => HELD_MS,
        _ => 0,
    };
    let by_answer = met.answer.as_deref();
    let by_answer = by_answer.map_or(0, |rule| rule.delay_ms.unwrap_or(usual(rule)));
    let slow = met.other(Fault::SlowAnswer);
    let slow = slow.map_or(0, |rule| rule.delay_ms.unwrap_or(SLOW_MS));
    let delays = [by_answer, slow, sim.settings().answer_delay_ms];
    delays.into_iter().fold(0, u64::saturating_add)
}

type Admitted = (SendBody, Channel, String);

/// What the gateway checks before it takes a message in.
fn admit(sim: &Sim, body: &[u8], correlation_id: &str) -> Result<Admitted, Box<Response>> {
    let bad = |text: &str| Err(Box::new(answer::error(StatusCode::BAD_REQUEST, text)));
    let Ok(request) = serde_json::from_slice::<SendBody>(body) else {
        return bad("Invalid JSON");
    };
    if request.channel.is_empty() || request.to.is_empty() {
        return bad("channel and to are required");
    }
    let Some(channel) = sim.channels.find(&request.channel) else {
        return Err(Box::new(answer::channel_not_found()));
    };
    if channel.session != Session::Connected {
        return Err(Box::new(answer::session_inactive(correlation_id)));
    }
    let Some(chat) = jid::chat_jid(&request.to) else {
        return bad("to must be digits with the country code");
    };
    let is_bare_base64 = |it: &Option<String>| it.as_deref().is_some_and(is_filled_base64);
    match request.r#type.as_str() {
        "text" if request.text.as_deref().is_none_or(str::is_empty) => bad("text is required"),
        "image" | "document" if request.text.is_none() => bad("text is required"),
        "document" if request.file_name.is_none() => bad("fileName is required"),
        kind @ ("image" | "document" | "video")
            if request.url.is_none() && !is_bare_base64(&request.base64) =>
        {
            Err(Box::new(answer::invalid_base64(kind)))
        }
        "audio" if !is_bare_base64(&request.base64_ptt) => {
            Err(Box::new(answer::invalid_base64("audio")))
        }
        "text" | "image" | "document" | "video" | "audio" => Ok((request, channel, chat)),
        _ => bad("unknown type"),
    }
}

fn is_filled_base64(text: &str) -> bool {
    !text.is_empty() && STANDARD.decode(text).is_ok()
}

/// An id as WhatsApp makes it; in groups the sender's JID follows (facts §1.4).
fn message_id(chat: &str, channel: &Channel) -> String {
    let key_id = key_id();
    if chat.ends_with("@g.us") {
        format!("true_{chat}_{key_id}_{}", channel.own_jid())
    } else {
        format!("true_{chat}_{key_id}")
    }
}

/// A fresh WhatsApp key id: "3EB0" and 18 hexadecimal digits.
pub(super) fn key_id() -> String {
    let random = Uuid::new_v4().simple().to_string().to_uppercase();
    format!("3EB0{}", &random[..18])
}
