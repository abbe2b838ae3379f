//! What the command lines of the binaries have in common: reading durations, printing the effective
//! settings.

use std::time::Duration;

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

/// Reads `30s`, `500ms`, `2m` or plain seconds.
///
/// # Errors
/// What is wrong with the text, for clap to show.
pub fn duration(text: &str) -> Result<Duration, String> {
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
