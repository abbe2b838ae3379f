//! The PostgreSQL and RabbitMQ of this suite, which scenarios may break: see `tests/lib/chaos-servers`.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};

use crate::rig::client;

/// RabbitMQ 3.10.8 writes its directory of new quorum queues some 500 ms after they were declared.
/// Killed before, it comes back with a queue that has no leader and never answers, which only
/// deleting the queue mends; see `docs/reliability.md`. Nothing tells from outside that it was written.
const DIRECTORY_SAVED: Duration = Duration::from_secs(2);

/// The addresses of both servers.
#[derive(Clone, Debug)]
pub(crate) struct Servers {
    pub(crate) database_url: String,
    pub(crate) amqp_url: String,
    management_url: String,
    http: reqwest::Client,
}

impl Servers {
    /// Starts what does not run and undoes what an earlier scenario left broken.
    ///
    /// # Panics
    /// When they cannot be started: nothing can be tried without them.
    pub(crate) fn up() -> Self {
        let addresses = verb(&["up"]);
        let address = |name: &str| {
            addresses
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
                .expect("because `up` prints every address")
                .to_owned()
        };
        Self {
            database_url: address("DATABASE_URL"),
            amqp_url: address("AMQP_URL"),
            management_url: address("RABBITMQ_MANAGEMENT_URL"),
            http: client(),
        }
    }

    /// Kills RabbitMQ as `kill -9` does, once it has written down which queues it has.
    pub(crate) async fn kill_rabbitmq(&self) {
        tokio::time::sleep(DIRECTORY_SAVED).await;
        verb(&["kill", "rabbitmq"]);
    }

    /// Starts RabbitMQ and waits until it listens.
    pub(crate) fn start_rabbitmq(&self) {
        verb(&["start", "rabbitmq"]);
    }

    /// Kills RabbitMQ, forgets its data, and starts it.
    pub(crate) fn wipe_rabbitmq(&self) {
        verb(&["wipe", "rabbitmq"]);
    }

    /// Sets or clears the broker's memory alarm.
    pub(crate) fn alarm(&self, on: bool) {
        verb(&["alarm", if on { "on" } else { "off" }]);
    }

    /// Shuts PostgreSQL down fast, as an upgrade does, and starts it.
    pub(crate) fn restart_postgres(&self) {
        verb(&["restart", "postgres"]);
    }

    /// Kills PostgreSQL as `kill -9` does.
    pub(crate) fn kill_postgres(&self) {
        verb(&["kill", "postgres"]);
    }

    /// Starts PostgreSQL and waits until it answers.
    pub(crate) fn start_postgres(&self) {
        verb(&["start", "postgres"]);
    }

    /// Lets the broker close every AMQP connection; answers how many there were.
    pub(crate) async fn close_connections(&self) -> usize {
        let mut closed = 0;
        for connection in self.list("connections").await {
            let Some(name) = connection["name"].as_str() else {
                continue;
            };
            let path = format!("connections/{}", escaped(name));
            closed += usize::from(self.delete(&path).await);
        }
        closed
    }

    /// Deletes every queue of a prefix; answers how many there were.
    pub(crate) async fn delete_queues(&self, prefix: &str) -> usize {
        let mut deleted = 0;
        for queue in self.list("queues/%2F").await {
            if let Some(name) = queue["name"]
                .as_str()
                .filter(|name| name.starts_with(prefix))
            {
                deleted += usize::from(self.delete(&format!("queues/%2F/{name}")).await);
            }
        }
        deleted
    }

    /// Deletes every exchange of a prefix.
    pub(crate) async fn delete_exchanges(&self, prefix: &str) {
        for exchange in self.list("exchanges/%2F").await {
            if let Some(name) = exchange["name"]
                .as_str()
                .filter(|name| name.starts_with(prefix))
            {
                self.delete(&format!("exchanges/%2F/{name}")).await;
            }
        }
    }

    /// Publishes bytes straight to a queue, past everything of ours.
    pub(crate) async fn publish(&self, queue: &str, payload: &str) {
        let url = format!(
            "{}/api/exchanges/%2F/amq.default/publish",
            self.management_url
        );
        let message = json!({
            "properties": {}, "routing_key": queue, "payload": payload, "payload_encoding": "string",
        });
        let answer = self.http.post(url).json(&message).send().await;
        let routed: Value = match answer {
            Ok(answer) => answer.json().await.unwrap_or_default(),
            Err(_) => Value::Null,
        };
        assert_eq!(routed["routed"], true, "{queue} took the message");
    }

    async fn list(&self, what: &str) -> Vec<Value> {
        let url = format!("{}/api/{what}", self.management_url);
        let answer = self.http.get(url).send().await;
        match answer {
            Ok(answer) => answer.json().await.unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }

    async fn delete(&self, path: &str) -> bool {
        let url = format!("{}/api/{path}", self.management_url);
        let answer = self.http.delete(url).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }
}

fn escaped(name: &str) -> String {
    name.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
        text
    })
}

fn verb(arguments: &[&str]) -> String {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("lib/chaos-servers");
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(script)
        .args(arguments)
        .output()
        .expect("because the script is part of the tree");
    assert!(
        status.success(),
        "chaos-servers {arguments:?}: {}",
        String::from_utf8_lossy(&stderr)
    );
    String::from_utf8_lossy(&stdout).into_owned()
}
