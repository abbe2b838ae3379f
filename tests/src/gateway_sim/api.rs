//! The gateway's own HTTP API (facts §1.2), apart from sending, and the simulator's router.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};

use super::{
    Sim, answer,
    channels::{Channel, Registration, Session},
    control, lock,
    send::send,
};

/// Media sends carry base64 in JSON: 16 MB of voice are 22 MB of body.
const BODY_LIMIT: usize = 32 * 1024 * 1024;

/// A QR code's stand-in: a picture of one pixel.
const QR_PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// Every route of the simulator.
pub(super) fn router(sim: Arc<Sim>) -> Router {
    Router::new()
        .route("/api/messages", post(send))
        .route("/api/channels", get(list_channels).post(create_channel))
        .route(
            "/api/channels/{id}",
            get(show_channel).delete(delete_channel),
        )
        .route("/api/channels/{id}/start-session", post(start_session))
        .route("/api/channels/{id}/qr", get(qr_code))
        .route("/api/channels/{id}/webhook", post(register_for_channel))
        .route("/api/available-sessions", get(list_sessions))
        .route("/api/webhooks", post(register_for_all))
        .route("/api/media/{channel}/{message_id}", get(media))
        .route("/api/{session}/contact/pn-lid/{digits}", get(phone_of_lid))
        .route("/api/health", get(health))
        .route("/health", get(health))
        .nest("/_sim", control::router())
        .fallback(not_found)
        .method_not_allowed_fallback(not_found)
        .layer(middleware::from_fn_with_state(
            Arc::clone(&sim),
            require_secret,
        ))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(sim)
}

/// Everything below `/api` needs the secret, also what is not there.
async fn require_secret(State(sim): State<Arc<Sim>>, request: Request, next: Next) -> Response {
    let given = request.headers().get("x-gateway-secret");
    let secret = sim.config.gateway_secret.as_bytes();
    if !request.uri().path().starts_with("/api/")
        || given.is_some_and(|given| given.as_bytes() == secret)
    {
        next.run(request).await
    } else {
        answer::unauthorized()
    }
}

async fn not_found() -> Response {
    answer::route_not_found()
}

async fn health() -> Json<Value> {
    Json(json!({ "success": true, "status": "ok" }))
}

async fn list_channels(State(sim): State<Arc<Sim>>) -> Json<Value> {
    let channels: Vec<_> = sim.channels.all().iter().map(shown).collect();
    Json(json!({ "success": true, "channels": channels }))
}

async fn list_sessions(State(sim): State<Arc<Sim>>) -> Json<Value> {
    let sessions: Vec<_> = sim.channels.all().iter().map(shown).collect();
    Json(json!({ "success": true, "total": sessions.len(), "sessions": sessions }))
}

async fn create_channel(State(sim): State<Arc<Sim>>, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let Some(id) = body["channel"].as_str().filter(|id| !id.is_empty()) else {
        return answer::error(StatusCode::BAD_REQUEST, "channel is required");
    };
    sim.channels.create(id, Session::QrRequired);
    let created = json!({
        "success": true,
        "message": "Session created successfully",
        "qr_required": true,
    });
    Json(created).into_response()
}

async fn show_channel(State(sim): State<Arc<Sim>>, Path(id): Path<String>) -> Response {
    with_channel(
        &sim,
        &id,
        |channel| json!({ "success": true, "channel": shown(channel) }),
    )
}

async fn delete_channel(State(sim): State<Arc<Sim>>, Path(id): Path<String>) -> Response {
    with_channel(&sim, &id, |channel| {
        sim.channels.remove(&channel.id);
        json!({ "success": true })
    })
}

/// A dropped session does not come back by itself: `/_sim/session` returns it.
async fn start_session(State(sim): State<Arc<Sim>>, Path(id): Path<String>) -> Response {
    with_channel(&sim, &id, |channel| {
        let status = match channel.session {
            Session::Connected => "CONNECTED",
            Session::Disconnected => "INITIALIZING",
            Session::QrRequired => "QRCODE",
        };
        json!({ "success": true, "status": status })
    })
}

async fn qr_code(State(sim): State<Arc<Sim>>, Path(id): Path<String>) -> Response {
    if let Some(rule) = sim.faults.meet_qr(&id) {
        return answer::qr_failed(&rule);
    }
    with_channel(&sim, &id, |channel| match channel.session {
        Session::QrRequired => json!({ "success": true, "qr": QR_PNG }),
        Session::Connected => json!({
            "success": true, "qr": null, "status": "CONNECTED", "message": "Session is connected",
        }),
        Session::Disconnected => json!({
            "success": true, "qr": null, "status": "INITIALIZING", "message": "Session is starting",
        }),
    })
}

async fn register_for_all(State(sim): State<Arc<Sim>>, body: Bytes) -> Response {
    register(&sim, None, &body)
}

async fn register_for_channel(
    State(sim): State<Arc<Sim>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Response {
    if sim.channels.find(&id).is_none() {
        return answer::channel_not_found();
    }
    register(&sim, Some(&id), &body)
}

fn register(sim: &Sim, channel: Option<&str>, body: &[u8]) -> Response {
    let registered = serde_json::from_slice::<Registration>(body)
        .is_ok_and(|registration| sim.channels.register(channel, registration).is_ok());
    if registered {
        Json(json!({ "success": true })).into_response()
    } else {
        answer::error(StatusCode::BAD_REQUEST, "url is required")
    }
}

async fn media(
    State(sim): State<Arc<Sim>>,
    Path((channel, message_id)): Path<(String, String)>,
) -> Response {
    if sim.channels.find(&channel).is_none() {
        return answer::channel_not_found();
    }
    match lock(&sim.media).get(&message_id) {
        Some((mime_type, base64)) => {
            let body = json!({
                "success": true, "media_base64": base64, "mime_type": mime_type,
            });
            Json(body).into_response()
        }
        None => answer::error(StatusCode::NOT_FOUND, "Mídia não encontrada"),
    }
}

async fn phone_of_lid(
    State(sim): State<Arc<Sim>>,
    Path((session, digits)): Path<(String, String)>,
) -> Response {
    if sim.channels.find(&session).is_none() {
        return answer::channel_not_found();
    }
    match sim.channels.phone_of(digits.trim_end_matches("@lid")) {
        Some(phone) => Json(json!({ "success": true, "phone": phone })).into_response(),
        None => answer::error(StatusCode::NOT_FOUND, "Contato não encontrado"),
    }
}

fn with_channel(sim: &Sim, id: &str, body: impl FnOnce(&Channel) -> Value) -> Response {
    match sim.channels.find(id) {
        Some(channel) => Json(body(&channel)).into_response(),
        None => answer::channel_not_found(),
    }
}

fn shown(channel: &Channel) -> Value {
    let id = &*channel.id;
    json!({ "id": id, "name": id, "status": channel.session.as_str() })
}
