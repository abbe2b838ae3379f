//! The replies of one thread leave in the order of their ids.

use posto_tests::gateway_sim::{Fault, FaultRule};
use posto_tests::world::{Leaves, Setup, World};
use serde_json::{Value, json};

use crate::numbers::{
    A, assert_each_left_once, bill, down, post_all, session, standing, until_standing,
    without_receipts, world,
};

/// A reply to a customer, with words of its own.
fn reply(customer: u32, number: u32) -> Value {
    let mut event = bill(A, "reply", customer);
    event["payload"]["description"] = json!(format!("{customer} reply {number}"));
    event
}

/// Replies to one customer.
fn replies(customer: u32, many: u32) -> Vec<Value> {
    (0..many).map(|number| reply(customer, number)).collect()
}

/// Asserts that the replies which a customer got came in the order of the deliveries' ids.
async fn assert_in_order(world: &World, customer: u32) {
    let planned = world
        .texts(&format!(
            "select body_text from deliveries
             where recipient_key = 'tel:55479990{customer:04}' and lane = 'reply' and state = 'sent' order by id"
        ))
        .await;
    assert!(!planned.is_empty());
    let got: Vec<String> = world
        .went_out()
        .into_iter()
        .map(|message| message.text)
        .filter(|text| planned.contains(text))
        .collect();
    assert_eq!(got, planned);
}

/// How many replies were released by the very transaction that concluded the one before them.
const FOLLOWED_AT_ONCE: &str = "select count(*) from (
        select d.dispatched_at, lag(a.finished_at) over (partition by d.recipient_key order by d.id) as before
        from deliveries d join delivery_attempts a on a.delivery_id = d.id and a.number = d.attempt_count
        where d.lane = 'reply') d
    where d.dispatched_at = d.before";

#[tokio::test(flavor = "multi_thread")]
async fn replies_wait_while_the_one_before_them_is_retried_and_follow_it_at_once() {
    let world = world(Setup {
        retry_base: "3s",
        ..Setup::default()
    })
    .await;
    without_receipts(&world, 0);
    world
        .sim
        .set_fault(FaultRule::new(Fault::RateLimited).times(1));
    post_all(&world, vec![reply(1, 0)]).await;
    until_standing(&world, A, "state = 'queued' and retry_count = 1", 1).await;
    for number in 1..=2 {
        post_all(&world, vec![reply(1, number)]).await;
        until_standing(&world, A, "held_reason = 'reply_order'", number.into()).await;
    }
    post_all(&world, vec![bill(A, "notice", 1), reply(2, 0)]).await;
    until_standing(&world, A, "state = 'sent'", 2).await;
    assert_eq!(
        standing(&world, A, "held_reason = 'reply_order'").await,
        2,
        "another lane and another thread wait for nobody"
    );

    until_standing(&world, A, "state = 'sent'", 5).await;
    assert_in_order(&world, 1).await;
    assert_eq!(world.count(FOLLOWED_AT_ONCE).await, 2);
    assert_each_left_once(&world, 5);
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_replies_of_four_threads_drain_in_order_and_each_follows_the_one_before() {
    let world = world(Setup::default()).await;
    without_receipts(&world, 5);
    down(&world, A).await;
    let all = (1..=4).flat_map(|customer| replies(customer, 10));
    post_all(&world, all.collect()).await;
    until_standing(&world, A, "held_reason = 'session_down'", 40).await;
    session(&world, A, "return", false).await;
    until_standing(&world, A, "state = 'sent'", 40).await;
    for customer in 1..=4 {
        assert_in_order(&world, customer).await;
    }
    // Whoever looks while the next one is just being held misses it, and the leader finds it.
    let followed = world.count(FOLLOWED_AT_ONCE).await;
    assert!(followed >= 30, "{followed} of 36 followed at once");
    assert_each_left_once(&world, 40);
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_follows_the_evidence_that_the_one_before_it_is_out() {
    let world = world(Setup {
        send_timeout: "30s",
        ..Setup::default()
    })
    .await;
    let late = FaultRule::new(Fault::SlowAnswer).delayed(10_000);
    world.sim.set_fault(late.times(1));
    post_all(&world, vec![reply(1, 0)]).await;
    until_standing(&world, A, "attempt_count = 1", 1).await;
    post_all(&world, vec![reply(1, 1)]).await;
    // The echo and the acks of the first come long before its answer does.
    until_standing(&world, A, "state = 'read'", 2).await;
    let open = "select count(*) from delivery_attempts where outcome = 'open'";
    assert_eq!(world.count(open).await, 1, "the first is not answered yet");
    assert_eq!(world.sim.messages()[0].text, "Aviso 1 reply 0");
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_is_given_up_lets_the_next_one_go() {
    let world = world(Setup::default()).await;
    without_receipts(&world, 0);
    down(&world, A).await;
    post_all(&world, replies(1, 8)).await;
    until_standing(&world, A, "state = 'held'", 8).await;
    world
        .sim
        .set_fault(FaultRule::new(Fault::InvalidBase64).times(1));
    session(&world, A, "return", false).await;
    until_standing(&world, A, "state = 'sent'", 7).await;
    let first = "select state from deliveries order by id limit 1";
    assert_eq!(world.texts(first).await, ["dead"]);
    assert_in_order(&world, 1).await;
    world.end(Leaves::Unsettled).await;
}
