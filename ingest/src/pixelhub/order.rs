//! `GET /chat/order`: the page of a service order's chat. The first visit makes the thread.

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{Html, IntoResponse as _, Response};
use shared::domain::ids::TenantId;
use shared::store::chat_reading;
use shared::store::service_orders::{self, Order};

use super::answers::Refusal;
use super::entry::{self, Guest};
use super::message::ADDRESS;
use super::messages::MOST;
use super::visit::Visit;
use super::{SOURCE, events, page};
use crate::api::ApiState;

pub(super) async fn get(State(state): State<ApiState>, request: Request) -> Response {
    let visit = match Visit::begin(ADDRESS, state, request).await {
        Ok(visit) => visit,
        Err(response) => return response,
    };
    let answer = show(&visit).await;
    visit.end(answer).await
}

async fn show(visit: &Visit) -> Result<Response, Refusal> {
    let (order, guest) = entry::to_order(visit).await?;
    let thread = match order.thread_id {
        Some(thread) => thread,
        None => open(visit, &order, guest).await?,
    };
    let lines = visit
        .ask(async |conn| {
            chat_reading::messages(conn, &visit.state.seals, thread, guest.roles(), (0, MOST)).await
        })
        .await?;
    let can_write = matches!(guest, Guest::Customer);
    let page = page::of(&order, thread, &lines, can_write);
    let mut response = Html(page).into_response();
    for (name, value) in page_headers() {
        response.headers_mut().insert(name, value);
    }
    Ok(response)
}

/// Makes the thread. Two first visits at once make one: the key of the event and the order's number are
/// each taken once.
async fn open(visit: &Visit, order: &Order, guest: Guest<'_>) -> Result<i64, Refusal> {
    let tenant = order.tenant_id.map(TenantId);
    let event = events::opened(order.id, tenant);
    if let Guest::Server(caller) = guest {
        visit.may_tell(caller, &event.event_type)?;
    }
    let stored = visit.accept(event, guest.scope(tenant)).await?;
    visit
        .have(async |conn| {
            service_orders::open_thread(conn, order, (SOURCE, &stored.trace_id)).await
        })
        .await
}

/// The page's address holds the token: it is kept nowhere and told to nobody.
fn page_headers() -> [(HeaderName, HeaderValue); 5] {
    [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (
            header::REFERRER_POLICY,
            HeaderValue::from_static("no-referrer"),
        ),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
        (
            header::X_FRAME_OPTIONS,
            HeaderValue::from_static("SAMEORIGIN"),
        ),
        (header::CONTENT_SECURITY_POLICY, page::policy()),
    ]
}
