//! The delivery-worker binary: reads the command line and calls the library.

use clap::{CommandFactory as _, FromArgMatches as _};
use delivery_worker::app::App;
use delivery_worker::cli::{Cli, Command};
use shared::runtime::lifecycle::Lifecycle;
use shared::runtime::{cli, telemetry};
use shared::store::pool;
use shared::wpp::WppClient;

#[allow(clippy::print_stdout)] // Commands answer on standard output; the service only logs.
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let matches = Cli::command().get_matches();
    match Cli::from_arg_matches(&matches)?.command {
        Command::Run(args) => {
            telemetry::start(&args.telemetry);
            let lifecycle = Lifecycle::default();
            App::start(*args, &lifecycle).await?;
            lifecycle.run_until_stopped().await?;
        }
        Command::Migrate(database) => {
            pool::migrate(&pool::open(&database, pool::COMMAND_STATEMENT)?).await?;
            println!("the database is up to date");
        }
        Command::CheckConfig(args) => {
            print!(
                "{}",
                cli::table(&cli::effective_of(Cli::command(), &matches))
            );
            // What `run` would refuse to start with.
            WppClient::new(&args.wpp.config(args.event_processing_timeout)?)?;
            args.broker.config("delivery-worker")?;
            pool::open(&args.database, pool::COMMAND_STATEMENT)?;
        }
    }
    Ok(())
}
