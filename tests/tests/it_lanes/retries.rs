//! Three retries after the first attempt, none early, and shown while they are waited for.

use posto_tests::gateway_sim::{Fault, FaultRule};
use posto_tests::world::{Leaves, Setup};

use crate::numbers::{A, bill, post_all, until_standing, without_receipts, world};

#[tokio::test(flavor = "multi_thread")]
async fn of_many_retries_none_is_early_and_each_waits_twice_as_long_as_the_one_before() {
    let world = world(Setup {
        retry_base: "200ms",
        ..Setup::default()
    })
    .await;
    without_receipts(&world, 0);
    for customer in 0..40 {
        // The last ones are refused once more than they have retries.
        let times = if customer < 35 { 3 } else { 4 };
        let rule = FaultRule::new(Fault::RateLimited).to(&format!("554799990{customer:04}"));
        world.sim.set_fault(rule.times(times));
    }
    post_all(&world, (0..40).map(|n| bill(A, "notice", n)).collect()).await;
    until_standing(&world, A, "state = 'sent'", 35).await;
    until_standing(&world, A, "state = 'dead'", 5).await;
    let counts = world
        .texts("select concat_ws(' ', retry_count, max_retries, attempt_count, count(*)) from deliveries group by retry_count, max_retries, attempt_count")
        .await;
    assert_eq!(counts, ["3 3 4 40"]);
    let waits = |what: &str| {
        format!(
            "select count(*) from delivery_attempts a
             join delivery_attempts b on b.delivery_id = a.delivery_id and b.number = a.number + 1
             where {what}"
        )
    };
    let all = world.count(&waits("true")).await;
    let early = "b.claimed_at < a.finished_at + make_interval(secs => 0.2 * 2 ^ (a.number - 1))";
    assert_eq!((all, world.count(&waits(early)).await), (120, 0));
    world.end(Leaves::Unsettled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_is_waited_for_is_shown_with_its_time_and_its_number() {
    let world = world(Setup {
        retry_base: "3s",
        ..Setup::default()
    })
    .await;
    world
        .sim
        .set_fault(FaultRule::new(Fault::RateLimited).times(1));
    let accepted = world.post(&bill(A, "notice", 1)).await;
    let event = format!("/api/events/{}", accepted.text("/event_id"));
    until_standing(&world, A, "state = 'queued' and retry_count = 1", 1).await;
    let waiting = world.get(&event).await.body;
    assert_eq!(waiting["status"], "processing");
    assert_eq!(
        (&waiting["retry_count"], &waiting["max_retries"]),
        (&1.into(), &3.into())
    );
    let due = waiting["next_retry_at"]
        .as_str()
        .expect("it is due at a time");
    let due = chrono::DateTime::parse_from_rfc3339(due).expect("a time");
    let failed = world
        .texts("select finished_at::text from delivery_attempts")
        .await;
    let failed = chrono::DateTime::parse_from_str(&format!("{}00", failed[0]), "%F %T%.f%z")
        .expect("a time");
    let wait = (due - failed).as_seconds_f64();
    assert!(
        (3.0..=3.76).contains(&wait),
        "a quarter is the most that chance adds: {wait}"
    );

    until_standing(&world, A, "state = 'read'", 1).await;
    let done = world.get(&event).await.body;
    assert_eq!(done["status"], "processed");
    assert_eq!(
        (&done["retry_count"], &done["next_retry_at"]),
        (&1.into(), &serde_json::Value::Null)
    );
    world.end(Leaves::Nothing).await;
}
