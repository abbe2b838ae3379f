//! The command line: run, migrate, check-config.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use shared::broker::BrokerArgs;
use shared::domain::channel::PerChannel;
use shared::runtime::cli::duration;
use shared::runtime::ops::OpsArgs;
use shared::runtime::telemetry::TelemetryArgs;
use shared::sealing::SealingArgs;
use shared::store::pool::DatabaseArgs;

/// Posto's router-worker: decides what each event leads to.
#[derive(Debug, Parser)]
#[command(name = "router-worker", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Routes until it is asked to stop.
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
    /// Bounds each step of a routing, like `30s`; one that takes longer is tried again.
    #[arg(long, env = "EVENT_PROCESSING_TIMEOUT", default_value = "30s", value_parser = duration)]
    pub event_processing_timeout: Duration,
    /// How many retries a delivery has after its first attempt, 0 to 100; a channel may have its
    /// own, like `3,email=5`.
    #[arg(long, env = "MAX_EVENT_RETRIES", default_value = "3", value_parser = retries)]
    pub max_event_retries: PerChannel<i32>,
}

fn retries(text: &str) -> Result<PerChannel<i32>, String> {
    PerChannel::parse(text, |text| {
        let number = text
            .parse()
            .ok()
            .filter(|number| (0..=100).contains(number));
        number.ok_or_else(|| format!("{text:?} is no number from 0 to 100"))
    })
}
