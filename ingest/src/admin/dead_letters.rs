//! `/admin/dead-letters`: what was given up, counted and listed, and sent on its way again or
//! discarded.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use shared::domain::channel::Channel;
use shared::domain::message::WorkQueue;
use shared::domain::redrive::{LetterState, Refusal};
use shared::store::dead_letter_search::{self as search, LetterFilter};
use uuid::Uuid;

use super::answers::{LetterGroups, LetterPage, OrderReport, RefusedLetter};
use super::fields::{Fields, invalid, invalid_query};
use super::{AdminState, actor, unavailable};
use crate::api::problem::{Code, Problem};
use crate::redrive::{self, Asked, Deed, Letters, Report, Stopped};

/// The most ids of one order.
pub(super) const MOST_IDS: usize = 10_000;
/// The most letters that an answer names one by one.
const MOST_NAMED: usize = 200;
/// A page of a list, and the longest.
const PAGE: i64 = 50;
const LONGEST_PAGE: i64 = 500;

/// `GET /admin/dead-letters`: page by page.
pub(super) async fn list(State(state): State<AdminState>, mut fields: Fields) -> Response {
    let filter = read_filter(&mut fields);
    let after = fields.id("after").unwrap_or_default();
    let limit = fields.number("limit").unwrap_or(PAGE);
    if !(1..=LONGEST_PAGE).contains(&limit) {
        fields.wrong("limit", "out_of_range", "is 1 to 500");
    }
    if let Err(errors) = fields.end() {
        return invalid_query(errors).into_response();
    }
    let page = async { search::page(&mut *state.reader().await?, &filter, after, limit).await };
    match page.await {
        Ok(letters) => {
            let full = i64::try_from(letters.len()).is_ok_and(|count| count == limit);
            let next = letters.last().filter(|_| full).map(|last| last.letter_id);
            Json(LetterPage {
                dead_letters: letters,
                next,
            })
            .into_response()
        }
        Err(error) => unavailable(&error),
    }
}

/// `GET /admin/dead-letters/groups`: counted by what they died of.
pub(super) async fn groups(State(state): State<AdminState>, mut fields: Fields) -> Response {
    let filter = read_filter(&mut fields);
    if let Err(errors) = fields.end() {
        return invalid_query(errors).into_response();
    }
    let groups = async { search::groups(&mut *state.reader().await?, &filter).await };
    match groups.await {
        Ok(groups) => {
            let total: i64 = groups.iter().map(|group| group.count).sum();
            Json(LetterGroups { groups, total }).into_response()
        }
        Err(error) => unavailable(&error),
    }
}

/// `POST /admin/dead-letters/redrive`.
pub(super) async fn redrive(State(state): State<AdminState>, request: Request) -> Response {
    order(state, request, |fields| Deed::Redrive {
        force: fields.flag("force"),
    })
    .await
}

/// `POST /admin/dead-letters/discard`.
pub(super) async fn discard(State(state): State<AdminState>, request: Request) -> Response {
    order(state, request, |_| Deed::Discard).await
}

async fn order(
    state: AdminState,
    request: Request,
    deed: impl FnOnce(&mut Fields) -> Deed,
) -> Response {
    let headers = request.headers().clone();
    let asked = match Fields::of_body(request).await {
        Ok(fields) => read_order(fields, &headers, deed),
        Err(problem) => Err(problem),
    };
    let asked = match asked {
        Ok(asked) => asked,
        Err(problem) => return problem.into_response(),
    };
    // In a task of its own: a caller that hangs up leaves nothing half done and untold.
    let deed = tokio::spawn(redrive::carry_out(state, asked));
    match deed.await {
        Ok(Ok(report)) => answer(StatusCode::OK, &report),
        Ok(Err(Stopped::CountDiffers { matched })) => Problem::new(
            Code::CountDiffers,
            format!("the filter matches {matched} letters now; look again, then repeat with `expected_count`: {matched}"),
        )
        .into_response(),
        Ok(Err(Stopped::Unavailable { report, error })) if report.is_empty() => unavailable(&error),
        // What was done is done, and told.
        Ok(Err(Stopped::Unavailable { report, .. })) => {
            answer(StatusCode::SERVICE_UNAVAILABLE, &report)
        }
        Err(_) => Problem::new(Code::Internal, "the order ended without a result").into_response(),
    }
}

fn read_order(
    mut fields: Fields,
    headers: &HeaderMap,
    deed: impl FnOnce(&mut Fields) -> Deed,
) -> Result<Asked, Problem> {
    let dry_run = fields.flag("dry_run");
    let reason = fields.text("reason");
    let actor = actor(&mut fields, headers);
    let deed = deed(&mut fields);
    let letters = match (fields.has("ids"), fields.has("filter")) {
        (true, false) => fields.ids("ids", MOST_IDS).map(Letters::Named),
        (false, true) => fields.object("filter").map(|mut inner| {
            let mut filter = read_filter(&mut inner);
            if filter.state.as_deref() != Some(LetterState::Dead.as_str()) {
                inner.wrong("state", "out_of_range", "only dead letters can be meant");
            }
            filter.state = Some(LetterState::Dead.as_str().to_owned());
            fields.close(inner);
            let expected = fields.number("expected_count");
            if expected.is_none() && !dry_run {
                fields.wrong(
                    "expected_count",
                    "missing",
                    "tells how many letters you mean: ask with `dry_run` first",
                );
            }
            Letters::Matching { filter, expected }
        }),
        _ => {
            fields.wrong("", "missing", "send either `ids` or `filter`");
            None
        }
    };
    fields.end().map_err(invalid)?;
    let letters =
        letters.ok_or_else(|| Problem::new(Code::InvalidOrder, "send either `ids` or `filter`"))?;
    Ok(Asked {
        letters,
        deed,
        dry_run,
        reason,
        actor,
    })
}

/// The filter's fields; the state is `dead` unless another is named.
fn read_filter(fields: &mut Fields) -> LetterFilter {
    let states: Vec<&str> = LetterState::ALL.map(LetterState::as_str).to_vec();
    let queues: Vec<&str> = WorkQueue::ALL.map(WorkQueue::name).to_vec();
    let channels: Vec<&str> = Channel::ALL
        .iter()
        .map(|channel| channel.as_str())
        .collect();
    let state = fields.one_of("state", &states);
    LetterFilter {
        state: Some(state.unwrap_or_else(|| LetterState::Dead.as_str().to_owned())),
        failure_code: fields.text("failure_code"),
        channel: fields.one_of("channel", &channels),
        template: fields.text("template"),
        event_type: fields.text("event_type"),
        tenant_id: fields.number("tenant_id"),
        queue: fields.one_of("queue", &queues),
        since: fields.time("since"),
        until: fields.time("until"),
    }
}

fn answer(status: StatusCode, report: &Report) -> Response {
    let mut refused: BTreeMap<Refusal, Vec<Uuid>> = BTreeMap::new();
    for (letter, refusal) in &report.refused {
        refused.entry(*refusal).or_default().push(*letter);
    }
    let named = report
        .refused
        .iter()
        .take(MOST_NAMED)
        .map(|(letter, refusal)| RefusedLetter {
            letter_id: *letter,
            outcome: refusal.as_str(),
            detail: refusal.detail(),
        });
    let mut outcomes: BTreeMap<&'static str, usize> = refused
        .iter()
        .map(|(refusal, letters)| (refusal.as_str(), letters.len()))
        .collect();
    outcomes.insert(report.deed, report.done());
    let body = OrderReport {
        dry_run: report.dry_run,
        matched: report.matched,
        complete: report.complete,
        outcomes,
        ways: report.ways.clone(),
        refused: named.collect(),
    };
    (status, Json(body)).into_response()
}
