//! Whoever may not, or asks wrongly, reads what PixelHub told; and learns nothing of what is another's.

use posto_tests::world::http::{Answer, answer};
use posto_tests::world::{BILLING_TOKEN, Leaves};
use serde_json::{Value, json};

use crate::door::{Door, door_only};
use crate::rig::{
    OF_PAYMENTS, OF_TENANT_1, ORDER_77, ORDER_88, SERVER, get, page, post, prepare, text_of,
    thread_of,
};

const LOG: &str = "/tenants/whatsapp-generic-log";
const TIMELINE: &str = "/tenants/whatsapp-timeline-ajax";

fn log() -> Value {
    json!({"tenant_id": 1, "phone_raw": "(47) 99990-0011", "message": "Bom dia"})
}

fn told(answer: &Answer) -> (u16, &Value) {
    (answer.status, &answer.body)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_addresses_of_tenants_refuse_in_pixelhubs_words() {
    let world = door_only().await;
    prepare(&world).await;
    let unauthenticated = json!({"success": false, "error": "Não autenticado"});
    let internal = json!({"success": false, "error": "Acesso restrito a usuários internos",
                          "error_code": "NOT_INTERNAL"});
    let nobody = json!({"success": false, "message": "Cliente não encontrado"});
    let timeline = format!("{TIMELINE}?tenant_id=1");

    for token in [None, Some("wrong")] {
        let answer = post(&world, token, LOG, &log()).await;
        assert_eq!(told(&answer), (401, &unauthenticated), "{token:?}");
        let answer = get(&world, token, &timeline).await;
        assert_eq!(told(&answer), (401, &unauthenticated), "{token:?}");
    }
    for token in [BILLING_TOKEN, OF_PAYMENTS] {
        let answer = post(&world, Some(token), LOG, &log()).await;
        assert_eq!(told(&answer), (403, &internal), "{token}");
    }
    let plain = world
        .client()
        .get(format!("{}{timeline}", world.api()))
        .bearer_auth(BILLING_TOKEN)
        .header("accept", "text/html");
    let (status, text) = text_of(plain).await;
    assert_eq!(
        (status, text.as_str()),
        (403, "Acesso restrito a usuários internos")
    );

    // Another's tenant is as little there as one that does not exist.
    for (token, tenant) in [(SERVER, 999), (OF_TENANT_1, 2), (OF_TENANT_1, 999)] {
        let mut body = log();
        body["tenant_id"] = json!(tenant);
        let answer = post(&world, Some(token), LOG, &body).await;
        assert_eq!(told(&answer), (404, &nobody), "{token} {tenant}");
        let answer = get(
            &world,
            Some(token),
            &format!("{TIMELINE}?tenant_id={tenant}"),
        )
        .await;
        assert_eq!(told(&answer), (404, &nobody), "{token} {tenant}");
    }

    for (member, value, text) in [
        ("tenant_id", Value::Null, "tenant_id é obrigatório"),
        ("tenant_id", json!("1 or 1=1"), "tenant_id é obrigatório"),
        ("phone_raw", Value::Null, "phone_raw é obrigatório"),
        ("phone_raw", json!("12"), "Telefone inválido"),
        ("message", json!("  "), "message é obrigatório"),
        ("template_id", json!("x"), "Template inválido"),
    ] {
        let mut body = log();
        body[member] = value;
        let answer = post(&world, Some(SERVER), LOG, &body).await;
        let wanted = json!({"success": false, "message": text});
        assert_eq!(told(&answer), (400, &wanted), "{member}");
    }
    for query in ["", "?tenant_id=", "?tenant_id=x"] {
        let answer = get(&world, Some(SERVER), &format!("{TIMELINE}{query}")).await;
        assert_eq!(
            (answer.status, &answer.body["success"]),
            (400, &json!(false)),
            "{query}"
        );
    }
    let xml = world
        .client()
        .post(format!("{}{LOG}", world.api()))
        .bearer_auth(SERVER)
        .header("content-type", "text/xml")
        .body("<a/>");
    assert_eq!(answer(xml).await.status, 415);
    let put = world.client().put(format!("{}{LOG}", world.api()));
    assert_eq!(answer(put).await.status, 405);

    assert_eq!(
        world
            .count("select count(*) from communication_events")
            .await,
        0
    );
    let rows = world
        .texts("select distinct code from communication_logs where source_system = 'pixelhub' order by code")
        .await;
    assert_eq!(
        rows,
        [
            "event_type_forbidden",
            "invalid_event",
            "not_found",
            "source_forbidden",
            "unsupported_media_type"
        ],
        "what those whom we know were refused is kept"
    );
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reads_or_writes_a_chat_by_its_number_alone() {
    let world = door_only().await;
    prepare(&world).await;
    let (own, other) = (
        thread_of(&world, ORDER_77).await,
        thread_of(&world, ORDER_88).await,
    );
    // A conversation over WhatsApp is no chat of these addresses.
    world
        .run_sql(
            "insert into chat_threads (kind, channel_id, contact_key, customer_id, source_system, trace_id)
             values ('contact', 'pixel12digital', 'tel:554799900011', 1, 'wpp_gateway', repeat('a', 32))",
        )
        .await;
    let whatsapp = world
        .count("select id from chat_threads where kind = 'contact'")
        .await;
    let unauthenticated = json!({"success": false, "error": "Não autenticado"});
    let nothing = json!({"success": false, "error": "Conversa não encontrada"});

    for (token, key, thread, status, wanted) in [
        (None, None, own, 401, &unauthenticated),
        (
            Some("a-token-that-opens-nothing"),
            None,
            own,
            401,
            &unauthenticated,
        ),
        (None, Some("wrong"), own, 401, &unauthenticated),
        (Some(ORDER_77), None, other, 404, &nothing),
        (Some(ORDER_88), None, own, 404, &nothing),
        (Some(ORDER_77), None, whatsapp, 404, &nothing),
        (Some(ORDER_77), None, 999_999, 404, &nothing),
        // A token that is not this chat's opens it for nobody, whatever else is shown.
        (Some(ORDER_88), Some(SERVER), own, 404, &nothing),
        (None, Some(OF_TENANT_1), other, 404, &nothing),
        (None, Some(SERVER), whatsapp, 404, &nothing),
        (None, Some(SERVER), 999_999, 404, &nothing),
    ] {
        let what = format!("{token:?} {key:?} {thread}");
        let asked = |request: reqwest::RequestBuilder| {
            let request = match token {
                Some(token) => request.header("x-order-token", token),
                None => request,
            };
            match key {
                Some(key) => request.bearer_auth(key),
                None => request,
            }
        };
        let reading = asked(
            world
                .client()
                .get(format!("{}/chat/messages?thread_id={thread}", world.api())),
        );
        assert_eq!(
            told(&answer(reading).await),
            (status, wanted),
            "reads: {what}"
        );
        let writing = asked(world.client().post(format!("{}/chat/message", world.api())))
            .json(&json!({"thread_id": thread, "message": "oi"}));
        assert_eq!(
            told(&answer(writing).await),
            (status, wanted),
            "writes: {what}"
        );
    }
    for (token, thread) in [(SERVER, own), (SERVER, other), (OF_TENANT_1, own)] {
        let read = get(
            &world,
            Some(token),
            &format!("/chat/messages?thread_id={thread}"),
        )
        .await;
        assert_eq!(
            told(&read),
            (200, &json!({"success": true, "messages": []}))
        );
    }
    let billing = get(
        &world,
        Some(BILLING_TOKEN),
        &format!("/chat/messages?thread_id={own}"),
    )
    .await;
    assert_eq!(billing.status, 403);
    assert_eq!(
        world
            .count("select count(*) from communication_events where event_type = 'chat.message.received'")
            .await,
        0
    );
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_not_there_or_not_ones_own_has_a_page_that_says_so() {
    let world = door_only().await;
    prepare(&world).await;
    let not_found = |(status, text): (u16, String)| {
        assert_eq!(status, 200, "{text}");
        assert!(text.starts_with("Pedido não encontrado"), "{text}");
    };
    not_found(page(&world, "a-token-that-opens-nothing").await);
    let ask = async |token: Option<&str>, query: &str| {
        let request = world
            .client()
            .get(format!("{}/chat/order{query}", world.api()));
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        text_of(request).await
    };
    not_found(ask(None, "").await);
    not_found(ask(Some(SERVER), "?order_id=4711").await);
    not_found(ask(Some(OF_TENANT_1), "?order_id=88").await);
    // An order that nobody knows the tenant of is not one tenant's.
    not_found(ask(Some(OF_TENANT_1), "?order_id=99").await);
    assert_eq!(
        ask(None, "?order_id=77").await.0,
        401,
        "a number opens nothing"
    );
    assert_eq!(ask(Some(BILLING_TOKEN), "?order_id=77").await.0, 403);
    assert_eq!(world.count("select count(*) from chat_threads").await, 0);

    let (status, read) = ask(Some(SERVER), "?order_id=99").await;
    assert_eq!(status, 200);
    assert!(
        read.contains("<p >Esta página foi aberta sem o link do pedido"),
        "{read}"
    );
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_tokens_shuts_an_address_out() {
    let world = door_only().await;
    prepare(&world).await;
    let door = Door::open(&world, &["--shut-out-after", "3"]).await;
    let guess = async |number: u32| {
        let address = format!("{}/chat/order?token=guess-number-{number:08}", door.public);
        text_of(world.client().get(address)).await.0
    };
    for number in 0..3 {
        assert_eq!(
            guess(number).await,
            200,
            "the page says that there is no order"
        );
    }
    assert_eq!(guess(3).await, 429);
    let key = world
        .client()
        .get(format!("{}{TIMELINE}?tenant_id=1", door.public))
        .bearer_auth(SERVER);
    assert_eq!(
        answer(key).await.status,
        200,
        "a source's own key opens all the same"
    );
    door.close().await;
    world.end(Leaves::Nothing).await;
}
