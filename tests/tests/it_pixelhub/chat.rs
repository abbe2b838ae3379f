//! The chat of a service order, from its public link to the thread.

use posto_tests::world::{Leaves, World};
use serde_json::{Value, json};

use crate::rig::{ORDER_77, SERVER, get, page, post, prepare, thread_of, write};

/// Waits until a chat shows these texts, and answers its messages.
async fn until_shown(world: &World, thread: i64, texts: &[&str]) -> Vec<Value> {
    let path = format!("/chat/messages?thread_id={thread}&token={ORDER_77}");
    let mut shown = Vec::new();
    world
        .until(&format!("the chat shows {texts:?}"), async |world| {
            let read = get(world, None, &path).await;
            assert_eq!(read.status, 200, "{}", read.body);
            shown = read.body["messages"].as_array().expect("a list").clone();
            shown
                .iter()
                .filter_map(|line| line["content"].as_str())
                .eq(texts.iter().copied())
        })
        .await;
    shown
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_opens_the_link_writes_and_is_read_on_one_thread() {
    let world = World::start().await;
    prepare(&world).await;
    let thread = thread_of(&world, ORDER_77).await;
    assert_eq!(thread_of(&world, ORDER_77).await, thread, "one thread");

    let first = write(&world, ORDER_77, thread, "Qual o prazo?", Some("k1")).await;
    assert_eq!(first.status, 200, "{}", first.body);
    assert_eq!(first.body["success"], true);
    let message = &first.body["message"];
    assert_eq!(message["role"], "assistant");
    assert!(
        message["content"]
            .as_str()
            .is_some_and(|text| text.contains("Recebemos"))
    );
    assert!(message["created_at"].is_string());
    assert_eq!(first.body["next_step"], Value::Null);
    assert_eq!(first.body["analysis"], Value::Null);
    let again = write(&world, ORDER_77, thread, "Qual o prazo?", Some("k1")).await;
    assert_eq!(
        again.body["message"]["id"], message["id"],
        "a repeat is the same message"
    );
    let reused = write(&world, ORDER_77, thread, "Outra coisa", Some("k1")).await;
    assert_eq!(
        (reused.status, reused.text("/code")),
        (422, "idempotency_key_reused".to_owned())
    );
    until_shown(&world, thread, &["Qual o prazo?"]).await;

    // Equal words without a key are messages of their own.
    for _ in 0..2 {
        assert_eq!(
            write(&world, ORDER_77, thread, "sim", None).await.status,
            200
        );
    }
    let shown = until_shown(&world, thread, &["Qual o prazo?", "sim", "sim"]).await;
    assert_eq!(shown[0]["event_id"], message["id"]);
    assert_eq!(shown[0]["role"], "user");
    assert_eq!(shown[0]["thread_id"], thread);

    // A person answers, and what systems note is not the customer's.
    for (role, text) in [("assistant", "Três dias."), ("system", "nota interna")] {
        let event = json!({
            "event_type": "chat.message.received", "source_system": "pixelhub", "tenant_id": 1,
            "payload": {"thread_id": thread, "role": role, "text": text}
        });
        assert_eq!(world.post_as(SERVER, &event).await.status, 202);
    }
    world
        .until("all are on the thread", async |world| {
            world.count("select count(*) from chat_messages").await == 5
        })
        .await;
    until_shown(
        &world,
        thread,
        &["Qual o prazo?", "sim", "sim", "Três dias."],
    )
    .await;
    let all = get(
        &world,
        Some(SERVER),
        &format!("/chat/messages?thread_id={thread}"),
    )
    .await;
    assert_eq!(all.body["messages"].as_array().map(Vec::len), Some(5));
    // Of two that were written at once either may have the higher number.
    let numbers = shown[..3].iter().filter_map(|line| line["id"].as_i64());
    let after = numbers.max().expect("a number");
    let newer = get(
        &world,
        Some(SERVER),
        &format!("/chat/messages?thread_id={thread}&after={after}"),
    )
    .await;
    assert_eq!(
        newer.body["messages"].as_array().map(Vec::len),
        Some(2),
        "{}",
        newer.body
    );

    let threads = world
        .texts("select concat_ws('|', kind, order_id, customer_id, unread_count, message_count) from chat_threads")
        .await;
    assert_eq!(threads, ["order|77|1|3|5"]);
    let (_, page) = page(&world, ORDER_77).await;
    assert!(
        page.contains("Três dias.") && !page.contains("nota interna"),
        "{page}"
    );
    assert!(page.contains("Ana &lt;b&gt;Aurora&lt;/b&gt;"), "{page}");
    assert!(!page.contains(ORDER_77), "the token stays in the address");
    let events = world
        .texts(
            "select concat_ws('|', event_type, tenant_id, count(*)) from communication_events
             where source_system = 'pixelhub' group by event_type, tenant_id order by event_type",
        )
        .await;
    assert_eq!(
        events,
        ["chat.message.received|1|5", "chat.thread.opened|1|1"]
    );
    let traced = world
        .count(
            "select count(*) from chat_threads t join communication_events e
             on e.trace_id = t.trace_id and e.event_type = 'chat.thread.opened'",
        )
        .await;
    assert_eq!(
        traced, 1,
        "the thread stands in the trace of what opened it"
    );
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_is_kept_nowhere() {
    let world = World::start().await;
    prepare(&world).await;
    let thread = thread_of(&world, ORDER_77).await;
    let body = json!({"thread_id": thread, "message": "oi", "token": ORDER_77});
    let written = post(&world, None, "/chat/message", &body).await;
    assert_eq!(written.status, 200, "{}", written.body);
    until_shown(&world, thread, &["oi"]).await;
    let kept = format!(
        "select count(*) from communication_events
         where position('{ORDER_77}'::bytea in body) > 0 or payload::text like '%{ORDER_77}%'"
    );
    assert_eq!(world.count(&kept).await, 0);
    let kept = format!("select count(*) from service_orders o where o::text like '%{ORDER_77}%'");
    assert_eq!(world.count(&kept).await, 0);
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_needs_a_chat_and_words() {
    let world = World::start().await;
    prepare(&world).await;
    let thread = thread_of(&world, ORDER_77).await;
    for (body, text) in [
        (json!({"message": "oi"}), "thread_id é obrigatório"),
        (
            json!({"thread_id": "x", "message": "oi"}),
            "thread_id é obrigatório",
        ),
        (json!({"thread_id": thread}), "message é obrigatório"),
        (
            json!({"thread_id": thread, "message": " \n"}),
            "message é obrigatório",
        ),
        (json!([thread, "oi"]), "O corpo não é um objeto JSON"),
    ] {
        let path = format!("/chat/message?token={ORDER_77}");
        let refused = post(&world, None, &path, &body).await;
        assert_eq!(
            (refused.status, refused.body),
            (400, json!({"success": false, "error": text})),
            "{body}"
        );
    }
    for query in ["", "&thread_id=0", "&thread_id=1&after=x"] {
        let path = format!("/chat/messages?token={ORDER_77}{query}");
        assert_eq!(get(&world, None, &path).await.status, 400, "{query}");
    }
    world.end(Leaves::Nothing).await;
}
