//! The public listener, route by route.

use axum::extract::{Request, State};
use serde_json::json;
use shared::source::{self, Door};

use super::answers::{Answered, Success};
use super::bodies::{self, CloudEvent, CloudEvents, Foreign, PostedJson};
use super::doors::Stored;
use super::problem::Code;
use super::webhooks::WebhookAnswer;
use super::{ApiState, asaas, doors, events, webhooks};
use crate::openapi::{Api, Body, Operation, Parameter, Security, get, post};
use crate::pixelhub;
use crate::story::OneEvent;

const ABOUT: &str = "The one door in. Whatever is answered 2xx is stored and will not be lost. \
Everything else is `application/problem+json` (RFC 9457) with a closed set of `code`s; an address that is not here is 404 `not_found`, a method that is not here 405 `method_not_allowed`. \
A key belongs to one source (`ingest admin keys create`).";

/// What the doors of providers may answer instead.
const DOOR_PROBLEMS: &[Code] = &[
    Code::MalformedJson,
    Code::Unauthenticated,
    Code::BodyTooSlow,
    Code::BodyTooLarge,
    Code::Internal,
    Code::Unavailable,
];

/// The routes with what is said of them.
pub(super) fn api() -> Api<ApiState> {
    let mut api = Api::new("Posto", ABOUT)
        .route("/api/events", [post_events()])
        .route("/api/events/{id}", [get_event()])
        .route(
            "/api/whatsapp/webhook",
            [gateway_probe("probeGateway"), gateway()],
        )
        .route(
            "/webhook/whatsapp/delivery-status",
            [gateway_probe("probeDeliveryStatus"), delivery_status()],
        )
        .route("/webhook/asaas", [asaas_probe(), asaas()]);
    api = pixelhub::describe(api);
    for (source, door) in source::doors() {
        let receive = move |State(state): State<ApiState>, request: Request| {
            doors::receive(state, source, door, request)
        };
        let name = source.name();
        let posted = post(format!("post_{name}"), door.about, receive)
            .tag("providers")
            .about("A repeat is known by the natural key of what it brings. The door is shut until the source has a key (`ingest admin keys create`) that is bound to no tenant and no type.")
            .secured(&[Security::SourceKey, Security::EventSecret])
            .body(Body::json::<Foreign>())
            .answer::<Stored>(200, "It is stored, or was before.")
            .problems(&[
                Code::MalformedJson,
                Code::InvalidEvent,
                Code::Unauthenticated,
                Code::BodyTooSlow,
                Code::BodyTooLarge,
                Code::Internal,
                Code::Unavailable,
            ]);
        api = api.route(
            &Door::path(source),
            [probe(format!("probe_{name}")), posted],
        );
    }
    api
}

fn post_events() -> Operation<ApiState> {
    let key = json!({"type": "string", "minLength": 1, "maxLength": 255});
    let plain = || json!({"type": "string", "minLength": 1});
    post("postEvents", "Brings an event, or a list of them", events::post)
        .tag("events")
        .about("One event is one JSON object; an array has a result per item, and a bad item harms no other. The same key with the same body is the same event (`duplicate`). CloudEvents 1.0 are read in the structured mode and as batches by their content type, and in the binary mode where the `ce-` headers stand beside `application/json`; with a `webhook-id` the form that Standard Webhooks proposes is read too.")
        .secured(&[Security::SourceKey, Security::EventSecret, Security::Signature])
        .parameters([
            Parameter::header("Idempotency-Key", "The key of the event; it comes before the event's own. Quoted (RFC 9651) or bare. Over a batch each item has `{key}/{index}`.", key),
            Parameter::header("traceparent", "W3C Trace Context: the trace to join. A bad one is ignored.", plain())
                .example("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            Parameter::header("ce-specversion", "Says that it is a CloudEvent in the binary mode.", json!({"const": "1.0"})),
            Parameter::header("ce-id", "CloudEvents: with `ce-source` the key of the event.", plain()),
            Parameter::header("ce-source", "CloudEvents: whose event it is.", plain()),
            Parameter::header("ce-type", "CloudEvents: what happened.", plain()),
        ])
        .body(
            Body::json::<PostedJson>()
                .example("one", bodies::overdue())
                .example("several", json!([bodies::overdue()]))
                .or::<CloudEvent>("application/cloudevents+json")
                .example("one", bodies::overdue_cloud_event())
                .or::<CloudEvents>("application/cloudevents-batch+json")
                .example("several", json!([bodies::overdue_cloud_event()])),
        )
        .answer::<Answered<'static>>(202, "Stored. One event: the event. Several: a result for each, in order.")
        .header("Location", "Where the event is told of; of one event.")
        .leads_to("getEvent", "id", "/event_id")
        .problems(&[
            Code::MalformedJson,
            Code::InvalidHeader,
            Code::Unauthenticated,
            Code::SourceForbidden,
            Code::TenantForbidden,
            Code::EventTypeForbidden,
            Code::AddressForbidden,
            Code::BodyTooSlow,
            Code::BodyTooLarge,
            Code::UnsupportedMediaType,
            Code::InvalidEvent,
            Code::UnknownTenant,
            Code::IdempotencyKeyReused,
            Code::BatchTooLarge,
            Code::RateLimited,
            Code::AddressShutOut,
            Code::Internal,
            Code::Unavailable,
        ])
}

fn get_event() -> Operation<ApiState> {
    let id = json!({"type": "string", "format": "uuid"});
    get("getEvent", "Tells an event and what came of it", events::get)
        .tag("events")
        .about("To a key of the same source, personal data masked. A key that is bound to tenants sees theirs; everything else is 404.")
        .secured(&[Security::SourceKey, Security::EventSecret])
        .parameters([Parameter::path("id", "The event's id.", id)])
        .answer::<OneEvent>(200, "The event with its routings, deliveries, attempts and receipts.")
        .problems(&[
            Code::Unauthenticated,
            Code::AddressForbidden,
            Code::NotFound,
            Code::RateLimited,
            Code::AddressShutOut,
            Code::Unavailable,
        ])
}

fn probe(id: impl Into<String>) -> Operation<ApiState> {
    get(id, "Tells that the address is there", webhooks::probe)
        .tag("providers")
        .answer::<Success>(200, "It is.")
}

fn gateway_probe(id: &'static str) -> Operation<ApiState> {
    probe(id).tag("gateway")
}

fn asaas_probe() -> Operation<ApiState> {
    probe("probeAsaas").tag("asaas")
}

fn gateway() -> Operation<ApiState> {
    post(
        "postGateway",
        "The WPP Gateway's messages, echoes, acks and sessions",
        webhooks::whatsapp,
    )
    .tag("gateway")
    .about("Stored before it is answered. What is noise is answered `EVENT_SKIPPED` and counted.")
    .secured(&[Security::GatewaySecret, Security::WebhookSecret])
    .body(Body::json::<Foreign>())
    .answer::<WebhookAnswer>(200, "It is stored, was before, or is noise.")
    .problems(DOOR_PROBLEMS)
}

fn delivery_status() -> Operation<ApiState> {
    post(
        "postDeliveryStatus",
        "Receipts alone",
        webhooks::delivery_status,
    )
    .tag("gateway")
    .about("As the gateway's other address; what is no receipt is answered and not stored.")
    .secured(&[Security::GatewaySecret, Security::WebhookSecret])
    .body(Body::json::<Foreign>())
    .answer::<WebhookAnswer>(200, "It is stored, was before, or is no receipt.")
    .problems(DOOR_PROBLEMS)
}

fn asaas() -> Operation<ApiState> {
    post("postAsaas", "What Asaas tells of its books", asaas::post)
        .tag("asaas")
        .about("Three answers and no other: fifteen in a row that are not 200 stop Asaas's queue.")
        .secured(&[Security::AsaasToken, Security::XAsaasToken])
        .body(Body::json::<Foreign>())
        .answer::<Success>(200, "It is stored, whatever it is.")
        .problems(&[Code::Unauthenticated, Code::Unavailable])
}
