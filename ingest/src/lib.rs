//! Ingest: the one door in. It authenticates, checks, stores and answers; publishing follows the
//! commit and never holds an answer back.
//!
//! The walk: `api` (HTTP in: `events`, `webhooks`) → `accept` (THE use case: key → event + outbox
//! row, in one statement) → the answer. Beside it: `admin` (second listener: traces for
//! operators), `pixelhub` (the addresses that PixelHub had, and who serves them: `modules`), `guard` (addresses, limits, shut-outs), `keys` and `networks`
//! (credentials, and from where they may speak), `commands` and `key_commands` (migrate,
//! import, keys), `gateway_webhook` (tells the gateway where to post), `housekeeping` and `retention`
//! (the weeks that come and those that may go), `resealing` (everything under the key that seals now),
//! `openapi` (routes and what is said of them), `routes` (what the listeners serve, as a list).
//!
//! Must not know: rules, templates, drivers. It consumes no work queue.

pub mod accept;
mod admin;
mod api;
pub mod app;
pub mod cli;
pub mod commands;
mod gateway_webhook;
pub mod guard;
mod housekeeping;
mod key_commands;
mod keys;
mod ledger;
mod ledger_metrics;
mod metrics;
mod module_commands;
mod modules;
mod networks;
mod openapi;
mod order_data;
mod pixelhub;
pub mod process;
mod redrive;
mod resealing;
pub mod retention;
pub mod routes;
mod story;
