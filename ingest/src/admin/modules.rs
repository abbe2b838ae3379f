//! `/admin/modules`: who serves PixelHub's modules.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use shared::domain::ids::TenantId;
use shared::domain::module::{Mode, Module};
use shared::store::audit::Author;
use shared::store::modules;

use super::answers::Modules;
use super::fields::{Fields, invalid};
use super::{AdminState, actor, not_found, unavailable};
use crate::api::problem::FieldError;
use crate::modules::{DEFAULT, SwitchError, switch};

/// The words of `mode`.
pub(super) const WORDS: [&str; 4] = [
    Mode::Live.as_str(),
    Mode::Shadow.as_str(),
    Mode::Off.as_str(),
    DEFAULT,
];

/// Every module.
pub(super) fn names() -> Vec<&'static str> {
    Module::ALL.iter().map(|module| module.as_str()).collect()
}

/// `GET /admin/modules`: the switches; a module without one for all is live.
pub(super) async fn list(State(state): State<AdminState>) -> Response {
    let all = async { modules::all(&mut *state.reader().await?).await };
    match all.await {
        Ok(switches) => {
            let modules = names();
            let default = Mode::Live.as_str();
            Json(Modules {
                modules,
                default,
                switches,
            })
            .into_response()
        }
        Err(error) => unavailable(&error),
    }
}

/// `PUT /admin/modules/{module}`: `mode` (`default` takes the switch away), `tenant_id`, `actor`, `reason`.
pub(super) async fn set(
    State(state): State<AdminState>,
    module: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let Some(module) = module.ok().and_then(|Path(name)| name.parse().ok()) else {
        return not_found();
    };
    let headers = request.headers().clone();
    let mut fields = match Fields::of_body(request).await {
        Ok(fields) => fields,
        Err(problem) => return problem.into_response(),
    };
    let word = fields.one_of("mode", &WORDS);
    if word.is_none() && !fields.is_wrong("mode") {
        fields.wrong("mode", "missing", "is live, shadow, off or default");
    }
    let tenant = fields.number("tenant_id").map(TenantId);
    let (actor, reason) = (actor(&mut fields, &headers), fields.text("reason"));
    if let Err(errors) = fields.end() {
        return invalid(errors).into_response();
    }
    let author = Author {
        actor: &actor,
        reason: reason.as_deref(),
    };
    // What is none of the modes is `default`.
    let mode = word.and_then(|word| word.parse::<Mode>().ok());
    let switched = async {
        let mut tx = state.writer().await?;
        let switched = switch(&mut tx, (module, tenant), mode, author).await?;
        tx.commit().await?;
        Ok(switched)
    };
    match switched.await {
        Ok(switched) => Json(switched).into_response(),
        Err(SwitchError::UnknownTenant(_)) => {
            let error = FieldError::new("unknown", "/tenant_id", "no such tenant");
            invalid(vec![error]).into_response()
        }
        Err(SwitchError::Store(error)) => unavailable(&error),
        Err(SwitchError::Transaction(error)) => unavailable(&error.into()),
    }
}
