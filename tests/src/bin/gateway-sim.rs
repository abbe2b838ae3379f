//! The gateway simulator as a process of its own. See `docs/gateway-simulator.md`.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Context;
use clap::Parser;
use posto_tests::gateway_sim::{GatewaySim, RetryPolicy, Settings, SimConfig};
use tokio::signal::unix::{SignalKind, signal};

/// A WPP Gateway that runs anywhere and misbehaves on demand.
#[derive(Parser)]
#[command(name = "gateway-sim", version)]
struct Cli {
    /// Address to listen on. `/_sim` asks for no secret: keep it on loopback.
    #[arg(long, env = "SIM_LISTEN", default_value = "127.0.0.1:3900")]
    listen: SocketAddr,
    /// Directory that keeps messages and registrations; without one a restart forgets them.
    #[arg(long, env = "SIM_DATA")]
    data: Option<PathBuf>,
    /// What callers must send as `X-Gateway-Secret`.
    #[arg(long, env = "WPP_GATEWAY_SECRET", hide_env_values = true)]
    gateway_secret: String,
    /// Where webhooks go until another URL is registered.
    #[arg(long, env = "SIM_WEBHOOK_URL")]
    webhook_url: Option<String>,
    /// Secret sent along with webhooks.
    #[arg(long, env = "SIM_WEBHOOK_SECRET", hide_env_values = true)]
    webhook_secret: Option<String>,
    /// Channels that exist and are connected from the start.
    #[arg(
        long,
        env = "SIM_SESSIONS",
        value_delimiter = ',',
        default_value = "Pixel12 Digital"
    )]
    sessions: Vec<String>,
    /// How many webhooks are on the wire at once.
    #[arg(long, env = "SIM_WEBHOOK_CONCURRENCY", default_value_t = 64)]
    webhook_concurrency: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().json().init();
    let cli = Cli::parse();
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let sim = GatewaySim::start(SimConfig {
        listen: cli.listen,
        data: cli.data,
        gateway_secret: cli.gateway_secret,
        webhook_url: cli.webhook_url.filter(|url| !url.is_empty()),
        webhook_secret: cli.webhook_secret.filter(|secret| !secret.is_empty()),
        sessions: cli
            .sessions
            .iter()
            .map(|session| session.trim().to_owned())
            .filter(|session| !session.is_empty())
            .collect(),
        settings: Settings::default(),
        retry: RetryPolicy {
            concurrency: cli.webhook_concurrency.max(1),
            ..RetryPolicy::default()
        },
    })
    .await
    .context("starting the gateway simulator")?;
    tracing::info!(listen = %sim.addr(), "gateway simulator started");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    sim.stop().await;
    Ok(())
}
