//! JSON logs on standard output, one canonical line per unit of work.
//!
//! Invariant: no payload, text, address or secret is ever a field; types mask themselves.

use std::error::Error;
use std::fmt::Write as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Settings of the logs.
#[derive(Clone, Debug, clap::Args)]
pub struct TelemetryArgs {
    /// What is logged, in the syntax of `tracing_subscriber::EnvFilter`.
    #[arg(long, env = "LOG_FILTER", default_value = "info,lapin=off,sqlx=warn")]
    pub log_filter: String,
}

/// Starts the logs of this process. A filter that cannot be read falls back to `info`.
pub fn start(args: &TelemetryArgs) {
    start_to(args, std::io::stdout);
}

/// As [`start`], written to a place of the caller's choosing.
pub fn start_to<W>(args: &TelemetryArgs, writer: W)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(&args.log_filter).unwrap_or_else(|_| EnvFilter::new("info"));
    // A second start (tests in one process) keeps the first.
    let _ = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_env_filter(filter)
        .with_writer(writer)
        .try_init();
}

/// The whole chain of an error on one line; `Display` of our errors never includes the source.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}
