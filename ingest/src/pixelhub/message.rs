//! `POST /chat/message`: a customer writes in the chat of a service order. The message becomes an event,
//! and reaches its thread the way every chat message does.

use axum::extract::{Request, State};
use axum::response::Response;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use shared::domain::ids::{EventId, TenantId};
use shared::domain::module::Module;

use super::answers::{Refusal, Style, success};
use super::entry::{self, Guest};
use super::events;
use super::visit::{Address, Visit};
use crate::api::ApiState;

pub(super) const ADDRESS: Address = Address {
    module: Module::Chat,
    style: Style::Error,
};

/// What the customer reads at once. PixelHub's guided conversation answered with its next question; here
/// people answer, on the same thread, so what comes at once is that the message was received.
const RECEIVED: &str = "Recebemos sua mensagem. Nossa equipe responde por aqui.";

pub(super) async fn post(State(state): State<ApiState>, request: Request) -> Response {
    let visit = match Visit::begin(ADDRESS, state, request).await {
        Ok(visit) => visit,
        Err(response) => return response,
    };
    let answer = write(&visit).await;
    visit.end(answer).await
}

async fn write(visit: &Visit) -> Result<Response, Refusal> {
    if visit.token().is_none() {
        visit.credential()?;
    }
    let params = visit.params()?;
    let thread = params
        .number("thread_id")
        .ok_or(Refusal::Invalid("thread_id", "thread_id é obrigatório"))?;
    let text = events::text(params, "message")?;
    let key = visit.key()?;
    let (thread, guest) = entry::to_thread(visit, thread).await?;
    let tenant = thread.tenant_id.map(TenantId);
    let event = events::received((thread.id, thread.order_id), tenant, text, key.as_deref());
    if let Guest::Server(caller) = guest {
        visit.may_tell(caller, &event.event_type)?;
    }
    let stored = visit.accept(event, guest.scope(tenant)).await?;
    Ok(success(Written {
        success: true,
        message: Reply {
            id: stored.event_id,
            role: "assistant",
            content: RECEIVED,
            created_at: visit.now(),
        },
        next_step: thread.current_step,
        analysis: (),
    }))
}

/// PixelHub's answer.
#[derive(Serialize, JsonSchema)]
pub(super) struct Written {
    /// True.
    success: bool,
    /// What the customer reads at once.
    message: Reply,
    /// Where a guided conversation stands.
    next_step: Option<String>,
    /// Null: it was the model's reading of the message, and there is none yet.
    analysis: (),
}

/// The message that answers.
#[derive(Serialize, JsonSchema)]
struct Reply {
    /// The event of the message that it answers.
    id: EventId,
    /// `assistant`.
    role: &'static str,
    /// The text.
    content: &'static str,
    /// When it was written.
    created_at: DateTime<Utc>,
}
