//! The house: the arrows between crates and rooms, the one home of each dangerous thing, and the
//! documents that must not fall behind the code. Reads the tree; needs no servers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory as _};
use shared::domain::failure::FailureCode;

/// The three processes, in the order of the walk.
const BINARIES: [&str; 3] = ["ingest", "router-worker", "delivery-worker"];
/// The crates whose code goes into production.
const PRODUCT: [&str; 4] = ["shared", "ingest", "router-worker", "delivery-worker"];
/// The crates that test it.
const TESTS: [&str; 2] = ["posto-tests", "posto-model"];
/// A file that is longer asks what it owns.
const LONGEST_FILE: usize = 500;

/// One Rust file of the tree.
struct Source {
    /// Its path from the root of the repository.
    path: String,
    /// All of it.
    text: String,
    /// Its code before the tests, without comments.
    code: String,
}

impl Source {
    fn read(root: &Path, path: &Path) -> Self {
        let text = fs::read_to_string(path).expect("because the file was just listed");
        let path = path
            .strip_prefix(root)
            .expect("because it was found below the root");
        Self {
            path: path.to_string_lossy().replace('\\', "/"),
            code: without_comments(before_tests(&text)),
            text,
        }
    }

    fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        self.path.contains("/tests/") || name == "tests.rs" || name.ends_with("_tests.rs")
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("because the crate lies in the workspace")
        .to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every Rust file below a folder.
fn sources_of(folder: &str) -> Vec<Source> {
    fn walk(root: &Path, folder: &Path, found: &mut Vec<Source>) {
        let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            if path.is_dir() {
                walk(root, &path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(Source::read(root, &path));
            }
        }
    }
    let (root, mut found) = (root(), Vec::new());
    walk(&root, &root.join(folder), &mut found);
    assert!(!found.is_empty(), "{folder} holds no Rust");
    found
}

/// The code of the product, without its tests.
fn product() -> Vec<Source> {
    PRODUCT
        .iter()
        .flat_map(|name| sources_of(&format!("{name}/src")))
        .filter(|source| !source.is_test())
        .collect()
}

fn before_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod ").next().unwrap_or(text)
}

fn without_comments(text: &str) -> String {
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    // What follows a space and two slashes is no part of any address or path.
    code.map(|line| line.split(" // ").next().unwrap_or(line).to_owned() + "\n")
        .collect()
}

/// The dependencies that a manifest names, with those for tests and builds.
fn dependencies_of(crate_name: &str) -> BTreeSet<String> {
    let mut inside = false;
    let manifest = read(&format!("{crate_name}/Cargo.toml"));
    let mut found = BTreeSet::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]");
        } else if inside && !line.is_empty() && !line.starts_with('#') {
            found.extend(line.split(['.', ' ', '=']).next().map(str::to_owned));
        }
    }
    assert!(!found.is_empty(), "{crate_name} depends on nothing?");
    found
}

/// Every `crate::…` path that the code names, with the groups of `use` spelled out.
fn crate_paths(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest: String = code[at + "crate::".len()..]
            .chars()
            .take_while(|c| c.is_alphanumeric() || "_:{}, \n*".contains(*c))
            .collect();
        spell_out("", &rest, &mut found);
    }
    found
}

/// Reads one tree of a `use`, like `store::{a, b::{C, D}}`, up to its end.
fn spell_out(prefix: &str, tree: &str, found: &mut BTreeSet<String>) {
    let tree = tree.trim_start();
    let head: String = tree
        .chars()
        .take_while(|c| c.is_alphanumeric() || "_:*".contains(*c))
        .collect();
    let Some(group) = tree[head.len()..]
        .strip_prefix('{')
        .filter(|_| head.is_empty() || head.ends_with("::"))
    else {
        found.insert(format!("{prefix}{head}"));
        return;
    };
    let prefix = format!("{prefix}{head}");
    let (mut depth, mut start) = (0_usize, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                if !group[start..at].trim().is_empty() {
                    spell_out(&prefix, &group[start..at], found);
                }
                if c == '}' {
                    return;
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// Asserts that a piece of code stands in these files and in no other of the product.
fn assert_lives_only_in(piece: &str, homes: &[&str]) {
    let elsewhere: Vec<_> = product()
        .iter()
        .filter(|source| source.code.contains(piece))
        .map(|source| source.path.clone())
        .filter(|path| !homes.iter().any(|home| path.starts_with(home)))
        .collect();
    assert_eq!(
        elsewhere, [""; 0],
        "`{piece}` belongs to {homes:?} (design §4)"
    );
}

#[test]
fn groups_of_paths_are_spelled_out() {
    let code =
        "use crate::store::{self, outbox::{OutboxRow, self}, dead_letters};\ncrate::domain::ids::X";
    let paths: Vec<_> = crate_paths(code).into_iter().collect();
    assert_eq!(
        paths,
        [
            "domain::ids::X",
            "store::dead_letters",
            "store::outbox::OutboxRow",
            "store::outbox::self",
            "store::self"
        ]
    );
}

#[test]
fn binaries_know_shared_and_never_each_other_and_shared_knows_none_of_them() {
    for binary in BINARIES {
        let own = dependencies_of(binary);
        assert!(own.contains("shared"));
        for other in BINARIES.iter().filter(|other| **other != binary) {
            assert!(!own.contains(*other), "{binary} depends on {other}");
        }
        for name in TESTS {
            assert!(!own.contains(name), "{binary} depends on {name}");
        }
    }
    let shared = dependencies_of("shared");
    for name in BINARIES.into_iter().chain(TESTS) {
        assert!(!shared.contains(name), "shared depends on {name}");
    }
    // The model stands beside the code it follows: it uses the states of a delivery and no more.
    let model = dependencies_of("tests/model");
    assert_eq!(model.into_iter().collect::<Vec<_>>(), ["shared"]);
}

#[test]
fn the_broker_is_known_to_shared_broker_alone() {
    for name in BINARIES.into_iter().chain(["tests"]) {
        for library in ["lapin", "backoff"] {
            assert!(
                !dependencies_of(name).contains(library),
                "{name} depends on {library}"
            );
        }
    }
    assert_lives_only_in("lapin::", &["shared/src/broker/"]);
    let users: Vec<_> = product()
        .into_iter()
        .filter(|source| source.code.contains("backoff::"))
        .map(|source| source.path)
        .collect();
    assert_eq!(
        users.len(),
        1,
        "backoff is unmaintained and lives in one file: {users:?}"
    );
    assert!(
        ["shared/src/broker/session.rs", "shared/src/broker/link.rs"].contains(&users[0].as_str()),
        "{users:?}"
    );
}

#[test]
fn sql_is_written_in_the_store_alone() {
    for piece in [
        "sqlx::query",
        "sqlx::raw_sql",
        "QueryBuilder",
        "AssertSqlSafe",
        "query_as!",
        "query_scalar!",
    ] {
        assert_lives_only_in(piece, &["shared/src/store/"]);
    }
    for source in product() {
        if source.path.starts_with("shared/src/store/") {
            continue;
        }
        for line in source
            .code
            .lines()
            .map(str::to_lowercase)
            .filter(|line| line.contains('"'))
        {
            let is_sql = line.contains("insert into ")
                || line.contains("delete from ")
                || (line.contains("\"select ") && line.contains(" from "))
                || (line.contains("\"update ") && line.contains(" set "));
            assert!(!is_sql, "SQL outside of the store, {}: {line}", source.path);
        }
    }
}

#[test]
fn time_ids_and_http_clients_are_made_in_their_one_home() {
    assert_lives_only_in("Utc::now", &["shared/src/runtime/clock.rs"]);
    assert_lives_only_in("Local::now", &[]);
    assert_lives_only_in("now_v7", &["shared/src/domain/ids.rs"]);
    assert_lives_only_in("Client::new()", &[]);
    assert_lives_only_in(
        "Client::builder",
        &[
            "shared/src/outbound/mod.rs",
            "shared/src/broker/management.rs",
        ],
    );
    // Neither is business time: what the broker stamps on a message, and the day from which a date
    // in `Retry-After` is counted when the gateway's answer names none.
    assert_lives_only_in(
        "SystemTime::now",
        &[
            "shared/src/broker/publisher.rs",
            "shared/src/wpp/exchange.rs",
        ],
    );
}

#[test]
fn the_domain_waits_for_nothing_and_reaches_for_nothing() {
    for source in sources_of("shared/src/domain")
        .iter()
        .filter(|source| !source.is_test())
    {
        for piece in [
            "async ",
            ".await",
            "tokio",
            "sqlx",
            "reqwest",
            "lapin",
            "axum",
            "tracing",
            "std::fs",
            "std::net",
            "std::env",
            "Instant",
            "SystemTime",
        ] {
            assert!(!source.code.contains(piece), "`{piece}` in {}", source.path);
        }
    }
}

#[test]
fn the_rooms_of_shared_know_only_what_the_design_draws() {
    /// What each room may name of the others: whole rooms, or modules of one.
    const ARROWS: &[(&str, &[&str])] = &[
        ("domain", &[]),
        ("source", &["domain"]),
        ("sealing", &[]),
        (
            "store",
            &[
                "domain",
                "runtime::batcher",
                "runtime::telemetry",
                "sealing",
            ],
        ),
        ("outbound", &["domain"]),
        ("wpp", &["domain", "outbound"]),
        ("runtime", &[]),
        (
            "broker",
            &["domain", "runtime", "store::outbox", "store::dead_letters"],
        ),
    ];
    /// What reaches further today; none may be added. Burying, redriving what was moved by hand and
    /// reconciling write and read the rows that messages stand for (design §1.8, §3).
    const FURTHER: &[(&str, &[&str])] = &[
        (
            "shared/src/broker/burial.rs",
            &[
                "sealing",
                "store::deliveries",
                "store::receipts",
                "store::replans",
                "store::plans",
            ],
        ),
        (
            "shared/src/broker/broker_letters.rs",
            &["store::audit", "store::redrive"],
        ),
        (
            "shared/src/broker/by_hand.rs",
            &["store::audit", "store::redrive"],
        ),
        ("shared/src/broker/tidy.rs", &["store::dead_queues"]),
        (
            "shared/src/broker/reconcile.rs",
            &[
                "store::deliveries",
                "store::reconcile",
                "store::replans",
                "store::pool",
            ],
        ),
    ];
    /// The errors and results of the store go with its functions.
    const RESULTS: &[&str] = &["store::StoreError", "store::StoreResult"];
    let rooms: Vec<&str> = ARROWS.iter().map(|(room, _)| *room).collect();
    let within = |path: &str, allowed: &[&str]| {
        allowed
            .iter()
            .any(|own| path == *own || path.starts_with(&format!("{own}::")))
    };
    let mut wrong = Vec::new();
    for (room, allowed) in ARROWS {
        for source in sources_of(&format!("shared/src/{room}"))
            .iter()
            .filter(|source| !source.is_test())
        {
            let further = FURTHER.iter().find(|(file, _)| *file == source.path);
            for path in crate_paths(&source.code) {
                let target = path.split("::").next().unwrap_or_default();
                let lawful = !rooms.contains(&target)
                    || target == *room
                    || within(&path, allowed)
                    || (*room == "broker" && within(&path, RESULTS))
                    || further.is_some_and(|(_, further)| within(&path, further));
                if !lawful {
                    wrong.push(format!("{} names {path}", source.path));
                }
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn every_module_says_what_it_owns() {
    let all = PRODUCT.iter().chain(&["tests", "tests/model"]);
    for source in all.flat_map(|name| sources_of(&format!("{name}/src"))) {
        if source.path.ends_with("/tests.rs") {
            continue;
        }
        assert!(
            source.text.starts_with("//! "),
            "{} does not begin with `//!`",
            source.path
        );
    }
}

#[test]
fn no_file_is_longer_than_a_person_reads() {
    /// Longer today. The number may fall and never rise.
    const LONGER: &[(&str, usize)] = &[];
    for source in product()
        .into_iter()
        .chain(sources_of("tests/src"))
        .chain(sources_of("tests/model/src"))
        .filter(|source| !source.is_test())
    {
        let lines = before_tests(&source.text).lines().count();
        let known = LONGER.iter().find(|(path, _)| *path == source.path);
        let longest = known.map_or(LONGEST_FILE, |(_, lines)| *lines);
        assert!(lines <= longest, "{} has {lines} lines", source.path);
        assert!(
            known.is_none() || lines > LONGEST_FILE,
            "{} is short enough by now: take it off the list",
            source.path
        );
    }
}

#[test]
fn no_test_is_put_aside_and_nothing_is_left_to_be_done() {
    // Put together here, so that this file does not find itself.
    let forbidden = [
        concat!("#[", "ignore"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("dbg", "!("),
    ];
    let mut all: Vec<Source> = PRODUCT.iter().flat_map(|name| sources_of(name)).collect();
    all.extend(sources_of("tests"));
    for source in all {
        for piece in forbidden {
            assert!(!source.text.contains(piece), "`{piece}` in {}", source.path);
        }
    }
}

/// What a variable is read by, and what holds when it is not set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Variable {
    default: Option<String>,
    readers: BTreeSet<String>,
}

/// The variables that the processes read, by what clap knows of them.
fn variables_in_code() -> BTreeMap<String, Variable> {
    const SIMULATOR: [(&str, Option<&str>); 7] = [
        ("SIM_LISTEN", Some("127.0.0.1:3900")),
        ("SIM_DATA", None),
        ("WPP_GATEWAY_SECRET", None),
        ("SIM_WEBHOOK_URL", None),
        ("SIM_WEBHOOK_SECRET", None),
        ("SIM_SESSIONS", Some("Pixel12 Digital")),
        ("SIM_WEBHOOK_CONCURRENCY", Some("64")),
    ];
    let commands = [
        ("ingest", ingest::cli::Cli::command()),
        ("router-worker", router_worker::cli::Cli::command()),
        ("delivery-worker", delivery_worker::cli::Cli::command()),
    ];
    let mut read: Vec<(&str, String, Option<String>)> = commands
        .into_iter()
        .flat_map(|(reader, command)| {
            let run = run_of(command);
            let variables = shared::runtime::cli::environment(&run);
            variables
                .into_iter()
                .map(move |(name, default)| (reader, name, default))
        })
        .collect();
    read.extend(
        SIMULATOR
            .map(|(name, default)| ("gateway-sim", name.to_owned(), default.map(str::to_owned))),
    );
    let mut found: BTreeMap<String, Variable> = BTreeMap::new();
    for (reader, name, default) in read {
        let default = default.filter(|default| !default.is_empty());
        let variable = found.entry(name.clone()).or_insert_with(|| Variable {
            default: default.clone(),
            readers: BTreeSet::new(),
        });
        assert_eq!(
            variable.default, default,
            "{name} has two defaults, one of them in {reader}"
        );
        variable.readers.insert(reader.to_owned());
    }
    found
}

fn run_of(mut command: Command) -> Command {
    command.build();
    command
        .find_subcommand("run")
        .expect("because every process has `run`")
        .clone()
}

/// The variables of `deploy/.env.example`: a line `# NAME · default · reader, reader` each, and
/// below it `NAME=default`, or `# NAME=` where there is none.
fn variables_in_example() -> BTreeMap<String, Variable> {
    let text = read("deploy/.env.example");
    let lines: Vec<&str> = text.lines().collect();
    let mut found = BTreeMap::new();
    for (index, line) in lines.iter().enumerate() {
        let parts: Vec<&str> = line.trim_start_matches("# ").split(" · ").collect();
        let [name, default, readers] = parts[..] else {
            continue;
        };
        // The line that explains the form.
        if name.contains(' ') {
            continue;
        }
        let default = (default != "(none)").then(|| default.to_owned());
        let setting = lines.get(index + 1).copied().unwrap_or_default();
        let wanted = match &default {
            None => vec![format!("# {name}=")],
            Some(default) => vec![format!("{name}={default}"), format!("{name}='{default}'")],
        };
        assert!(
            wanted.iter().any(|own| own == setting),
            "{name} is followed by {setting:?} instead of {wanted:?}"
        );
        let readers = readers.split(", ").map(str::to_owned).collect();
        let before = found.insert(name.to_owned(), Variable { default, readers });
        assert_eq!(before, None, "{name} is there twice");
    }
    let set: BTreeSet<&str> = lines
        .iter()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| Some(line.split_once('=')?.0))
        .collect();
    for name in set {
        assert!(found.contains_key(name), "{name} is set and not explained");
    }
    found
}

#[test]
fn the_example_of_the_environment_is_what_the_processes_read() {
    let (code, example) = (variables_in_code(), variables_in_example());
    let names = |variables: &BTreeMap<String, Variable>| -> BTreeSet<String> {
        variables.keys().cloned().collect()
    };
    let (in_code, in_example) = (names(&code), names(&example));
    let missing: Vec<_> = in_code.difference(&in_example).collect();
    let invented: Vec<_> = in_example.difference(&in_code).collect();
    assert_eq!(
        (missing, invented),
        (vec![], vec![]),
        "missing from, and invented by deploy/.env.example"
    );
    let different: Vec<_> = code
        .iter()
        .filter(|(name, variable)| example.get(*name) != Some(*variable))
        .map(|(name, variable)| format!("{name}: {variable:?}, not {:?}", example[name]))
        .collect();
    assert_eq!(different, [""; 0]);
}

#[test]
fn the_runbook_has_a_row_for_every_failure_code_and_for_nothing_else() {
    let runbook = read("docs/failure-codes.md");
    let rows: BTreeMap<&str, &str> = runbook
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            Some((cells.next()?.strip_suffix('`')?, cells.next()?))
        })
        .collect();
    for code in FailureCode::ALL {
        assert_eq!(
            rows.get(code.as_str()),
            Some(&code.class().as_str()),
            "the row of `{code}` with its class"
        );
    }
    let classes: BTreeSet<&str> = FailureCode::ALL
        .iter()
        .map(|code| code.class().as_str())
        .collect();
    for (code, _) in rows.iter().filter(|(code, _)| !classes.contains(*code)) {
        assert!(
            code.parse::<FailureCode>().is_ok(),
            "the runbook explains `{code}`, which does not exist"
        );
    }
}

#[test]
fn every_metric_has_its_line_in_the_docs() {
    let page = read("docs/metrics.md");
    for source in product() {
        // The types of rows are called so too.
        let lines = source.text.lines();
        let told = lines.filter(|line| !line.starts_with("composite!("));
        for literal in told
            .flat_map(|line| line.split('"').skip(1).step_by(2))
            .filter(|literal| literal.starts_with("hub_") && !literal.contains(' '))
        {
            assert!(
                page.contains(literal),
                "docs/metrics.md does not name {literal} of {}",
                source.path
            );
        }
    }
}

#[test]
fn the_incidents_name_only_files_tests_and_metrics_that_exist() {
    let page = read("docs/incidents.md");
    let all: String = PRODUCT
        .iter()
        .chain(&["tests"])
        .flat_map(|name| sources_of(name))
        .map(|source| source.text)
        .collect();
    let named = page.lines().filter(|line| line.starts_with('|'));
    let named = named.flat_map(|line| line.split('`').skip(1).step_by(2));
    let mut looked_at = 0;
    for name in named {
        let exists = if name.contains('/') {
            root().join(name).is_file()
        } else if name.starts_with("hub_") {
            all.contains(&format!("\"{name}\""))
        } else if name.matches('_').count() > 2 {
            all.contains(&format!("fn {name}("))
        } else {
            continue;
        };
        assert!(exists, "docs/incidents.md names `{name}`");
        looked_at += 1;
    }
    assert!(looked_at > 80, "only {looked_at} names");
}

#[test]
fn only_the_tests_are_built_with_failpoints() {
    for script in ["deploy/up", "deploy/lib/services.sh", ".ci/run"] {
        assert!(!read(script).contains("failpoints"), "{script}");
    }
    for name in PRODUCT {
        let manifest = read(&format!("{name}/Cargo.toml"));
        let offers = manifest.contains("failpoints");
        assert_eq!(offers, name == "shared", "{name} passes the feature on");
        assert!(
            !manifest.contains("default = ["),
            "{name} has no default features"
        );
    }
}
