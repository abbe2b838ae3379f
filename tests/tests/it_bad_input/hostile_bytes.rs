//! Good bodies with bytes changed at random, the same in each run: nothing that can be posted is
//! an error of ours.

use futures_util::StreamExt as _;
use posto_tests::world::http::answer;
use posto_tests::world::{BILLING_TOKEN, Leaves, Setup, WEBHOOK_SECRET, World, overdue};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;

/// Posts to each door.
const POSTS: u64 = 300;

/// One to four changes: another byte, a byte less, a piece twice, or the end cut off.
fn changed(body: &str, seed: u64) -> Vec<u8> {
    const TEMPTING: &[u8] = b"\"{}[],:\\\0\xff-0e9tnu ";
    let mut dice = StdRng::seed_from_u64(seed);
    let mut bytes = body.as_bytes().to_vec();
    for _ in 0..dice.random_range(1..=4) {
        let at = dice.random_range(0..bytes.len());
        match dice.random_range(0..5) {
            0 => bytes[at] = dice.random(),
            1 => bytes[at] = TEMPTING[dice.random_range(0..TEMPTING.len())],
            2 => drop(bytes.remove(at)),
            3 => {
                let piece = bytes[at..bytes.len().min(at + 20)].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => bytes.truncate(at.max(1)),
        }
    }
    bytes
}

/// Posts the changed bodies and answers how many were met with each status.
async fn post_all(world: &World, path: &str, body: &str) -> std::collections::BTreeMap<u16, usize> {
    let posts = (0..POSTS).map(|seed| {
        let request = world
            .client()
            .post(format!("{}{path}", world.api()))
            .bearer_auth(BILLING_TOKEN)
            .header("x-webhook-secret", WEBHOOK_SECRET)
            .header("content-type", "application/json")
            .body(changed(body, seed));
        async move { (seed, answer(request).await) }
    });
    let mut statuses = std::collections::BTreeMap::new();
    let mut answers = futures_util::stream::iter(posts).buffer_unordered(16);
    while let Some((seed, answer)) = answers.next().await {
        assert!(
            answer.status < 500,
            "seed {seed} to {path}: {} {}",
            answer.status,
            answer.body
        );
        assert!(answer.body.is_object() || answer.body.is_array());
        *statuses.entry(answer.status).or_default() += 1;
    }
    statuses
}

#[tokio::test(flavor = "multi_thread")]
async fn no_bytes_are_a_fault_of_ours() {
    let world = World::start_with(Setup {
        delivery: false,
        ..Setup::default()
    })
    .await;
    let mut event = overdue("hostile");
    event["metadata"] = json!({"list": [1, 2.5, null, true, {"a": "b"}]});
    event["occurred_at"] = json!("2026-02-05T14:00:01Z");
    let statuses = post_all(&world, "/api/events", &event.to_string()).await;
    let refused: usize = statuses
        .iter()
        .filter(|(status, _)| **status != 202)
        .map(|(_, times)| times)
        .sum();
    assert!(
        statuses.keys().all(|it| [202, 400, 403, 422].contains(it)),
        "{statuses:?}"
    );
    assert_eq!(
        world
            .count("select count(*) from communication_logs where code <> 'session_down'")
            .await,
        i64::try_from(refused).unwrap(),
        "each refusal is explained"
    );

    let webhook = json!({
        "event": "message", "session": {"id": "Pixel12 Digital"},
        "message": {"id": "false_554799900011@c.us_3EB0A1", "from": "554799900011@c.us", "to": "554733000001@c.us",
                    "text": "Bom dia!", "timestamp": 1_770_300_001},
        "raw": {"provider": "wppconnect", "payload": {"event": "onmessage", "type": "chat", "t": 1_770_300_001}}
    });
    let statuses = post_all(&world, "/api/whatsapp/webhook", &webhook.to_string()).await;
    assert!(
        statuses.keys().all(|it| [200, 400].contains(it)),
        "{statuses:?}"
    );
    // `end` waits until the router has decided about each of them.
    world.end(Leaves::Unsettled).await;
}
