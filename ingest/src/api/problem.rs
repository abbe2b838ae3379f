//! Errors as RFC 9457 problems: a closed set of codes, each with a fixed status and title, and
//! pointers to the fields at fault. The chain of causes goes to the log under the trace id that
//! the answer carries.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use shared::domain::ids::{EventId, TraceId};
use shared::source;

use crate::guard::limits::Exceeded;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $status:ident, $title:literal;)+) => {
        /// Why a request is refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Code { $($(#[$doc])* $variant,)+ }

        impl Code {
            /// Every code.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The stable text.
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The HTTP status.
            pub(crate) const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)+ }
            }

            /// A title fit for strangers.
            pub(crate) const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)+ }
            }
        }
    };
}

codes! {
    /// The body is no JSON.
    MalformedJson = "malformed_json", BAD_REQUEST, "The body is not valid JSON";
    /// The JSON is no event.
    InvalidEvent = "invalid_event", UNPROCESSABLE_ENTITY, "The event is not valid";
    /// The event names a tenant that Posto does not know.
    UnknownTenant = "unknown_tenant", UNPROCESSABLE_ENTITY, "The tenant is unknown";
    /// The key was used for another body.
    IdempotencyKeyReused = "idempotency_key_reused", UNPROCESSABLE_ENTITY, "The idempotency key was used for another event";
    /// Too many events in one request.
    BatchTooLarge = "batch_too_large", UNPROCESSABLE_ENTITY, "The batch is too large";
    /// The content type is none that is read.
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "The content type is not supported";
    /// The body is too large.
    BodyTooLarge = "body_too_large", PAYLOAD_TOO_LARGE, "The body is too large";
    /// The body came too slowly.
    BodyTooSlow = "body_too_slow", REQUEST_TIMEOUT, "The body took too long";
    /// No credential, or a wrong one.
    Unauthenticated = "unauthenticated", UNAUTHORIZED, "A valid credential is needed";
    /// The credential is not the source's.
    SourceForbidden = "source_forbidden", FORBIDDEN, "The credential may not speak for this source";
    /// The credential is not the tenant's.
    TenantForbidden = "tenant_forbidden", FORBIDDEN, "The credential may not speak for this tenant";
    /// The credential is not the event type's.
    EventTypeForbidden = "event_type_forbidden", FORBIDDEN, "The credential may not speak of this type of event";
    /// The source may not speak from there.
    AddressForbidden = "address_forbidden", FORBIDDEN, "The source may not speak from this address";
    /// A limit is met.
    RateLimited = "rate_limited", TOO_MANY_REQUESTS, "Request cannot be satisfied as assigned quota has been exceeded";
    /// The address failed to authenticate too often.
    AddressShutOut = "address_shut_out", TOO_MANY_REQUESTS, "The address is shut out for a time";
    /// A header says something that cannot be read.
    InvalidHeader = "invalid_header", BAD_REQUEST, "A header is not valid";
    /// The address asks for something that cannot be read.
    InvalidQuery = "invalid_query", BAD_REQUEST, "The query is not valid";
    /// The JSON is no order that can be carried out.
    InvalidOrder = "invalid_order", UNPROCESSABLE_ENTITY, "The order is not valid";
    /// The filter matches another number of letters than the operator counted.
    CountDiffers = "count_differs", CONFLICT, "The count is another one now";
    /// The delivery's outcome is known.
    NotUnknown = "not_unknown", CONFLICT, "The outcome of the delivery is known";
    /// The key cannot be rotated as it stands.
    KeyNotRotatable = "key_not_rotatable", CONFLICT, "The key cannot be rotated";
    /// Nothing there, or not the caller's.
    NotFound = "not_found", NOT_FOUND, "Not found";
    /// The method does not fit the address.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "The method is not allowed";
    /// The module is PixelHub's to serve, and it is not known where that is.
    ModuleOff = "module_off", SERVICE_UNAVAILABLE, "The module is switched off";
    /// The module is PixelHub's to serve, and that gave no answer.
    PixelhubUnavailable = "pixelhub_unavailable", BAD_GATEWAY, "PixelHub gave no answer";
    /// The database is not available.
    Unavailable = "unavailable", SERVICE_UNAVAILABLE, "Temporarily not available";
    /// A fault of ours.
    Internal = "internal", INTERNAL_SERVER_ERROR, "Internal error";
}

/// What a URI fragment must not hold as it is (RFC 3986 §3.5, RFC 6901 §6).
const NOT_IN_FRAGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'`')
    .add(b'#')
    .add(b'%')
    .add(b'^')
    .add(b'{')
    .add(b'|')
    .add(b'}')
    .add(b'\\');

/// A field at fault.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct FieldError {
    /// What is wrong.
    pub(crate) code: String,
    /// Where, as the fragment form of a JSON pointer (RFC 9457 §3).
    pub(crate) pointer: String,
    /// For the caller.
    pub(crate) detail: String,
}

impl FieldError {
    /// A field at fault; `pointer` in the plain form of RFC 6901.
    pub(crate) fn new(code: impl Into<String>, pointer: &str, detail: impl Into<String>) -> Self {
        let pointer = utf8_percent_encode(pointer, NOT_IN_FRAGMENT);
        Self {
            code: code.into(),
            pointer: format!("#{pointer}"),
            detail: detail.into(),
        }
    }
}

/// A refusal, on its way to the caller.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) code: Code,
    pub(crate) detail: String,
    pub(crate) errors: Vec<FieldError>,
    pub(crate) trace_id: Option<TraceId>,
    /// The limit that was met.
    pub(crate) exceeded: Option<Box<Exceeded>>,
    /// When the caller may come again, in seconds.
    pub(crate) retry_after: Option<u64>,
    /// The event that has the key.
    pub(crate) existing_event_id: Option<EventId>,
}

/// The type of a problem about quotas (draft-ietf-httpapi-ratelimit-headers).
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";

/// What is wrong, as `application/problem+json` (RFC 9457).
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub(crate) struct ProblemBody<'a> {
    /// `urn:posto:problem:` and the code; of `rate_limited` the type of the RateLimit draft.
    r#type: String,
    /// The same for every problem of the code.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What is wrong; the set is closed.
    #[schemars(schema_with = "Code::schema")]
    code: &'static str,
    /// What is wrong with this request.
    detail: &'a str,
    /// The fields at fault.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
    /// The trace under which the refusal was kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a TraceId>,
    /// The limit that was met.
    #[serde(rename = "violated-policies", skip_serializing_if = "Option::is_none")]
    violated_policies: Option<[&'static str; 1]>,
    /// Beside the header, for the items of a batch have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_seconds: Option<u64>,
    /// The event that has the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    existing_event_id: Option<EventId>,
}

impl Code {
    fn schema(_: &mut SchemaGenerator) -> Schema {
        let texts: Vec<&str> = Self::ALL.iter().map(|code| code.as_str()).collect();
        json_schema!({"type": "string", "enum": texts})
    }
}

impl Problem {
    /// A problem without fields.
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            trace_id: None,
            exceeded: None,
            retry_after: None,
            existing_event_id: None,
        }
    }

    /// A limit was met.
    pub(crate) fn of_limit(exceeded: Exceeded) -> Self {
        let (policy, seconds) = (exceeded.policy, exceeded.retry_after);
        let detail = format!("the limit `{policy}` is used up; come again in {seconds} s");
        Self {
            exceeded: Some(Box::new(exceeded)),
            ..Self::new(Code::RateLimited, detail).with_retry_after(seconds)
        }
    }

    /// With when the caller may come again.
    pub(crate) fn with_retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// A problem with the fields that a source found wrong.
    pub(crate) fn of_fields(code: Code, problems: Vec<source::Problem>) -> Self {
        let detail = problems
            .first()
            .map_or_else(String::new, |problem| problem.detail.clone());
        let errors = problems
            .into_iter()
            .map(|problem| FieldError::new(problem.code.as_str(), &problem.pointer, problem.detail))
            .collect();
        Self::new(code, detail).with_errors(errors)
    }

    /// With its pointers led from the whole body of a batch to this item of it.
    pub(crate) fn within_item(mut self, index: usize) -> Self {
        for error in &mut self.errors {
            error.pointer = format!("#/{index}{}", error.pointer.trim_start_matches('#'));
        }
        self
    }

    /// With the fields at fault.
    pub(crate) fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self
    }

    /// With the trace under which it was logged.
    pub(crate) fn with_trace(mut self, trace_id: &TraceId) -> Self {
        self.trace_id = Some(trace_id.clone());
        self
    }

    /// What the caller reads.
    pub(crate) fn body(&self) -> ProblemBody<'_> {
        ProblemBody {
            r#type: match self.code {
                Code::RateLimited => QUOTA_EXCEEDED.to_owned(),
                code => format!("urn:posto:problem:{}", code.as_str()),
            },
            title: self.code.title(),
            status: self.code.status().as_u16(),
            code: self.code.as_str(),
            detail: &self.detail,
            errors: &self.errors,
            trace_id: self.trace_id.as_ref(),
            violated_policies: self.exceeded.as_ref().map(|exceeded| [exceeded.policy]),
            retry_after_seconds: self.retry_after,
            existing_event_id: self.existing_event_id,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self.body()).unwrap_or_default();
        let mut response = (self.code.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        match self.code {
            Code::Unauthenticated => {
                headers.insert(
                    header::WWW_AUTHENTICATE,
                    HeaderValue::from_static("Bearer realm=\"posto\""),
                );
            }
            Code::Unavailable => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
            }
            _ => {}
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(exceeded) = self.exceeded {
            for (name, value) in [
                ("ratelimit-policy", exceeded.policy_field()),
                ("ratelimit", exceeded.field()),
            ] {
                if let Ok(value) = HeaderValue::from_str(&value) {
                    headers.insert(name, value);
                }
            }
        }
        response
    }
}
