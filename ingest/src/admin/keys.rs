//! `/admin/keys`: the credentials of sources listed, made, rotated and revoked. A secret is in one
//! answer, that of the order that made it.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use secrecy::ExposeSecret as _;
use shared::domain::credential::CredentialKind;
use shared::store::audit::Author;
use shared::store::credentials;

use super::answers::{KeyPage, MadeKey, OneKey};
use super::fields::{Fields, invalid, invalid_query};
use super::{AdminState, actor, not_found, unavailable};
use crate::api::problem::{Code, FieldError, Problem};
use crate::keys::{self, KeyError, LONGEST_OVERLAP, Made, OVERLAP, Scope};

/// Lines of a page, unless the question says otherwise.
const PAGE: i64 = 100;
/// The most lines of a page.
const LONGEST_PAGE: i64 = 500;
/// The most tenants or types that a key is bound to.
pub(super) const MOST: usize = 100;

/// `GET /admin/keys?source=billing`: page by page, never a secret.
pub(super) async fn list(State(state): State<AdminState>, mut fields: Fields) -> Response {
    let source = fields.text("source");
    let after = fields.number("after").unwrap_or_default();
    let limit = fields.number("limit").unwrap_or(PAGE);
    if !(1..=LONGEST_PAGE).contains(&limit) {
        fields.wrong("limit", "out_of_range", "is 1 to 500");
    }
    if let Err(errors) = fields.end() {
        return invalid_query(errors).into_response();
    }
    let page = async {
        let mut conn = state.reader().await?;
        credentials::page(&mut conn, source.as_deref(), after, limit).await
    };
    match page.await {
        Ok(keys) => {
            let full = i64::try_from(keys.len()).is_ok_and(|count| count == limit);
            let next = keys.last().filter(|_| full).map(|last| last.id);
            Json(KeyPage { keys, next }).into_response()
        }
        Err(error) => unavailable(&error),
    }
}

/// `POST /admin/keys`.
pub(super) async fn create(State(state): State<AdminState>, request: Request) -> Response {
    let headers = request.headers().clone();
    let mut fields = match Fields::of_body(request).await {
        Ok(fields) => fields,
        Err(problem) => return problem.into_response(),
    };
    let kinds = CredentialKind::ALL.map(CredentialKind::as_str);
    let kind = fields.one_of("kind", &kinds);
    let kind = kind.and_then(|kind| kind.parse().ok());
    let scope = Scope {
        source: fields.text("source").unwrap_or_default(),
        label: fields.text("label").unwrap_or_default(),
        tenants: fields.numbers("tenants", MOST).unwrap_or_default(),
        event_types: fields.texts("event_types", MOST).unwrap_or_default(),
        valid_until: fields.time("valid_until"),
    };
    if scope.source.is_empty() && !fields.is_wrong("source") {
        fields.wrong("source", "missing", "names who the key speaks for");
    }
    let (actor, reason) = (actor(&mut fields, &headers), fields.text("reason"));
    if let Err(errors) = fields.end() {
        return invalid(errors).into_response();
    }
    let author = Author {
        actor: &actor,
        reason: reason.as_deref(),
    };
    let kind = kind.unwrap_or(CredentialKind::Bearer);
    let made = async {
        let mut tx = state.writer().await?;
        let made = keys::create(&mut tx, kind, &scope, author).await?;
        tx.commit().await?;
        Ok(made)
    };
    answer(made.await)
}

/// `POST /admin/keys/{id}/rotate`.
pub(super) async fn rotate(
    State(state): State<AdminState>,
    id: Result<Path<i64>, PathRejection>,
    request: Request,
) -> Response {
    let Ok(Path(id)) = id else { return not_found() };
    let headers = request.headers().clone();
    let mut fields = match Fields::of_body(request).await {
        Ok(fields) => fields,
        Err(problem) => return problem.into_response(),
    };
    let overlap = match fields.number("overlap_seconds").map(u64::try_from) {
        None => OVERLAP,
        Some(Ok(seconds)) if seconds <= LONGEST_OVERLAP.as_secs() => Duration::from_secs(seconds),
        Some(_) => {
            fields.wrong(
                "overlap_seconds",
                "out_of_range",
                "is 0 to 7776000 (90 days)",
            );
            OVERLAP
        }
    };
    let (actor, reason) = (actor(&mut fields, &headers), fields.text("reason"));
    if let Err(errors) = fields.end() {
        return invalid(errors).into_response();
    }
    let author = Author {
        actor: &actor,
        reason: reason.as_deref(),
    };
    let made = async {
        let mut tx = state.writer().await?;
        let made = keys::rotate(&mut tx, id, overlap, author).await?;
        tx.commit().await?;
        Ok(made)
    };
    answer(made.await)
}

/// `POST /admin/keys/{id}/revoke`.
pub(super) async fn revoke(
    State(state): State<AdminState>,
    id: Result<Path<i64>, PathRejection>,
    request: Request,
) -> Response {
    let Ok(Path(id)) = id else { return not_found() };
    let headers = request.headers().clone();
    let mut fields = match Fields::of_body(request).await {
        Ok(fields) => fields,
        Err(problem) => return problem.into_response(),
    };
    let (actor, reason) = (actor(&mut fields, &headers), fields.text("reason"));
    if let Err(errors) = fields.end() {
        return invalid(errors).into_response();
    }
    let author = Author {
        actor: &actor,
        reason: reason.as_deref(),
    };
    let revoked = async {
        let mut tx = state.writer().await?;
        let line = keys::revoke(&mut tx, id, author).await?;
        tx.commit().await?;
        Ok(line)
    };
    match revoked.await {
        Ok(key) => Json(OneKey { key }).into_response(),
        Err(error) => refuse(&error),
    }
}

/// The only answer that holds a secret; nothing on its way may keep it.
fn answer(made: Result<Made, KeyError>) -> Response {
    match made {
        Ok(Made { line, secret }) => {
            let body = MadeKey {
                key: line,
                secret: secret.expose_secret(),
            };
            let mut response = (StatusCode::CREATED, Json(body)).into_response();
            let no_store = HeaderValue::from_static("no-store");
            response
                .headers_mut()
                .insert(header::CACHE_CONTROL, no_store);
            response
        }
        Err(error) => refuse(&error),
    }
}

fn refuse(error: &KeyError) -> Response {
    let unknown = |pointer: &str| {
        let errors = vec![FieldError::new("unknown", pointer, error.to_string())];
        invalid(errors).into_response()
    };
    match error {
        KeyError::UnknownSource(_) => unknown("/source"),
        KeyError::UnknownTenants(_) => unknown("/tenants"),
        KeyError::NotFound(_) => not_found(),
        KeyError::NotValid(_) | KeyError::Rotated(..) | KeyError::PredecessorValid(..) => {
            Problem::new(Code::KeyNotRotatable, error.to_string()).into_response()
        }
        KeyError::NoRandomness => {
            tracing::error!("the operating system gives no randomness");
            Problem::new(Code::Internal, "no key could be made").into_response()
        }
        KeyError::Store(error) => unavailable(error),
        KeyError::Transaction(error) => {
            tracing::warn!(error = %shared::runtime::telemetry::chain(error), "an order about a key could not be carried out");
            Problem::new(Code::Unavailable, "the database is not available").into_response()
        }
    }
}
