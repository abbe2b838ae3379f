//! What may go when it is old, and what must stay: the weeks of `communication_events`, what became
//! of events that are gone, kept lines, expired keys (product 1.5).
//!
//! One process at a time does it, nobody waits for it, and each turn ends what an earlier one left
//! half-way. A week goes when nothing unsettled refers to it (design §5); that is looked at before it
//! is detached and again afterwards, when its rows are out of everybody's sight.

use std::time::Duration;

use prometheus::{IntCounter, IntCounterVec, Opts, Registry, core::Collector};
use shared::store::retention::{self, Standing, Week};
use shared::store::{StoreError, events, history, logs, pool};
use sqlx::{Connection, PgConnection, PgPool};

/// How often a step that met a lock is tried before it is left for the next turn.
const TRIES: u32 = 20;
/// How long such a step pauses, so that whoever held the lock gets on.
const PAUSE: Duration = Duration::from_millis(100);
/// The most rows that one statement throws out, so that none holds locks for long.
const PAGE: i64 = 2_000;

/// How long things are kept; 0 keeps them for ever.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Keep {
    /// Drop event partitions so many weeks after their end, once nothing unsettled refers to them;
    /// 0 keeps everything.
    #[arg(long, env = "EVENT_RETENTION_WEEKS", default_value_t = 0)]
    pub event_retention_weeks: u16,
    /// Throw out decisions, settled deliveries, attempts, receipts and closed letters so many weeks
    /// after their decision, once their event is dropped; 0 keeps everything.
    #[arg(long, env = "HISTORY_RETENTION_WEEKS", default_value_t = 0)]
    pub history_retention_weeks: u16,
    /// Throw out lines of communication_logs after so many days; 0 keeps everything.
    #[arg(long, env = "LOG_RETENTION_DAYS", default_value_t = 0)]
    pub log_retention_days: u16,
}

/// What retention did, for those who watch.
#[derive(Clone, Debug)]
pub struct RetentionMetrics {
    /// Event partitions made ahead.
    made: IntCounter,
    /// Event partitions dropped.
    dropped: IntCounter,
    /// Steps given up because a lock was not to be had at once; they are tried again.
    lock_timeouts: IntCounter,
    /// Rows thrown out, by table; for the history, decisions with all that they led to.
    deleted: IntCounterVec,
}

impl RetentionMetrics {
    /// Registers the metrics.
    ///
    /// # Errors
    /// A name is taken on this registry.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            made: IntCounter::new(
                "hub_event_partitions_made_total",
                "Event partitions made ahead.",
            )?,
            dropped: IntCounter::new(
                "hub_event_partitions_dropped_total",
                "Event partitions dropped.",
            )?,
            lock_timeouts: IntCounter::new(
                "hub_retention_lock_timeouts_total",
                "Steps given up because a lock was not to be had at once; they are tried again.",
            )?,
            deleted: IntCounterVec::new(
                Opts::new(
                    "hub_retention_deleted_total",
                    "Rows thrown out, by table; for the history, decisions with all that they led to.",
                ),
                &["table"],
            )?,
        };
        let all: [Box<dyn Collector>; 4] = [
            Box::new(metrics.made.clone()),
            Box::new(metrics.dropped.clone()),
            Box::new(metrics.lock_timeouts.clone()),
            Box::new(metrics.deleted.clone()),
        ];
        for collector in all {
            registry.register(collector)?;
        }
        for rows in [Rows::Keys, Rows::History(0), Rows::Logs(0)] {
            metrics.deleted.with_label_values(&[rows.table()]);
        }
        Ok(metrics)
    }
}

/// What one turn did about the weeks of events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many weeks were made ahead.
    pub made: i32,
    /// The weeks that were dropped.
    pub dropped: Vec<String>,
    /// The weeks that something unsettled keeps, and what.
    pub kept: Vec<(String, String)>,
    /// The weeks that somebody else's lock kept; the next turn meets them again.
    pub postponed: Vec<String>,
}

/// The retention of this installation; each ingest has one, and one at a time takes its turn.
#[derive(Clone, Debug)]
pub struct Retention {
    /// The database.
    pub pool: PgPool,
    /// How long things are kept.
    pub keep: Keep,
    /// What is counted.
    pub metrics: RetentionMetrics,
}

/// What is to be done about a week next.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Keep(String),
    Detach,
    Finalise,
    AttachAgain(String),
    Drop,
    Nothing,
}

impl Step {
    /// Decides by how the week stands, and by what keeps it.
    fn of(standing: Standing, kept_by: Option<String>) -> Self {
        match (standing, kept_by) {
            (Standing::Gone, _) => Self::Nothing,
            // Its rows are out of sight already: forwards is the only way.
            (Standing::Pending, _) => Self::Finalise,
            (Standing::Attached, Some(why)) => Self::Keep(why),
            (Standing::Attached, None) => Self::Detach,
            (Standing::Detached, Some(why)) => Self::AttachAgain(why),
            (Standing::Detached, None) => Self::Drop,
        }
    }
}

/// What is thrown out row by row, with how long it is kept.
#[derive(Clone, Copy, Debug)]
enum Rows {
    Keys,
    History(u16),
    Logs(u16),
}

impl Rows {
    const fn table(self) -> &'static str {
        match self {
            Self::Keys => "idempotency_keys",
            Self::History(_) => "routings",
            Self::Logs(_) => "communication_logs",
        }
    }

    /// Deletes a page; answers how many rows it was.
    async fn delete(self, conn: &mut PgConnection) -> Result<u64, StoreError> {
        match self {
            Self::Keys => events::delete_expired_keys(conn, PAGE).await,
            Self::History(0) | Self::Logs(0) => Ok(0),
            Self::History(weeks) => history::delete_old(conn, i32::from(weeks), PAGE).await,
            Self::Logs(days) => logs::delete_old(conn, i32::from(days), PAGE).await,
        }
    }
}

impl Retention {
    /// Makes the coming weeks and lets go of what is old. `None` when another process is at it.
    ///
    /// # Errors
    /// The database is unwell; the next turn goes on from where this one ended.
    pub async fn turn(&self) -> Result<Option<Report>, StoreError> {
        // Out of the pool: its settings and its lock end with it.
        let mut conn = self.pool.acquire().await?.detach();
        retention::prepare(&mut conn).await?;
        if !retention::try_lock(&mut conn).await? {
            return Ok(None);
        }
        let report = self.take_turn(&mut conn).await;
        retention::unlock(&mut conn).await?;
        conn.close().await?;
        report.map(Some)
    }

    async fn take_turn(&self, conn: &mut PgConnection) -> Result<Report, StoreError> {
        let mut report = Report {
            made: self.make_ahead(conn).await?,
            ..Report::default()
        };
        let weeks = retention::weeks(conn, i32::from(self.keep.event_retention_weeks)).await?;
        for week in weeks {
            self.retire(conn, &week, &mut report).await?;
        }
        self.throw_out(conn).await?;
        Ok(report)
    }

    /// The weeks ahead come first: without them nothing can be accepted.
    async fn make_ahead(&self, conn: &mut PgConnection) -> Result<i32, StoreError> {
        for tried in 1.. {
            match pool::make_partitions(conn).await.map_err(StoreError::from) {
                Ok(made) => {
                    self.metrics
                        .made
                        .inc_by(u64::try_from(made).unwrap_or_default());
                    if made > 0 {
                        tracing::info!(made, "event partitions were made ahead");
                    }
                    return Ok(made);
                }
                Err(error) if error.is_lock_timeout() && tried < TRIES => self.pause().await,
                Err(error) => return Err(error),
            }
        }
        Ok(0)
    }

    /// Takes a week as far as it goes now.
    async fn retire(
        &self,
        conn: &mut PgConnection,
        week: &Week,
        report: &mut Report,
    ) -> Result<(), StoreError> {
        for _ in 0..TRIES {
            let standing = retention::standing(conn, week).await?;
            let kept_by = match standing {
                Standing::Gone | Standing::Pending => None,
                _ if !week.is_old => Some("its events are wanted for longer".to_owned()),
                _ => retention::unsettled(conn, week).await?,
            };
            let step = Step::of(standing, kept_by);
            match self.take(conn, week, &step).await {
                Ok(()) => {}
                Err(error) if error.is_lock_timeout() => {
                    tracing::debug!(partition = week.name, ?step, "a lock was not to be had");
                    self.pause().await;
                    continue;
                }
                Err(error) => return Err(error),
            }
            match step {
                Step::Detach | Step::Finalise => {}
                Step::Nothing => return Ok(()),
                Step::Keep(why) => {
                    tracing::info!(partition = week.name, why, "an old week of events is kept");
                    report.kept.push((week.name.clone(), why));
                    return Ok(());
                }
                Step::AttachAgain(why) => {
                    tracing::warn!(
                        partition = week.name,
                        why,
                        "a week of events was put back: it is needed after all"
                    );
                    report.kept.push((week.name.clone(), why));
                    return Ok(());
                }
                Step::Drop => {
                    self.metrics.dropped.inc();
                    tracing::info!(partition = week.name, "an old week of events was dropped");
                    report.dropped.push(week.name.clone());
                    return Ok(());
                }
            }
        }
        tracing::warn!(
            partition = week.name,
            "an old week of events could not be let go: somebody reads or changes it for long; the next turn tries again"
        );
        report.postponed.push(week.name.clone());
        Ok(())
    }

    async fn take(
        &self,
        conn: &mut PgConnection,
        week: &Week,
        step: &Step,
    ) -> Result<(), StoreError> {
        match step {
            Step::Nothing => Ok(()),
            Step::Keep(_) => retention::forget(conn, week).await,
            Step::Detach => {
                retention::decide(conn, week).await?;
                // Cannot run in a transaction: it has two of its own.
                retention::detach(conn, week).await
            }
            Step::Finalise => retention::finalise(conn, week).await,
            Step::AttachAgain(_) => {
                let mut tx = conn.begin().await?;
                retention::attach_again(&mut tx, week).await?;
                Ok(tx.commit().await?)
            }
            Step::Drop => {
                let mut tx = conn.begin().await?;
                retention::drop_table(&mut tx, week).await?;
                Ok(tx.commit().await?)
            }
        }
    }

    /// Throws out row by row what is no partition, page by page, each page a transaction.
    async fn throw_out(&self, conn: &mut PgConnection) -> Result<(), StoreError> {
        for rows in [
            Rows::Keys,
            Rows::History(self.keep.history_retention_weeks),
            Rows::Logs(self.keep.log_retention_days),
        ] {
            let mut all = 0;
            loop {
                let deleted = match rows.delete(conn).await {
                    Ok(deleted) => deleted,
                    // Somebody works on one of these rows: not old after all, or soon free.
                    Err(error) if error.is_lock_timeout() => {
                        self.metrics.lock_timeouts.inc();
                        break;
                    }
                    Err(error) => return Err(error),
                };
                all += deleted;
                if deleted < PAGE as u64 {
                    break;
                }
            }
            if all > 0 {
                let table = rows.table();
                self.metrics.deleted.with_label_values(&[table]).inc_by(all);
                tracing::info!(table, rows = all, "what is no longer wanted was thrown out");
            }
        }
        Ok(())
    }

    async fn pause(&self) {
        self.metrics.lock_timeouts.inc();
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_week_goes_only_forwards_once_it_is_out_of_sight_and_back_while_it_is_needed() {
        let why = || Some("a delivery is not settled".to_owned());
        for (standing, kept_by, step) in [
            (Standing::Attached, None, Step::Detach),
            (Standing::Attached, why(), Step::Keep(why().unwrap())),
            (Standing::Pending, None, Step::Finalise),
            (Standing::Pending, why(), Step::Finalise),
            (Standing::Detached, None, Step::Drop),
            (Standing::Detached, why(), Step::AttachAgain(why().unwrap())),
            (Standing::Gone, None, Step::Nothing),
        ] {
            assert_eq!(Step::of(standing, kept_by), step, "{standing:?}");
        }
    }
}
