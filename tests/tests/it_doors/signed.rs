//! Signed requests (Standard Webhooks): a source that signs needs no key in a header.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use posto_tests::world::http::{Answer, answer};
use posto_tests::world::{Leaves, Setup, World, overdue};
use serde_json::json;
use sha2::Sha256;

async fn door_only() -> World {
    World::start_with(Setup {
        router: false,
        delivery: false,
        ..Setup::default()
    })
    .await
}

/// A signing secret of `billing`, made through the API.
async fn secret(world: &World) -> String {
    let made = world
        .order("/admin/keys", &json!({"source": "billing", "kind": "hmac"}))
        .await;
    assert_eq!(made.status, 201, "{}", made.body);
    made.text("/secret")
}

/// The signature of a body under a secret, as a sender makes it.
fn signature(secret: &str, id: &str, timestamp: i64, body: &str) -> String {
    let key = STANDARD
        .decode(secret.strip_prefix("whsec_").expect("a signing secret"))
        .expect("base64");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("a key of any length");
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

struct Post<'a> {
    id: &'a str,
    timestamp: i64,
    signatures: String,
    body: &'a str,
}

async fn post(world: &World, post: &Post<'_>) -> Answer {
    answer(
        world
            .client()
            .post(format!("{}/api/events", world.api()))
            .header("content-type", "application/json")
            .header("webhook-id", post.id)
            .header("webhook-timestamp", post.timestamp.to_string())
            .header("webhook-signature", &post.signatures)
            .body(post.body.to_owned()),
    )
    .await
}

async fn now(world: &World) -> i64 {
    world
        .count("select extract(epoch from now())::bigint")
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signs_the_body_is_known_and_a_repeat_is_the_same_event() {
    let world = door_only().await;
    let secret = secret(&world).await;
    let body = overdue("signed-1").to_string();
    let timestamp = now(&world).await;
    let right = signature(&secret, "msg_1", timestamp, &body);
    let signed = Post {
        id: "msg_1",
        timestamp,
        // A sender that changes its secret signs with both.
        signatures: format!("v1,{} {right}", STANDARD.encode([7; 32])),
        body: &body,
    };
    let what = "the signing secret is known";
    world
        .until(what, async |world| post(world, &signed).await.status == 202)
        .await;
    let again = post(&world, &signed).await;
    assert_eq!(
        (again.status, &again.body["duplicate"]),
        (202, &json!(true))
    );
    let stored = "select count(*) from communication_events where source_system = 'billing'";
    assert_eq!(world.count(stored).await, 1);
    let keys = "select count(*) from idempotency_keys where key = 'msg_1'";
    assert_eq!(world.count(keys).await, 1, "`webhook-id` is the key");
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_signed_just_so_and_just_now_is_nobodys() {
    let world = door_only().await;
    let secret = secret(&world).await;
    let body = overdue("signed-2").to_string();
    let timestamp = now(&world).await;
    let good = Post {
        id: "msg_2",
        timestamp,
        signatures: signature(&secret, "msg_2", timestamp, &body),
        body: &body,
    };
    world
        .until("the signing secret is known", async |world| {
            post(world, &good).await.status == 202
        })
        .await;
    let tampered = body.replace("59.80", "0.01");
    // The second of the database is rounded, and may lie ahead by half a one.
    let old = timestamp - 310;
    let other = format!("whsec_{}", STANDARD.encode([7; 32]));
    for (what, wrong) in [
        (
            "another body",
            Post {
                body: &tampered,
                signatures: good.signatures.clone(),
                ..good
            },
        ),
        (
            "another id",
            Post {
                id: "msg_3",
                signatures: good.signatures.clone(),
                ..good
            },
        ),
        (
            "signed too long ago",
            Post {
                timestamp: old,
                signatures: signature(&secret, "msg_2", old, &body),
                ..good
            },
        ),
        (
            "another secret",
            Post {
                signatures: signature(&other, "msg_2", timestamp, &body),
                ..good
            },
        ),
        (
            "no signature of this version",
            Post {
                signatures: "v1a,AAAA".to_owned(),
                ..good
            },
        ),
    ] {
        let refused = post(&world, &wrong).await;
        assert_eq!(refused.status, 401, "{what}: {}", refused.body);
        assert_eq!(refused.body["code"], "unauthenticated", "{what}");
    }
    let stored = "select count(*) from communication_events";
    assert_eq!(world.count(stored).await, 1);
    world.end(Leaves::Nothing).await;
}
