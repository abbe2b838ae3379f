//! One request to PixelHub's addresses: who asks, what for, and whether it is Posto's to answer at all.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::response::Response;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use shared::domain::event::IncomingEvent;
use shared::domain::ids::{EventId, TenantId, TraceId};
use shared::domain::module::{Mode, Module};
use shared::runtime::batcher::Rejected;
use shared::runtime::telemetry::chain;
use shared::store::logs::NewLog;
use shared::store::scope::Scope;
use shared::store::{StoreError, tenants};
use sqlx::PgConnection;

use super::answers::{Refusal, Style};
use super::params::{Params, Unreadable};
use super::upstream::ANSWERED;
use super::{DOOR, SOURCE, entry};
use crate::accept::{AcceptRequest, Accepted, Arrival};
use crate::api::auth::{self, Caller};
use crate::api::problem::{Code, FieldError, Problem};
use crate::api::{ApiState, LARGEST_EVENT, forms, headers, read_body, shut_out};

/// What an address of PixelHub's is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address {
    /// The module that it belongs to.
    pub(super) module: Module,
    /// How it tells what is wrong.
    pub(super) style: Style,
}

/// A request that is Posto's to answer.
pub(super) struct Visit {
    pub(super) state: ApiState,
    /// The parameters of its address.
    pub(super) query: Params,
    pub(super) headers: HeaderMap,
    address: Address,
    client: IpAddr,
    now: DateTime<Utc>,
    trace_id: TraceId,
    /// The parameters of its body.
    body: Result<Params, Unreadable>,
    /// Who shows a credential.
    caller: Option<Caller>,
    is_shadow: bool,
}

/// An event that is stored.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) event_id: EventId,
    pub(super) trace_id: String,
}

impl Visit {
    /// Lets a request in.
    ///
    /// # Errors
    /// The answer: it was turned away, or the module is off and it was PixelHub's.
    pub(super) async fn begin(
        address: Address,
        state: ApiState,
        request: Request,
    ) -> Result<Self, Response> {
        let client = state.guard.proxies.client_of_request(&request);
        let now = state.clock.now();
        let caller = match admit(&state, request.headers(), client, now) {
            Ok(caller) => caller,
            Err(problem) => return Err(turned_away(&state, client, problem).await),
        };
        let (parts, body) = match read(request).await {
            Ok(read) => read,
            Err(problem) => return Err(turned_away(&state, client, problem).await),
        };
        let content_type = parts.headers.get(header::CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok());
        let mut visit = Self {
            query: Params::of_pairs(parts.uri.query().unwrap_or_default().as_bytes()),
            body: Params::of_body(content_type.unwrap_or_default(), &body),
            headers: parts.headers.clone(),
            trace_id: headers::given_trace(&parts.headers).unwrap_or_else(TraceId::generate),
            caller: None,
            is_shadow: false,
            state,
            address,
            client,
            now,
        };
        let mode = match visit.mode().await {
            Ok(mode) => mode,
            Err(refusal) => return Err(visit.end(Err(refusal)).await),
        };
        let (module, word) = (address.module.as_str(), mode.as_str());
        let metrics = &visit.state.metrics;
        metrics
            .module_requests
            .with_label_values(&[module, word])
            .inc();
        match (mode, caller) {
            (Mode::Off, _) => {
                let passed = visit.state.upstream.pass_on(&parts, body, client).await;
                let (outcome, answer) = match passed {
                    Ok(response) => (ANSWERED, Ok(response)),
                    Err(failure) => (failure.as_str(), Err(Refusal::from(failure.problem()))),
                };
                visit
                    .state
                    .metrics
                    .passed_on
                    .with_label_values(&[outcome])
                    .inc();
                Err(visit.end(answer).await)
            }
            (_, Err(problem)) => {
                let refusal = match problem.code {
                    Code::Unauthenticated => Refusal::Unauthenticated,
                    _ => problem.into(),
                };
                Err(visit.end(Err(refusal)).await)
            }
            (_, Ok(caller)) => {
                visit.caller = caller;
                visit.is_shadow = mode == Mode::Shadow;
                Ok(visit)
            }
        }
    }

    /// Who serves the request. Whose it is, is looked up only where that makes a difference.
    async fn mode(&self) -> Result<Mode, Refusal> {
        let directory = self.state.directory.get();
        let module = self.address.module;
        let tenant = match module {
            _ if !directory.switches.has_exceptions(module) => None,
            Module::Tenants => self.parameter("tenant_id").map(TenantId),
            Module::Chat => entry::tenant_named(self).await?,
        };
        Ok(directory.switches.mode(module, tenant))
    }

    /// A number of the body, else of the address.
    pub(super) fn parameter(&self, name: &str) -> Option<i64> {
        let body = self.body.as_ref().ok();
        body.and_then(|body| body.number(name))
            .or_else(|| self.query.number(name))
    }

    /// The token of a service order, where the request carries one: in `X-Order-Token`, else among its
    /// parameters.
    pub(super) fn token(&self) -> Option<&str> {
        let header = self.headers.get("x-order-token");
        let header = header.and_then(|value| value.to_str().ok()).map(str::trim);
        let body = self.body.as_ref().ok();
        header
            .filter(|token| !token.is_empty())
            .or_else(|| body.and_then(|body| body.text("token")))
            .or_else(|| self.query.text("token"))
    }

    /// The parameters of the body.
    pub(super) fn params(&self) -> Result<&Params, Refusal> {
        self.body.as_ref().map_err(|unreadable| match unreadable {
            Unreadable::Json => Refusal::Invalid("", "O corpo não é um objeto JSON"),
            Unreadable::MediaType => Problem::new(
                Code::UnsupportedMediaType,
                "send JSON (`application/json`) or a form (`application/x-www-form-urlencoded`)",
            )
            .into(),
        })
    }

    /// The key that the caller gives its request.
    pub(super) fn key(&self) -> Result<Option<String>, Refusal> {
        let key = forms::header_key(&self.headers)?;
        Ok(key.map(|key| key.of(None).expose().to_owned()))
    }

    /// The credential of PixelHub's server.
    pub(super) fn credential(&self) -> Result<&Caller, Refusal> {
        match &self.caller {
            Some(caller) if caller.speaks_for(SOURCE) => Ok(caller),
            Some(_) => Err(Refusal::NotInternal(Code::SourceForbidden)),
            None => Err(self.unknown()),
        }
    }

    /// When the request came.
    pub(super) const fn now(&self) -> DateTime<Utc> {
        self.now
    }

    /// Counts that nobody whom we know is asking, and says what they are told.
    pub(super) fn unknown(&self) -> Refusal {
        match self.state.stranger(self.client) {
            problem if problem.code == Code::Unauthenticated => Refusal::Unauthenticated,
            shut_out => shut_out.into(),
        }
    }

    /// Whether events of that type are the credential's business.
    pub(super) fn may_tell(&self, caller: &Caller, event_type: &str) -> Result<(), Refusal> {
        if caller.covers(event_type) {
            Ok(())
        } else {
            Err(Refusal::NotInternal(Code::EventTypeForbidden))
        }
    }

    /// A tenant that is there and the credential's. One that is another's is not there.
    pub(super) async fn check_tenant(
        &self,
        caller: &Caller,
        tenant: TenantId,
    ) -> Result<(), Refusal> {
        let known = caller.may_name(Some(tenant))
            && (self.state.directory.get().tenants.contains_key(&tenant)
                // The cache may be a moment behind.
                || self
                    .ask(async |conn| tenants::exists(conn, tenant).await)
                    .await?);
        if known {
            Ok(())
        } else {
            Err(Refusal::NotFound("Cliente não encontrado"))
        }
    }

    /// Asks the database, in the scope of the credential. The token of an order is none: it is looked for
    /// among all, and opens its own order alone.
    pub(super) async fn ask<T>(
        &self,
        question: impl AsyncFnOnce(&mut PgConnection) -> Result<T, StoreError>,
    ) -> Result<T, Refusal> {
        let answer = async {
            let scope = Scope::of(self.caller.as_ref().map_or(&[], Caller::tenants));
            let mut tx = scope.read(&self.state.pool).await?;
            question(&mut tx).await
        };
        answer.await.map_err(|error| self.unwell(&error))
    }

    /// Has the database do what follows from an event that is stored: as the services work, for nobody but
    /// them may write chats.
    pub(super) async fn have<T>(
        &self,
        order: impl AsyncFnOnce(&mut PgConnection) -> Result<T, StoreError>,
    ) -> Result<T, Refusal> {
        let answer = async {
            let mut conn = self.state.pool.acquire().await?;
            order(&mut conn).await
        };
        answer.await.map_err(|error| self.unwell(&error))
    }

    fn unwell(&self, error: &StoreError) -> Refusal {
        tracing::warn!(trace_id = %self.trace_id, error = %chain(error), "a question of PixelHub's could not be answered");
        self.unavailable()
    }

    /// Stores an event, or finds that it came before.
    pub(super) async fn accept(&self, event: IncomingEvent, scope: i64) -> Result<Stored, Refusal> {
        let event_type = event.event_type.clone();
        self.state
            .guard
            .take_event(SOURCE, event.tenant_id, &event_type)
            .map_err(Problem::of_limit)?;
        let arrival = Arrival {
            scope,
            trace_id: self.trace_id.clone(),
            received_at: self.now,
            body: Vec::new(),
            shadow: self.is_shadow.then_some(self.address.module),
        };
        let request = AcceptRequest::new(event, arrival, &self.state.directory.get());
        let own_trace = request.trace_id().to_owned();
        let accepted = self.state.accept.submit(request).await;
        let accepted = accepted.map_err(|rejected| match rejected {
            Rejected::Unavailable | Rejected::Stopping => self.unavailable(),
            Rejected::Data => Refusal::Invalid("", "Os dados não podem ser guardados"),
            Rejected::Panicked => Problem::new(Code::Internal, "the event could not be stored")
                .with_trace(&self.trace_id)
                .into(),
        })?;
        let (stored, outcome) = match accepted {
            Accepted::New { event_id } => (
                Stored {
                    event_id,
                    trace_id: own_trace,
                },
                "new",
            ),
            Accepted::Duplicate {
                event_id, trace_id, ..
            } => (Stored { event_id, trace_id }, "duplicate"),
            Accepted::KeyReused { event_id } => {
                let detail = format!("the key belongs to event {event_id}, which has another body");
                let error = FieldError::new("reused", "", "choose a key of its own for each post");
                let problem = Problem::new(Code::IdempotencyKeyReused, detail)
                    .with_errors(vec![error])
                    .with_trace(&self.trace_id);
                return Err(problem.into());
            }
        };
        self.state
            .metrics
            .accepted
            .with_label_values(&[SOURCE, outcome])
            .inc();
        tracing::info!(
            trace_id = stored.trace_id,
            source = SOURCE,
            event.id = %stored.event_id,
            event.type = event_type,
            module.mode = if self.is_shadow { "shadow" } else { "live" },
            outcome,
            "event.accepted"
        );
        Ok(stored)
    }

    /// Answers. What is refused is counted; of those whom we know it leaves a row that its trace shows.
    pub(super) async fn end(&self, answer: Result<Response, Refusal>) -> Response {
        let refusal = match answer {
            Ok(response) => return response,
            Err(refusal) => refusal,
        };
        let code = refusal.code();
        self.state
            .metrics
            .refused
            .with_label_values(&[DOOR, code.as_str()])
            .inc();
        match code {
            Code::Unauthenticated | Code::AddressShutOut => {
                self.state.guard.hold(self.client).await;
            }
            // Neither what comes often nor what the database cannot keep.
            Code::RateLimited | Code::Unavailable => {}
            _ if self.caller.is_some() => self.keep(&refusal).await,
            _ => {}
        }
        refusal.into_response(self.address.style, &self.headers)
    }

    async fn keep(&self, refusal: &Refusal) {
        let code = refusal.code().as_str();
        tracing::info!(
            trace_id = %self.trace_id,
            source = SOURCE,
            outcome = "refused",
            failure.code = code,
            "event.refused"
        );
        let log = NewLog {
            level: "warn",
            trace_id: Some(self.trace_id.to_string()),
            source_system: Some(SOURCE.to_owned()),
            code: code.to_owned(),
            pointer: refusal.parameter().map(|name| format!("#/{name}")),
            message: "a request to an address of PixelHub's was refused".to_owned(),
            ..NewLog::default()
        };
        // Where it cannot be kept, the metric tells of it.
        let _ = self.state.refusals.submit(log).await;
    }

    fn unavailable(&self) -> Refusal {
        let detail = "it could not be stored or read now; send it again";
        Problem::new(Code::Unavailable, detail)
            .with_trace(&self.trace_id)
            .into()
    }
}

/// Who shows a credential. Nobody may come without one too, for PixelHub's pages have other ways in; a
/// wrong one is told only once it is known that the module is Posto's.
type Shown = Result<Option<Caller>, Problem>;

fn admit(
    state: &ApiState,
    headers: &HeaderMap,
    client: IpAddr,
    now: DateTime<Utc>,
) -> Result<Shown, Problem> {
    if auth::presents_a_key(headers) {
        return match state.admit(headers, client, now) {
            Ok(caller) => Ok(Ok(Some(caller))),
            Err(problem) if matches!(problem.code, Code::RateLimited | Code::AddressShutOut) => {
                Err(problem)
            }
            Err(problem) => Ok(Err(problem)),
        };
    }
    if let Some(seconds) = state.guard.shut_out(client) {
        return Err(shut_out(seconds));
    }
    state
        .guard
        .take_request(client)
        .map_err(Problem::of_limit)?;
    Ok(Ok(None))
}

async fn read(request: Request) -> Result<(Parts, Bytes), Problem> {
    let (parts, body) = request.into_parts();
    let mut whole = Request::new(body);
    *whole.headers_mut() = parts.headers.clone();
    let body = read_body(whole, LARGEST_EVENT).await?;
    Ok((parts, body))
}

async fn turned_away(state: &ApiState, client: IpAddr, problem: Problem) -> Response {
    state.turn_away(DOOR, client, problem).await
}
