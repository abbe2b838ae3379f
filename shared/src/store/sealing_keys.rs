//! `sealing_keys`: which keys what is stored may be sealed with. Every process agrees with it at its
//! start: one without a key in use, or with another key under its id, does not start.

use std::time::Duration;

use sqlx::{PgConnection, PgPool};

use super::pool::{self, DatabaseArgs};
use super::{StoreError, StoreResult};
use crate::runtime::telemetry::chain;
use crate::sealing::{Keyring, KeyringError, Registered, SealingArgs};

/// How long [`remark`] waits for the database.
const REMARK_BOUND: Duration = Duration::from_secs(5);

/// The process and the database do not agree on the keys.
#[derive(Debug, thiserror::Error)]
pub enum DisagreementError {
    /// The keys are not those that the database needs: do not start.
    #[error(transparent)]
    Keys(#[from] KeyringError),
    /// The database cannot be asked.
    #[error("the keys in use cannot be read")]
    Store(#[source] StoreError),
}

/// The keys that are in use.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn registered(conn: &mut PgConnection) -> StoreResult<Vec<Registered>> {
    let rows = sqlx::query_as!(Registered, "select id, proof from sealing_keys order by id")
        .fetch_all(conn)
        .await?;
    Ok(rows)
}

/// Checks the keys against those in use, and puts the one that seals among them. Of two processes that
/// bring one id with two keys the first is right, and the second is told so.
///
/// # Errors
/// See [`DisagreementError`].
pub async fn agree(conn: &mut PgConnection, seals: &Keyring) -> Result<(), DisagreementError> {
    let known = registered(conn).await.map_err(DisagreementError::Store)?;
    seals.check(&known)?;
    let own = seals.active();
    if known.iter().any(|known| Some(known.id.as_str()) == own) {
        return Ok(());
    }
    let Some(new) = seals.proof() else {
        return Ok(());
    };
    register(conn, &new)
        .await
        .map_err(DisagreementError::Store)?;
    let known = registered(conn).await.map_err(DisagreementError::Store)?;
    Ok(seals.check(&known)?)
}

async fn register(conn: &mut PgConnection, new: &Registered) -> StoreResult<()> {
    sqlx::query!(
        "insert into sealing_keys (id, proof) values ($1, $2) on conflict (id) do nothing",
        new.id,
        new.proof,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes a key out of use; true when it was in use. The caller made sure that nothing is sealed with it.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn forget(conn: &mut PgConnection, id: &str) -> StoreResult<bool> {
    let done = sqlx::query!("delete from sealing_keys where id = $1", id)
        .execute(conn)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// As [`agree`], but waits for a database that is down.
///
/// # Errors
/// The keys are not those that the database needs: a person has to act.
pub async fn await_agreed(pool: &PgPool, seals: &Keyring) -> Result<(), DisagreementError> {
    loop {
        let agreed = async {
            let mut conn = pool
                .acquire()
                .await
                .map_err(|error| DisagreementError::Store(error.into()))?;
            agree(&mut conn, seals).await
        };
        match agreed.await {
            Err(DisagreementError::Store(error)) if error.is_transient() => {
                tracing::warn!(error = %chain(&error), "the keys in use cannot be read, waiting for the database");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            other => return other,
        }
    }
}

/// What `check-config` says about the keys; `None` when a start would find nothing wrong. Changes nothing.
pub async fn remark(database: &DatabaseArgs, sealing: &SealingArgs) -> Option<String> {
    let seals = match sealing.keyring() {
        Ok(seals) => seals,
        Err(error) => return Some(format!("it would not start: {error}")),
    };
    let asked = async {
        let pool = pool::open(database, REMARK_BOUND).map_err(|error| chain(&error))?;
        let mut conn = pool.acquire().await.map_err(|error| chain(&error))?;
        let known = registered(&mut conn).await.map_err(|error| chain(&error))?;
        Ok::<_, String>(seals.check(&known))
    };
    match tokio::time::timeout(REMARK_BOUND, asked).await {
        Ok(Ok(Ok(()))) => None,
        Ok(Ok(Err(error))) => Some(format!("it would not start: {error}")),
        Ok(Err(error)) => Some(format!("the keys in use are not known: {error}")),
        Err(_) => Some("the keys in use are not known: no answer in time".to_owned()),
    }
}
