//! A real Prometheus with our configuration, our rules and our dashboard against running services:
//! the same files, other ports, and no patience.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use posto_tests::world::{Leaves, World};
use reqwest::Url;
use serde_json::Value;

use crate::metrics::{WAY_OUT, program, root};
use crate::walk::walk;

/// A Prometheus of a scenario's own; it ends with it.
struct Prometheus {
    child: Child,
    folder: PathBuf,
    api: String,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Prometheus {
    async fn start(world: &World) -> Self {
        let folder = std::env::temp_dir().join(format!("posto-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir_all(folder.join("rules")).expect("a folder for temporary files");
        write_configuration(world, &folder).await;
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|free| free.local_addr())
            .expect("a free port")
            .port();
        let log = std::fs::File::create(folder.join("log")).expect("a log");
        let child = program("prometheus")
            .arg(format!(
                "--config.file={}",
                folder.join("prometheus.yml").display()
            ))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--log.level=warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect(WAY_OUT);
        let prometheus = Self {
            child,
            folder,
            api: format!("http://127.0.0.1:{port}/api/v1"),
        };
        world
            .until("Prometheus is ready", async |world| {
                let url = prometheus.api.replace("/api/v1", "/-/ready");
                let answer = world.client().get(url).send().await;
                answer.is_ok_and(|answer| answer.status().is_success())
            })
            .await;
        prometheus
    }

    async fn ask(&self, world: &World, path: &str) -> Value {
        let url = format!("{}/{path}", self.api);
        let answer = world.client().get(url).send().await.expect("an answer");
        answer.json().await.expect("JSON")
    }

    async fn query(&self, world: &World, expression: &str) -> Value {
        let url = Url::parse_with_params(&format!("{}/query", self.api), [("query", expression)])
            .expect("a URL");
        let answer = world.client().get(url).send().await.expect("an answer");
        answer.json().await.expect("JSON")
    }
}

/// Where RabbitMQ serves its metrics, as its management API knows.
async fn broker_metrics(world: &World) -> String {
    let management = std::env::var("RABBITMQ_MANAGEMENT_URL").expect(
        "because the rules are about RabbitMQ too: set RABBITMQ_MANAGEMENT_URL, or run ./tests/run",
    );
    let host = Url::parse(&management)
        .ok()
        .and_then(|url| url.host_str().map(str::to_owned))
        .expect("because the URL names a host");
    let answer = world
        .client()
        .get(format!("{management}/api/overview"))
        .send()
        .await;
    let overview: Value = answer.expect("an answer").json().await.expect("JSON");
    let port = overview["listeners"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|listener| listener["protocol"] == "http/prometheus")
        .and_then(|listener| listener["port"].as_i64())
        .expect(
            "because plugin rabbitmq_prometheus is part of our set-up: rabbitmq-plugins enable it",
        );
    format!("{host}:{port}")
}

/// Our own files with other addresses, and with seconds in place of minutes.
async fn write_configuration(world: &World, folder: &Path) {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).expect("a file of ours");
    let mut config = read("deploy/prometheus/prometheus.yml");
    let mut replace = |from: &str, to: &str| {
        assert!(config.contains(from), "prometheus.yml has no {from}");
        config = config.replace(from, to);
    };
    for (port, service) in [
        (8482, "ingest"),
        (8490, "router-worker"),
        (8500, "delivery-worker"),
    ] {
        replace(
            &format!("127.0.0.1:{port}"),
            &world.ops()[service].to_string(),
        );
    }
    replace("127.0.0.1:8574", &broker_metrics(world).await);
    replace("scrape_interval: 15s", "scrape_interval: 1s");
    replace("scrape_timeout: 10s", "scrape_timeout: 1s");
    replace("evaluation_interval: 15s", "evaluation_interval: 1s");
    let rules: String = read("deploy/prometheus/rules/posto.yml")
        .lines()
        .map(|line| match line.trim_start().strip_prefix("for: ") {
            Some(_) => "        for: 0s\n".to_owned(),
            None => format!("{line}\n"),
        })
        .collect();
    std::fs::write(folder.join("prometheus.yml"), config).expect("a file");
    std::fs::write(folder.join("rules/posto.yml"), rules).expect("a file");
}

/// Every expression of the dashboard.
fn expressions() -> Vec<String> {
    fn walk(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                found.extend(
                    members
                        .get("expr")
                        .and_then(Value::as_str)
                        .map(str::to_owned),
                );
                members.values().for_each(|member| walk(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
            _ => {}
        }
    }
    let text = std::fs::read_to_string(root().join("deploy/grafana/dashboards/posto.json"))
        .expect("the dashboard");
    let mut found = Vec::new();
    walk(&serde_json::from_str(&text).expect("JSON"), &mut found);
    assert!(found.len() > 30, "the dashboard shows little");
    found
}

/// Whether an expression may well say nothing: it shows only what is wrong, or what waits.
fn may_be_empty(expression: &str) -> bool {
    expression.ends_with("> 0") || expression.starts_with("ALERTS")
}

fn count(answer: &Value) -> usize {
    answer["data"]["result"].as_array().map_or(0, Vec::len)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_scrapes_us_evaluates_our_rules_and_warns() {
    let mut world = World::start().await;
    walk(&world).await;
    let prometheus = Prometheus::start(&world).await;

    world
        .until("every target is up", async |world| {
            let answer = prometheus.ask(world, "targets?state=active").await;
            let targets = answer["data"]["activeTargets"].as_array().cloned();
            let targets = targets.unwrap_or_default();
            targets.len() == 5 && targets.iter().all(|target| target["health"] == "up")
        })
        .await;
    world
        .until("every rule was evaluated without an error", async |world| {
            let answer = prometheus.ask(world, "rules").await;
            let groups = answer["data"]["groups"].as_array().cloned();
            let rules: Vec<Value> = groups
                .unwrap_or_default()
                .iter()
                .flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default())
                .collect();
            for rule in &rules {
                let error = rule["lastError"].as_str().unwrap_or_default();
                assert_eq!(error, "", "{}", rule["name"]);
            }
            rules.len() > 30 && rules.iter().all(|rule| rule["health"] == "ok")
        })
        .await;
    for expression in expressions() {
        world
            .until(
                &format!("the dashboard shows {expression}"),
                async |world| {
                    let answer = prometheus.query(world, &expression).await;
                    assert_eq!(answer["status"], "success", "{expression}: {answer}");
                    may_be_empty(&expression) || count(&answer) > 0
                },
            )
            .await;
    }
    let quiet = r#"ALERTS{alertstate="firing", alertname=~"LedgerImbalance|LoopStale|ScrapeMissing|StreamQueueOff|BrokerBlocked|DatabaseUnreachable|PartitionsRunningOut"}"#;
    let answer = prometheus.query(&world, quiet).await;
    assert_eq!(count(&answer), 0, "all is well: {answer}");

    world.stop_router().await;
    let prefix = world.prefix().replace('.', "[.]");
    for alert in [
        r#"ALERTS{alertstate="firing", alertname="ScrapeMissing", job="router-worker"}"#.to_owned(),
        format!(
            r#"ALERTS{{alertstate="firing", alertname="NoConsumer", queue=~"{prefix}hub[.]events[.]route"}}"#
        ),
    ] {
        world
            .until(&format!("{alert} fires"), async |world| {
                count(&prometheus.query(world, &alert).await) == 1
            })
            .await;
    }
    world.end(Leaves::Unsettled).await;
}
