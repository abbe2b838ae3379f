//! The ingest binary: reads the command line and calls the library.

use clap::{CommandFactory as _, FromArgMatches as _};
use ingest::app::App;
use ingest::cli::{AdminCommand, Cli, Command, KeyCommand};
use ingest::commands;
use shared::runtime::lifecycle::Lifecycle;
use shared::runtime::telemetry;

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
            commands::migrate(&database).await?;
            println!("the database is up to date");
        }
        Command::CheckConfig(args) => print!("{}", commands::check_config(&args, &matches)),
        Command::Admin(AdminCommand::Import { file, database }) => {
            println!("imported {}", commands::import(&database, &file).await?);
        }
        Command::Admin(AdminCommand::Key(KeyCommand::Put {
            source,
            tenant,
            secret_stdin: _,
            database,
        })) => {
            commands::put_key(&database, &source, tenant).await?;
            println!("the key is valid for source {source}");
        }
    }
    Ok(())
}
