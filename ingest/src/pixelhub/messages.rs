//! `GET /chat/messages`: the messages of a chat, oldest first.

use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;
use shared::store::chat_reading::{self, ChatLine};

use super::answers::{Refusal, success};
use super::entry;
use super::message::ADDRESS;
use super::visit::Visit;
use crate::api::ApiState;

/// The most messages of one answer: the newest (incident 49: whole threads were loaded each time).
pub(super) const MOST: i64 = 500;

/// The messages of a chat.
#[derive(Serialize, JsonSchema)]
pub(super) struct Messages {
    /// True.
    success: bool,
    /// Oldest first.
    messages: Vec<ChatLine>,
}

pub(super) async fn get(State(state): State<ApiState>, request: Request) -> Response {
    let visit = match Visit::begin(ADDRESS, state, request).await {
        Ok(visit) => visit,
        Err(response) => return response,
    };
    let answer = read(&visit).await;
    visit.end(answer).await
}

async fn read(visit: &Visit) -> Result<Response, Refusal> {
    if visit.token().is_none() {
        visit.credential()?;
    }
    let thread = visit
        .query
        .number("thread_id")
        .ok_or(Refusal::Invalid("thread_id", "thread_id é obrigatório"))?;
    // Who asks again and again asks for what is new.
    let after = match visit.query.has("after") {
        false => 0,
        true => visit.query.number("after").ok_or(Refusal::Invalid(
            "after",
            "after é o número de uma mensagem",
        ))?,
    };
    let (thread, guest) = entry::to_thread(visit, thread).await?;
    let lines = visit
        .ask(async |conn| {
            chat_reading::messages(
                conn,
                &visit.state.seals,
                thread.id,
                guest.roles(),
                (after, MOST),
            )
            .await
        })
        .await?;
    let mut response = success(Messages {
        success: true,
        messages: lines,
    });
    let no_store = HeaderValue::from_static("no-store");
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, no_store);
    Ok(response)
}
