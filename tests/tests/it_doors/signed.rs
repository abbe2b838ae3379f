//! Requests signed as Standard Webhooks has it: no key is shown, the raw bytes prove who sends.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use posto_tests::world::http::{Answer, answer};
use posto_tests::world::{Leaves, Setup, World, overdue};
use serde_json::{Value, json};
use sha2::Sha256;
use shared::runtime::clock::{Clock as _, SystemClock};

async fn door_only() -> World {
    World::start_with(Setup {
        router: false,
        delivery: false,
        ..Setup::default()
    })
    .await
}

/// Makes a signing secret for source `billing`; answers its bytes.
async fn make_secret(world: &World, more: &Value) -> Vec<u8> {
    let mut order = json!({"source": "billing", "kind": "hmac", "actor": "Ana"});
    for (name, value) in more.as_object().into_iter().flatten() {
        order[name.as_str()] = value.clone();
    }
    let made = world.order("/admin/keys", &order).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let secret = made.text("/secret");
    let encoded = secret.strip_prefix("whsec_").expect("a signing secret");
    STANDARD.decode(encoded).expect("because it is base64")
}

fn signature(secret: &[u8], id: &str, at: i64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("because any length will do");
    mac.update(format!("{id}.{at}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

fn now() -> i64 {
    SystemClock.now().timestamp()
}

/// Posts a body with a signature, without a key.
async fn post(world: &World, (id, at): (&str, i64), signatures: &str, body: &str) -> Answer {
    let request = world
        .client()
        .post(format!("{}/api/events", world.api()))
        .header("content-type", "application/json")
        .header("webhook-id", id)
        .header("webhook-timestamp", at.to_string())
        .header("webhook-signature", signatures)
        .body(body.to_owned());
    answer(request).await
}

/// Waits until ingest knows the secret, by an event of its own.
async fn until_known(world: &World, secret: &[u8]) {
    world
        .until("the secret is known", async |world| {
            let id = format!("msg_{}", uuid::Uuid::new_v4());
            let body = overdue("waiting").to_string();
            let signed = signature(secret, &id, now(), &body);
            post(world, (&id, now()), &signed, &body).await.status == 202
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_signs_the_raw_bytes_comes_in_and_the_id_of_the_webhook_is_the_key() {
    let world = door_only().await;
    let secret = make_secret(&world, &json!({})).await;
    until_known(&world, &secret).await;
    let body = overdue("of-the-body").to_string();
    let first = post(
        &world,
        ("msg_1", now()),
        &signature(&secret, "msg_1", now(), &body),
        &body,
    )
    .await;
    assert_eq!(
        (first.status, &first.body["duplicate"]),
        (202, &json!(false)),
        "{}",
        first.body
    );
    // A repeat is signed anew; an older secret's signature may stand beside the right one.
    let later = now() + 30;
    let several = format!("v1,AAAA {}", signature(&secret, "msg_1", later, &body));
    let again = post(&world, ("msg_1", later), &several, &body).await;
    assert_eq!(again.text("/event_id"), first.text("/event_id"));

    let signed = signature(&secret, "msg_2", now(), &body);
    for (what, answer) in [
        (
            "another body",
            post(&world, ("msg_2", now()), &signed, &format!("{body} ")).await,
        ),
        (
            "another id",
            post(&world, ("msg_3", now()), &signed, &body).await,
        ),
        (
            "too old",
            post(
                &world,
                ("msg_2", now() - 400),
                &signature(&secret, "msg_2", now() - 400, &body),
                &body,
            )
            .await,
        ),
        (
            "a stranger's secret",
            post(
                &world,
                ("msg_2", now()),
                &signature(&[7; 32], "msg_2", now(), &body),
                &body,
            )
            .await,
        ),
    ] {
        assert_eq!(
            (answer.status, answer.text("/code")),
            (401, "unauthenticated".to_owned()),
            "{what}"
        );
    }
    let keys = world
        .count("select count(*) from communication_events where idempotency_key like 'msg\\_1'")
        .await;
    assert_eq!(keys, 1);
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_body_that_standard_webhooks_proposes_is_an_event_of_the_signer() {
    let world = door_only().await;
    let secret = make_secret(&world, &json!({"tenants": [1]})).await;
    let event = |tenant: i64| {
        json!({"type": "billing.invoice.overdue", "timestamp": "2026-11-23T14:00:00.000000Z",
            "data": {"invoice_id": 503, "tenant_id": tenant}})
        .to_string()
    };
    let post_signed = async |id: &str, body: &str| {
        let signed = signature(&secret, id, now(), body);
        post(&world, (id, now()), &signed, body).await
    };
    world
        .until("the secret is known", async |_| {
            post_signed("msg_1", &event(1)).await.status == 202
        })
        .await;
    let foreign = post_signed("msg_2", &event(2)).await;
    assert_eq!(
        (foreign.status, foreign.text("/code")),
        (403, "tenant_forbidden".to_owned())
    );
    let wrong =
        json!({"type": "não é", "timestamp": "2026-11-23T14:00:00Z", "data": {"tenant_id": 1}});
    let wrong = post_signed("msg_3", &wrong.to_string()).await;
    assert_eq!(
        (wrong.status, wrong.text("/errors/0/pointer")),
        (422, "#/type".to_owned())
    );
    let row = world
        .texts("select concat_ws('|', source_system, event_type, tenant_id, invoice_key, idempotency_key, occurred_at at time zone 'utc') from communication_events")
        .await;
    assert_eq!(
        row,
        ["billing|billing.invoice.overdue|1|invoice:503|msg_1|2026-11-23 14:00:00"]
    );
    world.end(Leaves::Nothing).await;
}
