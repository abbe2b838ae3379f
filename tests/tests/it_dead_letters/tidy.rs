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
