//! The tidy pass: what is settled leaves the dead queue, what waits stays as it was.

use posto_tests::world::Leaves;
use serde_json::json;
use shared::broker::Queue;

use crate::management::{self, publish, until_depth};
use crate::support::{WHATSAPP, die, letters, until_tidied, world};

#[tokio::test(flavor = "multi_thread")]
async fn settled_letters_leave_and_the_others_keep_their_order_and_headers() {
    let world = world().await;
    // The management UI itself gives back more than nine in another order: their consumer tags are
    // sorted as text.
    die(&world, 0..9).await;
    let queue = Queue::Dead(WHATSAPP);
    until_depth(&world, queue, 9).await;
    // Each look counts against the queue's limit, so nobody looks while there is nothing to tidy.
    let looks = "select count(*) from dead_queue_looks";
    assert_eq!(world.count(looks).await, 0);
    let before = management::get(&world, queue, 20).await;
    // Nobody's: neither of our making nor of the broker's.
    publish(&world, queue, "{}", &json!({})).await;
    let gone: Vec<_> = before
        .iter()
        .step_by(3)
        .map(|letter| letter.headers["x-letter-id"].clone())
        .collect();
    let order = json!({"ids": gone});
    let done = world.order("/admin/dead-letters/redrive", &order).await;
    assert_eq!(done.body["outcomes"], json!({"redriven": 3}));
    until_tidied(&world).await;
    until_depth(&world, queue, 6).await;
    let after = management::get(&world, queue, 20).await;
    let left: Vec<_> = before
        .iter()
        .enumerate()
        .filter(|(index, _)| index % 3 != 0)
        .map(|(_, letter)| letter)
        .collect();
    assert_eq!(after.len(), left.len());
    for (after, before) in after.iter().zip(left) {
        assert_eq!(after.payload, before.payload, "in the same order");
        for name in [
            "x-letter-id",
            "x-failure-code",
            "x-published-ms",
            "x-trace-id",
        ] {
            assert_eq!(after.headers[name], before.headers[name]);
        }
    }
    assert_eq!(world.count(looks).await, 1);
    assert_eq!(letters(&world, "dead").await.len(), 6);

    world.end(Leaves::Unsettled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tidying_the_newest_copy_away_disturbs_no_consumer() {
    let world = world().await;
    die(&world, 0..3).await;
    let queue = Queue::Dead(WHATSAPP);
    until_depth(&world, queue, 3).await;
    let newest = management::get(&world, queue, 9).await;
    let newest = newest.last().expect("three lie there").headers["x-letter-id"].clone();
    let attached = "hub_consumers_attached{queue=\"hub.deliveries.whatsapp\"}";
    world
        .until("the consumers are attached", async |world| {
            world.metric("delivery-worker", attached).await == 1.0
        })
        .await;
    let order = json!({"ids": [newest]});
    let done = world.order("/admin/dead-letters/discard", &order).await;
    assert_eq!(done.status, 200, "{}", done.body);
    // A refused nack closes the channel and, with this client, the connection of all consumers.
    let watch = async |world: &posto_tests::world::World| {
        assert_eq!(world.metric("delivery-worker", attached).await, 1.0);
        let untidied =
            "select count(*) from dead_letters where state <> 'dead' and tidied_at is null";
        world.count(untidied).await == 0
    };
    world.until("the copy is tidied away", watch).await;
    let begun = std::time::Instant::now();
    world
        .until("nothing came of it for two seconds", async |world| {
            watch(world).await && begun.elapsed().as_secs() >= 2
        })
        .await;
    until_depth(&world, queue, 2).await;
    world.end(Leaves::Unsettled).await;
}
