//! Starting and stopping: a soft token that asks for a clean stop, a tracker of what still runs,
//! and a bound after which the process ends all the same.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a clean stop may take before the process ends with an error.
pub const STOP_BOUND: Duration = Duration::from_secs(25);

/// What every long-running part of a process gets.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    /// Cancelled when the process is asked to stop.
    pub stopping: CancellationToken,
    /// Everything that a clean stop waits for.
    pub tasks: TaskTracker,
}

impl Lifecycle {
    /// Runs `part` until it ends; a clean stop waits for it.
    pub fn spawn<F>(&self, part: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(part)
    }

    /// Waits for SIGTERM or SIGINT (or for a part that gave up and cancelled the token), then for
    /// every part to end.
    ///
    /// # Errors
    /// The parts did not end within [`STOP_BOUND`], or a second signal came: end the process with
    /// a failure, leases and the broker return what was open.
    pub async fn run_until_stopped(self) -> Result<(), StopIncomplete> {
        let mut signals = Signals::listen();
        tokio::select! {
            () = signals.next() => {}
            () = self.stopping.cancelled() => {}
        }
        tracing::info!("stopping");
        self.stop(signals).await
    }

    /// Asks everything to stop and waits for it, for tests and embedded use.
    ///
    /// # Errors
    /// As [`Self::run_until_stopped`].
    pub async fn stop_now(self) -> Result<(), StopIncomplete> {
        self.stop(Signals {
            terminate: None,
            interrupt: None,
        })
        .await
    }

    async fn stop(self, mut signals: Signals) -> Result<(), StopIncomplete> {
        self.stopping.cancel();
        self.tasks.close();
        tokio::select! {
            () = self.tasks.wait() => { tracing::info!("stopped"); Ok(()) }
            () = tokio::time::sleep(STOP_BOUND) => Err(StopIncomplete),
            () = signals.next() => Err(StopIncomplete),
        }
    }
}

/// Parts were still running when the process had to end.
#[derive(Debug, thiserror::Error)]
#[error("not everything stopped in time")]
pub struct StopIncomplete;

struct Signals {
    terminate: Option<tokio::signal::unix::Signal>,
    interrupt: Option<tokio::signal::unix::Signal>,
}

impl Signals {
    fn listen() -> Self {
        Self {
            terminate: signal(SignalKind::terminate()).ok(),
            interrupt: signal(SignalKind::interrupt()).ok(),
        }
    }

    async fn next(&mut self) {
        async fn one(source: &mut Option<tokio::signal::unix::Signal>) {
            match source {
                Some(source) => {
                    source.recv().await;
                }
                None => std::future::pending().await,
            }
        }
        tokio::select! {
            () = one(&mut self.terminate) => {}
            () = one(&mut self.interrupt) => {}
        }
    }
}
