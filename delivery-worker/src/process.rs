//! The process: reads the command line and does what it asks for.

use std::ffi::OsString;

use clap::{CommandFactory as _, FromArgMatches as _};
use shared::runtime::lifecycle::Lifecycle;
use shared::runtime::{cli, memory, telemetry};
use shared::store::{pool, sealing_keys};
use shared::wpp::WppClient;

use crate::app::App;
use crate::cli::{Cli, Command};

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
            pool::migrate(&pool::open(&database, pool::COMMAND_STATEMENT)?).await?;
            println!("the database is up to date");
        }
        Command::CheckConfig(args) => {
            print!(
                "{}",
                cli::table(&cli::effective_of(Cli::command(), &matches))
            );
            if let Some(remark) = sealing_keys::remark(&args.database, &args.sealing).await {
                println!("note: {remark}");
            }
            // What `run` would refuse to start with.
            WppClient::new(
                &args
                    .wpp
                    .config(args.event_processing_timeout, &args.outbound)?,
            )?;
            args.broker.config("delivery-worker")?;
            pool::open(&args.database, pool::COMMAND_STATEMENT)?;
        }
    }
    Ok(())
}
