//! Encryption switched on over what is there, and another key, while the traffic runs.

use std::sync::atomic::{AtomicBool, Ordering};

use posto_tests::world::{Leaves, World, overdue};
use serde_json::json;

use crate::support::{K1, K2, revealed};

/// Values that are not sealed with that key, of every table.
fn not_sealed_with(key: &str) -> String {
    format!(
        "select sum(n)::bigint from (
             select count(*) from communication_events
             where hub_sealed_with(body) is distinct from '{key}' or hub_sealed_with(payload) is distinct from '{key}'
             union all select count(*) from deliveries where hub_sealed_with(body_text) is distinct from '{key}'
             union all select count(*) from receipts
             where body_text <> '' and hub_sealed_with(body_text) is distinct from '{key}'
             union all select count(*) from chat_messages
             where content <> '' and hub_sealed_with(content) is distinct from '{key}') t(n)"
    )
}

/// One overdue invoice and one answer of the customer; its trace and its words.
async fn talk(world: &World, number: usize) -> (String, String) {
    let words = format!("conversa numero {number:04}");
    let mut event = overdue(&format!("talk-{number}"));
    event["payload"]["description"] = json!(words);
    let accepted = world.post(&event).await;
    assert_eq!(accepted.status, 202, "{}", accepted.body);
    let id = format!("answer-{number}");
    let answer = world
        .post_webhook(&json!({"event": "message", "channel": "pixel12digital", "from": "5547999900011",
            "message": {"id": id, "from": "5547999900011", "text": words, "timestamp": 1_770_300_960}}))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    (accepted.text("/trace_id"), words)
}

async fn until_all_is_sealed_with(world: &World, key: &str) {
    world
        .until(&format!("everything is sealed with {key}"), async |world| {
            let walks = format!(
                "select count(*) from sealing_walks where key_id = '{key}' and clean_since is not null"
            );
            world.count(&walks).await == world.count("select count(*) from sealing_walks").await
        })
        .await;
    assert_eq!(world.count(&not_sealed_with(key)).await, 0);
}

async fn retire(world: &World, key: &str, payload_keys: &str) -> anyhow::Result<()> {
    let arguments = [
        "ingest",
        "admin",
        "sealing",
        "retire",
        key,
        "--payload-keys",
        payload_keys,
        "--database-url",
        world.database_url(),
    ];
    ingest::process::run(arguments.map(Into::into)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_takes_over_everything_while_messages_come_and_go() {
    let mut world = World::start().await;
    let mut talks = Vec::new();
    for number in 0..3 {
        talks.push(talk(&world, number).await);
    }
    // In clear, then with a first key, then with a second; the old ones lie beside the new.
    world.restart_with_keys(K1).await.unwrap();
    talks.push(talk(&world, 3).await);
    until_all_is_sealed_with(&world, "k1").await;

    // The new key is known everywhere before it seals.
    let both = format!("{K1},{K2}");
    world.restart_with_keys(&both).await.unwrap();
    let turned = format!("{K2},{K1}");
    world.restart_with_keys(&turned).await.unwrap();
    let refused = retire(&world, "k2", &turned).await.unwrap_err().to_string();
    assert!(refused.contains("k2 is the one that seals"), "{refused}");

    let done = AtomicBool::new(false);
    let traffic = async {
        let mut more = Vec::new();
        while !done.load(Ordering::Relaxed) || more.len() < 5 {
            more.push(talk(&world, 100 + more.len()).await);
        }
        more
    };
    let watch = async {
        until_all_is_sealed_with(&world, "k2").await;
        done.store(true, Ordering::Relaxed);
    };
    let (more, ()) = tokio::join!(traffic, watch);
    talks.extend(more);
    assert!(talks.len() >= 9);
    assert_eq!(world.count(&not_sealed_with("k2")).await, 0);

    retire(&world, "k1", &turned).await.unwrap();
    world.restart_with_keys(K2).await.unwrap();
    world
        .until("every message was read", async |world| {
            world
                .count("select count(*) from deliveries where channel = 'whatsapp' and state <> 'read'")
                .await
                == 0
        })
        .await;
    for (trace, words) in &talks {
        let story = revealed(&world, trace).await;
        assert_eq!(story["events"][0]["payload"]["description"], words.as_str());
        let text = story["deliveries"][0]["text"].as_str().unwrap_or_default();
        assert!(text.contains(words), "{story}");
    }
    let sent = world.went_out();
    for (_, words) in &talks {
        let times = sent
            .iter()
            .filter(|message| message.text.contains(words))
            .count();
        assert_eq!(times, 1, "{words}");
    }
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_needed_still_cannot_be_retired() {
    let mut world = World::start_with(posto_tests::world::Setup {
        payload_keys: K1.to_owned(),
        ..Default::default()
    })
    .await;
    talk(&world, 1).await;
    world
        .until("it is on its thread", async |world| {
            world.count("select count(*) from chat_messages").await == 1
        })
        .await;
    // Nobody seals anew: only what a command finds counts.
    let turned = format!("{K2},{K1}");
    let refused = retire(&world, "k1", &turned).await.unwrap_err().to_string();
    assert!(refused.contains("k1 is needed for"), "{refused}");
    world.restart_with_keys(&turned).await.unwrap();
    until_all_is_sealed_with(&world, "k2").await;
    retire(&world, "k1", &turned).await.unwrap();
    let audit = "select count(*) from audit_log where action = 'sealing_key_retired'";
    assert_eq!(world.count(audit).await, 1);
    world.end(Leaves::Nothing).await;
}
