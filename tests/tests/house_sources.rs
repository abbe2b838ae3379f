//! A source is one file and one line of the registry, and `docs/adding-a-source.md` tells the truth
//! about it. Reads the tree; needs no servers.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use shared::source::{self, Door};

const GUIDE: &str = "docs/adding-a-source.md";
const FILE: &str = "shared/src/source/whapi.rs";
const REGISTRY: &str = "shared/src/source/mod.rs";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("because the crate lies in the workspace")
        .to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Everything that goes into production, without tests and samples.
fn product() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = [
        "shared/src",
        "ingest/src",
        "router-worker/src",
        "delivery-worker/src",
        "migrations",
        "deploy",
    ]
    .map(|folder| root().join(folder))
    .into();
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(&folder)
            .expect("because it was just found")
            .flatten()
            .map(|entry| entry.path())
        {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let is_test = name == "tests" || name == "tests.rs" || name == "fixtures";
            let of_a_source = path
                .parent()
                .is_some_and(|parent| parent.ends_with("source/whapi"));
            if is_test || of_a_source {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                let path = path.strip_prefix(root()).expect("because it lies below");
                found.push((path.to_string_lossy().into_owned(), text));
            }
        }
    }
    assert!(found.len() > 200);
    found
}

/// The code before the tests, without comments.
fn code(text: &str) -> String {
    let before = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or(text);
    let lines = before
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines.map(|line| line.to_owned() + "\n").collect()
}

#[test]
fn whapi_is_one_file_and_one_line_of_the_registry() {
    let mut named = BTreeSet::new();
    for (path, text) in product() {
        if code(&text).to_lowercase().contains("whapi") && path != FILE {
            named.insert(path);
        }
    }
    assert_eq!(named.into_iter().collect::<Vec<_>>(), [REGISTRY]);
    let registry = code(&read(REGISTRY));
    let lines: Vec<&str> = registry
        .lines()
        .filter(|line| line.contains("whapi"))
        .collect();
    assert_eq!(lines, ["pub mod whapi;", "    &whapi::Whapi,"]);
}

#[test]
fn the_guide_names_what_there_is() {
    let guide = read(GUIDE);
    let mut spans = guide.split('`').skip(1).step_by(2);
    let paths: BTreeSet<&str> = spans
        .by_ref()
        .filter(|span| {
            span.contains('/')
                && !span.starts_with('/')
                && !span.contains([' ', ':', '{', '…', '\n'])
        })
        .map(|span| span.trim_start_matches("./"))
        .collect();
    assert!(paths.contains(FILE) && paths.len() > 6, "{paths:?}");
    for path in paths {
        assert!(root().join(path).exists(), "{GUIDE} names {path}");
    }
    let registry = read(REGISTRY);
    let from = registry
        .find("pub static REGISTRY")
        .expect("because it is there");
    let to = from + registry[from..].find("];").expect("because it ends") + 2;
    assert!(
        guide.contains(&registry[from..to]),
        "{GUIDE} shows another registry"
    );
    for (source, _) in source::doors() {
        assert!(guide.contains(&Door::path(source)), "{}", source.name());
    }
    let file = read(FILE);
    for line in guide.lines().filter(|line| line.starts_with("| `")) {
        let function = line
            .trim_start_matches("| `")
            .split('`')
            .next()
            .unwrap_or_default();
        if function.chars().all(|c| c.is_ascii_lowercase()) {
            assert!(file.contains(&format!("fn {function}(")), "{function}");
        }
    }
}
