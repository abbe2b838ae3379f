//! `/metrics` of each process: well-formed by promtool's own rules, and all that the docs promise.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use posto_tests::world::{Leaves, World};

use crate::walk::walk;

/// What is told where Prometheus is missing: nothing here passes without it.
pub(crate) const WAY_OUT: &str = "prometheus and promtool are not in PATH: ./tests/run fetches them \
     into .local/tools/bin, or apt-get install prometheus";

/// A program of Prometheus: of PATH, else what ./tests/run fetched.
pub(crate) fn program(name: &str) -> Command {
    let fetched = root().join(".local/tools/bin").join(name);
    if fetched.exists() {
        Command::new(fetched)
    } else {
        Command::new(name)
    }
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("because the crate lies in the workspace")
}

/// The metrics that a section of the docs lists.
fn promised(section: &str) -> Vec<String> {
    let page = std::fs::read_to_string(root().join("docs/metrics.md")).expect("docs/metrics.md");
    let (_, rest) = page
        .split_once(&format!("\n## {section}\n"))
        .unwrap_or_else(|| panic!("docs/metrics.md has no section {section}"));
    let section = rest.split("\n## ").next().unwrap_or_default();
    let names: Vec<String> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .map(str::to_owned)
        .collect();
    assert!(!names.is_empty(), "a section without metrics");
    names
}

/// Whether a page holds a series of a metric.
fn tells(page: &str, metric: &str) -> bool {
    page.lines().any(|line| {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        name == metric || name.strip_suffix("_count") == Some(metric)
    })
}

fn lint(service: &str, page: &str) {
    let mut promtool = program("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect(WAY_OUT);
    promtool
        .stdin
        .take()
        .expect("because it is piped")
        .write_all(page.as_bytes())
        .expect("because promtool reads it");
    let said = promtool.wait_with_output().expect("promtool ends");
    let words = [said.stdout, said.stderr].concat();
    let words = String::from_utf8_lossy(&words);
    assert!(
        said.status.success() && words.trim().is_empty(),
        "promtool on {service}: {words}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_process_tells_every_metric_of_the_docs_and_promtool_finds_no_fault() {
    const SECTIONS: [(&str, &[&str]); 3] = [
        ("ingest", &["ingest", "All three"]),
        (
            "router-worker",
            &["router-worker", "Both workers", "All three"],
        ),
        (
            "delivery-worker",
            &["delivery-worker", "Both workers", "All three"],
        ),
    ];
    let world = World::start().await;
    walk(&world).await;
    for (service, sections) in SECTIONS {
        let names: Vec<String> = sections
            .iter()
            .flat_map(|section| promised(section))
            .collect();
        let url = format!("http://{}/metrics", world.ops()[service]);
        world
            .until(&format!("{service} tells {names:?}"), async |world| {
                let answer = world.client().get(&url).send().await;
                let page = answer.expect("an answer").text().await.expect("a page");
                lint(service, &page);
                names.iter().all(|name| tells(&page, name))
            })
            .await;
    }
    world.end(Leaves::Unsettled).await;
}
