//! `POST /webhook/asaas` has three answers: 200, 401, 503. Fifteen others in a row stop the queue.

use std::time::Duration;

use posto_tests::world::http::answer;
use posto_tests::world::{ASAAS_TOKEN, Leaves, Setup, World};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

async fn door_only() -> World {
    World::start_with(Setup {
        router: false,
        delivery: false,
        ..Setup::default()
    })
    .await
}

async fn answers(world: &World, status: u16) -> f64 {
    let series = format!("hub_asaas_answers_total{{status=\"{status}\"}}");
    world.metric("ingest", &series).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_understands_is_stored_and_answered_200() {
    let world = World::start().await;
    let deep = "[".repeat(10_000);
    let poison: [&[u8]; 12] = [
        b"",
        b"not json at all",
        b"{\"id\":\"evt_cut&1\",\"event\":\"PAYMENT_RECEIVED\",",
        deep.as_bytes(),
        b"\x1f\x8b\x08\x00\xff\xfe",
        b"[]",
        b"null",
        b"7",
        b"{}",
        br#"{"id":"evt_new&1","event":"LOAN_GRANTED","loan":{"id":"loan_1"}}"#,
        br#"{"id":"evt_nul&1","event":"PAYMENT_UPDATED","payment":{"id":"pay_1","description":"a\u0000b"}}"#,
        br#"{"id":"evt_stranger&1","event":"PAYMENT_RECEIVED","payment":{"id":"pay_2","customer":"cus_nobody","status":"RECEIVED"}}"#,
    ];
    for body in poison {
        for _ in 0..2 {
            let answer = world.post_asaas(body.to_vec()).await;
            assert_eq!(
                (answer.status, &answer.body),
                (200, &json!({"success": true})),
                "{}",
                String::from_utf8_lossy(&body[..body.len().min(60)])
            );
        }
    }
    assert_eq!(
        world.count("select count(*) from asaas_webhook_logs").await,
        12
    );
    world
        .until("what cannot be read has its letter", async |world| {
            world
                .texts("select concat_ws('|', event_type, failure_code, count(*)) from dead_letter_queue group by event_type, failure_code")
                .await
                == ["asaas.unreadable|payload_unreadable|5"]
        })
        .await;
    world
        .until("the unknown kind says that no rule met it", async |world| {
            world
                .texts(
                    "select r.state from routings r where event_type = 'asaas.other.loan_granted'",
                )
                .await
                == ["unrouted"]
        })
        .await;
    let failed = world
        .count("select count(*) from asaas_webhook_logs where status = 'failed'")
        .await;
    assert_eq!(failed, 5, "and the log shows it");
    assert_eq!(
        world
            .count("select count(*) from asaas_webhook_logs where event = 'PAYMENT_UPDATED' and payload like '%\\\\u0000%'")
            .await,
        1,
        "what jsonb refuses is shown as it came"
    );
    assert!((answers(&world, 200).await - 24.0).abs() < 0.5);
    assert!((answers(&world, 503).await).abs() < 0.5);
    world.end(Leaves::Unsettled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_token_is_401_and_nothing_of_it_is_stored() {
    let world = door_only().await;
    let body = r#"{"id":"evt_1&1","event":"PAYMENT_RECEIVED"}"#;
    for token in ["wrong", "", "Bearer x"] {
        let refused = world.post_asaas_as(token, body).await;
        assert_eq!(
            (refused.status, refused.text("/code")),
            (401, "unauthenticated".to_owned())
        );
    }
    let url = format!("{}/webhook/asaas", world.api());
    let bare = answer(world.client().post(&url).body(body)).await;
    assert_eq!(bare.status, 401);
    let other_header = world
        .client()
        .post(&url)
        .header("x-asaas-access-token", ASAAS_TOKEN)
        .body(body);
    assert_eq!(answer(other_header).await.status, 200);
    let look = answer(world.client().get(&url)).await;
    assert_eq!(look.status, 200, "providers look whether it is alive");
    assert_eq!(
        world
            .count("select count(*) from communication_events")
            .await,
        1
    );
    assert!((answers(&world, 401).await - 4.0).abs() < 0.5);
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_any_size_is_answered_200_and_kept_as_far_as_it_fits() {
    let world = door_only().await;
    let description = "x".repeat(2 << 20);
    let fits = json!({"id": "evt_large&1", "event": "PAYMENT_CREATED", "payment": {"id": "pay_1", "description": description}});
    assert_eq!(world.post_asaas(fits.to_string()).await.status, 200);
    let description = "x".repeat(9 << 20);
    let cut = json!({"id": "evt_larger&1", "event": "PAYMENT_CREATED", "payment": {"id": "pay_2", "description": description}});
    assert_eq!(world.post_asaas(cut.to_string()).await.status, 200);
    let kept = world
        .texts("select concat_ws('|', event_type, length(body) > 2000000, metadata ->> 'kept_bytes') from communication_events order by 1")
        .await;
    assert_eq!(
        kept,
        ["asaas.payment.created|t", "asaas.unreadable|t|4194304"]
    );
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_end_is_503_and_not_stored() {
    let world = door_only().await;
    let host = world.api().trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&host)
        .await
        .expect("because the door is open");
    let head = format!(
        "POST /webhook/asaas HTTP/1.1\r\nhost: {host}\r\nasaas-access-token: {ASAAS_TOKEN}\r\ncontent-length: 100\r\n\r\n{{\"id\":"
    );
    stream
        .write_all(head.as_bytes())
        .await
        .expect("because the door reads");
    let mut text = vec![0; 2048];
    let read = tokio::time::timeout(Duration::from_secs(30), stream.read(&mut text))
        .await
        .expect("because it answers before Asaas gives up")
        .expect("because an answer comes before the end");
    let text = String::from_utf8_lossy(&text[..read]);
    assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
    assert!(text.contains("retry-after"), "{text}");
    assert_eq!(
        world
            .count("select count(*) from communication_events")
            .await,
        0
    );
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_stored_is_503_and_the_repeat_is_the_first() {
    let world = door_only().await;
    let body = r#"{"id":"evt_503&1","event":"PAYMENT_RECEIVED","payment":{"id":"pay_1"}}"#;
    world
        .run_sql("alter table idempotency_keys rename to idempotency_keys_away")
        .await;
    let refused = world.post_asaas(body).await;
    assert_eq!(
        (refused.status, refused.text("/code")),
        (503, "unavailable".to_owned())
    );
    world
        .run_sql("alter table idempotency_keys_away rename to idempotency_keys")
        .await;
    for _ in 0..2 {
        assert_eq!(world.post_asaas(body).await.status, 200);
    }
    assert_eq!(
        world.count("select count(*) from asaas_webhook_logs").await,
        1
    );
    assert!((answers(&world, 503).await - 1.0).abs() < 0.5);
    world.end(Leaves::Nothing).await;
}
