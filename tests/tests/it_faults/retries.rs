//! Not sent, and it may work later: retried, not earlier than asked, and not for ever.

use posto_tests::gateway_sim::{Fault, FaultRule, GatewaySim, SimConfig};
use posto_tests::world::{GATEWAY_SECRET, Leaves, WEBHOOK_SECRET, World};
use serde_json::{Value, json};

use crate::bills::{Bill, assert_nobody_got_two, post, post_against};

const GIVEN_UP: &str = "dead gateway_throttled [retry gateway_throttled, retry gateway_throttled, \
                        retry gateway_throttled, failed gateway_throttled]";

pub(crate) fn faults() -> Vec<Fault> {
    vec![
        Fault::RateLimited,
        Fault::SessionNotStarted,
        Fault::ErrorInField,
    ]
}

fn throttled(retry_after: Value) -> FaultRule {
    FaultRule {
        retry_after: Some(retry_after),
        ..FaultRule::new(Fault::RateLimited)
    }
}

/// Whether the second attempt came at least so long after the first had ended.
async fn waited(world: &World, bill: &Bill, seconds: f64) -> bool {
    let query = format!(
        "select count(*) from delivery_attempts a join delivery_attempts b on b.delivery_id = a.delivery_id
         where a.delivery_id = d.id and a.number = 1 and b.number = 2
           and b.claimed_at >= a.finished_at + make_interval(secs => {seconds})"
    );
    bill.count(world, &query).await == 1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_waits_as_long_as_it_is_asked_to_and_burns_one_of_the_budget() {
    let world = World::start().await;
    let engine_away = FaultRule {
        error: Some(json!("connect ECONNREFUSED 127.0.0.1:21465")),
        ..FaultRule::new(Fault::ErrorInField)
    };
    let throttle = "read [retry gateway_throttled, sent]";
    let cases = [
        (throttled(json!(2)), throttle, 2.0),
        // A date names whole seconds: three seconds ahead are more than two.
        (throttled(json!("date:+3")), throttle, 2.0),
        // The wait of our own choosing, as without the header.
        (throttled(json!("soon")), throttle, 0.05),
        (throttled(json!(-5)), throttle, 0.05),
        (
            FaultRule::new(Fault::SessionNotStarted),
            "read [retry session_not_started, sent]",
            0.05,
        ),
        (engine_away, "read [retry gateway_server_error, sent]", 0.05),
    ];
    let mut bills = Vec::new();
    for (number, (rule, fate, wait)) in (700..).zip(cases) {
        let refused = rule.fault != Fault::ErrorInField;
        let bill = post_against(&world, number, rule.times(1)).await;
        bills.push((bill, fate, wait, refused));
    }
    for (bill, fate, wait, refused) in &bills {
        bill.until(&world, fate).await;
        assert!(
            waited(&world, bill, *wait).await,
            "{fate} waited {wait} seconds"
        );
        let messages: &[bool] = if *refused { &[true] } else { &[false, true] };
        assert_eq!(bill.messages(&world), messages, "{fate}");
        assert_eq!(bill.requests(&world).await, 2, "{fate}");
        assert_eq!(bill.count(&world, "d.retry_count").await, 1, "{fate}");
    }
    assert_nobody_got_two(&world);
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absurd_wait_is_cut_to_an_hour_and_an_endless_throttle_ends_dead() {
    let world = World::start().await;
    let patient = post_against(&world, 720, throttled(json!(864_000))).await;
    let impatient = post_against(&world, 721, throttled(json!(0))).await;
    patient
        .until(&world, "queued gateway_throttled [retry gateway_throttled]")
        .await;
    let due = patient
        .count(
            &world,
            "extract(epoch from d.next_attempt_at - d.updated_at)",
        )
        .await;
    assert!((3600..=4500).contains(&due), "due in {due} seconds");
    impatient
        .until(
            &world,
            "dead gateway_throttled [retry gateway_throttled, retry gateway_throttled, \
             retry gateway_throttled, failed gateway_throttled]",
        )
        .await;
    assert_eq!(impatient.requests(&world).await, 4);
    assert_eq!(patient.requests(&world).await, 1);
    assert_eq!(world.sim.messages().len(), 0);
    world.end(Leaves::Unsettled).await;
}

/// Takes the gateway away; the world gets another one that nobody knows of.
async fn take_the_gateway_away(world: &mut World) -> std::net::SocketAddr {
    let another = GatewaySim::start(SimConfig::for_tests(GATEWAY_SECRET))
        .await
        .expect("because a loopback port is free");
    let gone = std::mem::replace(&mut world.sim, another);
    let address = gone.addr();
    gone.stop().await;
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_away_burns_no_retry_and_gets_its_messages_when_it_is_back() {
    let mut world = World::start().await;
    let address = take_the_gateway_away(&mut world).await;
    let bill = post(&world, 730).await;
    bill.until(
        &world,
        "held gateway_unreachable (gateway_unreachable) [held gateway_unreachable]",
    )
    .await;
    let config = SimConfig {
        listen: address,
        ..SimConfig::for_tests(GATEWAY_SECRET)
    };
    world.sim = GatewaySim::start(config)
        .await
        .expect("because its port was just freed");
    world
        .sim
        .register_webhook(
            &format!("{}/api/whatsapp/webhook", world.api()),
            Some(WEBHOOK_SECRET),
        )
        .expect("because the address is one");
    bill.until(&world, "read [held gateway_unreachable, sent]")
        .await;
    let burnt = world
        .count("select count(*) from deliveries where retry_count > 0")
        .await;
    assert_eq!(burnt, 0, "a gateway that is down is no message's fault");
    assert_eq!(bill.messages(&world), [true]);
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_up_leaves_a_letter_that_says_why_and_names_nobody() {
    let world = World::start().await;
    world.sim.set_fault(FaultRule::new(Fault::RateLimited));
    let bill = post(&world, 740).await;
    bill.until(&world, GIVEN_UP).await;
    world
        .until("the letter lies in the dead queue", async |world| {
            letters(world).await.len() == 1
        })
        .await;
    let letter = letters(&world).await.remove(0);
    let headers = &letter["properties"]["headers"];
    let row = world
        .texts(
            "select id::text from dead_letters
             where queue = 'hub.deliveries.whatsapp' and failure_code = 'gateway_throttled' and attempts = 4
               and state = 'dead' and made_by = 'posto'",
        )
        .await;
    assert_eq!(headers["x-letter-id"], row[0].as_str());
    let trace = world.texts("select trace_id from deliveries").await;
    for (name, value) in [
        ("x-generation", json!(0)),
        ("x-failure-code", json!("gateway_throttled")),
        ("x-failure-class", json!("throttled")),
        ("x-attempts", json!(4)),
        ("x-trace-id", json!(trace[0])),
        ("x-event-type", json!("billing.invoice.overdue")),
        ("x-tenant-id", json!(1)),
        ("x-channel", json!("whatsapp")),
        ("x-template", json!("overdue_7d")),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    let time = |name: &str| {
        let text = headers[name].as_str().unwrap_or_default();
        chrono::DateTime::parse_from_rfc3339(text)
            .unwrap_or_else(|error| panic!("{name} is {text:?}: {error}"))
    };
    assert!(time("x-first-at") < time("x-last-at"));

    let payload: Value = serde_json::from_str(letter["payload"].as_str().unwrap_or_default())
        .expect("because the original message is JSON");
    let delivery = world.texts("select id::text from deliveries").await;
    assert_eq!(
        payload.pointer("/delivery_id"),
        Some(&json!(delivery[0])),
        "the original thin message: {payload}"
    );
    let all = letter.to_string();
    for marker in [
        "9990-0740",
        "99900740",
        "99990-0740",
        "999900740",
        "Padaria",
        "Hospedagem",
        "pay.example",
    ] {
        assert!(
            !all.contains(marker),
            "{marker} stands in the letter: {all}"
        );
    }
    assert_eq!(
        letters(&world).await.len(),
        1,
        "looking takes nothing out of the dead queue"
    );
    assert_eq!(world.sim.messages().len(), 0);
    world.end(Leaves::Unsettled).await;
}

/// The letters beside the WhatsApp queue, as the management UI shows them; they stay where they are.
async fn letters(world: &World) -> Vec<Value> {
    let management = std::env::var("RABBITMQ_MANAGEMENT_URL").expect("because ./tests/run sets it");
    let queue = format!("{}hub.deliveries.whatsapp.dead", world.prefix());
    let asked = json!({"count": 10, "ackmode": "ack_requeue_true", "encoding": "auto"});
    let request = world
        .client()
        .post(format!("{management}/api/queues/%2F/{queue}/get"))
        .json(&asked);
    let answer = posto_tests::world::http::answer(request).await;
    answer
        .body
        .as_array()
        .cloned()
        .unwrap_or_else(|| panic!("no list of letters: {}", answer.body))
}
