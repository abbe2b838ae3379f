//! `ingest admin modules`: what the command line asks of [`crate::modules`], and how it is shown.

use shared::domain::ids::TenantId;
use shared::domain::module::{Mode, Module};
use shared::store::audit::Author;
use shared::store::modules::{self, SwitchLine};
use shared::store::pool;

use crate::cli::ModuleCommand;
use crate::modules::{DEFAULT, switch};

/// Carries out a command and answers what is to be shown.
///
/// # Errors
/// The order cannot be carried out, or the database cannot be used; nothing was changed.
pub(crate) async fn run(command: ModuleCommand) -> anyhow::Result<String> {
    match command {
        ModuleCommand::List { database } => {
            let pool = pool::open(&database, pool::COMMAND_STATEMENT)?;
            let lines = modules::all(&mut *pool.acquire().await?).await?;
            Ok(listed(&lines))
        }
        ModuleCommand::Set {
            module,
            mode,
            tenant,
            by,
            database,
        } => {
            let mode: Option<Mode> = match mode.as_str() {
                DEFAULT => None,
                word => Some(word.parse()?),
            };
            let author = Author {
                actor: &by.actor,
                reason: by.reason.as_deref(),
            };
            let pool = pool::open(&database, pool::COMMAND_STATEMENT)?;
            let mut conn = pool.acquire().await?;
            let which = (module, tenant.map(TenantId));
            let switched = switch(&mut conn, which, mode, author).await?;
            let word = |mode: Option<&str>| mode.unwrap_or(DEFAULT).to_owned();
            Ok(format!(
                "module {module} {}: {} → {}\n",
                whose(switched.tenant_id),
                word(switched.from.as_deref()),
                word(switched.to)
            ))
        }
    }
}

/// Every module, also those that nobody switched.
fn listed(lines: &[SwitchLine]) -> String {
    let mut text = String::new();
    for module in Module::ALL {
        let own = || lines.iter().filter(|line| line.module == module.as_str());
        if own().all(|line| line.tenant_id.is_some()) {
            text.push_str(&format!(
                "{module:<10} for all          {}  (default)\n",
                Mode::Live
            ));
        }
        for line in own() {
            let (whose, at) = (
                whose(line.tenant_id),
                line.changed_at.format("%Y-%m-%dT%H:%MZ"),
            );
            let (mode, by) = (&line.mode, &line.changed_by);
            text.push_str(&format!(
                "{module:<10} {whose:<16} {mode}  by {by} at {at}\n"
            ));
        }
    }
    text
}

fn whose(tenant: Option<i64>) -> String {
    tenant.map_or_else(
        || "for all".to_owned(),
        |tenant| format!("for tenant {tenant}"),
    )
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    #[test]
    fn every_module_is_listed_with_its_default_and_its_exceptions() {
        let line = |module: &str, tenant_id, mode: &str| SwitchLine {
            module: module.to_owned(),
            tenant_id,
            mode: mode.to_owned(),
            changed_by: "Ana".to_owned(),
            changed_at: DateTime::UNIX_EPOCH,
        };
        let text = listed(&[
            line("chat", Some(7), "shadow"),
            line("tenants", None, "off"),
        ]);
        let words: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(words[0], ["chat", "for", "all", "live", "(default)"]);
        assert_eq!(words[1][..5], ["chat", "for", "tenant", "7", "shadow"]);
        assert_eq!(words[2][..4], ["tenants", "for", "all", "off"]);
        assert_eq!(words.len(), 3);
    }
}
