//! The house keeps its plan: the arrows of the architecture, the one homes, and the pages that
//! promise to be complete.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use shared::domain::failure::FailureCode;

/// The longest that a file may be before it must say what it owns.
const LONGEST_FILE: usize = 560;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every Rust file below a folder of the tree, with its path from the root.
fn rust_files(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open = vec![root().join(folder)];
    while let Some(folder) = open.pop() {
        for entry in
            fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path
                    .strip_prefix(root())
                    .expect("below the root")
                    .to_string_lossy()
                    .into_owned();
                found.push((name, fs::read_to_string(&path).expect("a readable file")));
            }
        }
    }
    found.sort();
    found
}

fn product() -> Vec<(String, String)> {
    [
        "shared/src",
        "ingest/src",
        "router-worker/src",
        "delivery-worker/src",
    ]
    .into_iter()
    .flat_map(rust_files)
    .collect()
}

/// The lines of a file that are code, not a comment.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
}

/// Asserts that a word stands in code only under the given places.
fn only_in(word: &str, homes: &[&str]) {
    for (name, text) in product() {
        let found = code(&text).any(|line| line.contains(word));
        assert!(
            !found || homes.iter().any(|home| name.starts_with(home)),
            "`{word}` stands in {name}"
        );
    }
}

#[test]
fn only_the_broker_room_knows_amqp_and_backoff() {
    only_in("lapin::", &["shared/src/broker/"]);
    only_in("backoff::", &["shared/src/broker/session.rs"]);
}

#[test]
fn only_the_store_speaks_sql() {
    for macro_name in [
        "query!(",
        "query_as!(",
        "query_scalar!(",
        "raw_sql(",
        "sqlx::query(",
    ] {
        only_in(macro_name, &["shared/src/store/"]);
    }
}

#[test]
fn time_ids_and_http_clients_have_one_home() {
    only_in("Utc::now()", &["shared/src/runtime/clock.rs"]);
    only_in("Uuid::now_v7()", &["shared/src/domain/ids.rs"]);
    only_in("reqwest::", &["shared/src/wpp/"]);
}

#[test]
fn the_domain_is_pure() {
    for (name, text) in rust_files("shared/src/domain") {
        for foreign in [
            "async fn",
            "tokio::",
            ".await",
            "std::fs",
            "std::env",
            "reqwest",
            "crate::store",
            "crate::broker",
            "crate::wpp",
            "crate::source",
            "crate::runtime",
        ] {
            assert!(
                !code(&text).any(|line| line.contains(foreign)),
                "`{foreign}` stands in {name}"
            );
        }
    }
}

#[test]
fn the_rooms_of_shared_keep_their_arrows() {
    let forbidden = [
        (
            "shared/src/store",
            vec!["crate::broker", "crate::wpp", "crate::source"],
        ),
        (
            "shared/src/source",
            vec![
                "crate::broker",
                "crate::wpp",
                "crate::store",
                "crate::runtime",
                "async fn",
            ],
        ),
        (
            "shared/src/wpp",
            vec!["crate::broker", "crate::store", "crate::source"],
        ),
        (
            "shared/src/runtime",
            vec![
                "crate::broker",
                "crate::wpp",
                "crate::source",
                "crate::store",
                "crate::domain",
            ],
        ),
    ];
    for (room, arrows) in forbidden {
        for (name, text) in rust_files(room)
            .into_iter()
            .filter(|(name, _)| !name.contains("_tests"))
        {
            for arrow in &arrows {
                assert!(
                    !code(&text).any(|line| line.contains(arrow)),
                    "`{arrow}` stands in {name}"
                );
            }
        }
    }
}

#[test]
fn no_binary_depends_on_another_and_shared_on_none() {
    let binaries = ["ingest", "router-worker", "delivery-worker"];
    for krate in ["shared", "ingest", "router-worker", "delivery-worker"] {
        let manifest =
            fs::read_to_string(root().join(krate).join("Cargo.toml")).expect("a manifest");
        for other in binaries.iter().filter(|other| **other != krate) {
            let depends = manifest.lines().any(|line| {
                line.starts_with(&format!("{other}.")) || line.starts_with(&format!("{other} "))
            });
            assert!(!depends, "{krate} depends on {other}");
        }
        if krate != "shared" {
            assert!(!manifest.contains("lapin"), "{krate} depends on lapin");
        }
    }
}

#[test]
fn every_file_says_what_it_owns_and_none_is_a_street() {
    let own = product().into_iter().chain(rust_files("tests/src"));
    for (name, text) in own.filter(|(name, _)| !name.ends_with("tests.rs")) {
        assert!(text.starts_with("//!"), "{name} does not say what it owns");
        let own = text
            .split("\n#[cfg(test)]\nmod tests {")
            .next()
            .unwrap_or_default()
            .lines()
            .count();
        assert!(
            own <= LONGEST_FILE,
            "{name} has {own} lines: what does it own?"
        );
    }
}

#[test]
fn nothing_is_left_for_later_and_no_test_is_skipped() {
    for (name, text) in product()
        .into_iter()
        .chain(rust_files("tests"))
        .filter(|(name, _)| !name.ends_with("house.rs"))
    {
        for word in ["todo!(", "unimplemented!(", "#[ignore", "dbg!("] {
            assert!(
                !code(&text).any(|line| line.contains(word)),
                "`{word}` stands in {name}"
            );
        }
    }
}

#[test]
fn every_failure_code_has_its_line_in_the_runbook() {
    let page =
        fs::read_to_string(root().join("docs/failure-codes.md")).expect("docs/failure-codes.md");
    for code in FailureCode::ALL {
        assert!(
            page.contains(&format!("`{code}`")),
            "docs/failure-codes.md does not name {code}"
        );
    }
}

#[test]
fn every_metric_has_its_line_in_the_docs() {
    let page = fs::read_to_string(root().join("docs/metrics.md")).expect("docs/metrics.md");
    for (name, text) in product() {
        for literal in text
            .split('"')
            .filter(|literal| literal.starts_with("hub_") && !literal.contains(' '))
        {
            assert!(
                page.contains(literal),
                "docs/metrics.md does not name {literal} of {name}"
            );
        }
    }
}

/// The settings that `deploy/.env.example` lists: name → (default, readers).
fn listed() -> BTreeMap<String, (String, Vec<String>)> {
    let page = fs::read_to_string(root().join("deploy/.env.example")).expect("deploy/.env.example");
    page.lines()
        .filter_map(|line| {
            let mut parts = line.strip_prefix("# ")?.split(" · ");
            let (name, default, readers) = (parts.next()?, parts.next()?, parts.next()?);
            if !name
                .bytes()
                .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
            {
                return None;
            }
            let readers = readers.split(", ").map(str::to_owned).collect();
            Some((name.to_owned(), (default.to_owned(), readers)))
        })
        .collect()
}

#[test]
fn the_example_of_the_environment_is_what_the_binaries_read() {
    let listed = listed();
    let commands = [
        ("ingest", ingest::cli::Cli::command()),
        ("router-worker", router_worker::cli::Cli::command()),
        ("delivery-worker", delivery_worker::cli::Cli::command()),
    ];
    let mut read: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
    for (binary, mut command) in commands {
        command.build();
        let run = command.find_subcommand("run").expect("a command `run`");
        for (name, default) in shared::runtime::cli::environment(run) {
            let default = default
                .filter(|default| !default.is_empty())
                .unwrap_or_else(|| "(none)".to_owned());
            let entry = read.entry(name).or_insert_with(|| (default, Vec::new()));
            entry.1.push(binary.to_owned());
        }
    }
    for (name, (default, readers)) in &read {
        let Some((told, by)) = listed.get(name) else {
            panic!("deploy/.env.example does not list {name}")
        };
        assert_eq!(told, default, "the default of {name}");
        for reader in readers {
            assert!(
                by.contains(reader),
                "{name} is read by {reader}, the example says {by:?}"
            );
        }
    }
    for (name, (_, by)) in listed {
        let ours = by.iter().any(|reader| reader != "gateway-sim");
        assert!(!ours || read.contains_key(&name), "nobody reads {name}");
    }
}
