//! Posts events: as fast as so many connections go, or at a rate that nothing slows down.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, Semaphore, mpsc};

use super::event::Events;
use super::latency::Latency;
use crate::plain_http::PlainHttp;

/// How often one event is posted while it is answered 503 or not at all.
const MOST_TRIES: u32 = 200;
/// What is waited between two tries.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// When an event is posted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// Closed loop: each connection posts when its last post was answered.
    Closed,
    /// Closed loop over the whole way: at most so many events between their post and the gateway.
    InFlight(u32),
    /// Open loop: so many events a second, whatever becomes of those before. Latencies count from
    /// the moment at which a post was due.
    Rate(u32),
}

/// What is posted, and how.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// How many events.
    pub events: u64,
    /// How many of them in one post.
    pub batch: u64,
    /// Over how many connections.
    pub connections: u32,
    /// When.
    pub pace: Pace,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Posted {
    /// When each event was posted or due, in microseconds of Unix time, by its number.
    pub at_us: Vec<i64>,
    /// How long it took until the last was accepted.
    pub took: Duration,
    /// From post (or due time) to answer, of each post, in microseconds.
    pub answered_after_us: Vec<i64>,
    /// How often a post was answered 503 or not at all, and repeated.
    pub repeated: u64,
}

impl Posted {
    /// What came of two loads, one after the other.
    pub fn append(&mut self, next: Self) {
        self.at_us.extend(next.at_us);
        self.answered_after_us.extend(next.answered_after_us);
        self.took += next.took;
        self.repeated += next.repeated;
    }

    /// From post (or due time) to answer.
    #[must_use]
    pub fn latency(&self) -> Option<Latency> {
        Latency::of(self.answered_after_us.clone())
    }
}

/// Where to post to.
#[derive(Clone, Debug)]
pub struct Target {
    /// The address of the public listener.
    pub url: String,
    /// The credential of source `billing`.
    pub token: String,
}

/// How many more events may be under way; granted from outside as they arrive.
#[derive(Clone, Debug)]
pub struct Window(Arc<Semaphore>);

impl Window {
    /// Room for as many events as the pace allows.
    #[must_use]
    pub fn of(pace: Pace) -> Self {
        Self(Arc::new(Semaphore::new(match pace {
            Pace::InFlight(most) => most as usize,
            Pace::Closed | Pace::Rate(_) => Semaphore::MAX_PERMITS / 2,
        })))
    }

    /// So many events have arrived.
    pub fn arrived(&self, events: usize) {
        self.0.add_permits(events);
    }

    async fn enter(&self, events: u64) {
        let events = u32::try_from(events).unwrap_or(u32::MAX);
        // Closed never: then there is nothing to wait for either.
        if let Ok(permits) = self.0.acquire_many(events).await {
            permits.forget();
        }
    }
}

/// The posts that are to be made.
struct Schedule {
    load: Load,
    /// The next post of a closed loop.
    next: AtomicU64,
    /// The posts of an open loop that are due: which, and since when.
    due: Mutex<mpsc::Receiver<(u64, i64)>>,
}

impl Schedule {
    fn begin(load: Load) -> Self {
        let posts = load.events / load.batch;
        let (tell, due) = mpsc::channel(usize::try_from(posts).unwrap_or(usize::MAX).max(1));
        if let Pace::Rate(rate) = load.pace {
            // A thread of its own: the runtime's timer is a millisecond coarse, more than some of
            // what is measured.
            std::thread::spawn(move || {
                let (begun, begun_us) = (Instant::now(), now_us());
                for post in 0..posts {
                    let events = u32::try_from(post * load.batch).unwrap_or(u32::MAX);
                    let after = Duration::from_secs(1) * events / rate;
                    std::thread::sleep(after.saturating_sub(begun.elapsed()));
                    let at_us = begun_us + i64::try_from(after.as_micros()).unwrap_or(i64::MAX);
                    if tell.blocking_send((post, at_us)).is_err() {
                        return;
                    }
                }
            });
        }
        Self {
            load,
            next: AtomicU64::new(0),
            due: Mutex::new(due),
        }
    }

    /// The number of the next post's first event, and the time from which its latency counts.
    async fn next(&self, window: &Window) -> Option<(u64, i64)> {
        let (post, at_us) = match self.load.pace {
            Pace::Rate(_) => self.due.lock().await.recv().await?,
            Pace::Closed | Pace::InFlight(_) => {
                let post = self.next.fetch_add(1, Ordering::Relaxed);
                (post < self.load.events / self.load.batch).then_some(())?;
                window.enter(self.load.batch).await;
                (post, now_us())
            }
        };
        Some((post * self.load.batch, at_us))
    }
}

/// Posts every event until it is accepted.
///
/// # Errors
/// The address is none, or an event was refused for another reason than 503.
pub async fn post(
    target: &Target,
    load: Load,
    events: &Events,
    window: &Window,
) -> anyhow::Result<Posted> {
    let url = reqwest::Url::parse(&target.url)?.join("/api/events")?;
    let headers = format!(
        "content-type: application/json\r\nauthorization: Bearer {}\r\n",
        target.token
    );
    let http = Arc::new(PlainHttp::new(&url, &headers).context("the address is no plain HTTP")?);
    let begun = Instant::now();
    let schedule = Arc::new(Schedule::begin(load));
    let repeated = Arc::new(AtomicU64::new(0));
    let mut posting = tokio::task::JoinSet::new();
    for _ in 0..load.connections {
        let (http, schedule, events, window) = (
            Arc::clone(&http),
            Arc::clone(&schedule),
            events.clone(),
            window.clone(),
        );
        let repeated = Arc::clone(&repeated);
        posting.spawn(async move {
            let mut done = Vec::new();
            while let Some((first, at_us)) = schedule.next(&window).await {
                repeated.fetch_add(
                    until_accepted(&http, &events.body(first, load.batch)).await?,
                    Ordering::Relaxed,
                );
                done.push((first, at_us, now_us() - at_us));
            }
            anyhow::Ok(done)
        });
    }
    let mut at_us = vec![0; usize::try_from(load.events)?];
    let mut latencies = Vec::new();
    while let Some(done) = posting.join_next().await {
        for (first, posted_us, took_us) in done?? {
            let first = usize::try_from(first)?;
            at_us[first..first + usize::try_from(load.batch)?].fill(posted_us);
            latencies.push(took_us);
        }
    }
    Ok(Posted {
        at_us,
        took: begun.elapsed(),
        answered_after_us: latencies,
        repeated: repeated.load(Ordering::Relaxed),
    })
}

/// Posts a body until it is accepted, as a caller with a key would; answers how often it had to repeat.
async fn until_accepted(http: &PlainHttp, body: &[u8]) -> anyhow::Result<u64> {
    for tries in 0..MOST_TRIES {
        match http.post(body).await {
            Ok(202) => return Ok(u64::from(tries)),
            Ok(503) | Err(_) => tokio::time::sleep(TRY_AGAIN_AFTER).await,
            Ok(status) => bail!("an event was answered {status}"),
        }
    }
    bail!("an event was not accepted in {MOST_TRIES} tries")
}

/// Microseconds of Unix time: the simulator's clock too, it runs on the same machine.
#[must_use]
pub fn now_us() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
