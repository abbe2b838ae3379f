//! Metrics, alert rules, runbooks and dashboard say the same. Reads the tree; needs no servers:
//! what promtool can tell, `./tests/run lint` asks it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use shared::domain::failure::FailureCode;

const RULES: &str = "deploy/prometheus/rules/posto.yml";
const DASHBOARD: &str = "deploy/grafana/dashboards/posto.json";
const RUNBOOKS: &str = "docs/runbooks";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("because the crate lies in the workspace")
        .to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The files of a folder and of those below it, by their path from the root.
fn files(folder: &str, extension: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|own| own == extension) {
                let path = path.strip_prefix(root()).expect("because it lies below");
                found.push(path.to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "{folder} holds no {extension}");
    found
}

/// The names of metrics that the code of the product registers.
fn metrics_in_code() -> BTreeSet<String> {
    [
        "shared/src",
        "ingest/src",
        "router-worker/src",
        "delivery-worker/src",
    ]
    .iter()
    .flat_map(|folder| files(folder, "rs"))
    .flat_map(|path| {
        let text = read(&path);
        // The types of rows are called so too.
        let lines = text.lines().filter(|line| !line.starts_with("composite!("));
        let literals = lines.flat_map(|line| line.split('"').skip(1).step_by(2));
        literals
            .filter(|literal| literal.starts_with("hub_") && is_name(literal))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    })
    .collect()
}

fn is_name(text: &str) -> bool {
    text.chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// The words of a text that begin like a metric of ours.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
        .filter(|word| word.starts_with("hub_"))
        .collect()
}

/// One alert of the rules, with the lines that follow it.
fn alerts() -> BTreeMap<String, String> {
    let rules = read(RULES);
    let mut found = BTreeMap::new();
    for part in rules.split("- alert: ").skip(1) {
        let part = part.split("- name: ").next().unwrap_or(part);
        let (name, lines) = part
            .split_once('\n')
            .expect("because a rule has an expression");
        found.insert(name.trim().to_owned(), lines.to_owned());
    }
    assert!(found.len() > 20, "the rules warn of little");
    found
}

/// The value of a field of a rule.
fn field<'a>(rule: &'a str, name: &str) -> Option<&'a str> {
    rule.lines()
        .find_map(|line| line.trim().strip_prefix(&format!("{name}: ")))
}

#[test]
fn every_metric_of_rules_dashboard_and_runbooks_exists_in_the_code() {
    let code = metrics_in_code();
    let mut pages = files("deploy/prometheus", "yml");
    pages.extend(files(RUNBOOKS, "md"));
    pages.push(DASHBOARD.to_owned());
    pages.push("docs/metrics.md".to_owned());
    for page in pages {
        let text = read(&page);
        for name in metrics_in(&text) {
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix))
                .unwrap_or(name);
            assert!(
                code.contains(name) || code.contains(base),
                "{page} names {name}, which no process tells"
            );
        }
    }
}

#[test]
fn every_recorded_series_that_is_used_is_recorded() {
    let rules = read(RULES);
    let recorded: BTreeSet<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- record: "))
        .collect();
    for page in [RULES, DASHBOARD, "docs/metrics.md"] {
        let text = read(page);
        for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')) {
            if word.starts_with("hub:") {
                assert!(recorded.contains(word), "{page} names {word}");
            }
        }
    }
}

#[test]
fn every_alert_says_how_urgent_it_is_what_it_means_and_where_its_runbook_is() {
    for (name, rule) in alerts() {
        let severity = field(&rule, "severity");
        assert!(
            matches!(severity, Some("page" | "ticket")),
            "{name}: {severity:?}"
        );
        for annotation in ["summary", "description", "incidents"] {
            assert!(
                field(&rule, annotation).is_some(),
                "{name} has no {annotation}"
            );
        }
        let runbook = format!("{RUNBOOKS}/{name}.md");
        assert_eq!(field(&rule, "runbook"), Some(runbook.as_str()), "{name}");
        let text = read(&runbook);
        assert!(text.starts_with(&format!("# {name}\n")), "{runbook}");
        for heading in ["## Look at", "## Do", "## Do not"] {
            assert!(
                text.contains(&format!("\n{heading}\n")),
                "{runbook} has no {heading}"
            );
        }
        let told = format!("Severity `{}`", severity.unwrap_or_default());
        assert!(text.contains(&told), "{runbook} does not say {told}");
    }
}

#[test]
fn every_runbook_is_of_an_alert_or_an_occasion_and_linked_from_the_docs() {
    let (alerts, index) = (alerts(), read(&format!("{RUNBOOKS}/README.md")));
    for path in files(RUNBOOKS, "md") {
        let name = path.rsplit('/').next().unwrap_or_default();
        let name = name.strip_suffix(".md").unwrap_or_default();
        if name == "README" {
            continue;
        }
        // Alerts are written in capitals; what an operator does without one is not.
        let of_an_alert = name.starts_with(|first: char| first.is_ascii_uppercase());
        assert!(
            !of_an_alert || alerts.contains_key(name),
            "{path} is of no alert"
        );
        assert!(
            index.contains(&format!("[{name}]({name}.md)")),
            "{path} is not linked"
        );
    }
    for page in ["docs/metrics.md", "docs/operations.md"] {
        assert!(
            read(page).contains("(runbooks/README.md)"),
            "{page} does not link the runbooks"
        );
    }
}

#[test]
fn every_alert_has_a_test_that_fires_it_and_one_that_does_not() {
    let tests: String = files("deploy/prometheus/tests", "yml")
        .iter()
        .map(|path| read(path))
        .collect();
    for name in alerts().keys() {
        for case in ["fires", "is quiet"] {
            let title = format!("  - name: {name} {case}\n");
            let (_, rest) = tests
                .split_once(&title)
                .unwrap_or_else(|| panic!("{name} has no test that it {case}"));
            let test = rest.split("\n  - name: ").next().unwrap_or(rest);
            assert!(
                test.contains(&format!("alertname: {name}\n")),
                "{title} asks for another alert"
            );
            assert_eq!(
                test.contains("exp_alerts: []"),
                case == "is quiet",
                "{title}"
            );
        }
    }
}

#[test]
fn every_failure_code_of_a_rule_exists() {
    for (name, rule) in alerts() {
        for part in rule.split("failure_code=~\"").skip(1) {
            for code in part.split('"').next().unwrap_or_default().split('|') {
                assert!(
                    code.parse::<FailureCode>().is_ok(),
                    "{name} waits for {code}"
                );
            }
        }
    }
}

#[test]
fn every_finding_of_the_ledger_is_explained() {
    let code = read("ingest/src/ledger.rs");
    let (_, list) = code.split_once("FINDINGS: [").expect("the findings");
    let list = list.split("\n];").next().unwrap_or_default();
    let store = read("shared/src/store/ledger.rs");
    let page = read("docs/metrics.md");
    let mut found = 0;
    for name in list
        .split('"')
        .filter(|part| part.contains('_') && is_name(part))
    {
        found += 1;
        assert!(
            page.contains(&format!("| `{name}` |")),
            "docs/metrics.md does not explain {name}"
        );
        assert!(
            store.contains(&format!("'{name}'")) || name == "message_lost",
            "nothing looks for {name}"
        );
    }
    assert!(found > 10);
}
