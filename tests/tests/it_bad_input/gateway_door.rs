//! `/api/whatsapp/webhook`: only the gateway comes in, large media fit, and what it posts is kept
//! even where it cannot be understood.

use posto_tests::world::http::answer;
use posto_tests::world::{Leaves, Setup, WEBHOOK_SECRET, World};
use serde_json::{Value, json};

use crate::{Large, assert_problem, assert_too_large};

const DOOR: &str = "/api/whatsapp/webhook";

async fn door_only() -> World {
    World::start_with(Setup {
        router: false,
        delivery: false,
        ..Setup::default()
    })
    .await
}

fn message(id: &str, text: &str) -> Value {
    json!({"event": "message", "channel": "pixel12digital", "from": "5547987654321",
        "message": {"id": id, "from": "5547987654321", "text": text, "timestamp": 1_770_300_960}})
}

async fn post(world: &World, body: impl Into<reqwest::Body>) -> posto_tests::world::http::Answer {
    let request = world
        .client()
        .post(format!("{}{DOOR}", world.api()))
        .header("x-gateway-secret", WEBHOOK_SECRET)
        .header("content-type", "application/json")
        .body(body);
    answer(request).await
}

async fn stored(world: &World) -> i64 {
    world
        .count("select count(*) from communication_events")
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_json_is_refused_and_nothing_of_it_is_stored() {
    let world = door_only().await;
    for (what, body) in [
        ("empty", Vec::new()),
        ("cut", br#"{"event":"message","#.to_vec()),
        ("text", b"SEGREDO-DO-CLIENTE".to_vec()),
        ("two values", b"{} {}".to_vec()),
        ("deep", "[".repeat(10_000).into_bytes()),
    ] {
        let refused = post(&world, body).await;
        assert_problem(what, &refused, 400, "malformed_json");
        assert!(!refused.body.to_string().contains("SEGREDO"), "{what}");
    }
    assert_eq!(stored(&world).await, 0);
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voice_note_fits_and_what_is_larger_than_25_megabytes_does_not() {
    let world = door_only().await;
    // Facts §1.4: a voice note comes whole, in base64.
    let voice = |megabytes: usize| {
        let text = format!("T2dnU{}", "A".repeat((megabytes << 20) - 5));
        message("large", &text).to_string()
    };
    let fits = post(&world, voice(24)).await;
    assert_eq!(
        (fits.status, fits.body["code"].as_str()),
        (200, Some("SUCCESS")),
        "{}",
        fits.body
    );
    assert_eq!(stored(&world).await, 1);
    let url = format!("{}{DOOR}", world.api());
    let secret = format!("x-gateway-secret: {WEBHOOK_SECRET}");
    for large in [Large::Declared(26 << 20), Large::Chunked(26 << 20)] {
        assert_too_large(&url, &secret, large).await;
    }
    assert_eq!(stored(&world).await, 1);
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_is_answered_and_other_methods_are_refused() {
    let world = door_only().await;
    for path in [DOOR, "/webhook/whatsapp/delivery-status"] {
        let url = format!("{}{path}", world.api());
        let look = answer(world.client().get(&url)).await;
        assert_eq!(look.status, 200, "providers look whether {path} is alive");
        let put = answer(world.client().put(&url)).await;
        assert_problem(path, &put, 405, "method_not_allowed");
    }
    assert_eq!(stored(&world).await, 0);
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_gateway_posts_is_kept_even_where_it_is_not_understood() {
    let world = World::start().await;
    let odd = [
        json!({}),
        json!([]),
        json!([[[]]]),
        json!("text"),
        json!(7),
        json!(null),
        json!({"event": 7}),
        json!({"event": "message"}),
        json!({"event": "message", "message": []}),
        json!({"event": "never.heard.of", "session": {"id": "Pixel12 Digital"}}),
        json!({"event": "message.ack", "ack": {"level": "read"}, "message": {"id": "x"}}),
        json!({"event": "message.ack", "ack": {"level": 99}, "message": {"id": "true_554799900011@c.us_3EB0"}}),
        json!({"event": "connection.update", "connection": {"status": {"a": 1}}}),
        json!({"event": "x".repeat(100_000), "k".repeat(100_000): 1}),
        json!({"event": "message", "channel": "c".repeat(10_000), "from": "f".repeat(10_000),
            "message": {"id": "i".repeat(10_000), "text": "oi", "timestamp": 1e300}}),
        message("nul", "a\0b"),
        message("nul\0", "x"),
        json!({"event": "message", "channel": "nobody's", "from": "\u{202e}", "message":
            {"id": -1, "from": {"user": 1}, "text": {"a": []}, "timestamp": "9999-99-99"}}),
    ];
    for body in &odd {
        let answer = world.post_webhook(body).await;
        let start: String = body.to_string().chars().take(80).collect();
        assert_eq!(
            (answer.status, answer.body["success"].as_bool()),
            (200, Some(true)),
            "{start}: {}",
            answer.body
        );
    }
    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    let unreadable = [b"{\"event\":\"n\xe3o\"}".to_vec(), deep.into_bytes()];
    for body in unreadable.clone() {
        let answer = post(&world, body).await;
        assert_eq!(
            (answer.status, answer.body["success"].as_bool()),
            (200, Some(true)),
            "{}",
            answer.body
        );
    }
    // Facts §1.4: never say success where nothing was saved.
    assert_eq!(
        stored(&world).await,
        i64::try_from(odd.len() + unreadable.len()).unwrap(),
        "each is kept"
    );
    world.end(Leaves::Unsettled).await;
}
