//! `ingest admin keys` and `ingest admin sources`: what the command line asks of [`crate::keys`] and
//! [`crate::networks`], and how it is shown. A secret goes to standard output, once, and nowhere else.

use std::fmt::Write as _;
use std::io::Read as _;
use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use secrecy::ExposeSecret as _;
use shared::domain::credential::{BearerKey, CredentialKind};
use shared::store::audit::Author;
use shared::store::credentials::{self, CredentialLine};
use shared::store::pool::{self, DatabaseArgs};
use shared::store::sources::{self, SourceLine};
use sqlx::PgPool;

use crate::cli::{KeyAuthor, KeyCommand, KeyScope, SourceCommand};
use crate::keys::{self, Made, Scope, Secret};
use crate::networks;

/// Lines that are read at once.
const PAGE: i64 = 500;

/// Carries out a command and answers what is to be shown.
///
/// # Errors
/// The order cannot be carried out, or the database cannot be used; nothing was changed.
pub(crate) async fn run(command: KeyCommand) -> anyhow::Result<String> {
    match command {
        KeyCommand::Create {
            scope,
            by,
            database,
        } => {
            let pool = open(&database)?;
            let mut conn = pool.acquire().await?;
            let kind = scope.kind;
            let made = keys::create(&mut conn, kind, &scope.into(), author(&by)).await?;
            Ok(told(&made))
        }
        KeyCommand::Put {
            scope,
            secret_stdin: _,
            by,
            database,
        } => {
            let secret = read_secret(scope.kind)?;
            let pool = open(&database)?;
            let mut conn = pool.acquire().await?;
            let line = keys::put(&mut conn, &secret, &scope.into(), author(&by)).await?;
            Ok(format!(
                "key {} is valid for source {}\n",
                line.id, line.source
            ))
        }
        KeyCommand::List { source, database } => list(&open(&database)?, source.as_deref()).await,
        KeyCommand::Rotate {
            id,
            overlap_hours,
            by,
            database,
        } => {
            let overlap = Duration::from_secs(overlap_hours * 3600);
            let pool = open(&database)?;
            let mut conn = pool.acquire().await?;
            let made = keys::rotate(&mut conn, id, overlap, author(&by)).await?;
            Ok(told(&made))
        }
        KeyCommand::Revoke { id, by, database } => {
            let pool = open(&database)?;
            let mut conn = pool.acquire().await?;
            let line = keys::revoke(&mut conn, id, author(&by)).await?;
            Ok(format!(
                "key {} of source {} is revoked\n",
                line.id, line.source
            ))
        }
    }
}

/// Carries out a command about sources and answers what is to be shown.
///
/// # Errors
/// The order cannot be carried out, or the database cannot be used; nothing was changed.
pub(crate) async fn run_sources(command: SourceCommand) -> anyhow::Result<String> {
    match command {
        SourceCommand::List { database } => {
            let pool = open(&database)?;
            let all = sources::all(&mut *pool.acquire().await?).await?;
            let row = |source: &SourceLine| {
                let state = if source.enabled {
                    "enabled"
                } else {
                    "disabled"
                };
                let from = match source.networks.as_slice() {
                    [] => "everywhere".to_owned(),
                    networks => networks.join(","),
                };
                let (name, keys) = (&source.name, source.valid_keys);
                format!("{name:<20} {state}  keys={keys}  from={from}\n")
            };
            Ok(all.iter().map(row).collect())
        }
        SourceCommand::Networks {
            source,
            network,
            preset,
            any: _,
            by,
            database,
        } => {
            let ready = preset.as_deref().and_then(networks::preset);
            let wanted = ready.unwrap_or(network);
            let pool = open(&database)?;
            let mut conn = pool.acquire().await?;
            let kept = networks::set(&mut conn, &source, &wanted, author(&by)).await?;
            Ok(match kept.as_slice() {
                [] => format!("source {source} may speak from everywhere\n"),
                kept => format!("source {source} may speak from {}\n", kept.join(", ")),
            })
        }
    }
}

fn open(args: &DatabaseArgs) -> anyhow::Result<PgPool> {
    Ok(pool::open(args, pool::COMMAND_STATEMENT)?)
}

fn author(by: &KeyAuthor) -> Author<'_> {
    Author {
        actor: &by.actor,
        reason: by.reason.as_deref(),
    }
}

impl From<KeyScope> for Scope {
    fn from(scope: KeyScope) -> Self {
        Self {
            source: scope.source,
            label: scope.label,
            tenants: scope.tenant,
            event_types: scope.event_type,
            valid_until: scope.valid_until,
        }
    }
}

fn read_secret(kind: CredentialKind) -> anyhow::Result<Secret> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .context("cannot read the secret from standard input")?;
    Ok(match kind {
        CredentialKind::Bearer => Secret::Bearer(BearerKey::given(&text)?),
        CredentialKind::Hmac => Secret::Hmac(text.trim().parse()?),
    })
}

/// The key with its secret; who pipes it somewhere takes the last line.
fn told(made: &Made) -> String {
    let Made { line, secret } = made;
    let replaced = line.replaces.map_or_else(String::new, |old| {
        format!("; it takes the place of key {old}")
    });
    format!(
        "key {} ({}) is valid for source {}{replaced}. It is shown this once:\n{}\n",
        line.id,
        line.kind,
        line.source,
        secret.expose_secret()
    )
}

async fn list(pool: &PgPool, source: Option<&str>) -> anyhow::Result<String> {
    let mut conn = pool.acquire().await?;
    let mut text = String::new();
    let mut after = 0;
    loop {
        let page = credentials::page(&mut conn, source, after, PAGE).await?;
        for line in &page {
            text.push_str(&row(line));
        }
        match page.last() {
            Some(last) if i64::try_from(page.len()).is_ok_and(|count| count == PAGE) => {
                after = last.id;
            }
            _ => break,
        }
    }
    if text.is_empty() {
        text.push_str("there are no keys\n");
    }
    Ok(text)
}

fn row(line: &CredentialLine) -> String {
    let day = |at: DateTime<Utc>| at.format("%Y-%m-%dT%H:%MZ").to_string();
    let mut row = format!(
        "{:>5}  {:<7} {:<7} {}",
        line.id, line.state, line.kind, line.source
    );
    let mut tell = |what: &str, value: String| {
        if !value.is_empty() {
            let _ = write!(row, "  {what}={value}");
        }
    };
    tell("label", line.label.clone());
    tell("key", line.hint.clone());
    let tenants: Vec<_> = line.tenants.iter().map(i64::to_string).collect();
    tell("tenants", tenants.join(","));
    tell("types", line.event_types.join(","));
    tell("until", line.valid_until.map(day).unwrap_or_default());
    let used = line.last_used_at.map_or_else(|| "never".to_owned(), day);
    tell("last_used", used);
    let number = |id: Option<i64>| id.map(|id| id.to_string()).unwrap_or_default();
    tell("replaces", number(line.replaces));
    tell("replaced_by", number(line.replaced_by));
    row + "\n"
}
