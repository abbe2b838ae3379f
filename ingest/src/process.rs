//! The process: reads the command line and does what it asks for.

use std::ffi::OsString;

use clap::{CommandFactory as _, FromArgMatches as _};
use shared::runtime::lifecycle::Lifecycle;
use shared::runtime::{memory, telemetry};

use crate::app::App;
use crate::cli::{AdminCommand, Cli, Command};
use crate::{commands, key_commands, module_commands, resealing};

/// Does what the command line asks for; the first argument is the program's own name.
///
/// # Errors
/// A setting cannot be used, a command failed, or the service did not stop cleanly: print the
/// chain and end with a failure. A command line that cannot be read ends the process itself.
#[allow(clippy::print_stdout)] // Commands answer on standard output; the service only logs.
pub async fn run(arguments: impl IntoIterator<Item = OsString>) -> anyhow::Result<()> {
    let matches = Cli::command().get_matches_from(arguments);
    match Cli::from_arg_matches(&matches)?.command {
        Command::Run(args) => {
            telemetry::start(&args.telemetry);
            memory::use_small_pages();
            let lifecycle = Lifecycle::default();
            lifecycle.run(App::start(*args, &lifecycle)).await?;
        }
        Command::Migrate(database) => {
            commands::migrate(&database).await?;
            println!("the database is up to date");
        }
        Command::CheckConfig(args) => {
            print!("{}", commands::check_config(&args, &matches).await);
        }
        Command::Openapi { listener } => {
            println!("{}", commands::openapi(listener));
        }
        Command::Admin(AdminCommand::Import { file, database }) => {
            println!("imported {}", commands::import(&database, &file).await?);
        }
        Command::Admin(AdminCommand::Keys(command)) => {
            print!("{}", key_commands::run(command).await?);
        }
        Command::Admin(AdminCommand::Sealing(command)) => {
            print!("{}", resealing::command(command).await?);
        }
        Command::Admin(AdminCommand::Sources(command)) => {
            print!("{}", key_commands::run_sources(command).await?);
        }
        Command::Admin(AdminCommand::Modules(command)) => {
            print!("{}", module_commands::run(command).await?);
        }
    }
    Ok(())
}
