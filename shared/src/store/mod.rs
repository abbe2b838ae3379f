//! All SQL of the product, one file per table or question.
//!
//! Invariants: functions take a connection and never open or commit a transaction (the use case
//! does, and says in which `scope`); columns are named, never `*`; every queue-like read skips what others hold. Hot paths
//! are set-based: one statement for a whole batch, its arrays sorted by their conflict key.

pub mod attempts;
pub mod audit;
pub mod chat;
pub mod chat_reading;
mod composite;
pub mod config;
pub mod credentials;
pub mod dead_letter_search;
pub mod dead_letters;
pub mod dead_queues;
pub mod deliveries;
pub mod dropped;
pub mod events;
pub mod history;
pub mod import;
pub mod invoices;
pub mod ip_blocks;
pub mod ledger;
pub mod logs;
pub mod media;
pub mod modules;
pub mod outbox;
mod plan_rows;
pub mod plans;
pub mod pool;
mod receipt_rows;
pub mod receipts;
pub mod reconcile;
pub mod redrive;
mod redrive_locks;
pub mod releases;
pub mod replans;
pub mod resealing;
pub mod retention;
pub mod scope;
pub mod sealed_counts;
pub mod sealing_keys;
pub mod service_orders;
pub mod sessions;
pub mod settle;
pub mod sources;
pub mod tenant_messages;
pub mod tenants;
mod trace_notes;
pub mod traces;
pub mod unresolved;

use crate::runtime::batcher::{BatchError, Fault};
use crate::sealing::OpenError;

/// A statement failed. The variant says what the caller should do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused the data (SQLSTATE 22, 23): the item is at fault.
    #[error("the database refused the data")]
    Data(#[source] sqlx::Error),
    /// Deadlock or serialisation failure: repeat the transaction.
    #[error("the transaction met another one")]
    Conflict(#[source] sqlx::Error),
    /// The database is unwell, or the schema is not the expected one: wait, blame nobody.
    #[error("the database is not available")]
    Unavailable(#[source] sqlx::Error),
}

impl StoreError {
    /// True when the same call may succeed later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        !matches!(self, Self::Data(_))
    }

    /// True when a lock was not to be had within `lock_timeout`: try again in a moment.
    #[must_use]
    pub fn is_lock_timeout(&self) -> bool {
        let (Self::Data(error) | Self::Conflict(error) | Self::Unavailable(error)) = self;
        let code = error
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code);
        code.as_deref() == Some("55P03")
    }
}

/// Classes of SQLSTATE that tell of a database that is unwell (design §2).
const UNWELL: [&str; 9] = ["08", "25", "28", "3D", "42", "53", "55", "57", "58"];

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let code = error
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code);
        match code.as_deref() {
            Some("40P01" | "40001") => Self::Conflict(error),
            // No partition for the event's week: nobody's data is at fault, ops have to make one.
            Some("23514") if error.to_string().contains("no partition of relation") => {
                Self::Unavailable(error)
            }
            // Connection, authorisation, resources, operator, system, and a schema that is not the
            // expected one: wait. Everything else is about the data of this very statement.
            Some(code) if UNWELL.iter().any(|class| code.starts_with(class)) => {
                Self::Unavailable(error)
            }
            Some(_) => Self::Data(error),
            None => match error {
                sqlx::Error::ColumnDecode { .. }
                | sqlx::Error::Decode(_)
                | sqlx::Error::Encode(_) => Self::Data(error),
                error => Self::Unavailable(error),
            },
        }
    }
}

/// A sealed value that does not open: for want of a key it waits, as for any dependency; a damaged one is
/// the item's own fault.
impl From<OpenError> for StoreError {
    fn from(error: OpenError) -> Self {
        if error.is_transient() {
            Self::Unavailable(sqlx::Error::Configuration(error.into()))
        } else {
            Self::Data(sqlx::Error::Decode(error.into()))
        }
    }
}

impl BatchError for StoreError {
    fn fault(&self) -> Fault {
        match self {
            Self::Data(_) => Fault::Data,
            Self::Conflict(_) => Fault::Conflict,
            Self::Unavailable(_) => Fault::Unavailable,
        }
    }
}

/// What a store function answers.
pub type StoreResult<T> = Result<T, StoreError>;
