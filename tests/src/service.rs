//! A service as a real process that can be killed.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The longest that a process may take to start, to die or to stop.
const PROCESS_BOUND: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What a service is run from.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its name, for logs and failures.
    pub name: &'static str,
    /// The executable.
    pub path: PathBuf,
    /// Its command line.
    pub arguments: Vec<&'static str>,
}

/// A service: how it is started, and the process while it runs. Ends with its owner.
#[derive(Debug)]
pub struct Service {
    program: Program,
    environment: Vec<(&'static str, String)>,
    ops: SocketAddr,
    /// Keeps the port of `ops` from everybody else until the first start.
    reserved: Option<TcpListener>,
    log: PathBuf,
    child: Option<Child>,
}

impl Service {
    /// A service that is not started yet. It keeps its addresses over every restart.
    #[must_use]
    pub fn new(
        program: Program,
        logs: &Path,
        mut environment: Vec<(&'static str, String)>,
    ) -> Self {
        let reserved = free_listener();
        let ops = reserved
            .local_addr()
            .expect("because a listener has an address");
        environment.push(("OPS_LISTEN", ops.to_string()));
        Self {
            environment,
            ops,
            reserved: Some(reserved),
            log: logs.join(format!("{}-{}.log", program.name, ops.port())),
            program,
            child: None,
        }
    }

    /// Where probes and metrics are.
    #[must_use]
    pub const fn ops(&self) -> SocketAddr {
        self.ops
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.program.name
    }

    /// Starts it.
    ///
    /// # Panics
    /// When it runs already, or there is no such program.
    pub fn start(&mut self) {
        self.spawn(None);
    }

    /// Starts it so that it dies when it has reached a point that often; in a build with failpoints.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn start_fatally(&mut self, point: &str, times: u32) {
        self.spawn(Some(format!("{}:{times}", point)));
    }

    fn spawn(&mut self, failpoint: Option<String>) {
        assert!(self.child.is_none(), "{} runs already", self.program.name);
        drop(self.reserved.take());
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.expect("because the folder of the logs was made");
        let mut command = Command::new(&self.program.path);
        command
            .args(&self.program.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("POSTO_FAILPOINT", failpoint.unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("because the log is open"))
            .stderr(log);
        self.child = Some(command.spawn().expect("because the service was built"));
    }

    /// Kills it as `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _gone_already = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks it to stop (SIGTERM) and waits until it did.
    ///
    /// # Panics
    /// When it does not stop cleanly within the bound.
    pub async fn stop(&mut self) {
        let pid = self.child.as_ref().expect("because it runs").id();
        let sent = Command::new("kill")
            .args(["-TERM", &pid.to_string()])
            .status();
        assert!(
            sent.is_ok_and(|status| status.success()),
            "SIGTERM to {pid}"
        );
        let status = self.ended().await;
        assert!(
            status.success(),
            "{} stopped with {status}",
            self.program.name
        );
    }

    /// Waits until it dies of its failpoint.
    ///
    /// # Panics
    /// When it lives on: the point was not reached.
    pub async fn dead(&mut self) -> Instant {
        let status = self.ended().await;
        assert!(!status.success(), "{} ended by itself", self.program.name);
        Instant::now()
    }

    async fn ended(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            let child = self.child.as_mut().expect("because it runs");
            if let Some(status) = child.try_wait().expect("because it is our child") {
                self.child = None;
                return status;
            }
            assert!(
                begun.elapsed() < PROCESS_BOUND,
                "{} lives on after {PROCESS_BOUND:?}",
                self.program.name
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Whether the very process that was started still runs.
    pub fn lives(&mut self) -> bool {
        let child = self.child.as_mut();
        child.is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Whether it was started and not ended.
    #[must_use]
    pub const fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// Its pid.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("because it runs").id()
    }

    /// The last lines of its log, for a scenario that failed.
    #[must_use]
    pub fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(15);
        format!("--- {}\n{}", self.program.name, lines[from..].join("\n"))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An address on loopback that nobody listens on at this moment.
///
/// # Panics
/// When loopback has none left.
#[must_use]
pub fn free_address() -> SocketAddr {
    free_listener()
        .local_addr()
        .expect("because a listener has an address")
}

fn free_listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("because loopback has free ports")
}
