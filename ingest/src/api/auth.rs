//! Who is asking: a source's credential, or the bootstrap key of the generic door.

use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use shared::domain::credential::Credential;
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
pub(crate) enum Caller {
    /// A source's own credential.
    Known(Arc<Credential>),
    /// The bootstrap key, for these sources.
    Bootstrap(Vec<String>),
}

impl Caller {
    /// Whether the caller may speak for a source.
    pub(crate) fn speaks_for(&self, source: &str) -> bool {
        match self {
            Self::Known(credential) => credential.source_system == source,
            Self::Bootstrap(sources) => sources.iter().any(|own| own == source),
        }
    }

    /// Whether the caller may speak for a tenant, or for none.
    pub(crate) fn may_name(&self, tenant: Option<TenantId>) -> bool {
        match self {
            Self::Known(credential) => credential.may_name(tenant),
            Self::Bootstrap(_) => true,
        }
    }

    /// Whether events of that type are the caller's business.
    pub(crate) fn covers(&self, event_type: &str) -> bool {
        match self {
            Self::Known(credential) => credential.covers(event_type),
            Self::Bootstrap(_) => true,
        }
    }

    /// The tenants that the credential is bound to; none named is all.
    pub(crate) fn tenants(&self) -> &[TenantId] {
        match self {
            Self::Known(credential) => &credential.tenants,
            Self::Bootstrap(_) => &[],
        }
    }

    /// The tenant of the caller, where it has exactly one.
    pub(crate) fn only_tenant(&self) -> Option<TenantId> {
        match self.tenants() {
            [tenant] => Some(*tenant),
            _ => None,
        }
    }

    /// The scope of the keys of an event: its tenant where the caller is bound to tenants, 0 where
    /// it speaks for all.
    pub(crate) fn scope(&self, tenant: Option<TenantId>) -> i64 {
        match tenant {
            Some(tenant) if !self.tenants().is_empty() => tenant.0,
            _ => 0,
        }
    }

    /// The only source that the caller speaks for.
    pub(crate) fn own_source(&self) -> Option<&str> {
        match self {
            Self::Known(credential) => Some(&credential.source_system),
            Self::Bootstrap(sources) => match sources.as_slice() {
                [only] => Some(only),
                _ => None,
            },
        }
    }

    /// The source, for logs about requests that name none.
    pub(crate) fn source_label(&self) -> &str {
        match self {
            Self::Known(credential) => &credential.source_system,
            Self::Bootstrap(sources) => sources.first().map_or("unknown", String::as_str),
        }
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
        return opens(credential, directory, now).then(|| Caller::Known(Arc::clone(credential)));
    }
    bootstrap.secrets.verify([presented]).is_ok().then(|| {
        let enabled = |source: &&String| directory.sources.contains(source);
        Caller::Bootstrap(bootstrap.sources.iter().filter(enabled).cloned().collect())
    })
}

fn opens(credential: &Credential, directory: &Directory, now: DateTime<Utc>) -> bool {
    credential.is_alive(now) && directory.sources.contains(&credential.source_system)
}

/// Whether a request carries a key, right or wrong.
pub(crate) fn presents_a_key(headers: &HeaderMap) -> bool {
    presented(headers).is_some()
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

#[cfg(test)]
mod tests {
    use shared::runtime::clock::{Clock as _, SystemClock};

    use super::*;

    const KEY: &str = "posto_a-key-of-billing";

    fn directory(credential: Credential) -> Directory {
        Directory {
            sources: vec![credential.source_system.clone()],
            credentials: [(Sha256::digest(KEY).into(), Arc::new(credential))].into(),
            ..Directory::default()
        }
    }

    fn with_key(key: &str) -> HeaderMap {
        let value = format!("Bearer {key}").parse().unwrap();
        HeaderMap::from_iter([(AUTHORIZATION, value)])
    }

    #[test]
    fn a_key_opens_until_its_end_and_while_its_source_is_enabled() {
        let now = SystemClock.now();
        let open = |directory: &Directory| {
            caller(&with_key(KEY), directory, &Bootstrap::default(), now).is_some()
        };
        let mut credential = Credential {
            source_system: "billing".to_owned(),
            ..Credential::default()
        };
        assert!(open(&directory(credential.clone())));
        let mut disabled = directory(credential.clone());
        disabled.sources.clear();
        assert!(!open(&disabled));
        credential.valid_until = Some(now);
        assert!(!open(&directory(credential.clone())));
        credential.valid_until = Some(now + chrono::TimeDelta::seconds(1));
        assert!(open(&directory(credential)));
    }

    #[test]
    fn the_scope_of_a_key_is_the_events_tenant_only_where_the_caller_is_bound() {
        let bound = Caller::Known(Arc::new(Credential {
            tenants: vec![TenantId(1), TenantId(2)],
            ..Credential::default()
        }));
        let free = Caller::Bootstrap(vec!["billing".to_owned()]);
        assert_eq!(bound.scope(Some(TenantId(2))), 2);
        assert_eq!(free.scope(Some(TenantId(2))), 0);
        assert_eq!(free.scope(None), 0);
        assert_eq!(bound.only_tenant(), None);
        assert!(bound.speaks_for("") && !bound.speaks_for("billing"));
    }
}
