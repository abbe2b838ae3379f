//! Starting and stopping, in three stages: first the work (listeners, consumers, loops, batchers),
//! then the relay that publishes what the work committed, last the links that both need. A bound
//! ends the process all the same.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a clean stop may take before the process ends with an error: the longest send
/// (`EVENT_PROCESSING_TIMEOUT`, 30 s by default) and the time to record it.
pub const STOP_BOUND: Duration = Duration::from_secs(45);

/// Tasks that stop together.
#[derive(Clone, Debug, Default)]
pub struct Stage {
    /// Cancelled when the stage is asked to stop.
    pub stop: CancellationToken,
    /// What is waited for.
    pub tasks: TaskTracker,
}

impl Stage {
    async fn end(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// What every long-running part of a process gets.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    /// Listeners, consumers, loops, batchers.
    pub work: Stage,
    /// The relay.
    pub relay: Stage,
    /// Connections to the broker, probes and metrics.
    pub links: Stage,
}

impl Lifecycle {
    /// Runs a part of the work until it ends; a clean stop waits for it.
    pub fn spawn<F>(&self, part: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.work.tasks.spawn(part)
    }

    /// Cancelled when the process is asked to stop.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.work.stop.clone()
    }

    /// Starts the process, waits for SIGTERM or SIGINT (or for a part that gave up and cancelled the
    /// token), then for every stage to end. A signal counts from the first moment on: one that
    /// comes while the database is still waited for ends the wait.
    ///
    /// # Errors
    /// The start failed. Or the stages did not end within [`STOP_BOUND`], or a second signal came:
    /// end the process with a failure, leases and the broker return what was open.
    pub async fn run<App, E: From<StopIncomplete>>(
        &self,
        start: impl Future<Output = Result<App, E>>,
    ) -> Result<(), E> {
        let mut signals = Signals::listen();
        let stopped_early = tokio::select! {
            app = start => app.map(|_| false)?,
            () = signals.next() => true,
        };
        if !stopped_early {
            tokio::select! {
                () = signals.next() => {}
                () = self.work.stop.cancelled() => {}
            }
        }
        tracing::info!("stopping");
        tokio::select! {
            stopped = self.stop() => stopped.map_err(E::from),
            () = signals.next() => Err(StopIncomplete.into()),
        }
    }

    /// Asks everything to stop, stage by stage, and waits for it.
    ///
    /// # Errors
    /// The stages did not end within [`STOP_BOUND`]: as [`Self::run`].
    pub async fn stop(&self) -> Result<(), StopIncomplete> {
        let stages = async {
            self.work.end().await;
            self.relay.end().await;
            self.links.end().await;
        };
        tokio::time::timeout(STOP_BOUND, stages)
            .await
            .map_err(|_| StopIncomplete)?;
        tracing::info!("stopped");
        Ok(())
    }
}

/// Parts were still running when the process had to end.
#[derive(Debug, thiserror::Error)]
#[error("not everything stopped in time")]
pub struct StopIncomplete;

struct Signals {
    terminate: Option<Signal>,
    interrupt: Option<Signal>,
}

impl Signals {
    fn listen() -> Self {
        Self {
            terminate: signal(SignalKind::terminate()).ok(),
            interrupt: signal(SignalKind::interrupt()).ok(),
        }
    }

    async fn next(&mut self) {
        async fn one(source: &mut Option<Signal>) {
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
