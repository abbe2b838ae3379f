//! What happens on the WhatsApp side without anybody sending: a customer writes, a contact goes
//! offline, a session drops or returns.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::State,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::{
    Sim, answer,
    channels::{Channel, Session},
    control::{parse, refuse},
    envelope::{self, Chat},
    jid, lock, script,
    send::key_id,
};

/// A thumbnail, which is all that a picture's webhook carries (facts §1.4).
const THUMBNAIL: &str = "/9j/AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4v";
/// A voice note, which comes whole: base64 of "OggS…".
const VOICE: &str = "T2dnUwACAAAAAAAAAAAAAAAAAAAAAAA=";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Inbound {
    channel: String,
    /// The customer's phone, a JID, or the group's JID.
    from: Option<String>,
    #[serde(default)]
    text: String,
    name: Option<String>,
    /// The customer shows up under this opaque id; with `from` besides, the look-up knows the phone.
    lid: Option<String>,
    /// Who wrote, in a group.
    author: Option<String>,
    r#type: Option<String>,
    /// Key id or whole message id; repeat it to deliver the same message again.
    id: Option<String>,
    /// Typed on the phone by our own people (sample 10).
    #[serde(default)]
    from_me: bool,
}

/// A customer writes.
pub(super) async fn inbound(State(sim): State<Arc<Sim>>, body: Bytes) -> Response {
    let asked = match parse::<Inbound>(&body) {
        Ok(asked) => asked,
        Err(refusal) => return *refusal,
    };
    let Some(channel) = sim.channels.find(&asked.channel) else {
        return answer::channel_not_found();
    };
    let lid = asked.lid.as_deref().map(|lid| lid.trim_end_matches("@lid"));
    if let (Some(lid), Some(phone)) = (lid, asked.from.as_deref().and_then(jid::chat_jid)) {
        let digits = phone.split('@').next().unwrap_or_default();
        sim.channels.learn_lid(lid, digits);
    }
    let lid = lid.map(|lid| format!("{lid}@lid"));
    let Some(chat) = lid.or_else(|| asked.from.as_deref().and_then(jid::chat_jid)) else {
        return refuse("from must be digits with the country code, or a JID; or give a lid");
    };
    let author = asked.author.as_deref().and_then(jid::chat_jid);
    let message_id = message_id(&asked, &chat, author.as_deref());
    let kind = asked.r#type.unwrap_or_else(|| "chat".to_owned());
    let correlation_id = Uuid::new_v4().to_string();
    let (text, caption) = on_the_wire(&kind, asked.text);
    if let Some(mime_type) = mime_type(&kind) {
        let media = (mime_type.to_owned(), text.clone());
        lock(&sim.media).insert(message_id.clone(), media);
    }
    let name = asked.name.unwrap_or_else(|| "Cliente Simulado".to_owned());
    let told = Json(json!({ "ok": true, "id": message_id, "chat": chat }));
    let channel_id = Arc::clone(&channel.id);
    script::announce(&sim, channel_id, move || {
        envelope::chat(&Chat {
            id: &message_id,
            channel: &channel,
            chat: &chat,
            author: author.as_deref(),
            name: if asked.from_me { &channel.id } else { &name },
            from_me: asked.from_me,
            text: &text,
            kind: &kind,
            correlation_id: &correlation_id,
            caption: caption.as_deref(),
        })
    });
    told.into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SessionChange {
    channel: String,
    state: NewState,
    /// Without webhooks: nobody is told.
    #[serde(default)]
    silent: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum NewState {
    Drop,
    Return,
}

/// The session of a channel drops or returns.
pub(super) async fn session(State(sim): State<Arc<Sim>>, body: Bytes) -> Response {
    let asked = match parse::<SessionChange>(&body) {
        Ok(asked) => asked,
        Err(refusal) => return *refusal,
    };
    let Some(channel) = sim.channels.find(&asked.channel) else {
        return answer::channel_not_found();
    };
    let (session, told): (_, &[Update]) = match asked.state {
        NewState::Drop => (Session::Disconnected, DROPPED),
        NewState::Return => (Session::Connected, RETURNED),
    };
    sim.channels.set_session(&channel.id, session);
    if !asked.silent {
        tell_in_order(&sim, &channel, told);
    }
    let shown = json!({ "ok": true, "channel": asked.channel, "status": session.as_str() });
    Json(shown).into_response()
}

/// `connection.status`, the engine's status, the engine's state.
type Update = (&'static str, &'static str, Option<&'static str>);

/// Sample 20, with the engine's own spelling mistake.
const DROPPED: &[Update] = &[("close", "desconnectedMobile", Some("close"))];
/// Logged in first, then the chats are there (conventions A2).
const RETURNED: &[Update] = &[
    ("open", "isLogged", Some("open")),
    ("connected", "inChat", None),
];

fn tell_in_order(sim: &Arc<Sim>, channel: &Channel, updates: &'static [Update]) {
    let sim = Arc::clone(sim);
    let channel = channel.clone();
    tokio::spawn(async move {
        for (status, engine_status, state) in updates {
            let body = || envelope::session_change(&channel, status, engine_status, *state);
            script::deliver_now(&sim, &channel.id, body).await;
        }
    });
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Presence {
    channel: String,
    contact: String,
    state: Option<String>,
}

/// A contact comes or goes, which looks like a change of the connection and is none.
pub(super) async fn presence(State(sim): State<Arc<Sim>>, body: Bytes) -> Response {
    let asked = match parse::<Presence>(&body) {
        Ok(asked) => asked,
        Err(refusal) => return *refusal,
    };
    let Some(channel) = sim.channels.find(&asked.channel) else {
        return answer::channel_not_found();
    };
    let Some(contact) = jid::chat_jid(&asked.contact) else {
        return refuse("contact must be digits with the country code, or a JID");
    };
    let state = asked.state.unwrap_or_else(|| "unavailable".to_owned());
    let channel_id = Arc::clone(&channel.id);
    script::announce(&sim, channel_id, move || {
        envelope::presence(&channel, &contact, &state)
    });
    Json(json!({ "ok": true })).into_response()
}

fn message_id(asked: &Inbound, chat: &str, author: Option<&str>) -> String {
    let key_id = asked.id.clone().unwrap_or_else(key_id);
    if key_id.contains('_') {
        return key_id;
    }
    let participant = author.map(|author| format!("_{author}"));
    let participant = participant.unwrap_or_default();
    format!("{}_{chat}_{key_id}{participant}", asked.from_me)
}

/// `text` and caption as the webhook carries them: a picture's text is a thumbnail, a voice note's
/// is the whole recording (facts §1.4).
fn on_the_wire(kind: &str, text: String) -> (String, Option<String>) {
    match kind {
        "image" | "video" | "document" | "sticker" => (THUMBNAIL.to_owned(), Some(text)),
        "ptt" | "audio" | "voice" => (VOICE.to_owned(), None),
        "ciphertext" | "e2e_notification" => (String::new(), None),
        _ => (text, None),
    }
}

fn mime_type(kind: &str) -> Option<&'static str> {
    match kind {
        "image" | "sticker" => Some("image/jpeg"),
        "video" => Some("video/mp4"),
        "document" => Some("application/pdf"),
        "ptt" | "audio" | "voice" => Some("audio/ogg"),
        _ => None,
    }
}
