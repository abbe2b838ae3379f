//! A source system as it should be: it repeats a post, with the same key, until it is answered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use posto_tests::world::{BILLING_TOKEN, CHAT_TOKEN, overdue};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use crate::rig::client;

/// Posts on the wire at once.
const CONNECTIONS: usize = 32;
/// The longest that a post may stay without its 202.
const ANSWER_BOUND: Duration = Duration::from_secs(90);

/// The event id that each key was answered with.
pub(crate) type Posted = BTreeMap<String, String>;

/// What is posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An overdue invoice, each to a number of its own: one WhatsApp message.
    Bill,
    /// A message on the chat of an order: nothing leaves the house.
    Chat,
}

/// Events with numbers from `first` on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch {
    pub(crate) kind: Kind,
    pub(crate) first: u32,
    pub(crate) count: u32,
    /// The pause between two posts; none posts as fast as it goes.
    pub(crate) pause: Duration,
}

impl Batch {
    /// Bills as fast as they go.
    pub(crate) const fn of_bills(count: u32) -> Self {
        Self {
            kind: Kind::Bill,
            first: 0,
            count,
            pause: Duration::ZERO,
        }
    }

    /// The same events, one after the other over that time.
    pub(crate) fn over(self, time: Duration) -> Self {
        Self {
            pause: time / self.count,
            ..self
        }
    }

    /// Posts them all in the background; the handle answers when each has its 202.
    pub(crate) fn post(self, api: &str) -> JoinHandle<Posted> {
        let url = format!("{api}/api/events");
        tokio::spawn(async move {
            let client = client();
            let room = Arc::new(Semaphore::new(CONNECTIONS));
            let mut posts = JoinSet::new();
            for number in self.first..self.first + self.count {
                let slot = Arc::clone(&room)
                    .acquire_owned()
                    .await
                    .expect("because the semaphore is never closed");
                let (client, url) = (client.clone(), url.clone());
                posts.spawn(async move {
                    let answered = post_until_answered(&client, &url, self.kind, number).await;
                    drop(slot);
                    answered
                });
                if !self.pause.is_zero() {
                    tokio::time::sleep(self.pause).await;
                }
            }
            posts.join_all().await.into_iter().collect()
        })
    }
}

async fn post_until_answered(
    client: &reqwest::Client,
    url: &str,
    kind: Kind,
    number: u32,
) -> (String, String) {
    let (token, event) = event(kind, number);
    let key = event["idempotency_key"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let begun = Instant::now();
    loop {
        let answer = client
            .post(url)
            .bearer_auth(token)
            .json(&event)
            .send()
            .await;
        // Whatever is no answer says nothing of the event: it may be stored or not.
        if let Ok(answer) = answer {
            let status = answer.status().as_u16();
            let body: Value = answer.json().await.unwrap_or_default();
            match (status, body["event_id"].as_str()) {
                (202, Some(id)) => return (key, id.to_owned()),
                (202 | 500..=599, _) => {}
                _ => panic!("{key} was answered with {status}: {body}"),
            }
        }
        assert!(
            begun.elapsed() < ANSWER_BOUND,
            "{key} has no 202 after {ANSWER_BOUND:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn event(kind: Kind, number: u32) -> (&'static str, Value) {
    match kind {
        Kind::Bill => {
            let mut event = overdue(&format!("bill-{number}"));
            event["payload"]["phone"] = json!(phone(number));
            event["payload"]["description"] = json!(format!("Hospedagem {number}"));
            event["payload"]["invoice_id"] = json!(number);
            (BILLING_TOKEN, event)
        }
        Kind::Chat => {
            let event = json!({
                "event_type": "chat.message.received", "source_system": "chat", "tenant_id": 1,
                "idempotency_key": format!("chat-{number}"),
                "payload": {"order_id": number % 20, "role": "user", "message": format!("mensagem {number}")},
            });
            (CHAT_TOKEN, event)
        }
    }
}

/// The number of a customer, as the gateway is asked for it.
pub(crate) fn phone(number: u32) -> String {
    format!("554799{number:07}")
}
