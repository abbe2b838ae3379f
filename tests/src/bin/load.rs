//! The load tool. See `docs/performance.md`.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use posto_tests::load::event::Events;
use posto_tests::load::fleet::{Programs, Servers};
use posto_tests::load::post::{Load, Pace, Target, Window, post};
use posto_tests::load::trial::{self, Place, Trial};
use posto_tests::load::{figure, report};
use serde_json::{Value, json};

/// Measures a whole Posto under load, on this machine.
#[derive(Parser)]
#[command(name = "load", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures figures, each with services, a database and queues of its own; prints one line of JSON for each trial.
    Figures(FiguresArgs),
    /// Posts events to a Posto that runs already; prints what ingest did as JSON.
    Post(PostArgs),
    /// Prints trials (lines of JSON in a file) as a table.
    Report {
        /// The file.
        trials: PathBuf,
    },
    /// Lists the figures.
    List,
}

#[derive(Args)]
struct FiguresArgs {
    /// Which; without one, all.
    names: Vec<String>,
    /// How often each is measured.
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// Where the executables are.
    #[arg(long, default_value = "target/release")]
    programs: PathBuf,
    /// Where the services' logs are written while a trial runs; those of a failed one stay.
    #[arg(long, default_value = ".local/load")]
    logs: PathBuf,
    /// Also appends each trial to this file.
    #[arg(long)]
    to: Option<PathBuf>,
    /// PostgreSQL; the role may create databases.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,
    /// RabbitMQ.
    #[arg(long, env = "AMQP_URL", hide_env_values = true)]
    amqp_url: String,
    /// RabbitMQ's management plugin.
    #[arg(long, env = "RABBITMQ_MANAGEMENT_URL", hide_env_values = true)]
    management_url: String,
}

#[derive(Args)]
struct PostArgs {
    /// The public listener.
    #[arg(long, env = "POSTO_API_URL")]
    url: String,
    /// The credential of source `billing`.
    #[arg(long, env = "POSTO_TOKEN", hide_env_values = true)]
    token: String,
    /// How many events.
    #[arg(long, default_value_t = 1000)]
    events: u64,
    /// How many events in one post.
    #[arg(long, default_value_t = 1)]
    batch: u64,
    /// Over how many connections.
    #[arg(long, default_value_t = 16)]
    connections: u32,
    /// So many events a second, whatever becomes of those before; without it as fast as they are answered.
    #[arg(long)]
    rate: Option<u32>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    match Cli::parse().command {
        Command::Figures(args) => figures(args).await,
        Command::Post(args) => post_to(args).await,
        Command::Report { trials } => {
            let lines = std::fs::read_to_string(trials)?;
            let trials: Vec<Value> = lines
                .lines()
                .map(serde_json::from_str)
                .collect::<Result<_, _>>()?;
            say(&report::table(&trials))
        }
        Command::List => figure::all()
            .iter()
            .try_for_each(|it| say(&format!("{:16} {}", it.name, it.title))),
    }
}

async fn figures(args: FiguresArgs) -> anyhow::Result<()> {
    let all = figure::all();
    let chosen = match args.names.as_slice() {
        [] => all,
        names => names
            .iter()
            .map(|name| {
                all.iter()
                    .find(|it| it.name == name)
                    .cloned()
                    .with_context(|| format!("there is no figure {name}"))
            })
            .collect::<anyhow::Result<_>>()?,
    };
    let servers = Servers {
        database_url: args.database_url,
        amqp_url: args.amqp_url,
        management_url: args.management_url,
    };
    let programs = Programs::Folder(args.programs);
    let place = Place {
        servers: &servers,
        programs: &programs,
        logs: &args.logs,
    };
    for figure in chosen {
        tracing::info!(figure = figure.name, runs = args.runs, "measuring");
        let tell = |trial: &Trial| {
            let line = serde_json::to_string(trial)?;
            if let Some(path) = &args.to {
                writeln!(
                    File::options().create(true).append(true).open(path)?,
                    "{line}"
                )?;
            }
            say(&line)
        };
        trial::run(&figure, args.runs, &place, tell).await?;
    }
    Ok(())
}

async fn post_to(args: PostArgs) -> anyhow::Result<()> {
    let load = Load {
        events: args.events.next_multiple_of(args.batch.max(1)),
        batch: args.batch.max(1),
        connections: args.connections.max(1),
        pace: args.rate.map_or(Pace::Closed, Pace::Rate),
    };
    let target = Target {
        url: args.url,
        token: args.token,
    };
    let posted = post(&target, load, &Events::new(), &Window::of(load.pace)).await?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "runs have far fewer than 2^52 events"
    )]
    let per_s = load.events as f64 / posted.took.as_secs_f64();
    say(&json!({
        "events": load.events, "seconds": posted.took.as_secs_f64(), "accepted_per_s": per_s,
        "accept_ms": posted.latency(), "repeated": posted.repeated,
    })
    .to_string())
}

fn say(text: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}
