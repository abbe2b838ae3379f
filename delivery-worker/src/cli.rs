//! The command line: run, migrate, check-config.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use shared::broker::BrokerArgs;
use shared::domain::channel::PerChannel;
use shared::outbound::OutboundArgs;
use shared::runtime::cli::duration;
use shared::runtime::ops::OpsArgs;
use shared::runtime::telemetry::TelemetryArgs;
use shared::sealing::SealingArgs;
use shared::store::pool::DatabaseArgs;
use shared::wpp::WppArgs;

/// Posto's delivery-worker: sends what was decided, and knows what became of it.
#[derive(Debug, Parser)]
#[command(name = "delivery-worker", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Delivers until it is asked to stop.
    Run(Box<RunArgs>),
    /// Applies pending migrations and makes the coming partitions.
    Migrate(DatabaseArgs),
    /// Reads the settings as `run` would, and shows them with secrets hidden.
    CheckConfig(Box<RunArgs>),
}

/// Everything that `run` reads.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// The database.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Encryption at rest.
    #[command(flatten)]
    pub sealing: SealingArgs,
    /// The broker.
    #[command(flatten)]
    pub broker: BrokerArgs,
    /// Probes and metrics.
    #[command(flatten)]
    pub ops: OpsArgs,
    /// Logs.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
    /// The gateway.
    #[command(flatten)]
    pub wpp: WppArgs,
    /// Where requests may go.
    #[command(flatten)]
    pub outbound: OutboundArgs,
    /// Bounds each text send, like `30s` or `500ms`; what takes longer has an unknown outcome.
    #[arg(long, env = "EVENT_PROCESSING_TIMEOUT", default_value = "30s", value_parser = duration)]
    pub event_processing_timeout: Duration,
    /// Wait before the first retry; each further one doubles it. A channel may have its own, like
    /// `5s,email=60s`.
    #[arg(long, env = "RETRY_BASE", default_value = "5s", value_parser = durations)]
    pub retry_base: PerChannel<Duration>,
    /// The longest wait before a retry of our own choosing; a channel may have its own.
    #[arg(long, env = "RETRY_LONGEST", default_value = "300s", value_parser = durations)]
    pub retry_longest: PerChannel<Duration>,
    /// How long evidence may take before a template's policy sends an unknown once more.
    #[arg(long, env = "UNKNOWN_SILENCE", default_value = "300s", value_parser = duration)]
    pub unknown_silence: Duration,
    /// The most sends of this process at one time.
    #[arg(long, env = "DELIVERY_CONCURRENCY", default_value_t = 64)]
    pub delivery_concurrency: u16,
}

fn durations(text: &str) -> Result<PerChannel<Duration>, String> {
    PerChannel::parse(text, duration)
}
