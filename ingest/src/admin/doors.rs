//! `/admin/sources` and `/admin/ip-blocks`: from where sources may speak, and which addresses are
//! shut out.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use shared::store::audit::{self, Author, NewAudit};
use shared::store::{StoreError, ip_blocks, sources};

use super::answers::{Blocks, Lifted, Networks, Sources};
use super::fields::{Fields, invalid};
use super::{AdminState, actor, not_found, unavailable};
use crate::api::problem::FieldError;
use crate::guard::shut_out;
use crate::networks::{self, NetworksError, PRESETS};

/// The most networks of one source.
pub(super) const MOST_NETWORKS: usize = 200;
/// The most shut-outs of one answer.
const MOST_BLOCKS: i64 = 1000;

/// `GET /admin/sources`.
pub(super) async fn list_sources(State(state): State<AdminState>) -> Response {
    let all = async { sources::all(&mut *state.reader().await?).await };
    match all.await {
        Ok(all) => Json(Sources { sources: all }).into_response(),
        Err(error) => unavailable(&error),
    }
}

/// `POST /admin/sources/{name}/networks`: one of `networks`, `preset` and `any`.
pub(super) async fn set_networks(
    State(state): State<AdminState>,
    source: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    // No name holds U+0000, and the database could not be asked for one.
    let source = source.ok().filter(|Path(name)| !name.contains('\0'));
    let Some(Path(source)) = source else {
        return not_found();
    };
    let headers = request.headers().clone();
    let mut fields = match Fields::of_body(request).await {
        Ok(fields) => fields,
        Err(problem) => return problem.into_response(),
    };
    let given = fields.texts("networks", MOST_NETWORKS);
    let preset = fields.one_of("preset", &PRESETS);
    let ready = preset.and_then(|name| networks::preset(&name));
    let any = fields.flag("any").then(Vec::new);
    let mut wanted = [given, ready, any].into_iter().flatten();
    let (first, second) = (wanted.next(), wanted.next());
    if first.is_none() || second.is_some() {
        let detail = "give one of `networks`, `preset` and `any`";
        fields.wrong("networks", "missing", detail);
    }
    let (actor, reason) = (actor(&mut fields, &headers), fields.text("reason"));
    if let Err(errors) = fields.end() {
        return invalid(errors).into_response();
    }
    let author = Author {
        actor: &actor,
        reason: reason.as_deref(),
    };
    let set = async {
        let mut tx = state.writer().await?;
        let set = networks::set(&mut tx, &source, &first.unwrap_or_default(), author).await?;
        tx.commit().await?;
        Ok(set)
    };
    match set.await {
        Ok(networks) => Json(Networks { source, networks }).into_response(),
        Err(NetworksError::UnknownSource(_)) => not_found(),
        Err(NetworksError::Invalid(place, error)) => {
            let pointer = format!("/networks/{place}");
            let error = FieldError::new("invalid_format", &pointer, error.to_string());
            invalid(vec![error]).into_response()
        }
        Err(NetworksError::Store(error)) => unavailable(&error),
        Err(NetworksError::Transaction(error)) => unavailable(&error.into()),
    }
}

/// `GET /admin/ip-blocks`: of the last 30 days, those that end last first.
pub(super) async fn list_blocks(State(state): State<AdminState>) -> Response {
    let list = async { ip_blocks::list(&mut *state.reader().await?, MOST_BLOCKS).await };
    match list.await {
        Ok(blocks) => Json(Blocks { blocks }).into_response(),
        Err(error) => unavailable(&error),
    }
}

/// `POST /admin/ip-blocks/lift`: every process of the public door follows within seconds.
pub(super) async fn lift_block(State(state): State<AdminState>, request: Request) -> Response {
    let headers = request.headers().clone();
    let mut fields = match Fields::of_body(request).await {
        Ok(fields) => fields,
        Err(problem) => return problem.into_response(),
    };
    let text = fields.text("address");
    let address = text.as_deref().and_then(shut_out::read);
    if address.is_none() && !fields.is_wrong("address") {
        fields.wrong(
            "address",
            "invalid_format",
            "is an address as the list has it",
        );
    }
    let (actor, reason) = (actor(&mut fields, &headers), fields.text("reason"));
    if let Err(errors) = fields.end() {
        return invalid(errors).into_response();
    }
    let author = Author {
        actor: &actor,
        reason: reason.as_deref(),
    };
    let Some(address) = address.map(shut_out::written) else {
        return not_found();
    };
    match lift(&state, &address, author).await {
        Ok(true) => Json(Lifted { address }).into_response(),
        Ok(false) => not_found(),
        Err(error) => unavailable(&error),
    }
}

async fn lift(state: &AdminState, address: &str, author: Author<'_>) -> Result<bool, StoreError> {
    let mut tx = state.writer().await?;
    let lifted = ip_blocks::lift(&mut tx, address).await?;
    if lifted {
        let line = NewAudit {
            action: "address_let_in",
            subject_kind: "ip_block",
            subject_id: None,
            trace_id: None,
            detail: json!({"address": address}),
        };
        audit::insert(&mut tx, author, &[line]).await?;
    }
    tx.commit().await?;
    Ok(lifted)
}
