//! `GET /admin/ledger`: where everything stands and what contradicts itself, in the same numbers
//! as the metrics, with the ids of the rows at fault.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::{AdminState, unavailable};

/// Looks now, and answers what it saw.
pub(super) async fn ledger(State(state): State<AdminState>) -> Response {
    match state.auditor.look().await {
        Ok(look) => Json(look.to_json()).into_response(),
        Err(error) => unavailable(&error),
    }
}
