//! What was given up: seen, redriven, discarded, moved about in the management UI, and settled by
//! hand. Each way leaves one message, its lineage and a line in the audit log.

mod api;
mod broker_letters;
mod headers;
mod management;
mod redrive;
mod replan;
mod settle;
mod shovel;
mod subjects;
mod support;
mod tidy;
