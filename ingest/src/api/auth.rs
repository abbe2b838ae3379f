//! Who is asking: a source's credential, or the bootstrap key of the generic door.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use shared::domain::directory::Directory;
use shared::domain::ids::TenantId;
use shared::source::DoorSecrets;

/// The bootstrap key (`EVENT_INGESTION_SECRET`) and the sources it is valid for.
#[derive(Debug, Default)]
pub(crate) struct Bootstrap {
    pub(crate) secrets: DoorSecrets,
    pub(crate) sources: Vec<String>,
}

/// An authenticated caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    sources: Vec<String>,
    tenant: Option<TenantId>,
}

impl Caller {
    /// Whether the caller may speak for a source.
    pub(crate) fn speaks_for(&self, source: &str) -> bool {
        self.sources.iter().any(|own| own == source)
    }

    /// Whether the caller may speak for a tenant, or for none.
    pub(crate) fn may_name(&self, tenant: Option<TenantId>) -> bool {
        self.tenant.is_none() || self.tenant == tenant
    }

    /// The tenant that the credential is bound to.
    pub(crate) const fn tenant(&self) -> Option<TenantId> {
        self.tenant
    }

    /// The scope of the caller's keys: its tenant, 0 where it speaks for all.
    pub(crate) fn scope(&self) -> i64 {
        self.tenant.map_or(0, |tenant| tenant.0)
    }

    /// The only source that the caller speaks for.
    pub(crate) fn own_source(&self) -> Option<&str> {
        match self.sources.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    /// The source, for logs about requests that name none.
    pub(crate) fn source_label(&self) -> &str {
        self.sources.first().map_or("unknown", String::as_str)
    }
}

/// Finds the caller by `Authorization: Bearer …` or `X-Event-Secret`. A credential is looked up by
/// the hash of its secret, so the time taken tells nothing of it.
pub(crate) fn caller(
    headers: &HeaderMap,
    directory: &Directory,
    bootstrap: &Bootstrap,
    now: DateTime<Utc>,
) -> Option<Caller> {
    let presented = presented(headers)?;
    let hash: [u8; 32] = Sha256::digest(presented).into();
    if let Some(credential) = directory.credentials.get(&hash) {
        let alive = credential.valid_until.is_none_or(|until| now < until);
        let enabled = directory.sources.contains(&credential.source_system);
        return (alive && enabled).then(|| Caller {
            sources: vec![credential.source_system.clone()],
            tenant: credential.tenant_id,
        });
    }
    bootstrap
        .secrets
        .verify([presented])
        .is_ok()
        .then(|| Caller {
            sources: bootstrap
                .sources
                .iter()
                .filter(|source| directory.sources.contains(source))
                .cloned()
                .collect(),
            tenant: None,
        })
}

fn presented(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers
        .get("x-event-secret")
        .or_else(|| headers.get(AUTHORIZATION))?
        .as_bytes();
    let token = match value.get(..7) {
        Some(scheme) if scheme.eq_ignore_ascii_case(b"bearer ") => value[7..].trim_ascii(),
        _ => value,
    };
    (!token.is_empty()).then_some(token)
}
