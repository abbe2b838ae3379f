//! `POST /api/events` (one event, or an array of them) and `GET /api/events/{id}`.

use std::time::Instant;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde_json::Value;
use shared::domain::event::{IncomingEvent, Key};
use shared::domain::ids::{EventId, TenantId, TraceId};
use shared::runtime::batcher::Rejected;
use shared::source;
use shared::store::logs::NewLog;
use shared::store::scope::Scope;
use shared::store::{StoreError, tenants};

use super::answers::{AcceptedBody, Answered, ItemBody, ItemOutcome};
use super::auth::Caller;
use super::forms::{self, Form, HeaderKey, Posted};
use super::headers::{given_trace, media_of};
use super::problem::{Code, FieldError, Problem};
use super::{ApiState, LARGEST_EVENT, read_body, signed};
use crate::accept::{AcceptRequest, Accepted, Arrival};
use crate::story;

/// The most events of one request.
pub(super) const LARGEST_BATCH: usize = 1000;

pub(crate) async fn post(State(state): State<ApiState>, request: Request) -> Response {
    let begun = Instant::now();
    let now = state.clock.now();
    let headers = request.headers().clone();
    let client = state.guard.proxies.client_of_request(&request);
    let admitted = if signed::is_signed(&headers) {
        Box::pin(state.admit_signed(request, client, now)).await
    } else {
        let caller = state.admit(&headers, client, now);
        caller.map(|caller| (caller, request))
    };
    let (caller, request) = match admitted {
        Ok(admitted) => admitted,
        Err(problem) => return state.turn_away("events", client, problem).await,
    };
    let door = Door {
        state: &state,
        caller: &caller,
        now,
        trace_given: given_trace(&headers).is_some(),
        trace_id: given_trace(&headers).unwrap_or_else(TraceId::generate),
    };
    let response = match door.read(request, &headers).await {
        Ok((key, Posted::Batch(items, form), _)) => door.accept_batch(items, form, key).await,
        Ok((key, Posted::One(item, form), body)) => {
            let item = Item {
                value: item,
                form,
                key: key.map(|key| key.of(None)),
                body: body.to_vec(),
                place: None,
            };
            door.accept_one(item).await
        }
        Err(problem) => {
            let source = caller.source_label().to_owned();
            door.refuse(&problem, &source).await;
            problem.into_response()
        }
    };
    state
        .metrics
        .accept_duration
        .observe(begun.elapsed().as_secs_f64());
    response
}

/// One event of a request, as it came.
struct Item {
    value: Value,
    form: Form,
    /// The key that a header gives; it comes before the event's own.
    key: Option<Key>,
    body: Vec<u8>,
    /// Its index in a batch.
    place: Option<usize>,
}

/// One request of an authenticated caller.
struct Door<'a> {
    state: &'a ApiState,
    caller: &'a Caller,
    now: DateTime<Utc>,
    trace_id: TraceId,
    /// Whether the caller named the trace.
    trace_given: bool,
}

impl Door<'_> {
    async fn read(
        &self,
        request: Request,
        headers: &HeaderMap,
    ) -> Result<(Option<HeaderKey>, Posted, bytes::Bytes), Problem> {
        if media_of(headers).is_none() {
            return Err(Problem::new(
                Code::UnsupportedMediaType,
                "send `Content-Type: application/json` (or CloudEvents') in UTF-8, not compressed",
            )
            .with_trace(&self.trace_id));
        }
        let key =
            forms::header_key(headers).map_err(|problem| problem.with_trace(&self.trace_id))?;
        let body = read_body(request, LARGEST_EVENT)
            .await
            .map_err(|problem| problem.with_trace(&self.trace_id))?;
        let value = source::parse_json(&body).map_err(|problem| self.invalid(vec![problem]))?;
        let posted =
            forms::posted(headers, value).map_err(|problem| problem.with_trace(&self.trace_id))?;
        Ok((key, posted, body))
    }

    async fn accept_one(&self, item: Item) -> Response {
        match self.accept(item).await {
            Ok(accepted) => {
                let location = format!("/api/events/{}", accepted.event_id);
                let mut response =
                    (StatusCode::ACCEPTED, Json(Answered::One(accepted))).into_response();
                if let Ok(location) = HeaderValue::from_str(&location) {
                    response.headers_mut().insert(header::LOCATION, location);
                }
                response
            }
            Err(problem) => problem.into_response(),
        }
    }

    /// A result per item; one bad item harms no other. The database being away is one answer for
    /// all: the caller repeats the whole batch, its keys make that safe.
    async fn accept_batch(
        &self,
        items: Vec<Value>,
        form: Form,
        key: Option<HeaderKey>,
    ) -> Response {
        // A batch of CloudEvents may be empty (JSON format §4.1).
        let is_empty = items.is_empty() && form == Form::Native;
        if is_empty || items.len() > LARGEST_BATCH {
            let code = if is_empty {
                Code::InvalidEvent
            } else {
                Code::BatchTooLarge
            };
            let problem = Problem::new(code, format!("a batch has 1 to {LARGEST_BATCH} events"))
                .with_errors(vec![FieldError::new(
                    "out_of_range",
                    "",
                    format!("{} events", items.len()),
                )])
                .with_trace(&self.trace_id);
            self.refuse(&problem, self.caller.source_label()).await;
            return problem.into_response();
        }
        let accepting = items
            .into_iter()
            .enumerate()
            .map(|(index, value)| Item {
                body: serde_json::to_vec(&value).unwrap_or_default(),
                value,
                form,
                key: key.as_ref().map(|key| key.of(Some(index))),
                place: Some(index),
            })
            .map(|item| self.accept(item));
        let results = futures_util::future::join_all(accepting).await;
        if let Some(Err(problem)) = results
            .iter()
            .find(|result| matches!(result, Err(problem) if problem.code == Code::Unavailable))
        {
            return problem.clone().into_response();
        }
        let bodies: Vec<ItemBody<'_>> = results
            .iter()
            .enumerate()
            .map(|(index, result)| ItemBody {
                index,
                outcome: match result {
                    Ok(accepted) => ItemOutcome::Accepted(AcceptedBody {
                        event_id: accepted.event_id,
                        trace_id: accepted.trace_id.clone(),
                        correlation_id: accepted.correlation_id.clone(),
                        ..*accepted
                    }),
                    Err(problem) => ItemOutcome::Refused {
                        status: "refused",
                        problem: problem.body(),
                    },
                },
            })
            .collect();
        (StatusCode::ACCEPTED, Json(Answered::Several(bodies))).into_response()
    }

    async fn accept(&self, item: Item) -> Result<AcceptedBody, Problem> {
        let named = forms::named_source(&item.value, item.form, self.caller);
        let place = item.place;
        // A refused event is found by the trace that it named itself.
        let trace_id = forms::own_trace(&item.value, item.form).unwrap_or_else(|| match place {
            // Items of a batch have nothing in common but their envelope.
            Some(_) if !self.trace_given => TraceId::generate(),
            _ => self.trace_id.clone(),
        });
        let result = self
            .try_accept(item, &trace_id)
            .await
            .map_err(|problem| match place {
                Some(index) => problem.within_item(index),
                None => problem,
            });
        if let Err(problem) = &result {
            let known = named.filter(|name| self.caller.speaks_for(name));
            self.refuse(
                problem,
                known
                    .as_deref()
                    .unwrap_or_else(|| self.caller.source_label()),
            )
            .await;
        }
        result
    }

    async fn try_accept(&self, item: Item, trace_id: &TraceId) -> Result<AcceptedBody, Problem> {
        let (mut incoming, mut key_field) =
            forms::read(item.value, item.form, self.caller, self.now).map_err(|problems| {
                Problem {
                    trace_id: Some(trace_id.clone()),
                    ..self.invalid(problems)
                }
            })?;
        if let Some(key) = item.key {
            incoming.key = Some(key);
            key_field = "";
        }
        self.check_rights(&incoming, trace_id).await?;
        self.state
            .guard
            .take_event(
                &incoming.source_system,
                incoming.tenant_id,
                &incoming.event_type,
            )
            .map_err(|exceeded| Problem::of_limit(exceeded).with_trace(trace_id))?;
        incoming.trace_id.get_or_insert_with(|| trace_id.clone());
        let source = incoming.source_system.clone();
        let event_type = incoming.event_type.clone();
        let arrival = Arrival {
            scope: self.caller.scope(incoming.tenant_id),
            trace_id: trace_id.clone(),
            received_at: self.now,
            body: item.body,
            shadow: None,
        };
        let request = AcceptRequest::new(incoming, arrival, &self.state.directory.get());
        let (own_trace, own_correlation) = (
            request.trace_id().to_owned(),
            request.correlation_id().map(str::to_owned),
        );
        let accepted = self
            .state
            .accept
            .submit(request)
            .await
            .map_err(|rejected| self.rejected(&rejected, trace_id))?;
        let (event_id, trace, correlation_id, duplicate) = match accepted {
            Accepted::New { event_id } => (event_id, own_trace, own_correlation, false),
            Accepted::Duplicate {
                event_id,
                trace_id,
                correlation_id,
            } => (event_id, trace_id, correlation_id, true),
            Accepted::KeyReused { event_id } => {
                let problem = Problem::new(
                    Code::IdempotencyKeyReused,
                    format!("the key belongs to event {event_id}, which has another body"),
                );
                return Err(Problem {
                    existing_event_id: Some(event_id),
                    ..problem
                }
                .with_errors(vec![FieldError::new(
                    "reused",
                    key_field,
                    "choose a key of its own for each event",
                )])
                .with_trace(trace_id));
            }
        };
        let outcome = if duplicate { "duplicate" } else { "new" };
        self.state
            .metrics
            .accepted
            .with_label_values(&[source.as_str(), outcome])
            .inc();
        tracing::info!(
            trace_id = trace,
            source,
            event.id = %event_id,
            event.type = event_type,
            outcome,
            "event.accepted"
        );
        Ok(AcceptedBody {
            event_id,
            trace_id: trace,
            correlation_id,
            status: "accepted",
            duplicate,
        })
    }

    async fn check_rights(
        &self,
        incoming: &IncomingEvent,
        trace_id: &TraceId,
    ) -> Result<(), Problem> {
        if !self.caller.speaks_for(&incoming.source_system) {
            return Err(Problem::new(
                Code::SourceForbidden,
                "the credential belongs to another source",
            )
            .with_errors(vec![FieldError::new(
                "forbidden",
                "/source_system",
                "name the credential's own source",
            )])
            .with_trace(trace_id));
        }
        // Before anything is looked up: whether a foreign tenant exists is not the caller's to know.
        if !self.caller.may_name(incoming.tenant_id) {
            return Err(Problem::new(
                Code::TenantForbidden,
                "the credential belongs to other tenants",
            )
            .with_errors(vec![FieldError::new(
                "forbidden",
                "/tenant_id",
                "name the credential's own tenant",
            )])
            .with_trace(trace_id));
        }
        if !self.caller.covers(&incoming.event_type) {
            return Err(Problem::new(
                Code::EventTypeForbidden,
                "the credential belongs to other types of events",
            )
            .with_errors(vec![FieldError::new(
                "forbidden",
                "/event_type",
                "the credential does not cover this type",
            )])
            .with_trace(trace_id));
        }
        match incoming.tenant_id {
            Some(tenant) if !self.is_known(tenant, trace_id).await? => {
                Err(Problem::new(Code::UnknownTenant, "the tenant is unknown")
                    .with_errors(vec![FieldError::new(
                        "unknown",
                        "/tenant_id",
                        "no such tenant",
                    )])
                    .with_trace(trace_id))
            }
            _ => Ok(()),
        }
    }

    /// The cache may be a moment behind a tenant that was just made: a miss asks the table.
    async fn is_known(&self, tenant: TenantId, trace_id: &TraceId) -> Result<bool, Problem> {
        if self.state.directory.get().tenants.contains_key(&tenant) {
            return Ok(true);
        }
        // Boxed: it is seldom asked, and would make the future of every event ten times as large.
        let known = Box::pin(async {
            let scope = Scope::of(self.caller.tenants());
            let mut conn = scope.read(&self.state.pool).await?;
            tenants::exists(&mut conn, tenant).await
        });
        known.await.map_err(|error: StoreError| {
            tracing::warn!(trace_id = %trace_id, error = %shared::runtime::telemetry::chain(&error), "a tenant could not be looked up");
            Problem::new(Code::Unavailable, "the event could not be stored now; send it again").with_trace(trace_id)
        })
    }

    fn invalid(&self, problems: Vec<source::Problem>) -> Problem {
        let syntax = problems.iter().any(|problem| problem.code.is_syntax());
        let code = if syntax {
            Code::MalformedJson
        } else {
            Code::InvalidEvent
        };
        Problem::of_fields(code, problems).with_trace(&self.trace_id)
    }

    fn rejected(&self, rejected: &Rejected, trace_id: &TraceId) -> Problem {
        match rejected {
            Rejected::Unavailable | Rejected::Stopping => Problem::new(
                Code::Unavailable,
                "the event could not be stored now; send it again",
            ),
            Rejected::Data => {
                Problem::new(Code::InvalidEvent, "the database cannot hold the event")
            }
            Rejected::Panicked => Problem::new(Code::Internal, "the event could not be stored"),
        }
        .with_trace(trace_id)
    }

    /// A refused request of an authenticated caller leaves a row that its trace shows.
    async fn refuse(&self, problem: &Problem, source: &str) {
        let code = problem.code.as_str();
        self.state
            .metrics
            .refused
            .with_label_values(&["events", code])
            .inc();
        let first = problem.errors.first();
        let log = NewLog {
            level: "warn",
            trace_id: problem.trace_id.as_ref().map(TraceId::to_string),
            source_system: Some(source.to_owned()),
            tenant_id: self.caller.only_tenant().map(|tenant| tenant.0),
            code: code.to_owned(),
            pointer: first.map(|error| shared::domain::mask::mask_text(&error.pointer)),
            message: first.map_or_else(|| problem.detail.clone(), |error| error.detail.clone()),
            ..NewLog::default()
        };
        // A caller over its limit comes often: the metric tells, no line and no row each time.
        if problem.code == Code::RateLimited {
            return;
        }
        tracing::info!(
            trace_id = log.trace_id,
            source,
            outcome = "refused",
            failure.code = code,
            "event.refused"
        );
        // Where the database is away, the answer says so and there is nowhere to keep the row.
        if problem.code != Code::Unavailable {
            let _ = self.state.refusals.submit(log).await;
        }
    }
}

pub(crate) async fn get(
    State(state): State<ApiState>,
    headers: HeaderMap,
    extensions: Extensions,
    id: Result<Path<EventId>, PathRejection>,
) -> Response {
    let client = state.guard.proxies.client_of(&extensions, &headers);
    let caller = match state.admit(&headers, client, state.clock.now()) {
        Ok(caller) => caller,
        Err(problem) => return state.turn_away("events", client, problem).await,
    };
    let not_found = || Problem::new(Code::NotFound, "there is no such event").into_response();
    let Ok(Path(id)) = id else { return not_found() };
    match story::of_event((&state.pool, &state.seals), id, caller.tenants()).await {
        Ok(Some(story))
            if caller.speaks_for(&story.event.source_system)
                && caller.covers(&story.event.event_type) =>
        {
            Json(story.masked()).into_response()
        }
        Ok(_) => not_found(),
        Err(error) => {
            tracing::warn!(event.id = %id, error = %shared::runtime::telemetry::chain(&error), "an event could not be read");
            Problem::new(Code::Unavailable, "the event could not be read now").into_response()
        }
    }
}
