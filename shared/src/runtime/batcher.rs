//! Turns many small commits into few (design §2).
//!
//! At most two runs are in flight, and whatever arrives meanwhile is the next batch. Under light load
//! a batch is one item and waits for nothing. Under heavy load a run waits for the one before it, so
//! that it grows: two that halve the items between them cost more than one; only a full run may begin
//! beside another. In between, runs that come thick and fast begin a moment apart, so that items meet:
//! a run costs much more than an item of it. A run happens in a task of its own: a caller that hangs
//! up cancels nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;

use super::pace::Pace;

/// How many runs of one batcher may be in flight.
const RUNS_IN_FLIGHT: usize = 2;
/// A run of more items than this begins beside no other, unless it is full.
const SMALL_RUN: usize = 1;
/// How far apart runs begin that are many. Far below what a run takes under heavy load.
const BETWEEN_RUNS: Duration = Duration::from_millis(4);
/// So many begin as they come before that: two hundred items a second would each wait for nobody, once in
/// each batcher of their way.
const RUNS_AT_ONCE: u32 = 8;
/// How often a run that met a deadlock or a serialisation failure is repeated.
const CONFLICT_REPEATS: u32 = 8;
/// The most bytes that are collected into one run, one item more at the most.
const HEAVIEST_RUN: usize = 16 << 20;
/// How often a run whose callers wait is tried while the database is away: a pool that was just
/// restarted under us costs one broken connection or two.
const TELL_TRIES: u32 = 3;
/// The longest wait between two tries of a run that is held.
const LONGEST_HOLD: Duration = Duration::from_secs(5);

/// What a failed run means for its items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// One of the items is at fault (SQLSTATE class 22, 23): split until it is alone.
    Data,
    /// The run met another one (40P01, 40001): repeat it as it is.
    Conflict,
    /// The database is unwell (08, 53, 57, 58, 42): nobody's fault, wait or say so.
    Unavailable,
}

/// An error that knows what it means for a batch.
pub trait BatchError: std::error::Error + Send + 'static {
    /// What the failure means for the items of the run.
    fn fault(&self) -> Fault;
}

/// The work of a batcher: one transaction over many items.
pub trait BatchJob: Send + Sync + 'static {
    /// What is submitted.
    type Item: Send + Sync + 'static;
    /// What one item comes to.
    type Done: Send + 'static;
    /// Why a run failed.
    type Error: BatchError;

    /// What an item weighs in bytes, where items may be large.
    #[must_use]
    fn weight(_item: &Self::Item) -> usize {
        0
    }

    /// Runs one transaction over `items`; answers in their order, one for each.
    fn run(
        &self,
        items: &[Self::Item],
    ) -> impl Future<Output = Result<Vec<Self::Done>, Self::Error>> + Send;
}

/// What a batcher does while the database is unwell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenUnavailable {
    /// Keep the items and try again until it is well: for consumers, whose messages stay unacked.
    Hold,
    /// Tell the callers at once: for HTTP, where the caller repeats.
    Tell,
}

/// Why an item was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The item itself is at fault; trying again is of no use.
    #[error("the data was refused")]
    Data,
    /// The database is unwell; try again later.
    #[error("the database is not available")]
    Unavailable,
    /// The run panicked with this item alone.
    #[error("the run panicked")]
    Panicked,
    /// The process is stopping.
    #[error("the process is stopping")]
    Stopping,
}

/// The settings of a batcher.
#[derive(Clone, Copy, Debug)]
pub struct BatcherConfig {
    /// Names the batcher in logs.
    pub name: &'static str,
    /// The most items of one run.
    pub max_items: usize,
    /// What happens while the database is unwell.
    pub when_unavailable: WhenUnavailable,
}

struct Pending<J: BatchJob> {
    item: J::Item,
    done: oneshot::Sender<Result<J::Done, Rejected>>,
}

/// A handle to submit items with; cheap to clone.
pub struct Batcher<J: BatchJob> {
    queue: mpsc::Sender<Pending<J>>,
}

impl<J: BatchJob> Clone for Batcher<J> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
        }
    }
}

impl<J: BatchJob> Batcher<J> {
    /// Starts a batcher; it ends when its last handle is dropped, after what it took is done.
    pub fn start(job: J, config: BatcherConfig, tasks: &TaskTracker) -> Self {
        let (queue, arrivals) = mpsc::channel(config.max_items * 8);
        tasks.spawn(collect(Arc::new(job), config, arrivals, tasks.clone()));
        Self { queue }
    }

    /// Submits one item and waits for its transaction.
    ///
    /// # Errors
    /// See [`Rejected`] for what the caller should do.
    pub async fn submit(&self, item: J::Item) -> Result<J::Done, Rejected> {
        let (done, answer) = oneshot::channel();
        self.queue
            .send(Pending { item, done })
            .await
            .map_err(|_| Rejected::Stopping)?;
        answer.await.map_err(|_| Rejected::Stopping)?
    }
}

async fn collect<J: BatchJob>(
    job: Arc<J>,
    config: BatcherConfig,
    mut arrivals: mpsc::Receiver<Pending<J>>,
    tasks: TaskTracker,
) {
    let runs = Arc::new(Semaphore::new(RUNS_IN_FLIGHT));
    let mut pace = Pace::new(BETWEEN_RUNS, RUNS_AT_ONCE, Instant::now());
    while let Some(first) = arrivals.recv().await {
        if arrivals.len() < config.max_items {
            sleep_until(pace.next()).await;
        }
        let Ok(mut permit) = Arc::clone(&runs).acquire_owned().await else {
            return;
        };
        pace.begin(Instant::now());
        let mut batch = Batch::of(first);
        batch.take_more(&mut arrivals, config.max_items);
        if (SMALL_RUN + 1..config.max_items).contains(&batch.items.len()) {
            let Ok(alone) = Arc::clone(&runs).acquire_owned().await else {
                return;
            };
            permit.merge(alone);
            batch.take_more(&mut arrivals, config.max_items);
        }
        let job = Arc::clone(&job);
        tasks.spawn(async move {
            run_all(job, config, batch.items, batch.answers).await;
            drop(permit);
        });
    }
}

/// What one run is about.
struct Batch<J: BatchJob> {
    items: Vec<J::Item>,
    answers: Answers<J>,
    weight: usize,
}

impl<J: BatchJob> Batch<J> {
    fn of(first: Pending<J>) -> Self {
        Self {
            weight: J::weight(&first.item),
            items: vec![first.item],
            answers: vec![first.done],
        }
    }

    /// Takes what has arrived, as far as there is room for it.
    fn take_more(&mut self, arrivals: &mut mpsc::Receiver<Pending<J>>, max_items: usize) {
        while self.items.len() < max_items && self.weight < HEAVIEST_RUN {
            let Ok(next) = arrivals.try_recv() else {
                return;
            };
            self.weight += J::weight(&next.item);
            self.items.push(next.item);
            self.answers.push(next.done);
        }
    }
}

type Answers<J> = Vec<oneshot::Sender<Result<<J as BatchJob>::Done, Rejected>>>;

/// Runs the batch, splitting it in halves as long as some item in it is at fault.
async fn run_all<J: BatchJob>(
    job: Arc<J>,
    config: BatcherConfig,
    items: Vec<J::Item>,
    answers: Answers<J>,
) {
    let items = Arc::new(items);
    let mut answers: Vec<_> = answers.into_iter().map(Some).collect();
    let whole = 0..items.len();
    let mut parts = vec![whole];
    while let Some(part) = parts.pop() {
        let outcome = run_part(&job, config, &items, part.clone()).await;
        match outcome {
            Ok(done) => {
                debug_assert_eq!(
                    done.len(),
                    part.len(),
                    "a run answers for each of its items"
                );
                for (index, done) in part.zip(done) {
                    if let Some(answer) = answers[index].take() {
                        let _ = answer.send(Ok(done));
                    }
                }
            }
            Err(rejected) if part.len() == 1 || rejected == Rejected::Unavailable => {
                for index in part {
                    if let Some(answer) = answers[index].take() {
                        let _ = answer.send(Err(rejected.clone()));
                    }
                }
            }
            Err(_) => {
                let middle = part.start + part.len() / 2;
                parts.push(middle..part.end);
                parts.push(part.start..middle);
            }
        }
    }
}

/// Runs one part until it is done or is known to be at fault.
async fn run_part<J: BatchJob>(
    job: &Arc<J>,
    config: BatcherConfig,
    items: &Arc<Vec<J::Item>>,
    part: std::ops::Range<usize>,
) -> Result<Vec<J::Done>, Rejected> {
    let (mut conflicts, mut tries) = (0, 0);
    let mut wait = Duration::from_millis(100);
    loop {
        // In a task of its own so that a panic concerns these items alone.
        let run = tokio::spawn({
            let (job, items, part) = (Arc::clone(job), Arc::clone(items), part.clone());
            async move { job.run(&items[part]).await }
        });
        let error = match run.await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => error,
            Err(panicked) => {
                tracing::error!(batcher = config.name, items = part.len(), error = %panicked, "a run panicked");
                return Err(Rejected::Panicked);
            }
        };
        match error.fault() {
            Fault::Data => {
                if part.len() == 1 {
                    tracing::error!(batcher = config.name, error = %super::telemetry::chain(&error), "the database refused an item");
                }
                return Err(Rejected::Data);
            }
            Fault::Conflict if conflicts < CONFLICT_REPEATS => {
                conflicts += 1;
                tokio::time::sleep(Duration::from_millis(rand::random_range(1..20))).await;
            }
            Fault::Conflict | Fault::Unavailable => {
                tracing::warn!(batcher = config.name, items = part.len(), error = %super::telemetry::chain(&error), "the database is not available");
                tries += 1;
                if config.when_unavailable == WhenUnavailable::Tell && tries >= TELL_TRIES {
                    return Err(Rejected::Unavailable);
                }
                tokio::time::sleep(wait.mul_f64(rand::random_range(0.5..1.0))).await;
                wait = (wait * 2).min(LONGEST_HOLD);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the test's fault")]
    struct Faulty(Fault);

    impl BatchError for Faulty {
        fn fault(&self) -> Fault {
            self.0
        }
    }

    /// Doubles numbers; refuses negative ones, panics on 13, and is unwell for the first `unwell` runs.
    #[derive(Default)]
    struct Double {
        sizes: Arc<Mutex<Vec<usize>>>,
        unwell: Mutex<u32>,
    }

    impl BatchJob for Double {
        type Item = i64;
        type Done = i64;
        type Error = Faulty;

        async fn run(&self, items: &[i64]) -> Result<Vec<i64>, Faulty> {
            {
                let mut unwell = self.unwell.lock().unwrap();
                if *unwell > 0 {
                    *unwell -= 1;
                    return Err(Faulty(Fault::Unavailable));
                }
            }
            tokio::task::yield_now().await;
            assert!(!items.contains(&13), "unlucky");
            if items.iter().any(|item| *item < 0) {
                return Err(Faulty(Fault::Data));
            }
            self.sizes.lock().unwrap().push(items.len());
            Ok(items.iter().map(|item| item * 2).collect())
        }
    }

    fn config(when_unavailable: WhenUnavailable) -> BatcherConfig {
        BatcherConfig {
            name: "test",
            max_items: 50,
            when_unavailable,
        }
    }

    #[tokio::test]
    async fn what_arrives_together_is_done_together_and_answers_stay_in_order() {
        let job = Double::default();
        let sizes = Arc::clone(&job.sizes);
        let batcher = Batcher::start(job, config(WhenUnavailable::Hold), &TaskTracker::new());
        let answers = futures_util::future::join_all((100..300).map(|n| batcher.submit(n))).await;
        for (n, answer) in answers.into_iter().enumerate() {
            assert_eq!(answer, Ok(2 * (100 + i64::try_from(n).unwrap())));
        }
        assert!(
            sizes.lock().unwrap().len() < 50,
            "200 items took {:?}",
            sizes.lock().unwrap()
        );
    }

    #[tokio::test]
    async fn one_bad_item_is_refused_alone_and_one_panic_spoils_nothing_else() {
        let batcher = Batcher::start(
            Double::default(),
            config(WhenUnavailable::Hold),
            &TaskTracker::new(),
        );
        let answers =
            futures_util::future::join_all([1, 2, -3, 4, 13, 6].map(|n| batcher.submit(n))).await;
        assert_eq!(
            answers,
            [
                Ok(2),
                Ok(4),
                Err(Rejected::Data),
                Ok(8),
                Err(Rejected::Panicked),
                Ok(12)
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_consumer_waits_for_the_database_and_a_caller_is_told() {
        let unwell = || Double {
            unwell: Mutex::new(3),
            ..Double::default()
        };
        let holding = Batcher::start(unwell(), config(WhenUnavailable::Hold), &TaskTracker::new());
        assert_eq!(holding.submit(1).await, Ok(2));
        let telling = Batcher::start(unwell(), config(WhenUnavailable::Tell), &TaskTracker::new());
        assert_eq!(telling.submit(1).await, Err(Rejected::Unavailable));
    }
}
