//! Bills that die, and what became of them.

use posto_tests::gateway_sim::{Fault, FaultRule};
use posto_tests::world::{Setup, World, overdue};
use serde_json::{Value, json};
use shared::domain::channel::Channel;
use shared::domain::message::WorkQueue;

pub(crate) const WHATSAPP: WorkQueue = WorkQueue::Deliver(Channel::Whatsapp);
pub(crate) const CHAT: WorkQueue = WorkQueue::Deliver(Channel::Chat);

/// The phone of a customer, as the gateway is asked for it.
pub(crate) fn phone(number: u32) -> String {
    format!("554799990{number:04}")
}

/// The bill of a customer, with a text of its own.
pub(crate) fn bill(number: u32) -> Value {
    let mut event = overdue(&format!("bill-{number}-{}", uuid::Uuid::new_v4()));
    event["payload"]["phone"] = json!(format!("(47) 99990-{number:04}"));
    event["payload"]["description"] = json!(format!("Hospedagem {number}"));
    event
}

/// Posts an event; answers its id and trace.
pub(crate) async fn post(world: &World, event: &Value) -> (String, String) {
    let accepted = world.post(event).await;
    assert_eq!(accepted.status, 202, "{}", accepted.body);
    (accepted.text("/event_id"), accepted.text("/trace_id"))
}

/// A world whose retries are over in a moment.
pub(crate) async fn world() -> World {
    World::start_with(Setup {
        retry_base: "1ms",
        send_timeout: "2s",
        ..Setup::default()
    })
    .await
}

/// Posts bills that the gateway will not take and waits until they are given up. What they died of
/// is over when this returns.
pub(crate) async fn die(world: &World, numbers: std::ops::Range<u32>) -> Vec<(String, String)> {
    world.sim.set_fault(FaultRule::new(Fault::RateLimited));
    let count = i64::from(numbers.end - numbers.start);
    let before = dead(world).await;
    let batch: Value = numbers.map(bill).collect();
    let answer = world.post(&batch).await;
    let posted = answer
        .body
        .as_array()
        .expect("because a batch is answered with a list")
        .iter()
        .map(|item| {
            let text = |name: &str| {
                item[name]
                    .as_str()
                    .expect("because it is accepted")
                    .to_owned()
            };
            (text("event_id"), text("trace_id"))
        })
        .collect();
    world
        .until("all of them are dead", async |world| {
            dead(world).await == before + count
                && world.count("select count(*) from outbox").await == 0
        })
        .await;
    world.sim.clear_faults();
    posted
}

/// How many letters wait for a person.
pub(crate) async fn dead(world: &World) -> i64 {
    world
        .count("select count(*) from dead_letters where state = 'dead'")
        .await
}

/// The ids of all letters in a state, oldest first.
pub(crate) async fn letters(world: &World, state: &str) -> Vec<String> {
    let query = format!("select id::text from dead_letters where state = '{state}' order by id");
    world.texts(&query).await
}

/// For each message that the gateway took in for a customer, whether it went out.
pub(crate) fn messages_to(world: &World, number: u32) -> Vec<bool> {
    let phone = phone(number);
    let all = world.sim.messages();
    all.iter()
        .filter(|message| message.to == phone)
        .map(|message| message.went_out)
        .collect()
}

/// Waits until every delivery stands so.
pub(crate) async fn until_all(world: &World, state: &str) {
    let other = format!("select count(*) from deliveries where state <> '{state}'");
    world
        .until(&format!("every delivery is {state}"), async |world| {
            world.count(&other).await == 0
        })
        .await;
}

/// The lines of the audit log, like `maria redriven delivery`.
pub(crate) async fn audit(world: &World) -> Vec<String> {
    world
        .texts("select concat_ws(' ', actor, action, subject_kind, detail ->> 'outcome') from audit_log order by at, id")
        .await
}

/// Waits until no settled letter has a copy that is still looked for.
pub(crate) async fn until_tidied(world: &World) {
    let untidy = "select count(*) from dead_letters where state <> 'dead' and tidied_at is null";
    world
        .until("the dead queues are tidy", async |world| {
            world.count(untidy).await == 0
        })
        .await;
}
