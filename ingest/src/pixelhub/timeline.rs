//! `GET /tenants/whatsapp-timeline-ajax`: the last messages to a tenant, those that Posto sent by itself
//! too (facts §7).

use axum::extract::{Request, State};
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;
use shared::domain::ids::TenantId;
use shared::domain::module::Module;
use shared::store::tenant_messages;

use super::answers::{Refusal, Style, success};
use super::told::Told;
use super::visit::{Address, Visit};
use crate::api::ApiState;

const ADDRESS: Address = Address {
    module: Module::Tenants,
    style: Style::Message,
};
/// As many as PixelHub showed.
const MOST: i64 = 10;

/// The last messages to a tenant.
#[derive(Serialize, JsonSchema)]
pub(super) struct Timeline {
    /// True.
    success: bool,
    /// Newest first.
    timeline: Vec<Told>,
    /// The first of them.
    #[serde(rename = "lastContact")]
    last_contact: Option<Told>,
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
    let caller = visit.credential()?;
    let tenant = visit
        .query
        .number("tenant_id")
        .map(TenantId)
        .ok_or(Refusal::Invalid("tenant_id", "tenant_id é obrigatório"))?;
    visit.check_tenant(caller, tenant).await?;
    let lines = visit
        .ask(async |conn| tenant_messages::last(conn, &visit.state.seals, tenant.0, MOST).await)
        .await?;
    let timeline: Vec<Told> = lines.into_iter().map(Told::of).collect();
    let last_contact = timeline.first().cloned();
    Ok(success(Timeline {
        success: true,
        timeline,
        last_contact,
    }))
}
