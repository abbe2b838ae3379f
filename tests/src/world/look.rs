//! What a scenario looks at: the database, the gateway, the broker.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use secrecy::SecretString;
use serde_json::Value;
use shared::broker::session::BrokerConfig;
use shared::broker::topology::Topology;
use shared::broker::{Queue, Session, health};
use shared::runtime::lifecycle::Lifecycle;
use sqlx::{AssertSqlSafe, query_scalar};

use super::{BOUND, World};
use crate::gateway_sim::Message;

/// How often a condition is looked at while it is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

impl World {
    /// Waits until a condition holds.
    ///
    /// # Panics
    /// When it does not hold within [`BOUND`].
    pub async fn until(&self, what: &str, mut holds: impl AsyncFnMut(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self).await {
            assert!(
                begun.elapsed() < BOUND,
                "waited {BOUND:?} in vain until {what}\n{}",
                self.deliveries_text().await
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until a process is ready and its broker reached.
    ///
    /// # Panics
    /// When it is not within [`BOUND`].
    pub(super) async fn until_ready(&self, ops: SocketAddr) {
        self.until("the process is ready", async |world| {
            let Ok(response) = world
                .client()
                .get(format!("http://{ops}/readyz"))
                .send()
                .await
            else {
                return false;
            };
            let ready = response.status().is_success();
            let checks: Value = response.json().await.unwrap_or_default();
            let broker = checks
                .as_array()
                .into_iter()
                .flatten()
                .find(|check| check["name"] == "broker");
            // Ingest is ready without a broker; a scenario wants it with one.
            ready
                && broker.is_some_and(|check| {
                    ["", "connected"].contains(&check["detail"].as_str().unwrap_or_default())
                })
        })
        .await;
    }

    /// How many messages wait in a queue, as the broker tells; none while it cannot be asked.
    pub async fn depth(&self, queue: Queue) -> Option<u32> {
        let opened = self.view.get_or_try_init(async || self.open_view()).await;
        let (session, _) = opened.expect("because the processes use the same broker");
        let depth = health::depth(session, queue).await.ok()?;
        Some(depth.ready)
    }

    fn open_view(&self) -> anyhow::Result<(Session, Lifecycle)> {
        let links = Lifecycle::default();
        let config = BrokerConfig {
            topology: Topology::new(&self.prefix)?,
            ..BrokerConfig::new(SecretString::from(super::amqp_url()?), "a scenario")
        };
        let session = Session::start(&config, &links.links.tasks, &links.links.stop)?;
        Ok((session, links))
    }

    /// The one number that a query answers.
    ///
    /// # Panics
    /// When the query cannot be run.
    pub async fn count(&self, query: &str) -> i64 {
        query_scalar(AssertSqlSafe(query.to_owned()))
            .fetch_one(&self.db)
            .await
            .expect("because the query is a scenario's own")
    }

    /// The texts that a query answers, one column.
    ///
    /// # Panics
    /// When the query cannot be run.
    pub async fn texts(&self, query: &str) -> Vec<String> {
        let rows: Vec<Option<String>> = query_scalar(AssertSqlSafe(query.to_owned()))
            .fetch_all(&self.db)
            .await
            .expect("because the query is a scenario's own");
        rows.into_iter().map(Option::unwrap_or_default).collect()
    }

    /// Runs a statement.
    ///
    /// # Panics
    /// When it cannot be run.
    pub async fn run_sql(&self, statement: &str) {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
            .execute(&self.db)
            .await
            .expect("because the statement is a scenario's own");
    }

    /// Waits until the deliveries of an event stand in these states (by their place in the plan).
    ///
    /// # Panics
    /// When they do not within [`BOUND`].
    pub async fn until_states(&self, event_id: &str, states: &[&str]) {
        let query =
            format!("select state from deliveries where event_id = '{event_id}' order by ordinal");
        self.until(
            &format!("the deliveries of {event_id} are {states:?}"),
            async |world| world.texts(&query).await == states,
        )
        .await;
    }

    /// The messages that left the gateway.
    #[must_use]
    pub fn went_out(&self) -> Vec<Message> {
        self.sim
            .messages()
            .into_iter()
            .filter(|message| message.went_out)
            .collect()
    }

    /// The story of a trace, as operators read it.
    pub async fn story(&self, trace_id: &str) -> Value {
        self.admin(&format!("/admin/traces/{trace_id}")).await.body
    }

    /// Throws the messages of one of this world's queues away, as an accident of the broker would.
    ///
    /// # Panics
    /// When the management API does not do it.
    pub async fn purge(&self, queue: &str) {
        let management =
            std::env::var("RABBITMQ_MANAGEMENT_URL").expect("because ./tests/run sets it");
        let url = format!(
            "{management}/api/queues/%2F/{}{queue}/contents",
            self.prefix()
        );
        let answer = self.client().delete(url).send().await;
        assert!(answer.is_ok_and(|answer| answer.status().is_success()));
    }

    async fn deliveries_text(&self) -> String {
        self.texts(
            "select concat_ws(' ', d.event_type, d.channel, d.state, d.failure_code, d.failure_detail, d.held_reason, a.outcome)
             from deliveries d left join delivery_attempts a on a.delivery_id = d.id order by d.id limit 20",
        )
        .await
        .join("\n")
    }
}

/// Deletes the exchanges and queues of a prefix through the management API, where its address is
/// known; else they go with the broker's data.
pub(super) async fn delete_queues(prefix: &str) {
    let Ok(management) = std::env::var("RABBITMQ_MANAGEMENT_URL") else {
        return;
    };
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(BOUND)
        .build()
        .expect("because no option is set");
    for kind in ["queues", "exchanges"] {
        let Ok(response) = client
            .get(format!("{management}/api/{kind}/%2F"))
            .send()
            .await
        else {
            return;
        };
        let Ok(all) = response.json::<Vec<Value>>().await else {
            continue;
        };
        for name in all
            .iter()
            .filter_map(|one| one["name"].as_str())
            .filter(|name| name.starts_with(prefix))
        {
            let _ = client
                .delete(format!("{management}/api/{kind}/%2F/{name}"))
                .send()
                .await;
        }
    }
}
