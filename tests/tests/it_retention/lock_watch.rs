//! Watches who waits for a lock, by the database's own account: `pg_locks` says since when.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use shared::store::retention::APPLICATION_NAME;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection};

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(3);

/// The longest waits that were seen, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// Of others, for what retention holds or waits for.
    pub(crate) behind_retention: f64,
    /// Of others, for a table: nothing but a change of a table's shape makes them wait for one.
    pub(crate) on_tables: f64,
    /// Of others, for anything: rows that two batches work on are among them.
    pub(crate) of_any_kind: f64,
    /// Of retention itself, which keeps nobody waiting meanwhile.
    pub(crate) of_retention: f64,
    /// The longest time between two looks: whatever lasts longer was seen.
    pub(crate) blind: f64,
}

/// One wait: whether it is retention's, for a table, behind retention, and its age.
type Wait = (bool, bool, bool, f64);

/// A watcher on a thread of its own, so that a busy scenario does not keep it from looking.
pub(crate) struct LockWatch {
    seen: Arc<Mutex<Seen>>,
    over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl LockWatch {
    /// Looks from now on.
    pub(crate) fn start(options: PgConnectOptions) -> Self {
        let (seen, over) = (Arc::new(Mutex::default()), Arc::new(AtomicBool::new(false)));
        let (note, end) = (Arc::clone(&seen), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("because a thread more can be had")
                .block_on(look(&options, &note, &end));
        });
        Self { seen, over, thread }
    }

    /// The longest waits so far.
    pub(crate) fn seen(&self) -> Seen {
        *self
            .seen
            .lock()
            .expect("because the watcher does not panic")
    }

    /// Ends it; answers the longest waits.
    pub(crate) fn end(self) -> Seen {
        self.over.store(true, Ordering::Relaxed);
        let seen = Arc::clone(&self.seen);
        self.thread
            .join()
            .expect("because the catalogue can be read");
        *seen.lock().expect("because the watcher does not panic")
    }
}

async fn look(options: &PgConnectOptions, seen: &Mutex<Seen>, over: &AtomicBool) {
    let connected = options.connect().await;
    let mut conn = connected.expect("because the world's own pool connects");
    let mut last = Instant::now();
    while !over.load(Ordering::Relaxed) {
        let waits = waits(&mut conn).await;
        let blind = last.elapsed().as_secs_f64() * 1000.0;
        last = Instant::now();
        note(seen, &waits, blind);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn waits(conn: &mut PgConnection) -> Vec<Wait> {
    sqlx::query_as(
        "select a.application_name = $1,
                l.locktype in ('relation', 'virtualxid', 'object'),
                exists (select 1 from unnest(pg_blocking_pids(l.pid)) b
                        join pg_stat_activity o on o.pid = b where o.application_name = $1),
                extract(epoch from clock_timestamp() - l.waitstart)::double precision * 1000
         from pg_locks l join pg_stat_activity a on a.pid = l.pid
         where not l.granted and l.waitstart is not null and a.datname = current_database()",
    )
    .bind(APPLICATION_NAME)
    .fetch_all(conn)
    .await
    .expect("because the catalogue can be read")
}

fn note(seen: &Mutex<Seen>, waits: &[Wait], blind: f64) {
    let mut seen = seen.lock().expect("because nobody panics with it");
    seen.blind = seen.blind.max(blind);
    for (is_retention, on_table, behind_retention, ms) in waits {
        if *is_retention {
            seen.of_retention = seen.of_retention.max(*ms);
            continue;
        }
        seen.of_any_kind = seen.of_any_kind.max(*ms);
        if *on_table {
            seen.on_tables = seen.on_tables.max(*ms);
        }
        if *behind_retention {
            seen.behind_retention = seen.behind_retention.max(*ms);
        }
    }
}
