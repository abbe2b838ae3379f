//! One run of a figure, from an empty database to the ledger at the end.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::event::{Events, recipient};
use super::figure::{Figure, Setup, Start};
use super::fleet::{Fleet, Programs, Servers};
use super::history;
use super::latency::Latency;
use super::post::{Load, Pace, Posted, Window, now_us, post};
use super::processes::{Cost, Watch};
use super::strangers::{Flood, Refused};

/// Posts before the clock starts: they open connections, fill caches and plan statements.
const WARM_UP: Load = Load {
    events: 500,
    batch: 1,
    connections: 16,
    pace: Pace::InFlight(100),
};
/// The second rule of a fan-out.
const THREAD_RULE: &str = "
    insert into routing_rules (name, event_type, channel, priority)
    values ('load-fan-out', 'billing.invoice.overdue', 'chat', 30)";
/// What the load led to, without the history that a figure begins with: the ids tell their time.
const ROWS: &str = "
    select concat_ws(' ', 'deliveries', channel, state) as what, count(*) as how_many
    from deliveries where id >= hub_uuid_floor(now() - interval '7 days') group by channel, state
    union all
    select concat_ws(' ', 'attempts', outcome), count(*)
    from delivery_attempts where id >= hub_uuid_floor(now() - interval '7 days') group by outcome";
/// How often the memory of the processes is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What one trial gave.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trial {
    /// The figure's name.
    pub figure: String,
    /// What was posted.
    pub load: Load,
    /// What ingest did.
    pub accepted: Accepted,
    /// What came out at the gateway.
    pub gateway: Option<Sent>,
    /// What strangers got who posted meanwhile.
    #[serde(default)]
    pub strangers: Option<Refused>,
    /// CPU of everything counted, for one event, in microseconds.
    pub cpu_us_per_event: f64,
    /// CPU and memory by process.
    pub processes: BTreeMap<String, Cost>,
    /// What the database and its write-ahead log grew by, for one event, in bytes.
    pub disk_bytes_per_event: f64,
    /// The database alone.
    pub database_bytes_per_event: f64,
    /// The ledger at the end, as ingest last counted it.
    pub ledger: Value,
    /// What this fleet's events led to, counted at the end: deliveries by channel and state, attempts
    /// by outcome.
    pub rows: BTreeMap<String, i64>,
}

/// What ingest did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Accepted {
    /// Events.
    pub events: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Events a second.
    pub per_s: f64,
    /// From post, or the time it was due, to the answer.
    pub latency_ms: Option<Latency>,
    /// Posts that were answered 503 or not at all, and repeated.
    pub repeated: u64,
}

/// What came out at the gateway.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sent {
    /// Messages.
    pub messages: u64,
    /// From the first post, or the start of the workers, to the last arrival (or the last receipt
    /// taken, or the last message on a thread), in seconds.
    pub seconds: f64,
    /// Messages a second.
    pub per_s: f64,
    /// Events a second.
    pub events_per_s: f64,
    /// From post, or the time it was due, to the gateway; without those at whom it is slow.
    pub latency_ms: Option<Latency>,
}

/// Runs a figure so many times and tells each trial. Each has a Posto of its own, but for those with
/// a history, which takes minutes to make: they follow each other on one.
///
/// # Errors
/// A server or a program cannot be used; something was lost, doubled or not accounted for.
pub async fn run(
    figure: &Figure,
    runs: u32,
    place: &Place<'_>,
    mut tell: impl FnMut(&Trial) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let on_one = matches!(figure.setup, Setup::History(_));
    let (fleets, trials) = if on_one { (1, runs) } else { (runs, 1) };
    for _ in 0..fleets {
        let mut fleet =
            Fleet::start(place.servers, place.programs, figure.workers, place.logs).await?;
        let echo = if figure.echo {
            json!({})
        } else {
            json!({ "echo": false, "acks": [] })
        };
        fleet.gateway.set(&echo).await?;
        if figure.setup == Setup::FanOut {
            fleet.run_sql(THREAD_RULE).await?;
        }
        if figure.start == Start::Before {
            fleet.start_workers();
            fleet.workers_ready().await?;
        }
        let mut posted = warm_up(figure, &fleet).await?;
        prepare(figure, &fleet, posted).await?;
        for _ in 0..trials {
            let trial = measure(figure, &mut fleet, posted).await;
            tell(&trial.with_context(|| figure.name.to_owned())?)?;
            posted += figure.load.events;
        }
        fleet.end().await?;
    }
    Ok(())
}

/// What trials are run with.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The servers.
    pub servers: &'a Servers,
    /// The executables.
    pub programs: &'a Programs,
    /// Where the services' logs are written while a trial runs; those of a failed one stay.
    pub logs: &'a Path,
}

/// Posts a little before the clock starts; answers how many events there are now.
async fn warm_up(figure: &Figure, fleet: &Fleet) -> anyhow::Result<u64> {
    let pace = if figure.start == Start::Before {
        WARM_UP.pace
    } else {
        Pace::Closed
    };
    let load = Load { pace, ..WARM_UP };
    let window = Window::of(load.pace);
    let (target, events) = (fleet.target(), Events::from(0, figure.setup.kind()));
    let posting = post(&target, load, &events, &window);
    if figure.start == Start::Before {
        let arrived = fleet
            .gateway
            .until_arrived(usize::try_from(load.events)?, &window);
        tokio::try_join!(posting, arrived)?;
    } else {
        posting.await?;
    }
    Ok(load.events)
}

async fn prepare(figure: &Figure, fleet: &Fleet, warmed: u64) -> anyhow::Result<()> {
    match figure.setup {
        // The rule of a fan-out is there before the workers are.
        Setup::Plain | Setup::FanOut | Setup::Strangers { .. } => {}
        Setup::History(events) => history::make(fleet, events).await?,
        Setup::SlowRecipient { every, by } => {
            let slow: Vec<String> = (warmed..warmed + figure.load.events)
                .step_by(usize::try_from(every)?)
                .map(recipient)
                .collect();
            fleet.gateway.slow_down(&slow, by).await?;
        }
    }
    Ok(())
}

async fn measure(figure: &Figure, fleet: &mut Fleet, warmed: u64) -> anyhow::Result<Trial> {
    let load = figure.load;
    let written = Written::now(fleet).await?;
    let watch = Arc::new(Mutex::new(Watch::begin(fleet.watched().await?)));
    let looking = tokio::spawn(keep_looking(Arc::clone(&watch)));
    let expected = usize::try_from(warmed + load.events)?;
    let events = Events::from(warmed, figure.setup.kind());
    let (target, window) = (fleet.target(), Window::of(load.pace));
    let strangers = match figure.setup {
        Setup::Strangers { connections } => Some(Flood::begin(&target, connections)?),
        _ => None,
    };
    let (mut begun, mut begun_us) = (Instant::now(), now_us());
    let posting = quarters(&target, load, &events, &window, &watch);
    let posted = match figure.start {
        Start::Before => {
            let (posted, ()) =
                tokio::try_join!(posting, fleet.gateway.until_arrived(expected, &window))?;
            posted
        }
        Start::After | Start::Never => posting.await?,
    };
    let strangers = match strangers {
        Some(flood) => Some(flood.end().await),
        None => None,
    };
    if figure.start == Start::After {
        (begun, begun_us) = (Instant::now(), now_us());
        fleet.start_workers();
        for worker in fleet.watched_workers() {
            watch.lock().await.add(worker);
        }
        let arrived = fleet.gateway.until_arrived(expected, &window);
        tokio::try_join!(arrived, fleet.workers_ready())?;
    }
    let expected_rows = expected_rows(figure, warmed);
    if figure.setup == Setup::FanOut {
        // The gateway sees nothing of threads.
        fleet.until_rows(ROWS, &expected_rows).await?;
    }
    let gateway = match figure.start {
        Start::Never => None,
        Start::Before | Start::After => {
            Some(sent(figure, fleet, &posted, (begun, begun_us, warmed)).await?)
        }
    };
    let ledger = fleet.at_rest().await?;
    let rows = fleet.until_rows(ROWS, &expected_rows).await?;
    looking.abort();
    // The task is over or will be at its next await; nobody else holds the watch.
    let _ended = looking.await;
    let watch = Arc::into_inner(watch)
        .context("the watch has one owner")?
        .into_inner();
    let processes = watch.end(load.events);
    let grown = Written::now(fleet).await?;
    check(figure, fleet, &ledger, warmed).await?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "runs have far fewer than 2^52 events and bytes"
    )]
    Ok(Trial {
        figure: figure.name.to_owned(),
        load,
        accepted: Accepted {
            events: load.events,
            seconds: posted.took.as_secs_f64(),
            per_s: load.events as f64 / posted.took.as_secs_f64(),
            latency_ms: posted.latency(),
            repeated: posted.repeated,
        },
        gateway,
        strangers,
        cpu_us_per_event: processes
            .values()
            .filter(|cost| cost.counted)
            .map(|cost| cost.cpu_us_per_event)
            .sum(),
        processes,
        disk_bytes_per_event: (grown.all() - written.all()) as f64 / load.events as f64,
        database_bytes_per_event: (grown.database - written.database) as f64 / load.events as f64,
        ledger,
        rows,
    })
}

/// What everything that was posted must have led to by the end: each message once, by one attempt, and
/// with acks read.
fn expected_rows(figure: &Figure, warmed: u64) -> BTreeMap<String, i64> {
    let posted = i64::try_from(warmed + figure.load.events).unwrap_or(i64::MAX);
    let mut rows = BTreeMap::new();
    if figure.start != Start::Never {
        let state = if figure.echo { "read" } else { "sent" };
        rows.insert(format!("deliveries whatsapp {state}"), posted);
        if figure.setup == Setup::FanOut {
            rows.insert("deliveries chat delivered".to_owned(), posted);
        }
        let messages = i64::try_from(figure.setup.messages()).unwrap_or(i64::MAX);
        rows.insert("attempts sent".to_owned(), posted * messages);
    }
    rows
}

/// Posts all, and looks at the memory whenever another quarter of the events is posted.
async fn quarters(
    target: &super::post::Target,
    load: Load,
    events: &Events,
    window: &Window,
    watch: &Mutex<Watch>,
) -> anyhow::Result<Posted> {
    if matches!(load.pace, Pace::Rate(_)) || !load.events.is_multiple_of(4 * load.batch) {
        return post(target, load, events, window).await;
    }
    let quarter = Load {
        events: load.events / 4,
        ..load
    };
    let mut whole = Posted::default();
    for nth in 0..4 {
        whole.append(post(target, quarter, &events.after(nth * quarter.events), window).await?);
        watch.lock().await.look(true);
    }
    Ok(whole)
}

async fn keep_looking(watch: Arc<Mutex<Watch>>) {
    loop {
        watch.lock().await.look(false);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn sent(
    figure: &Figure,
    fleet: &Fleet,
    posted: &Posted,
    (begun, begun_us, warmed): (Instant, i64, u64),
) -> anyhow::Result<Sent> {
    let until_now = begun.elapsed().as_secs_f64();
    let warmed = usize::try_from(warmed)?;
    let arrivals = fleet.gateway.arrivals(warmed + posted.at_us.len()).await?;
    let arrivals: Vec<i64> = arrivals[warmed..]
        .iter()
        .copied()
        .collect::<Option<_>>()
        .context("a message did not arrive")?;
    let last = arrivals.iter().max().context("something was posted")?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "a run is far shorter than 2^52 µs"
    )]
    let until_arrived = (last - begun_us) as f64 / 1e6;
    let seconds = if figure.echo || figure.setup == Setup::FanOut {
        until_now
    } else {
        until_arrived
    };
    let latencies = arrivals
        .iter()
        .zip(&posted.at_us)
        .zip(0..)
        .filter(|(_, nth)| !figure.setup.is_slow(*nth))
        .map(|((arrived, posted), _)| arrived - posted)
        .collect();
    #[expect(
        clippy::cast_precision_loss,
        reason = "runs have far fewer than 2^52 events"
    )]
    let events_per_s = figure.load.events as f64 / seconds;
    let each = figure.setup.messages();
    #[expect(clippy::cast_precision_loss, reason = "it is one or two")]
    let per_s = events_per_s * each as f64;
    Ok(Sent {
        messages: figure.load.events * each,
        seconds,
        per_s,
        events_per_s,
        latency_ms: Latency::of(latencies),
    })
}

/// Everything is there once, and the ledger closes.
async fn check(figure: &Figure, fleet: &Fleet, ledger: &Value, warmed: u64) -> anyhow::Result<()> {
    ensure!(
        ledger["imbalance"] == 0,
        "the ledger does not close: {ledger}"
    );
    let posted = i64::try_from(warmed + figure.load.events)?;
    let stored = fleet
        .number("select count(*) from idempotency_keys where key like 'load-%'")
        .await?;
    ensure!(
        stored == posted,
        "{posted} events were posted, {stored} are stored"
    );
    Ok(())
}

/// How much is on disk.
struct Written {
    database: i64,
    wal: i64,
}

impl Written {
    async fn now(fleet: &Fleet) -> anyhow::Result<Self> {
        Ok(Self {
            database: fleet
                .number("select pg_database_size(current_database())")
                .await?,
            wal: fleet
                .number("select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint")
                .await?,
        })
    }

    fn all(&self) -> i64 {
        self.database + self.wal
    }
}
