//! The committed descriptions of the API are what the code says, and no route is mounted without
//! one. Reads the tree; needs no servers.

use std::fs;
use std::path::{Path, PathBuf};

use ingest::cli::Described;
use ingest::commands;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("because the crate lies in the workspace")
        .to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_committed_descriptions_are_those_of_the_code() {
    for (path, listener, way) in [
        ("docs/openapi.json", Described::Public, "public"),
        ("docs/openapi-admin.json", Described::Admin, "admin"),
    ] {
        let written = commands::openapi(listener);
        assert!(
            read(path).trim_end() == written,
            "{path} has fallen behind: cargo run -p ingest -- openapi --listener {way} > {path}"
        );
    }
}

#[test]
fn every_route_of_the_listeners_is_mounted_with_its_description() {
    let mut folders = vec![root().join("ingest/src")];
    let mut mounting = Vec::new();
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(&folder)
            .unwrap()
            .flatten()
            .map(|entry| entry.path())
        {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            if text.contains("axum::routing") || text.contains("MethodRouter") {
                let path = path.strip_prefix(root()).unwrap();
                mounting.push(path.to_string_lossy().into_owned());
            }
        }
    }
    mounting.sort();
    // Whoever cannot name a method's router can mount none but through `Api::route`.
    assert_eq!(
        mounting,
        [
            "ingest/src/openapi/mod.rs",
            "ingest/src/openapi/operation.rs"
        ]
    );
}
