//! `POST /webhook/whapi_cloud`: a source that is one file and one line of the registry has a door,
//! keys, metrics and a way to the conversations; `docs/adding-a-source.md` tells of it.

use posto_tests::world::http::{Answer, answer};
use posto_tests::world::{BILLING_TOKEN, Leaves, World};
use serde_json::{Value, json};

const TEXT: &str = include_str!("../../../shared/src/source/fixtures/whapi/text.json");
const SEVERAL: &str = include_str!("../../../shared/src/source/fixtures/whapi/several.json");
const STATUSES: &str = include_str!("../../../shared/src/source/fixtures/whapi/statuses.json");

async fn post(world: &World, key: &str, body: impl Into<reqwest::Body>) -> Answer {
    let url = format!("{}/webhook/whapi_cloud", world.api());
    let request = world.client().post(url).bearer_auth(key).body(body);
    answer(request).await
}

/// A key of the source, made as an operator makes one, once it opens.
async fn key(world: &World, scope: Value) -> String {
    let made = world.order("/admin/keys", &scope).await;
    assert_eq!(made.status, 201, "{}", made.body);
    made.text("/secret")
}

async fn until_it_opens(world: &World, key: &str) {
    world
        .until("the key opens the door", async |world| {
            post(world, key, "{}").await.status == 200
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_door_is_shut_until_its_source_has_a_key_and_opens_to_no_other() {
    let world = World::start().await;
    let url = format!("{}/webhook/whapi_cloud", world.api());
    let probe = answer(world.client().get(&url)).await;
    assert_eq!(
        probe.status, 200,
        "the provider looks whether it is there (facts §1.8)"
    );
    for key in ["", "wrong", BILLING_TOKEN] {
        let refused = post(&world, key, TEXT).await;
        assert_eq!(
            (refused.status, &*refused.text("/code")),
            (401, "unauthenticated")
        );
    }
    let bound = key(&world, json!({"source": "whapi_cloud", "tenants": [1]})).await;
    let free = key(&world, json!({"source": "whapi_cloud", "label": "webhook"})).await;
    until_it_opens(&world, &free).await;
    assert_eq!(
        post(&world, &bound, TEXT).await.status,
        401,
        "the door brings all tenants'"
    );
    let id = world
        .count("select id from source_credentials where label = 'webhook'")
        .await;
    world
        .order(&format!("/admin/keys/{id}/revoke"), &json!({}))
        .await;
    world
        .until("the revoked key opens nothing", async |world| {
            post(world, &free, "{}").await.status == 401
        })
        .await;
    assert_eq!(
        world
            .count("select count(*) from communication_events")
            .await,
        1,
        "only what came while it was open"
    );
    let series = "hub_requests_refused_total{code=\"unauthenticated\",door=\"whapi_cloud\"}";
    assert!(world.metric("ingest", series).await >= 4.0);
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_stored_once_and_lands_in_its_conversation() {
    let world = World::start().await;
    world
        .run_sql(
            "insert into routing_rules (name, event_type, source_system, channel, priority)
             values ('whapi-inbound-to-chat', 'whatsapp.inbound.message', 'whapi_cloud', 'chat', 10)",
        )
        .await;
    let key = key(&world, json!({"source": "whapi_cloud"})).await;
    until_it_opens(&world, &key).await;
    let first = post(&world, &key, TEXT).await;
    assert_eq!(first.status, 200, "{}", first.body);
    let again = post(&world, &key, TEXT).await;
    assert_eq!(again.body, first.body, "the same event, once");
    let several = post(&world, &key, SEVERAL).await;
    assert_eq!(several.body["event_ids"].as_array().map(Vec::len), Some(4));
    let statuses = post(&world, &key, STATUSES).await;
    assert_eq!(statuses.body["event_ids"].as_array().map(Vec::len), Some(2));
    let written = "select content from chat_messages where origin = 'contact' order by content";
    world
        .until(
            "what customers wrote is in their conversations",
            async |world| world.texts(written).await.len() == 3,
        )
        .await;
    let texts = world.texts(written).await;
    assert_eq!(
        texts,
        [
            "Bom dia, segue o comprovante?",
            "Comprovante",
            "Reunião às 15h"
        ]
    );
    let types = world
        .texts(
            "select concat_ws(' ', event_type, count(*)) from communication_events
             where source_system = 'whapi_cloud' group by event_type order by 1",
        )
        .await;
    assert_eq!(
        types,
        [
            "whatsapp.delivery.ack 2",
            "whatsapp.inbound.message 3",
            "whatsapp.outbound.message 1",
            "whatsapp.system 1",
            "whatsapp.unhandled 1",
        ]
    );
    world.end(Leaves::Unsettled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_told_and_nothing_of_it_is_stored() {
    let world = World::start().await;
    let key = key(&world, json!({"source": "whapi_cloud"})).await;
    until_it_opens(&world, &key).await;
    let many = json!({"messages": vec![json!({}); 1001]}).to_string();
    for (body, status, code) in [
        ("messages=1".to_owned(), 400, "malformed_json"),
        (many, 422, "invalid_event"),
        ("1".repeat((4 << 20) + 1), 413, "body_too_large"),
    ] {
        let refused = post(&world, &key, body).await;
        assert_eq!((refused.status, &*refused.text("/code")), (status, code));
    }
    assert_eq!(
        world
            .count("select count(*) from communication_events")
            .await,
        1
    );
    world.end(Leaves::Nothing).await;
}
