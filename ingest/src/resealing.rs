//! Lets everything be sealed with the key that seals now: page by page in the background, while the traffic
//! runs; and the commands that tell when an old key may go.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};
use serde_json::json;
use shared::runtime::telemetry::chain;
use shared::runtime::vitals::Beat;
use shared::sealing::Keyring;
use shared::store::audit::{self, Author, NewAudit};
use shared::store::pool;
use shared::store::resealing::{self, Book};
use shared::store::{StoreError, sealed_counts, sealing_keys};
use sqlx::{Connection as _, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

use crate::cli::SealingCommand;

/// How long it rests when there was nothing to seal.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Between pages it rests so many times as long as a page took: the traffic goes first.
const REST: u32 = 2;
/// The longest of these rests.
const LONGEST_REST: Duration = Duration::from_secs(5);

/// How far it has come.
#[derive(Clone)]
pub(crate) struct ResealingMetrics {
    /// Values that were sealed anew, by table.
    resealed: IntCounterVec,
    /// 1 while a table may hold values that the active key did not seal, else 0.
    pending: IntGaugeVec,
}

impl ResealingMetrics {
    /// Registers the metrics; they begin at 0.
    ///
    /// # Errors
    /// A name is taken on this registry.
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            resealed: IntCounterVec::new(
                Opts::new(
                    "hub_resealed_total",
                    "Values that were sealed anew, by table.",
                ),
                &["table"],
            )?,
            pending: IntGaugeVec::new(
                Opts::new(
                    "hub_reseal_pending",
                    "1 while a table may hold values that the active key did not seal, else 0.",
                ),
                &["table"],
            )?,
        };
        for book in Book::ALL {
            metrics.resealed.with_label_values(&[book.as_str()]);
            metrics.pending.with_label_values(&[book.as_str()]).set(0);
        }
        registry.register(Box::new(metrics.resealed.clone()))?;
        registry.register(Box::new(metrics.pending.clone()))?;
        Ok(metrics)
    }
}

/// Seals anew until `stopping`; does nothing where there are no keys.
pub(crate) async fn run(
    pool: PgPool,
    seals: Keyring,
    (metrics, beat): (ResealingMetrics, Beat),
    stopping: CancellationToken,
) {
    loop {
        let begun = Instant::now();
        let rest = match turn(&pool, &seals, &metrics).await {
            Ok(true) => (begun.elapsed() * REST).min(LONGEST_REST),
            Ok(false) => LOOK_EVERY,
            Err(error) => {
                tracing::error!(error = %chain(&error), "what is stored cannot be sealed anew, trying again");
                LOOK_EVERY
            }
        };
        beat.now();
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            () = stopping.cancelled() => return,
        }
    }
}

/// Turns one page of each book that has not been gone through; true when there was one.
async fn turn(
    pool: &PgPool,
    seals: &Keyring,
    metrics: &ResealingMetrics,
) -> Result<bool, StoreError> {
    let mut worked = false;
    for book in Book::ALL {
        let mut conn = pool.acquire().await?;
        worked |= page(&mut conn, book, (seals, metrics)).await?;
    }
    Ok(worked)
}

/// Turns a page of a book, in a transaction with the mark of how far the walk came. A walk that sealed
/// something is followed by another: a process with the key before may have written meanwhile. One that
/// found nothing ends it until the key changes.
async fn page(
    conn: &mut PgConnection,
    book: Book,
    (seals, metrics): (&Keyring, &ResealingMetrics),
) -> Result<bool, StoreError> {
    let Some(key_id) = seals.active() else {
        return Ok(false);
    };
    let mut tx = conn.begin().await?;
    let Some(mut walk) = resealing::lock_walk(&mut tx, book, key_id).await? else {
        return Ok(false);
    };
    let pending = metrics.pending.with_label_values(&[book.as_str()]);
    pending.set(i64::from(!walk.is_clean));
    if walk.is_clean {
        return Ok(false);
    }
    let turned = resealing::turn_page(&mut tx, book, &walk.up_to, seals).await?;
    walk.resealed += turned.resealed;
    match turned.up_to {
        Some(up_to) => walk.up_to = up_to,
        None => {
            walk.is_clean = walk.resealed == 0;
            walk.up_to = String::new();
            walk.resealed = 0;
        }
    }
    resealing::store_walk(&mut tx, book, key_id, &walk).await?;
    tx.commit().await?;
    pending.set(i64::from(!walk.is_clean));
    metrics
        .resealed
        .with_label_values(&[book.as_str()])
        .inc_by(u64::try_from(turned.resealed).unwrap_or_default());
    if walk.is_clean {
        tracing::info!(
            table = book.as_str(),
            key = key_id,
            "everything is sealed with the active key"
        );
    }
    Ok(true)
}

/// Carries out a command about the keys, and answers what is to be shown.
///
/// # Errors
/// The order cannot be carried out, or the database cannot be used; nothing was changed.
pub(crate) async fn command(command: SealingCommand) -> anyhow::Result<String> {
    match command {
        SealingCommand::Status { sealing, database } => {
            let pool = pool::open(&database, pool::COMMAND_STATEMENT)?;
            status(&mut *pool.acquire().await?, &sealing.keyring()?).await
        }
        SealingCommand::Retire {
            id,
            by,
            sealing,
            database,
        } => {
            let pool = pool::open(&database, pool::COMMAND_STATEMENT)?;
            let author = Author {
                actor: &by.actor,
                reason: by.reason.as_deref(),
            };
            retire(
                &mut *pool.acquire().await?,
                (&id, &sealing.keyring()?),
                author,
            )
            .await
        }
    }
}

/// What is sealed with which key, and which keys may go.
async fn status(conn: &mut PgConnection, seals: &Keyring) -> anyhow::Result<String> {
    let counted = count(conn).await?;
    let known = sealing_keys::registered(conn).await?;
    seals.check(&known)?;
    let mut told = String::new();
    for ((key_id, book), values) in &counted {
        let key = key_id.as_deref().unwrap_or("(in clear)");
        writeln!(told, "{key}  {book}  {values}")?;
    }
    for key in &known {
        let values = values_of(&counted, &key.id);
        let verdict = match (Some(key.id.as_str()) == seals.active(), values) {
            (true, _) => "seals".to_owned(),
            (false, 0) => format!(
                "seals nothing any more: `ingest admin sealing retire {}`, then take it out of PAYLOAD_KEYS",
                key.id
            ),
            (false, values) => format!("is needed for {values} values still"),
        };
        writeln!(told, "key {} {verdict}", key.id)?;
    }
    if seals.active().is_none() {
        writeln!(told, "nothing is sealed: PAYLOAD_KEYS is not set")?;
    } else if counted
        .keys()
        .any(|(key_id, _)| key_id.as_deref() != seals.active())
    {
        // Walks that ended may have been passed by a process with other keys.
        resealing::walk_again(conn).await?;
        writeln!(told, "ingest seals the rest in the background")?;
    }
    Ok(told)
}

/// Takes a key out of use that seals nothing any more.
async fn retire(
    conn: &mut PgConnection,
    (id, seals): (&str, &Keyring),
    author: Author<'_>,
) -> anyhow::Result<String> {
    ensure!(
        seals.active().is_some(),
        "set PAYLOAD_KEYS as the services have it"
    );
    ensure!(
        seals.active() != Some(id),
        "key {id} is the one that seals: put another before it in PAYLOAD_KEYS of every service first"
    );
    let values = values_of(&count(conn).await?, id);
    if values > 0 {
        resealing::walk_again(conn).await?;
        bail!(
            "key {id} is needed for {values} values still: ingest seals them anew in the background, try again later"
        );
    }
    let mut tx = conn.begin().await?;
    if !sealing_keys::forget(&mut tx, id).await? {
        return Ok(format!("key {id} is not in use\n"));
    }
    let line = NewAudit {
        action: "sealing_key_retired",
        subject_kind: "sealing_key",
        subject_id: None,
        trace_id: None,
        detail: json!({ "key": id }),
    };
    audit::insert(&mut tx, author, &[line]).await?;
    tx.commit().await?;
    Ok(format!(
        "key {id} is out of use: take it out of PAYLOAD_KEYS\n"
    ))
}

type Counted = BTreeMap<(Option<String>, &'static str), i64>;

async fn count(conn: &mut PgConnection) -> Result<Counted, StoreError> {
    let mut counted = Counted::new();
    for book in Book::ALL {
        for (key_id, values) in sealed_counts::count(conn, book).await? {
            if values > 0 {
                counted.insert((key_id, book.as_str()), values);
            }
        }
    }
    Ok(counted)
}

fn values_of(counted: &Counted, id: &str) -> i64 {
    let own = counted
        .iter()
        .filter(|((key_id, _), _)| key_id.as_deref() == Some(id));
    own.map(|(_, values)| values).sum()
}
