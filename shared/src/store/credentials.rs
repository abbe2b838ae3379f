//! `source_credentials`: what opens the generic door, kept, ended, and when it was last used.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use sqlx::PgConnection;

use super::StoreResult;
use crate::domain::credential::{Credential, CredentialKind, SigningKey, SigningSecret};
use crate::domain::ids::TenantId;

/// Kept as it is. The one place where a signing secret would be encrypted at rest is [`seal`] and
/// [`unseal`]: another first byte tells of another way.
const AS_IT_IS: u8 = 0;

fn seal(secret: &SigningSecret) -> Vec<u8> {
    [&[AS_IT_IS], secret.expose()].concat()
}

fn unseal(kept: &[u8]) -> Option<SigningSecret> {
    match kept.split_first()? {
        (&AS_IT_IS, secret) => SigningSecret::from_bytes(secret.to_vec()).ok(),
        _ => None,
    }
}

/// A credential to be kept.
#[derive(Clone, Debug)]
pub struct NewCredential<'a> {
    /// The source it speaks for; it must be known.
    pub source_system: &'a str,
    /// What people call it.
    pub label: &'a str,
    /// The SHA-256 of the secret's text.
    pub secret_sha256: [u8; 32],
    /// The secret itself, where it is signed with; none is a bearer key.
    pub signing_secret: Option<&'a SigningSecret>,
    /// So much of the key as lists show.
    pub hint: &'a str,
    /// The tenants it is bound to; empty is all.
    pub tenants: &'a [i64],
    /// The types it is bound to; empty is all.
    pub event_types: &'a [String],
    /// When it ends.
    pub valid_until: Option<DateTime<Utc>>,
    /// The credential whose successor it is.
    pub replaces: Option<i64>,
}

/// Keeps a credential and answers its number, and whether it is new: one with the same secret is
/// set to this one's scope, and opens again if it had been revoked.
///
/// # Errors
/// See [`super::StoreError`]; data at fault means an unknown source or tenant, or, with
/// [`NewCredential::replaces`], that there is a successor already.
pub async fn put(conn: &mut PgConnection, new: &NewCredential<'_>) -> StoreResult<(i64, bool)> {
    let kind = match new.signing_secret {
        Some(_) => CredentialKind::Hmac,
        None => CredentialKind::Bearer,
    };
    let row = sqlx::query!(
        r#"insert into source_credentials (source_system, label, secret_sha256, signing_secret, hint, tenant_id, tenant_ids,
                event_types, valid_until, replaces, kind)
         values ($1, $2, $3, $4, $5, ($6::bigint[])[1], $6, $7, $8, $9, $10)
         on conflict (secret_sha256) do update
         set source_system = excluded.source_system, label = excluded.label, signing_secret = excluded.signing_secret,
             tenant_id = excluded.tenant_id, tenant_ids = excluded.tenant_ids, event_types = excluded.event_types,
             valid_until = excluded.valid_until, kind = excluded.kind, revoked_at = null
         returning id, (xmax = 0) as "new!""#,
        new.source_system,
        new.label,
        &new.secret_sha256,
        new.signing_secret.map(seal),
        new.hint,
        new.tenants,
        new.event_types,
        new.valid_until,
        new.replaces,
        kind.as_str(),
    )
    .fetch_one(conn)
    .await?;
    Ok((row.id, row.new))
}

/// A credential, as people read it; nothing of the secret but its hint.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct CredentialLine {
    /// Its number.
    pub id: i64,
    /// The source it speaks for.
    pub source: String,
    /// `bearer` or `hmac`.
    pub kind: String,
    /// What people call it.
    pub label: String,
    /// How the key begins.
    pub hint: String,
    /// The tenants it is bound to; empty is all.
    pub tenants: Vec<i64>,
    /// The types it is bound to; empty is all.
    pub event_types: Vec<String>,
    /// `valid`, `ending` (it has an end, which is to come), `ended` or `revoked`.
    pub state: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it ends, or did.
    pub valid_until: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
    /// When it last opened the door, to the minute or so.
    pub last_used_at: Option<DateTime<Utc>>,
    /// The credential whose successor it is.
    pub replaces: Option<i64>,
    /// Its own successor, unless that was revoked.
    pub replaced_by: Option<i64>,
}

/// The credentials of a source, or of all, in the order of their numbers, page by page.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn page(
    conn: &mut PgConnection,
    source: Option<&str>,
    after: i64,
    limit: i64,
) -> StoreResult<Vec<CredentialLine>> {
    let lines = sqlx::query_as!(
        CredentialLine,
        r#"select c.id, c.source_system as source, c.kind, c.label, c.hint, c.tenant_ids as tenants, c.event_types,
                case when c.revoked_at is not null then 'revoked' when c.valid_until <= now() then 'ended'
                     when c.valid_until is not null then 'ending' else 'valid' end as "state!",
                c.created_at, c.valid_until, c.revoked_at, c.last_used_at, c.replaces,
                (select s.id from source_credentials s where s.replaces = c.id and s.revoked_at is null) as replaced_by
         from source_credentials c
         where c.id > $2 and ($1::text is null or c.source_system = $1)
         order by c.id limit $3"#,
        source,
        after,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(lines)
}

/// The credential of that number, held until the transaction ends.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn find_and_lock(
    conn: &mut PgConnection,
    id: i64,
) -> StoreResult<Option<CredentialLine>> {
    let held = sqlx::query_scalar!(
        "select id from source_credentials where id = $1 for update",
        id
    )
    .fetch_optional(&mut *conn)
    .await?;
    match held {
        Some(id) => Ok(page(conn, None, id - 1, 1).await?.pop()),
        None => Ok(None),
    }
}

/// Lets a credential end so many seconds from now, if it does not end before.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn end_within(
    conn: &mut PgConnection,
    id: i64,
    seconds: f64,
) -> StoreResult<Option<DateTime<Utc>>> {
    let until = sqlx::query_scalar!(
        "update source_credentials set valid_until = least(valid_until, now() + make_interval(secs => $2))
         where id = $1 returning valid_until",
        id,
        seconds,
    )
    .fetch_one(conn)
    .await?;
    Ok(until)
}

/// When the last successor of a credential ends, or ended, though it was revoked since; none when it
/// never had one.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn end_of_last_successor(
    conn: &mut PgConnection,
    id: i64,
) -> StoreResult<Option<Option<DateTime<Utc>>>> {
    let end = sqlx::query_scalar!(
        "select valid_until from source_credentials where replaces = $1 order by id desc limit 1",
        id
    )
    .fetch_optional(conn)
    .await?;
    Ok(end)
}

/// Ends a credential for good; a signing secret is not kept any longer.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn revoke(conn: &mut PgConnection, id: i64) -> StoreResult<()> {
    sqlx::query!(
        "update source_credentials set revoked_at = now(), signing_secret = null where id = $1 and revoked_at is null",
        id,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Keeps when credentials were last used; `uses` in the order of their numbers.
///
/// # Errors
/// See [`super::StoreError`]; nothing depends on it, try again with the next ones.
pub async fn mark_used(conn: &mut PgConnection, uses: &[(i64, DateTime<Utc>)]) -> StoreResult<()> {
    let (ids, times): (Vec<i64>, Vec<DateTime<Utc>>) = uses.iter().copied().unzip();
    sqlx::query!(
        "update source_credentials c set last_used_at = greatest(c.last_used_at, u.at)
         from unnest($1::bigint[], $2::timestamptz[]) as u (id, at) where c.id = u.id",
        &ids,
        &times,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether a source is known.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn is_source(conn: &mut PgConnection, name: &str) -> StoreResult<bool> {
    let known = sqlx::query_scalar!(
        r#"select exists (select 1 from sources where name = $1) as "known!""#,
        name
    )
    .fetch_one(conn)
    .await?;
    Ok(known)
}

/// What opens the generic door, as the directory has it.
#[derive(Debug, Default)]
pub(super) struct Keyring {
    pub(super) bearer: HashMap<[u8; 32], Arc<Credential>>,
    pub(super) signing: HashMap<String, Vec<SigningKey>>,
}

/// Loads every credential that is not revoked.
pub(super) async fn load(conn: &mut PgConnection) -> StoreResult<Keyring> {
    let rows = sqlx::query!(
        "select id, source_system, secret_sha256, signing_secret, tenant_id, tenant_ids, event_types, valid_until
         from source_credentials where revoked_at is null order by id desc"
    )
    .fetch_all(conn)
    .await?;
    let mut keyring = Keyring::default();
    for row in rows {
        let mut tenants: Vec<TenantId> = row.tenant_ids.into_iter().map(TenantId).collect();
        // The binary before this one wrote the single column alone.
        if let (true, Some(tenant)) = (tenants.is_empty(), row.tenant_id) {
            tenants.push(TenantId(tenant));
        }
        let credential = Arc::new(Credential {
            id: row.id,
            source_system: row.source_system,
            tenants,
            event_types: row.event_types,
            valid_until: row.valid_until,
        });
        match row.signing_secret {
            None => {
                if let Ok(hash) = row.secret_sha256.try_into() {
                    keyring.bearer.insert(hash, credential);
                }
            }
            Some(kept) => match unseal(&kept) {
                Some(secret) => {
                    let source = credential.source_system.clone();
                    let keys = keyring.signing.entry(source).or_default();
                    keys.push(SigningKey { credential, secret });
                }
                None => {
                    tracing::error!(
                        credential.id = row.id,
                        "a signing secret cannot be read: put it again"
                    );
                }
            },
        }
    }
    Ok(keyring)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signing_secret_comes_back_as_it_was_kept_and_what_is_kept_otherwise_does_not() {
        let secret = SigningSecret::from_bytes((0..32).collect()).unwrap();
        let kept = seal(&secret);
        assert_eq!(unseal(&kept).unwrap().expose(), secret.expose());
        for wrong in [&[][..], &[AS_IT_IS], &[9; 33]] {
            assert!(unseal(wrong).is_none(), "{wrong:?}");
        }
    }
}
