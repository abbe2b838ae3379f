//! What the command lines of the binaries have in common: printing the effective settings.

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

/// One setting, as `check-config` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The environment variable.
    pub name: String,
    /// The value in force; secrets show only whether they are set.
    pub value: String,
    /// Where it comes from: `default`, `environment`, `command line` or `not set`.
    pub origin: &'static str,
}

/// The settings of a command that was parsed into `matches`, in the order of its help.
fn effective(command: &Command, matches: &ArgMatches) -> Vec<Setting> {
    command
        .get_arguments()
        .filter_map(|arg| setting(arg, matches))
        .collect()
}

/// The settings of the subcommand that was parsed.
#[must_use]
pub fn effective_of(mut command: Command, matches: &ArgMatches) -> Vec<Setting> {
    command.build();
    match matches.subcommand() {
        Some((name, matches)) => command
            .find_subcommand(name)
            .map(|command| effective(command, matches))
            .unwrap_or_default(),
        None => Vec::new(),
    }
}

/// The names of the environment variables that a command reads, with their defaults.
#[must_use]
pub fn environment(command: &Command) -> Vec<(String, Option<String>)> {
    command
        .get_arguments()
        .filter_map(|arg| {
            let name = arg.get_env()?.to_string_lossy().into_owned();
            let default = arg
                .get_default_values()
                .first()
                .map(|value| value.to_string_lossy().into_owned());
            Some((name, default))
        })
        .collect()
}

fn setting(arg: &Arg, matches: &ArgMatches) -> Option<Setting> {
    let name = arg.get_env()?.to_string_lossy().into_owned();
    let id = arg.get_id().as_str();
    let origin = match matches.value_source(id) {
        Some(ValueSource::CommandLine) => "command line",
        Some(ValueSource::EnvVariable) => "environment",
        Some(_) => "default",
        None => "not set",
    };
    let value = match matches.get_raw(id) {
        None => String::new(),
        Some(_) if arg.is_hide_env_values_set() => "(hidden)".to_owned(),
        Some(values) => values
            .map(|value| value.to_string_lossy().into_owned())
            .collect::<Vec<_>>()
            .join(","),
    };
    Some(Setting {
        name,
        value,
        origin,
    })
}

/// The settings as lines of a table.
#[must_use]
pub fn table(settings: &[Setting]) -> String {
    let width = settings
        .iter()
        .map(|setting| setting.name.len())
        .max()
        .unwrap_or_default();
    settings
        .iter()
        .map(|setting| {
            let line = format!(
                "{:width$}  {}  [{}]",
                setting.name, setting.value, setting.origin
            );
            line.trim_end().to_owned() + "\n"
        })
        .collect()
}
