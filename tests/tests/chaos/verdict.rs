//! What every scenario ends with: at rest, in balance, nothing lost, nothing doubled.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::time::{Duration, Instant};

use posto_tests::gateway_sim::Message;
use posto_tests::world::ADMIN_TOKEN;
use serde_json::Value;

use crate::rig::{Rig, client};
use crate::traffic::Posted;

/// Where the lines of the report are gathered, besides standard output.
const REPORT: &str = "POSTO_CHAOS_REPORT";

/// What is still under way, one count for each way to be so.
const UNDER_WAY: &str = "select
    (select count(*) from outbox)
    + (select count(*) from communication_events e
       where not exists (select 1 from routings r where r.event_id = e.id))
    + (select count(*) from deliveries where state in ('queued', 'held', 'claimed'))
    + (select count(*) from delivery_attempts where outcome = 'open')
    + (select count(*) from receipts where state = 'pending')";

/// What a scenario tells of itself.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Deliveries that ended *unknown*, for a person or a policy.
    pub(crate) unknown: usize,
    /// Attempts that were *unknown* for a while, and settled by evidence.
    pub(crate) proven: i64,
    /// Events that no rule wanted, with a decision that says so.
    pub(crate) unrouted: usize,
}

impl Rig {
    /// Waits until everything is at rest and judges it; every event led to a delivery. `since` is
    /// the end of the fault.
    pub(crate) async fn verdict(&self, scenario: &str, since: Instant, posted: &Posted) -> Told {
        let told = self.judge(scenario, since, posted).await;
        assert_eq!(told.unrouted, 0, "events that no rule wanted");
        told
    }

    /// The same where rules may have wanted nothing of some events.
    pub(crate) async fn judge(&self, scenario: &str, since: Instant, posted: &Posted) -> Told {
        self.until("everything is at rest", async |rig| {
            rig.number(UNDER_WAY).await == Some(0)
        })
        .await;
        // The simulator tells of every message that went out, unless its echoes are switched off:
        // acks name a message by an id that only the echo brings.
        let proof = if self.sim.settings().echo {
            self.until("evidence has settled what left", async |rig| {
                rig.left_and_not_read().await == 0
            })
            .await;
            "read"
        } else {
            "sent"
        };
        let took = since.elapsed();
        self.assert_ledger_closes().await;
        self.until("no work is without its message", async |rig| {
            rig.orphans().await == Some(0)
        })
        .await;
        self.until_ready().await;
        let told = self.assert_exactly_once(posted, proof).await;
        report(scenario, posted.len(), took, &told);
        told
    }

    /// The product's own ledger finds nothing that contradicts itself, and has counted every delivery.
    async fn assert_ledger_closes(&self) {
        let answer = client()
            .get(format!("{}/admin/ledger", self.admin))
            .bearer_auth(ADMIN_TOKEN)
            .send()
            .await
            .expect("because ingest runs");
        assert_eq!(answer.status(), 200, "the ledger");
        let ledger: Value = answer.json().await.expect("because the answer is JSON");
        assert_eq!(ledger["imbalance"], 0, "the ledger closes: {ledger}");
        let states = ledger["deliveries"].as_object();
        let counted = states.map(|states| states.values().filter_map(Value::as_i64).sum());
        let stored = self.number("select count(*) from deliveries").await;
        assert_eq!(counted, stored, "the ledger counts all: {ledger}");
    }

    /// Messages that went out and whose delivery is not read yet.
    async fn left_and_not_read(&self) -> usize {
        let query = "select id::text from deliveries where state = 'read'";
        let read: BTreeSet<String> = self.texts(query).await.into_iter().collect();
        let messages = self.sim.messages();
        let left = messages.iter().filter(|message| message.went_out);
        left.filter(|message| !read.contains(&delivery_of(message)))
            .count()
    }

    /// Every event that was answered is stored under its own id and led to one delivery, and each
    /// WhatsApp delivery to exactly one message, or it is *unknown* and to one at the most.
    async fn assert_exactly_once(&self, posted: &Posted, proof: &str) -> Told {
        let rows = self
            .texts(
                "select concat_ws('|', e.idempotency_key, e.id, r.state, d.channel, d.state, d.id)
                 from communication_events e join routings r on r.event_id = e.id
                 left join deliveries d on d.event_id = e.id
                 where e.event_type in ('billing.invoice.overdue', 'chat.message.received')",
            )
            .await;
        let mut times: BTreeMap<String, usize> = BTreeMap::new();
        for message in self.sim.messages() {
            *times.entry(delivery_of(&message)).or_default() += usize::from(message.went_out);
        }
        let mut told = Told::default();
        let mut stored = Posted::new();
        for row in &rows {
            let parts: Vec<&str> = row.split('|').collect();
            stored.insert(parts[0].to_owned(), parts[1].to_owned());
            let ["routed", channel, state, delivery] = parts[2..] else {
                assert_eq!(parts[2..], ["unrouted"], "{row}");
                told.unrouted += 1;
                continue;
            };
            let sent = times.get(delivery).copied().unwrap_or_default();
            match (channel, state) {
                ("whatsapp", "unknown") => {
                    told.unknown += 1;
                    assert!(sent <= 1, "an unknown was sent {sent} times: {row}");
                }
                ("whatsapp", state) if state == proof => assert_eq!(sent, 1, "{row}"),
                ("chat", "delivered") => {}
                _ => panic!("not settled as it should be: {row}"),
            }
        }
        assert_eq!(rows.len(), stored.len(), "no event has two rows");
        assert_eq!(&stored, posted, "what was answered is what is stored");
        let on_threads = "select count(*) from (select delivery_id from chat_messages
            where delivery_id is not null group by delivery_id having count(*) > 1) twice";
        assert_eq!(
            self.number(on_threads).await,
            Some(0),
            "chat messages twice"
        );
        let proven =
            "select count(*) from delivery_attempts a join deliveries d on d.id = a.delivery_id
            where a.outcome = 'unknown' and d.state <> 'unknown'";
        told.proven = self.number(proven).await.unwrap_or_default();
        told
    }

    /// The services' own word: how much work their last looks found whose message was lost.
    async fn orphans(&self) -> Option<u64> {
        let client = client();
        let mut found = 0;
        for service in self.routers.iter().chain(&self.deliverers) {
            let url = format!("http://{}/metrics", service.ops());
            let text = client.get(url).send().await.ok()?.text().await.ok()?;
            for line in text.lines().filter(|line| line.starts_with("hub_orphans{")) {
                let (_, count) = line.rsplit_once(' ')?;
                found += count.parse::<u64>().ok()?;
            }
        }
        Some(found)
    }
}

fn delivery_of(message: &Message) -> String {
    let metadata = message.metadata.as_ref();
    let id = metadata.and_then(|metadata| metadata["delivery_id"].as_str());
    id.expect("because every send names its delivery")
        .to_owned()
}

#[allow(clippy::print_stdout)] // Who runs the suite reads it there.
fn report(scenario: &str, events: usize, took: Duration, told: &Told) {
    let line = format!(
        "| {scenario} | {events} | {:.1} | {} | {} |\n",
        took.as_secs_f64(),
        told.proven,
        told.unknown
    );
    print!("{line}");
    if let Ok(path) = std::env::var(REPORT)
        && let Ok(mut file) = std::fs::File::options()
            .create(true)
            .append(true)
            .open(path)
    {
        let _printed_anyway = file.write_all(line.as_bytes());
    }
}
