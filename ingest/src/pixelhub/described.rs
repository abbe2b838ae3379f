//! PixelHub's addresses, mounted and described.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::answers::{RefusedError, RefusedMessage, RefusedStranger};
use super::events::{LONGEST_NAME, LONGEST_TEXT};
use super::message::Written;
use super::messages::Messages;
use super::timeline::Timeline;
use super::{generic_log, message, messages, order, timeline};
use crate::api::ApiState;
use crate::api::answers::Success;
use crate::api::problem::Code;
use crate::openapi::{Api, Body, Operation, Parameter, Security, get, post};

/// PixelHub's server.
const SERVER: &[Security] = &[Security::SourceKey, Security::EventSecret];
/// Or whoever has the public link of a service order.
const GUEST: &[Security] = &[
    Security::OrderToken,
    Security::OrderLink,
    Security::SourceKey,
    Security::EventSecret,
];
const FORM: &str = "application/x-www-form-urlencoded";
/// Who answers, said of every address.
const MODULE: &str = "While its module is switched off, the request is passed on to PixelHub, and what is answered is PixelHub's, whatever that is.";

/// What a question may be answered instead, beside PixelHub's own words.
const ASKED: &[Code] = &[
    Code::AddressForbidden,
    Code::BodyTooSlow,
    Code::BodyTooLarge,
    Code::RateLimited,
    Code::AddressShutOut,
    Code::PixelhubUnavailable,
    Code::ModuleOff,
    Code::Unavailable,
];
/// What a request may be answered that becomes an event without a key of the caller's.
const OPENED: &[Code] = &[
    Code::AddressForbidden,
    Code::BodyTooSlow,
    Code::BodyTooLarge,
    Code::IdempotencyKeyReused,
    Code::RateLimited,
    Code::AddressShutOut,
    Code::Internal,
    Code::PixelhubUnavailable,
    Code::ModuleOff,
    Code::Unavailable,
];
/// What a message may be answered.
const WRITTEN: &[Code] = &[
    Code::InvalidHeader,
    Code::AddressForbidden,
    Code::BodyTooSlow,
    Code::BodyTooLarge,
    Code::UnsupportedMediaType,
    Code::IdempotencyKeyReused,
    Code::RateLimited,
    Code::AddressShutOut,
    Code::Internal,
    Code::PixelhubUnavailable,
    Code::ModuleOff,
    Code::Unavailable,
];

/// PixelHub's addresses with what is said of them.
pub(crate) fn describe(api: Api<ApiState>) -> Api<ApiState> {
    api.route("/tenants/whatsapp-generic-log", [log()])
        .route("/tenants/whatsapp-timeline-ajax", [told()])
        .route("/chat/order", [page()])
        .route("/chat/message", [write()])
        .route("/chat/messages", [read()])
}

fn log() -> Operation<ApiState> {
    let example = json!({"tenant_id": 1, "phone_raw": "(47) 99990-0011", "message": "Bom dia!", "template_id": 3});
    let operation = post(
        "logMessage",
        "Tells of a message that a person sent by hand",
        generic_log::post,
    )
    .about(format!(
        "It is seen among the tenant's messages; nothing is sent. {MODULE}"
    ))
    .parameters([key(), trace()])
    .body(
        Body::json::<Log>()
            .example("a message", example.clone())
            .or::<Log>(FORM)
            .example("a message", example),
    )
    .answer::<Success>(200, "It is stored, or was before.");
    of_tenants(operation).problems(WRITTEN)
}

fn told() -> Operation<ApiState> {
    let tenant = Parameter::query("tenant_id", "The tenant.", number());
    let operation = get(
        "getTimeline",
        "The last messages to a tenant",
        timeline::get,
    )
    .about(MODULE)
    .parameters([tenant.required().example(1), trace()])
    .answer::<Timeline>(200, "The ten newest, whoever sent them.");
    of_tenants(operation).problems(ASKED)
}

/// What PixelHub's words are at the addresses of tenants.
fn of_tenants(operation: Operation<ApiState>) -> Operation<ApiState> {
    stranger(operation.secured(SERVER))
        .answer::<RefusedMessage>(400, "A parameter is missing, or none that can be read.")
        .answer::<RefusedMessage>(404, "The tenant is not there, or not the caller's.")
}

fn page() -> Operation<ApiState> {
    let order = Parameter::query(
        "order_id",
        "The order, for PixelHub's server; whoever has a token needs none.",
        number(),
    );
    let operation = get(
        "getOrderChat",
        "The page of a service order's chat",
        order::get,
    )
    .about(format!("The first visit makes the chat. {MODULE}"))
    .secured(GUEST)
    .parameters([order.example(7), trace()])
    .answer_as::<str>(200, "The page.", "text/html")
    .header("Cache-Control", "`no-store`: its address holds the token.")
    .header("Referrer-Policy", "`no-referrer`, likewise.")
    .header("X-Content-Type-Options", "`nosniff`.")
    .header("X-Frame-Options", "`SAMEORIGIN`.")
    .header(
        "Content-Security-Policy",
        "The page's own script and style, and requests to where it came from.",
    )
    .answer_as::<str>(
        200,
        "There is no such order, or it is not the caller's.",
        "text/plain",
    );
    stranger(operation).problems(OPENED)
}

fn write() -> Operation<ApiState> {
    let example = json!({"thread_id": 1, "message": "Pode ser amanhã?"});
    let operation = post(
        "writeChatMessage",
        "A customer writes in the chat of a service order",
        message::post,
    )
    .about(format!(
        "A message without an `Idempotency-Key` is a message of its own. {MODULE}"
    ))
    .parameters([key(), trace()])
    .body(
        Body::json::<ChatMessage>()
            .example("a message", example.clone())
            .or::<ChatMessage>(FORM)
            .example("a message", example),
    )
    .answer::<Written>(200, "It is stored, or was before.");
    of_chats(operation).problems(WRITTEN)
}

fn read() -> Operation<ApiState> {
    let thread = Parameter::query("thread_id", "The chat.", number());
    let after = Parameter::query(
        "after",
        "Only messages with a number above this one.",
        number(),
    );
    let operation = get("getChatMessages", "The messages of a chat", messages::get)
        .about(format!(
            "The newest 500; to whoever has a token those of `user` and `assistant`. {MODULE}"
        ))
        .parameters([thread.required().example(1), after, trace()])
        .answer::<Messages>(200, "The messages, oldest first.")
        .header("Cache-Control", "`no-store`.");
    of_chats(operation).problems(ASKED)
}

/// What PixelHub's words are at the addresses of chats.
fn of_chats(operation: Operation<ApiState>) -> Operation<ApiState> {
    stranger(operation.secured(GUEST))
        .answer::<RefusedError>(400, "A parameter is missing, or none that can be read.")
        .answer::<RefusedError>(404, "The chat is not there, or not the caller's.")
}

/// What PixelHub's words are to those who may not.
fn stranger(operation: Operation<ApiState>) -> Operation<ApiState> {
    const NOT_INTERNAL: &str =
        "The credential is another source's, or is bound to other types of events.";
    operation
        .tag("pixelhub")
        .answer::<RefusedError>(401, "No credential, or a wrong one.")
        .header("WWW-Authenticate", "How to authenticate.")
        .answer::<RefusedStranger>(403, NOT_INTERNAL)
        .answer_as::<str>(403, "The same, to whoever reads no JSON.", "text/plain")
}

fn key() -> Parameter {
    let key = json!({"type": "string", "minLength": 1, "maxLength": 255});
    Parameter::header(
        "Idempotency-Key",
        "The key of the event. Quoted (RFC 9651) or bare.",
        key,
    )
}

fn trace() -> Parameter {
    Parameter::header(
        "traceparent",
        "W3C Trace Context: the trace to join. A bad one is ignored.",
        json!({"type": "string", "minLength": 1}),
    )
    .example("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
}

fn number() -> Value {
    json!({"type": "integer", "format": "int64", "minimum": 1, "maximum": i64::MAX})
}

/// A number of a body; a form writes it as text.
fn written_number(about: &str) -> Value {
    json!({
        "description": about,
        "anyOf": [number(), {"type": "string", "pattern": "^[0-9]{1,18}$"}],
    })
}

fn text(longest: usize, about: &str) -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": longest, "description": about})
}

/// A message that was sent by hand.
struct Log;

impl JsonSchema for Log {
    fn schema_name() -> Cow<'static, str> {
        "LoggedMessage".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A message that a person sent. What is not named here is ignored.",
            "type": "object",
            "required": ["tenant_id", "phone_raw", "message"],
            "properties": {
                "tenant_id": written_number("The tenant."),
                "phone_raw": {"type": ["string", "integer"], "minLength": 1, "description": "To whom it went; without a country it is Brazil."},
                "message": text(LONGEST_TEXT, "Its text."),
                "template_id": written_number("The template it was made of."),
                "template_name": text(LONGEST_NAME, "What that is called."),
            },
        })
    }
}

/// A message of a customer.
struct ChatMessage;

impl JsonSchema for ChatMessage {
    fn schema_name() -> Cow<'static, str> {
        "ChatMessage".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A message in a chat. What is not named here is ignored.",
            "type": "object",
            "required": ["thread_id", "message"],
            "properties": {
                "thread_id": written_number("The chat."),
                "message": text(LONGEST_TEXT, "The text."),
                "token": {"type": "string", "description": "The order's token, unless the address or `X-Order-Token` has it."},
            },
        })
    }
}
