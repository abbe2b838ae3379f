//! Releases what accounts hold, once they can send again: one process at a time for each account,
//! by a lease with a fencing number (design §1.9).
//!
//! A bounded number of an account's deliveries is out at any time, so that a backlog of a hundred
//! thousand fills no queue that another account needs, and a reply that comes meanwhile waits for
//! few. Nothing is written while nothing is held, or while the account cannot send.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::broker::relay::Relay;
use shared::failpoint;
use shared::runtime::telemetry::chain;
use shared::runtime::vitals::Beat;
use shared::store::deliveries::DueDelivery;
use shared::store::releases::{self, HoldingAccount, Reign};
use shared::store::{StoreError, outbox};
use sqlx::{Connection, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// How long a leader leads after its last word. One that dies is replaced within this time and a
/// look; a stop gives the lease back at once.
const LEASE: Duration = Duration::from_secs(10);
/// A leader prolongs its lease once less than this is left of it.
const PROLONG_BELOW_S: f64 = 6.0;
/// How often accounts are looked at that hold something or may.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How soon the next page may follow.
const NEXT_PAGE: Duration = Duration::from_millis(50);
/// How often replies are looked for whose release was missed.
const LOOK_FOR_MISSED_EVERY: Duration = Duration::from_secs(1);
/// How many deliveries of one account are out at most, released and not claimed. Fewer than have
/// room to wait in one process (`slots`), else they came back.
const AT_ONCE: i64 = 100;

/// The releaser of this process.
pub(crate) struct Releaser {
    pool: PgPool,
    relay: Relay,
    metrics: Arc<Metrics>,
    /// Tells this run of this process from every other, also from its own last one.
    holder: String,
    led: HashSet<String>,
    looked_for_missed: Instant,
}

impl Releaser {
    /// A releaser that leads under the name of its process.
    pub(crate) fn new(pool: PgPool, relay: Relay, metrics: Arc<Metrics>, process: &str) -> Self {
        Self {
            pool,
            relay,
            metrics,
            holder: format!("{process}/{:016x}", rand::random::<u64>()),
            led: HashSet::new(),
            looked_for_missed: Instant::now(),
        }
    }

    /// Releases until `stopping`, then gives its leases back.
    pub(crate) async fn run(mut self, beat: Beat, stopping: CancellationToken) {
        loop {
            let released = match self.look().await {
                Ok(released) => {
                    beat.now();
                    released
                }
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "held deliveries cannot be looked at, trying again");
                    0
                }
            };
            let pause = if released > 0 { NEXT_PAGE } else { LOOK_EVERY };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stopping.cancelled() => break,
            }
        }
        if let Err(error) = self.resign().await {
            tracing::warn!(error = %chain(&error), "the release leases cannot be given back, they end by themselves");
        }
    }

    async fn look(&mut self) -> Result<usize, StoreError> {
        let mut conn = self.pool.acquire().await?;
        let accounts = releases::holding_accounts(&mut conn, &self.holder).await?;
        let reigns = self.reigns(&mut conn, accounts).await?;
        self.show(&reigns);
        if reigns.is_empty() {
            return Ok(0);
        }
        let mut tx = conn.begin().await?;
        let mut due = releases::release_page(&mut tx, &self.holder, &reigns, AT_ONCE).await?;
        if self.looked_for_missed.elapsed() >= LOOK_FOR_MISSED_EVERY {
            self.looked_for_missed = Instant::now();
            due.extend(releases::release_missed_replies(&mut tx, &self.holder, &reigns).await?);
        }
        let rows = write_messages(&mut tx, &due).await?;
        tx.commit().await?;
        if !due.is_empty() {
            failpoint!(ReleaseCommitted);
        }
        self.relay.hand_over(rows);
        for delivery in &due {
            self.metrics
                .released
                .with_label_values(&[delivery.lane.as_str()])
                .inc();
        }
        Ok(due.len())
    }

    /// The reigns in force, after taking what is free and prolonging what ends soon.
    async fn reigns(
        &self,
        conn: &mut PgConnection,
        accounts: Vec<HoldingAccount>,
    ) -> Result<Vec<Reign>, StoreError> {
        let mut reigns: HashMap<String, i64> = HashMap::new();
        let mut wanted = Vec::new();
        for account in accounts {
            match account.own_lease_s {
                Some(left) => {
                    if left < PROLONG_BELOW_S {
                        wanted.push(account.channel_id.clone());
                    }
                    reigns.insert(account.channel_id, account.fence);
                }
                None if account.free => wanted.push(account.channel_id),
                None => {}
            }
        }
        if !wanted.is_empty() {
            for reign in releases::take_leases(conn, &self.holder, &wanted, LEASE).await? {
                if reigns.insert(reign.channel_id.clone(), reign.fence) != Some(reign.fence) {
                    tracing::info!(
                        channel = reign.channel_id,
                        fence = reign.fence,
                        "this process releases what the account holds"
                    );
                }
            }
        }
        Ok(reigns
            .into_iter()
            .map(|(channel_id, fence)| Reign { channel_id, fence })
            .collect())
    }

    fn show(&mut self, reigns: &[Reign]) {
        let leads: HashSet<String> = reigns.iter().map(|it| it.channel_id.clone()).collect();
        for (account, value) in self
            .led
            .difference(&leads)
            .map(|account| (account, 0))
            .chain(leads.iter().map(|account| (account, 1)))
        {
            self.metrics
                .release_leader
                .with_label_values(&[account.as_str()])
                .set(value);
        }
        self.led.extend(leads);
    }

    async fn resign(&mut self) -> Result<(), StoreError> {
        self.show(&[]);
        releases::resign(&mut *self.pool.acquire().await?, &self.holder).await
    }
}

/// Writes the messages of deliveries that were made due, in their order.
pub(crate) async fn write_messages(
    conn: &mut PgConnection,
    due: &[DueDelivery],
) -> Result<Vec<outbox::OutboxRow>, StoreError> {
    let messages = due
        .iter()
        .filter_map(DueDelivery::message)
        .map(|message| outbox::NewMessage::work(&message))
        .collect();
    outbox::insert(conn, messages).await
}
