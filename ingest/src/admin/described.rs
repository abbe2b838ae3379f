//! The operators' listener, route by route.

use serde_json::{Value, json};

use super::answers::{
    Blocks, Channels, KeyPage, LetterGroups, LetterPage, Lifted, MadeKey, Networks,
};
use super::answers::{DeliveryPage, Modules, OneKey, OrderReport, Settled, Sources};
use super::ledger::LookBody;
use super::orders::{
    self, CreateKey, Discard, LiftBlock, Redrive, RevokeKey, RotateKey, SetModule, SetNetworks,
    Settle,
};
use super::{AdminState, dead_letters, deliveries, doors, keys, ledger, modules};
use crate::api::problem::Code;
use crate::modules::Switched;
use crate::openapi::{Api, Body, Operation, Parameter, Security, get, post, put};
use crate::story::{OneEvent, Trace};

const ABOUT: &str = "What operators ask and order. Personal data is masked unless a question asks to reveal it, which is kept; what is done by hand leaves a line in the audit log. \
Everything that is no 2xx is `application/problem+json` (RFC 9457) with a closed set of `code`s. A field that nobody reads is refused: a filter with a typing error must never mean all.";

const ADMIN: &[Security] = &[Security::AdminToken];
/// A question without anything that could be wrong.
const ASKED: &[Code] = &[Code::Unauthenticated, Code::Unavailable];
/// A question with a filter.
const FILTERED: &[Code] = &[Code::InvalidQuery, Code::Unauthenticated, Code::Unavailable];
/// A question about one thing.
const ABOUT_ONE: &[Code] = &[Code::Unauthenticated, Code::NotFound, Code::Unavailable];
/// An order about one thing.
const ORDERED_OF_ONE: &[Code] = &[
    Code::MalformedJson,
    Code::Unauthenticated,
    Code::NotFound,
    Code::BodyTooSlow,
    Code::BodyTooLarge,
    Code::InvalidOrder,
    Code::Unavailable,
];

fn uuid() -> Value {
    json!({"type": "string", "format": "uuid"})
}

fn number() -> Value {
    json!({"type": "integer", "format": "int64", "minimum": i64::MIN, "maximum": i64::MAX})
}

fn text() -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": super::fields::LONGEST_TEXT})
}

fn time() -> Value {
    json!({"type": "string", "format": "date-time"})
}

/// How much of a list, and from where on.
fn page(after: Value) -> [Parameter; 2] {
    let limit = json!({"type": "integer", "minimum": 1, "maximum": 500});
    [
        Parameter::query("after", "`next` of the page before.", after),
        Parameter::query("limit", "The most lines of the page.", limit),
    ]
}

fn filter() -> [Parameter; 9] {
    [
        Parameter::query(
            "state",
            "`dead`, unless another is named.",
            json!({"enum": orders::letter_states()}),
        ),
        Parameter::query("failure_code", "Why they died.", text()),
        Parameter::query(
            "channel",
            "The channel.",
            json!({"enum": orders::channels()}),
        ),
        Parameter::query("template", "The template.", text()),
        Parameter::query("event_type", "The event's type.", text()),
        Parameter::query("tenant_id", "The tenant.", number()),
        Parameter::query(
            "queue",
            "The work queue.",
            json!({"enum": orders::queues()}),
        ),
        Parameter::query("since", "Given up at this time or later.", time()),
        Parameter::query("until", "Given up before this time.", time()),
    ]
}

fn key_id() -> Parameter {
    Parameter::path("id", "The key's number.", number())
}

/// Who gives an order, where the order itself does not say.
fn by() -> Parameter {
    Parameter::header(
        "X-Actor",
        "Who gives the order, unless `actor` says so.",
        json!({"type": "string", "minLength": 1}),
    )
}

/// The routes with what is said of them.
pub(super) fn api() -> Api<AdminState> {
    Api::new("Posto · operators", ABOUT)
        .route("/admin/traces/{trace_id}", [trace()])
        .route("/admin/events/{id}", [event()])
        .route(
            "/admin/channels",
            [get(
                "listChannels",
                "The sending accounts and how their sessions stand",
                super::channels,
            )
            .tag("channels")
            .secured(ADMIN)
            .answer::<Channels>(200, "The accounts.")
            .problems(ASKED)],
        )
        .route("/admin/dead-letters", [letters()])
        .route("/admin/dead-letters/groups", [groups()])
        .route("/admin/dead-letters/redrive", [redrive()])
        .route("/admin/dead-letters/discard", [discard()])
        .route("/admin/deliveries", [delivery_list()])
        .route("/admin/deliveries/{id}/settle", [settle()])
        .route("/admin/keys", [key_list(), create_key()])
        .route("/admin/keys/{id}/rotate", [rotate_key()])
        .route("/admin/keys/{id}/revoke", [revoke_key()])
        .route(
            "/admin/sources",
            [get(
                "listSources",
                "Who may post, and from where",
                doors::list_sources,
            )
            .tag("sources")
            .secured(ADMIN)
            .answer::<Sources>(200, "The sources.")
            .problems(ASKED)],
        )
        .route("/admin/sources/{name}/networks", [set_networks()])
        .route(
            "/admin/ip-blocks",
            [get(
                "listBlocks",
                "The addresses that were shut out",
                doors::list_blocks,
            )
            .tag("sources")
            .secured(ADMIN)
            .answer::<Blocks>(200, "Those of the last 30 days, those that end last first.")
            .problems(ASKED)],
        )
        .route("/admin/ip-blocks/lift", [lift_block()])
        .route("/admin/modules", [module_list()])
        .route("/admin/modules/{module}", [set_module()])
        .route(
            "/admin/ledger",
            [get(
                "getLedger",
                "Where everything stands, and what contradicts itself",
                ledger::ledger,
            )
            .tag("ledger")
            .secured(ADMIN)
            .answer::<LookBody>(200, "What a look saw.")
            .problems(ASKED)],
        )
}

fn trace() -> Operation<AdminState> {
    let id = json!({"type": "string", "pattern": "^([0-9a-fA-F]{32}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})$"});
    get("getTrace", "Everything of a trace", super::trace)
        .tag("events")
        .secured(ADMIN)
        .parameters([
            Parameter::path(
                "trace_id",
                "The trace: 32 hexadecimal digits, or a UUID.",
                id,
            ),
            Parameter::query(
                "reveal",
                "Show personal data; a line on the trace tells of it.",
                json!({"type": "boolean"}),
            ),
        ])
        .answer::<Trace>(
            200,
            "Events, decisions, deliveries, receipts, messages, lines, letters and the timeline.",
        )
        .problems(&[
            Code::InvalidQuery,
            Code::Unauthenticated,
            Code::NotFound,
            Code::Unavailable,
        ])
}

fn event() -> Operation<AdminState> {
    get("getEvent", "An event and what came of it", super::event)
        .tag("events")
        .secured(ADMIN)
        .parameters([Parameter::path("id", "The event's id.", uuid())])
        .answer::<OneEvent>(200, "The event, masked.")
        .problems(ABOUT_ONE)
}

fn letters() -> Operation<AdminState> {
    get(
        "listDeadLetters",
        "What was given up, letter by letter",
        dead_letters::list,
    )
    .tag("dead letters")
    .secured(ADMIN)
    .parameters(filter())
    .parameters(page(uuid()))
    .answer::<LetterPage>(200, "A page of them.")
    .leads_to("getTrace", "trace_id", "/dead_letters/0/trace_id")
    .problems(FILTERED)
}

fn groups() -> Operation<AdminState> {
    get(
        "groupDeadLetters",
        "What was given up, counted by what it died of",
        dead_letters::groups,
    )
    .tag("dead letters")
    .secured(ADMIN)
    .parameters(filter())
    .answer::<LetterGroups>(200, "The groups, the largest first.")
    .problems(FILTERED)
}

fn redrive() -> Operation<AdminState> {
    post(
        "redriveDeadLetters",
        "Sets letters going again",
        dead_letters::redrive,
    )
    .tag("dead letters")
    .secured(ADMIN)
    .parameters([by()])
    .body(Body::json::<Redrive>().example(
        "dry run",
        json!({"filter": {"failure_code": "provider_unavailable"}, "dry_run": true}),
    ))
    .answer::<OrderReport>(200, "What was done, and what was not and why.")
    .answer::<OrderReport>(
        503,
        "The database went away meanwhile; what was done is done, and told.",
    )
    .problems(LETTERS)
}

fn discard() -> Operation<AdminState> {
    post(
        "discardDeadLetters",
        "Discards letters",
        dead_letters::discard,
    )
    .tag("dead letters")
    .secured(ADMIN)
    .parameters([by()])
    .body(Body::json::<Discard>().example("dry run", json!({"filter": {}, "dry_run": true})))
    .answer::<OrderReport>(200, "What was done, and what was not and why.")
    .answer::<OrderReport>(
        503,
        "The database went away meanwhile; what was done is done, and told.",
    )
    .problems(LETTERS)
}

/// An order about letters.
const LETTERS: &[Code] = &[
    Code::MalformedJson,
    Code::Unauthenticated,
    Code::BodyTooSlow,
    Code::CountDiffers,
    Code::BodyTooLarge,
    Code::InvalidOrder,
    Code::Internal,
    Code::Unavailable,
];

fn delivery_list() -> Operation<AdminState> {
    let states = json!({"enum": deliveries::LISTED});
    get(
        "listDeliveries",
        "Deliveries that wait for a person",
        deliveries::list,
    )
    .tag("deliveries")
    .secured(ADMIN)
    .parameters([Parameter::query(
        "state",
        "`unknown`, unless another is named.",
        states,
    )])
    .parameters(page(uuid()))
    .answer::<DeliveryPage>(200, "A page of them, recipients masked.")
    .leads_to("settleDelivery", "id", "/deliveries/0/delivery_id")
    .leads_to("getEvent", "id", "/deliveries/0/event_id")
    .problems(FILTERED)
}

fn settle() -> Operation<AdminState> {
    post(
        "settleDelivery",
        "Says what became of a delivery",
        deliveries::settle,
    )
    .tag("deliveries")
    .secured(ADMIN)
    .parameters([Parameter::path("id", "The delivery's id.", uuid()), by()])
    .body(Body::json::<Settle>().example(
        "delivered",
        json!({"outcome": "delivered", "reason": "the customer answered it"}),
    ))
    .answer::<Settled>(200, "It is settled.")
    .problems(&[
        Code::MalformedJson,
        Code::Unauthenticated,
        Code::NotFound,
        Code::BodyTooSlow,
        Code::NotUnknown,
        Code::BodyTooLarge,
        Code::InvalidOrder,
        Code::Unavailable,
    ])
}

fn key_list() -> Operation<AdminState> {
    get(
        "listKeys",
        "The keys of sources, never a secret",
        keys::list,
    )
    .tag("keys")
    .secured(ADMIN)
    .parameters([Parameter::query(
        "source",
        "Only those of this source.",
        text(),
    )])
    .parameters(page(number()))
    .answer::<KeyPage>(200, "A page of them.")
    .problems(FILTERED)
}

fn create_key() -> Operation<AdminState> {
    post("createKey", "Makes a key", keys::create)
        .tag("keys")
        .about("The answer is the only place where the secret is.")
        .secured(ADMIN)
        .parameters([by()])
        .body(Body::json::<CreateKey>().example(
            "bound",
            json!({"source": "billing", "label": "ERP", "event_types": ["billing.*"]}),
        ))
        .answer::<MadeKey>(201, "It is made.")
        .header(
            "Cache-Control",
            "`no-store`: nothing on the way may keep it.",
        )
        .leads_to("rotateKey", "id", "/key/id")
        .leads_to("revokeKey", "id", "/key/id")
        .problems(&[
            Code::MalformedJson,
            Code::Unauthenticated,
            Code::BodyTooSlow,
            Code::BodyTooLarge,
            Code::InvalidOrder,
            Code::Internal,
            Code::Unavailable,
        ])
}

fn rotate_key() -> Operation<AdminState> {
    post("rotateKey", "Makes the successor of a key", keys::rotate)
        .tag("keys")
        .secured(ADMIN)
        .parameters([key_id(), by()])
        .body(Body::json::<RotateKey>().example("a day", json!({"overlap_seconds": 86_400})))
        .answer::<MadeKey>(201, "It is made; the old one ends after the overlap.")
        .header(
            "Cache-Control",
            "`no-store`: nothing on the way may keep it.",
        )
        .leads_to("rotateKey", "id", "/key/id")
        .leads_to("revokeKey", "id", "/key/id")
        .problems(&[
            Code::MalformedJson,
            Code::Unauthenticated,
            Code::NotFound,
            Code::BodyTooSlow,
            Code::KeyNotRotatable,
            Code::BodyTooLarge,
            Code::InvalidOrder,
            Code::Internal,
            Code::Unavailable,
        ])
}

fn revoke_key() -> Operation<AdminState> {
    post("revokeKey", "Ends a key at once and for good", keys::revoke)
        .tag("keys")
        .secured(ADMIN)
        .parameters([key_id(), by()])
        .body(Body::json::<RevokeKey>().example("leaked", json!({"reason": "leaked"})))
        .answer::<OneKey>(200, "It is ended, or was before.")
        .problems(&[
            Code::MalformedJson,
            Code::Unauthenticated,
            Code::NotFound,
            Code::BodyTooSlow,
            Code::KeyNotRotatable,
            Code::BodyTooLarge,
            Code::InvalidOrder,
            Code::Internal,
            Code::Unavailable,
        ])
}

fn set_networks() -> Operation<AdminState> {
    post(
        "setNetworks",
        "Says from where a source may speak",
        doors::set_networks,
    )
    .tag("sources")
    .secured(ADMIN)
    .parameters([
        Parameter::path("name", "The source.", text()).example("asaas"),
        by(),
    ])
    .body(Body::json::<SetNetworks>().example("Asaas", json!({"preset": "asaas"})))
    .answer::<Networks>(200, "It is set.")
    .problems(ORDERED_OF_ONE)
}

fn lift_block() -> Operation<AdminState> {
    post("liftBlock", "Lets an address in again", doors::lift_block)
        .tag("sources")
        .secured(ADMIN)
        .parameters([by()])
        .body(Body::json::<LiftBlock>().example("one", json!({"address": "203.0.113.9"})))
        .answer::<Lifted>(200, "It is let in.")
        .problems(ORDERED_OF_ONE)
}

fn module_list() -> Operation<AdminState> {
    get(
        "listModules",
        "Who serves PixelHub's modules",
        modules::list,
    )
    .tag("modules")
    .secured(ADMIN)
    .answer::<Modules>(200, "The modules and their switches.")
    .problems(ASKED)
}

fn set_module() -> Operation<AdminState> {
    let module = json!({"enum": modules::names()});
    put("setModule", "Says who serves a module", modules::set)
        .tag("modules")
        .about("Every process follows within moments.")
        .secured(ADMIN)
        .parameters([Parameter::path("module", "The module.", module), by()])
        .body(
            Body::json::<SetModule>()
                .example("one tenant", json!({"mode": "shadow", "tenant_id": 1})),
        )
        .answer::<Switched>(200, "How it stood, and how it stands.")
        .problems(ORDERED_OF_ONE)
}
