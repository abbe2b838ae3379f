//! What a person does in RabbitMQ's management UI, through the API that the UI itself uses.

use std::time::Duration;

use posto_tests::world::World;
use serde_json::{Value, json};
use shared::broker::Queue;

const BOUND: Duration = Duration::from_secs(30);

/// A message, as "get message" shows it.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) payload: String,
    pub(crate) headers: Value,
}

fn address() -> String {
    std::env::var("RABBITMQ_MANAGEMENT_URL").expect("because ./tests/run sets it")
}

fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .timeout(BOUND)
        .build()
        .expect("because no option is set")
}

/// A queue's name on the broker.
fn named(world: &World, queue: Queue) -> String {
    format!("{}{}", world.prefix(), queue.label())
}

/// Looks at up to `count` messages of a queue; they stay where they are.
pub(crate) async fn get(world: &World, queue: Queue, count: usize) -> Vec<Shown> {
    get_with(world, queue, count, "ack_requeue_true").await
}

/// Takes up to `count` messages of a queue and does with them what `ackmode` says.
pub(crate) async fn get_with(
    world: &World,
    queue: Queue,
    count: usize,
    ackmode: &str,
) -> Vec<Shown> {
    let queue = named(world, queue);
    let asked = json!({"count": count, "ackmode": ackmode, "encoding": "auto"});
    let response = client()
        .post(format!("{}/api/queues/%2F/{queue}/get", address()))
        .json(&asked)
        .send()
        .await
        .expect("because the management API is up");
    let all: Vec<Value> = response.json().await.expect("because it answers a list");
    all.into_iter()
        .map(|one| Shown {
            payload: one["payload"].as_str().unwrap_or_default().to_owned(),
            headers: one["properties"]["headers"].clone(),
        })
        .collect()
}

/// Waits until so many messages wait in a queue. Asked of the broker itself: a look at them would
/// take them for a moment, and the management API counts every few seconds only.
pub(crate) async fn until_depth(world: &World, queue: Queue, wanted: u32) {
    world
        .until(
            &format!("{} holds {wanted}", queue.label()),
            async |world| world.depth(queue).await == Some(wanted),
        )
        .await;
}

/// Publishes a message to a queue, as the form of the UI does.
pub(crate) async fn publish(world: &World, queue: Queue, payload: &str, headers: &Value) {
    let queue = named(world, queue);
    let asked = json!({
        "properties": {"headers": headers, "delivery_mode": 2},
        "routing_key": queue, "payload": payload, "payload_encoding": "string",
    });
    let response = client()
        .post(format!(
            "{}/api/exchanges/%2F/amq.default/publish",
            address()
        ))
        .json(&asked)
        .send()
        .await
        .expect("because the management API is up");
    let told: Value = response.json().await.expect("because the answer is JSON");
    assert_eq!(told["routed"], json!(true), "{queue} takes messages");
}

/// Moves all messages of a queue to another, as "Move messages" of the UI does.
pub(crate) async fn shovel(world: &World, from: Queue, to: Queue) {
    let (from, to) = (named(world, from), named(world, to));
    let name = format!("Move from {from}");
    let path = format!(
        "{}/api/parameters/shovel/%2F/{}",
        address(),
        name.replace(' ', "%20")
    );
    let asked = json!({"component": "shovel", "vhost": "/", "name": name, "value": {
        "src-uri": "amqp:///%2F", "src-queue": from, "src-protocol": "amqp091", "src-prefetch-count": 1000,
        "src-delete-after": "queue-length", "dest-protocol": "amqp091", "dest-uri": "amqp:///%2F",
        "dest-add-forward-headers": false, "ack-mode": "on-confirm", "dest-queue": to,
    }});
    let response = client().put(&path).json(&asked).send().await;
    let status = response.expect("because the management API is up").status();
    assert!(status.is_success(), "the shovel starts: {status}");
}

/// Deletes a queue with all that is in it.
pub(crate) async fn delete(world: &World, queue: Queue) {
    let queue = named(world, queue);
    let response = client()
        .delete(format!("{}/api/queues/%2F/{queue}", address()))
        .send()
        .await;
    let status = response.expect("because the management API is up").status();
    assert!(status.is_success(), "the queue is deleted: {status}");
}
