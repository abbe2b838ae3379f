//! `POST /tenants/whatsapp-generic-log`: an operator sent a message by hand (a wa.me link), and it is
//! to be seen among the tenant's messages. Nothing is sent.

use axum::extract::{Request, State};
use axum::response::Response;
use shared::domain::module::Module;

use super::answers::{Refusal, Style, success};
use super::events::Logged;
use super::visit::{Address, Visit};
use crate::api::ApiState;
use crate::api::answers::Success;

const ADDRESS: Address = Address {
    module: Module::Tenants,
    style: Style::Message,
};

pub(super) async fn post(State(state): State<ApiState>, request: Request) -> Response {
    let visit = match Visit::begin(ADDRESS, state, request).await {
        Ok(visit) => visit,
        Err(response) => return response,
    };
    let answer = log(&visit).await;
    visit.end(answer).await
}

async fn log(visit: &Visit) -> Result<Response, Refusal> {
    let caller = visit.credential()?;
    let logged = Logged::read(visit.params()?)?;
    visit.check_tenant(caller, logged.tenant).await?;
    let scope = caller.scope(Some(logged.tenant));
    let key = visit.key()?;
    let event = logged.event(key.as_deref());
    visit.may_tell(caller, &event.event_type)?;
    visit.accept(event, scope).await?;
    Ok(success(Success::YES))
}
