//! The command line: run, migrate, check-config.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use shared::broker::BrokerArgs;
use shared::runtime::ops::OpsArgs;
use shared::runtime::telemetry::TelemetryArgs;
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
    /// Bounds each text send, like `30s` or `500ms`; what takes longer has an unknown outcome.
    #[arg(long, env = "EVENT_PROCESSING_TIMEOUT", default_value = "30s", value_parser = duration)]
    pub event_processing_timeout: Duration,
    /// Wait before the first retry; each further one doubles it.
    #[arg(long, env = "RETRY_BASE", default_value = "5s", value_parser = duration)]
    pub retry_base: Duration,
    /// The longest wait before a retry of our own choosing.
    #[arg(long, env = "RETRY_LONGEST", default_value = "300s", value_parser = duration)]
    pub retry_longest: Duration,
    /// How long evidence may take before a template's policy sends an unknown once more.
    #[arg(long, env = "UNKNOWN_SILENCE", default_value = "300s", value_parser = duration)]
    pub unknown_silence: Duration,
    /// The most sends of this process at one time.
    #[arg(long, env = "DELIVERY_CONCURRENCY", default_value_t = 64)]
    pub delivery_concurrency: u16,
}

/// Reads `30s`, `500ms`, `2m` or plain seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits
        .parse()
        .map_err(|_| format!("{text:?} is no duration like 30s"))?;
    match &text[digits.len()..] {
        "ms" => Ok(Duration::from_millis(number)),
        "" | "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number * 60)),
        unit => Err(format!("{unit:?} is no unit: use ms, s or m")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_and_without_a_unit() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("30"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert!(duration("soon").is_err());
        assert!(duration("3h").is_err());
    }
}
