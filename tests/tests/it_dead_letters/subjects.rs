//! Letters of events, receipts, chat messages and of bytes that are nothing: each of them through
//! the API and through the shovel.

use posto_tests::gateway_sim::{Fault, FaultRule, Settings};
use posto_tests::world::{CHAT_TOKEN, Leaves, World};
use serde_json::json;
use shared::broker::Queue;
use shared::domain::message::WorkQueue;

use crate::management::{self, publish, shovel, until_depth};
use crate::support::{CHAT, audit, bill, dead, letters, messages_to, post, until_all, world};

/// A table that refuses rows until it is mended: what the database says of bad data.
fn broken(table: &str, verb: &str, when: &str) -> String {
    format!(
        "create function broken_{table}() returns trigger language plpgsql as
             $$ begin raise exception using errcode = '22000'; end $$;
         create trigger broken before {verb} on {table} for each row when ({when}) execute function broken_{table}()"
    )
}

async fn mend(world: &World, table: &str) {
    world
        .run_sql(&format!("drop function broken_{table} cascade"))
        .await;
}

async fn one_is_dead(world: &World) {
    world
        .until("there is a letter", async |world| {
            dead(world).await == 1 && world.count("select count(*) from outbox").await == 0
        })
        .await;
}

async fn redrive(world: &World, way: &str) {
    let order = json!({"filter": {"state": "dead"}, "expected_count": 1, "actor": "maria"});
    let done = world.order("/admin/dead-letters/redrive", &order).await;
    assert_eq!(done.body["ways"], json!({way: 1}), "{}", done.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_routing_failed_is_decided_again_and_one_decision_stands() {
    let world = world().await;
    for by_shovel in [false, true] {
        world
            .run_sql(&broken(
                "routings",
                "insert or update",
                "new.state <> 'failed'",
            ))
            .await;
        let number = u32::from(by_shovel);
        let (event, trace) = post(&world, &bill(number)).await;
        one_is_dead(&world).await;
        let status = format!("/api/events/{event}");
        assert_eq!(world.get(&status).await.body["status"], "failed");
        if !by_shovel {
            // Not mended yet: it dies again, one generation on.
            redrive(&world, "route").await;
            world
                .until("there is a second letter", async |world| {
                    letters(world, "redriven").await.len() == 1 && dead(world).await == 1
                })
                .await;
        }
        mend(&world, "routings").await;
        let queue = Queue::Dead(WorkQueue::Route);
        if by_shovel {
            until_depth(&world, queue, 1).await;
            shovel(&world, queue, Queue::Work(WorkQueue::Route)).await;
        } else {
            redrive(&world, "route").await;
        }
        world
            .until("it is read", async |world| {
                messages_to(world, number) == [true]
            })
            .await;
        let decisions = format!(
            "select concat_ws(' ', run, generation, state) from routings where event_id = '{event}'"
        );
        let generation = if by_shovel { 1 } else { 2 };
        assert_eq!(
            world.texts(&decisions).await,
            [format!("0 {generation} routed")]
        );
        let story = world.story(&trace).await;
        assert_eq!(story["deliveries"].as_array().unwrap().len(), 1);
        assert_eq!(story["audit"].as_array().unwrap().len(), generation);
        until_depth(&world, queue, 0).await;
    }
    world.end(Leaves::Unsettled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_that_was_given_up_is_applied_after_all() {
    let world = world().await;
    // An echo that comes when its send is known, and nothing else.
    world.sim.set_settings(Settings {
        acks: Vec::new(),
        ..world.sim.settings()
    });
    world
        .sim
        .set_fault(FaultRule::new(Fault::LateWebhooks).delayed(1_000));
    for by_shovel in [false, true] {
        let number = u32::from(by_shovel);
        world
            .run_sql(&broken("receipts", "update", "new.state = 'applied'"))
            .await;
        post(&world, &bill(number)).await;
        one_is_dead(&world).await;
        mend(&world, "receipts").await;
        let queue = Queue::Dead(WorkQueue::Receipts);
        if by_shovel {
            until_depth(&world, queue, 1).await;
            shovel(&world, queue, Queue::Work(WorkQueue::Receipts)).await;
        } else {
            redrive(&world, "apply").await;
        }
        let applied = "select count(*) from receipts where state = 'applied' and generation = 1";
        world
            .until("the echo is applied", async |world| {
                world.count(applied).await == i64::from(number) + 1
            })
            .await;
        until_all(&world, "sent").await;
        until_depth(&world, queue, 0).await;
        assert_eq!(messages_to(&world, number), [true]);
    }
    assert_eq!(
        audit(&world).await,
        [
            "maria redriven receipt apply",
            "management-ui redriven receipt apply"
        ]
    );
    world.end(Leaves::Unsettled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_message_that_was_given_up_is_written_once() {
    let world = world().await;
    world
        .run_sql(
            "insert into chat_threads (kind, order_id, customer_id, source_system, trace_id)
             values ('order', 77, 1, 'chat', repeat('a', 32))",
        )
        .await;
    for by_shovel in [false, true] {
        world
            .run_sql(&broken("chat_messages", "insert", "true"))
            .await;
        let event = json!({
            "event_type": "chat.message.received", "source_system": "chat", "tenant_id": 1,
            "idempotency_key": format!("chat-{by_shovel}"),
            "payload": {"order_id": 77, "message": format!("oi {by_shovel}")}
        });
        let accepted = world.post_as(CHAT_TOKEN, &event).await;
        assert_eq!(accepted.status, 202, "{}", accepted.body);
        one_is_dead(&world).await;
        mend(&world, "chat_messages").await;
        let queue = Queue::Dead(CHAT);
        if by_shovel {
            until_depth(&world, queue, 1).await;
            shovel(&world, queue, Queue::Work(CHAT)).await;
        } else {
            redrive(&world, "resend").await;
        }
        until_all(&world, "delivered").await;
        until_depth(&world, queue, 0).await;
    }
    assert_eq!(
        world
            .texts("select content from chat_messages order by id")
            .await,
        ["oi false", "oi true"]
    );
    world.end(Leaves::Unsettled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_nothing_are_discarded_and_never_redriven() {
    let world = world().await;
    let work = Queue::Work(WorkQueue::Route);
    publish(&world, work, "not JSON at all: TEXTO-MARCADO", &json!({})).await;
    one_is_dead(&world).await;
    let queue = Queue::Dead(WorkQueue::Route);
    until_depth(&world, queue, 1).await;
    let ids = letters(&world, "dead").await;
    let order = json!({"ids": ids, "force": true});
    let refused = world.order("/admin/dead-letters/redrive", &order).await;
    assert_eq!(
        refused.body["outcomes"],
        json!({"redriven": 0, "unreadable": 1})
    );
    // Moved back it is as unreadable as before: it returns to where it was, the same letter.
    shovel(&world, queue, work).await;
    world
        .until("it was refused", async |world| {
            world
                .metric(
                    "router-worker",
                    "hub_dead_letter_copies_dropped_total{reason=\"refused\"}",
                )
                .await
                == 1.0
        })
        .await;
    until_depth(&world, queue, 1).await;
    assert_eq!(letters(&world, "dead").await, ids);
    let shown = management::get(&world, queue, 1).await.remove(0);
    assert_eq!(shown.headers["x-letter-id"], ids[0].as_str());
    assert!(
        shown.payload.contains("unreadable_bytes"),
        "{}",
        shown.payload
    );
    assert!(!shown.payload.contains("MARCADO"));
    let done = world
        .order("/admin/dead-letters/discard", &json!({"ids": ids}))
        .await;
    assert_eq!(done.body["outcomes"], json!({"discarded": 1}));
    until_depth(&world, queue, 0).await;
    world.end(Leaves::Unsettled).await;
}
