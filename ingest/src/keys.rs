//! Credentials made, rotated and revoked, by the command line and by the admin API alike. Each
//! leaves its line in the audit log, in the same transaction. A secret is answered once, to
//! whoever asked for it to be made.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use shared::domain::credential::{BearerKey, CredentialKind, SigningSecret};
use shared::source;
use shared::store::audit::{self, Author, NewAudit};
use shared::store::credentials::{self, CredentialLine, NewCredential};
use shared::store::{StoreError, import, tenants};
use sqlx::{Connection as _, PgConnection};

/// How long the old one of two keys stays valid unless the order says otherwise.
pub(crate) const OVERLAP: Duration = Duration::from_secs(7 * 24 * 3600);
/// The longest that it may.
pub(crate) const LONGEST_OVERLAP: Duration = Duration::from_secs(90 * 24 * 3600);

/// A secret with what is kept of it.
#[derive(Debug)]
pub(crate) enum Secret {
    /// Shown by the caller.
    Bearer(BearerKey),
    /// Signed with.
    Hmac(SigningSecret),
}

impl Secret {
    /// A new secret, from the operating system's randomness.
    fn generate(kind: CredentialKind) -> Result<Self, KeyError> {
        let mut bits = [0; 32];
        OsRng
            .try_fill_bytes(&mut bits)
            .map_err(|_| KeyError::NoRandomness)?;
        match kind {
            CredentialKind::Bearer => Ok(Self::Bearer(BearerKey::from_random(bits))),
            CredentialKind::Hmac => SigningSecret::from_bytes(bits.to_vec())
                .map(Self::Hmac)
                .map_err(|_| KeyError::NoRandomness),
        }
    }

    /// As it is given to the source.
    pub(crate) fn written(&self) -> SecretString {
        match self {
            Self::Bearer(key) => key.written().clone(),
            Self::Hmac(secret) => secret.written(),
        }
    }
}

/// What a key is to be for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    pub(crate) source: String,
    pub(crate) label: String,
    pub(crate) tenants: Vec<i64>,
    pub(crate) event_types: Vec<String>,
    pub(crate) valid_until: Option<DateTime<Utc>>,
}

/// A key that was made, with its secret: shown now or never.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) line: CredentialLine,
    pub(crate) secret: SecretString,
}

/// An order about keys was not carried out; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// Make the source known first (`ingest admin import`).
    #[error("there is no source {0:?}")]
    UnknownSource(String),
    /// Import them first.
    #[error("there are no such tenants: {0:?}")]
    UnknownTenants(Vec<i64>),
    /// Look at the list.
    #[error("there is no key {0}")]
    NotFound(i64),
    /// Make a new one.
    #[error("key {0} is not valid any more")]
    NotValid(i64),
    /// Rotate the successor, or revoke it first.
    #[error("key {0} has been rotated already, its successor is key {1}")]
    Rotated(i64, i64),
    /// Two are valid at once, never three: wait, or revoke the older one first.
    #[error("key {0} took the place of key {1}, which is still valid")]
    PredecessorValid(i64, i64),
    /// The operating system gave no random bits: its failure, look at the machine.
    #[error("the operating system gives no randomness")]
    NoRandomness,
    /// The database is unwell.
    #[error("the database did not do it")]
    Store(#[from] StoreError),
    /// The transaction could not be begun or ended.
    #[error("the database did not do it")]
    Transaction(#[from] sqlx::Error),
}

/// Makes a key for a source.
pub(crate) async fn create(
    conn: &mut PgConnection,
    kind: CredentialKind,
    scope: &Scope,
    author: Author<'_>,
) -> Result<Made, KeyError> {
    let secret = Secret::generate(kind)?;
    let mut tx = conn.begin().await?;
    check(&mut tx, scope).await?;
    let (id, _) = keep(&mut tx, scope, &secret, None).await?;
    let made = told(&mut tx, id, &secret).await?;
    audit(&mut tx, author, "key_created", json!({}), &made.line).await?;
    tx.commit().await?;
    Ok(made)
}

/// Makes a secret that exists already valid for a source. Safe to repeat.
pub(crate) async fn put(
    conn: &mut PgConnection,
    secret: &Secret,
    scope: &Scope,
    author: Author<'_>,
) -> Result<CredentialLine, KeyError> {
    let mut tx = conn.begin().await?;
    check(&mut tx, scope).await?;
    let (id, new) = keep(&mut tx, scope, secret, None).await?;
    let made = told(&mut tx, id, secret).await?;
    let detail = json!({"again": !new});
    audit(&mut tx, author, "key_put", detail, &made.line).await?;
    tx.commit().await?;
    Ok(made.line)
}

/// Makes a successor with the same scope; the old key ends after the overlap.
pub(crate) async fn rotate(
    conn: &mut PgConnection,
    id: i64,
    overlap: Duration,
    author: Author<'_>,
) -> Result<Made, KeyError> {
    let mut tx = conn.begin().await?;
    let old = credentials::find_and_lock(&mut tx, id)
        .await?
        .ok_or(KeyError::NotFound(id))?;
    if !is_valid(&old) {
        return Err(KeyError::NotValid(id));
    }
    if let Some(successor) = old.replaced_by {
        return Err(KeyError::Rotated(id, successor));
    }
    if let Some(before) = old.replaces {
        let before = credentials::find_and_lock(&mut tx, before).await?;
        if let Some(before) = before.filter(is_valid) {
            return Err(KeyError::PredecessorValid(id, before.id));
        }
    }
    // The end of a key that was rotated before is that of its overlap, not one that was wanted.
    let valid_until = match credentials::end_of_last_successor(&mut tx, id).await? {
        Some(end) => end,
        None => old.valid_until,
    };
    let kind = old.kind.parse().unwrap_or(CredentialKind::Bearer);
    let secret = Secret::generate(kind)?;
    let scope = Scope {
        source: old.source.clone(),
        label: old.label.clone(),
        tenants: old.tenants.clone(),
        event_types: old.event_types.clone(),
        valid_until,
    };
    let (new, _) = keep(&mut tx, &scope, &secret, Some(id)).await?;
    let ends = credentials::end_within(&mut tx, id, overlap.as_secs_f64()).await?;
    let made = told(&mut tx, new, &secret).await?;
    let detail = json!({"replaces": id, "old_valid_until": ends});
    audit(&mut tx, author, "key_rotated", detail, &made.line).await?;
    tx.commit().await?;
    Ok(made)
}

/// Ends a key at once and for good. Revoking again changes nothing and leaves no line.
pub(crate) async fn revoke(
    conn: &mut PgConnection,
    id: i64,
    author: Author<'_>,
) -> Result<CredentialLine, KeyError> {
    let mut tx = conn.begin().await?;
    let line = credentials::find_and_lock(&mut tx, id)
        .await?
        .ok_or(KeyError::NotFound(id))?;
    if line.revoked_at.is_some() {
        return Ok(line);
    }
    credentials::revoke(&mut tx, id).await?;
    let line = credentials::find_and_lock(&mut tx, id)
        .await?
        .ok_or(KeyError::NotFound(id))?;
    audit(&mut tx, author, "key_revoked", json!({}), &line).await?;
    tx.commit().await?;
    Ok(line)
}

fn is_valid(line: &CredentialLine) -> bool {
    matches!(line.state.as_str(), "valid" | "ending")
}

/// A source of the registry is made known by its first key; another one was made known before.
async fn check(conn: &mut PgConnection, scope: &Scope) -> Result<(), KeyError> {
    if source::doors().any(|(source, _)| source.name() == scope.source) {
        import::source(conn, &scope.source).await?;
    }
    if !credentials::is_source(conn, &scope.source).await? {
        return Err(KeyError::UnknownSource(scope.source.clone()));
    }
    match tenants::unknown_of(conn, &scope.tenants).await? {
        unknown if unknown.is_empty() => Ok(()),
        unknown => Err(KeyError::UnknownTenants(unknown)),
    }
}

async fn keep(
    conn: &mut PgConnection,
    scope: &Scope,
    secret: &Secret,
    replaces: Option<i64>,
) -> Result<(i64, bool), KeyError> {
    let (signing_secret, hint) = match secret {
        Secret::Bearer(key) => (None, key.hint()),
        Secret::Hmac(secret) => (Some(secret), ""),
    };
    let new = NewCredential {
        source_system: &scope.source,
        label: &scope.label,
        secret_sha256: Sha256::digest(secret.written().expose_secret()).into(),
        signing_secret,
        hint,
        tenants: &scope.tenants,
        event_types: &scope.event_types,
        valid_until: scope.valid_until,
        replaces,
    };
    Ok(credentials::put(conn, &new).await?)
}

async fn told(conn: &mut PgConnection, id: i64, secret: &Secret) -> Result<Made, KeyError> {
    let line = credentials::find_and_lock(conn, id).await?;
    Ok(Made {
        line: line.ok_or(KeyError::NotFound(id))?,
        secret: secret.written(),
    })
}

/// The line tells what the key is for. Credentials have numbers, so it stands in the detail.
async fn audit(
    conn: &mut PgConnection,
    author: Author<'_>,
    action: &'static str,
    mut detail: Value,
    line: &CredentialLine,
) -> Result<(), KeyError> {
    detail["credential_id"] = line.id.into();
    detail["source"] = line.source.as_str().into();
    detail["kind"] = line.kind.as_str().into();
    detail["tenants"] = json!(line.tenants);
    detail["event_types"] = json!(line.event_types);
    detail["valid_until"] = json!(line.valid_until);
    let audit = NewAudit {
        action,
        subject_kind: "credential",
        subject_id: None,
        trace_id: None,
        detail,
    };
    audit::insert(conn, author, &[audit]).await?;
    tracing::info!(
        source = line.source,
        credential.id = line.id,
        outcome = action,
        "a key was changed"
    );
    Ok(())
}
