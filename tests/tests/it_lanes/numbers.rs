//! A world with two sending numbers, templates for each lane, and bills by the hundred.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use posto_tests::world::http::answer;
use posto_tests::world::{GATEWAY_SECRET, Setup, World, overdue};
use serde_json::{Value, json};

/// A sending number: our slug for it, and the gateway's name.
#[derive(Clone, Copy)]
pub(crate) struct Number {
    pub(crate) slug: &'static str,
    pub(crate) name: &'static str,
}

/// The number that every world has.
pub(crate) const A: Number = Number {
    slug: "pixel12digital",
    name: "Pixel12 Digital",
};
/// The other one.
pub(crate) const B: Number = Number {
    slug: "imobsites",
    name: "ImobSites",
};

/// A world with both numbers, and a template in each lane: `lane_reply`, `lane_notice`, `lane_bulk`.
pub(crate) async fn world(setup: Setup) -> World {
    let mut world = World::start_with(Setup {
        router: false,
        ..setup
    })
    .await;
    world
        .run_sql(&format!(
            "insert into channels (id, provider_account, display_name) values ('{}', '{}', '{}');
             insert into message_templates (key, channel, version, body, variables, lane)
             select 'lane_' || lane, 'whatsapp', 1, 'Aviso {{{{ description }}}}',
                    '[{{\"name\": \"description\", \"required\": true}}]', lane
             from unnest(array['reply', 'notice', 'bulk']) lane",
            B.slug, B.name, B.name
        ))
        .await;
    let gateway = world.sim.url();
    let create = world
        .client()
        .post(format!("{gateway}/api/channels"))
        .header("x-gateway-secret", GATEWAY_SECRET)
        .json(&json!({"channel": B.name}));
    assert_eq!(answer(create).await.status, 200);
    session(&world, B, "return", true).await;
    world
        .start_router()
        .await
        .expect("because the router can start");
    world
}

/// Drops or returns the session of a number at the gateway.
pub(crate) async fn session(world: &World, number: Number, state: &str, silent: bool) {
    let asked = json!({"channel": number.name, "state": state, "silent": silent});
    let request = world
        .client()
        .post(format!("{}/_sim/session", world.sim.url()))
        .json(&asked);
    assert_eq!(answer(request).await.status, 200);
}

/// Drops a session, and waits until we know.
pub(crate) async fn down(world: &World, number: Number) {
    session(world, number, "drop", false).await;
    let query = format!(
        "select count(*) from channels where id = '{}' and session_state = 'down'",
        number.slug
    );
    world
        .until("the session is known to be down", async |world| {
            world.count(&query).await == 1
        })
        .await;
}

/// Nobody is told of what leaves: a scenario about order needs no receipts.
pub(crate) fn without_receipts(world: &World, answer_delay_ms: u64) {
    let mut settings = world.sim.settings();
    settings.echo = false;
    settings.acks = Vec::new();
    settings.answer_delay_ms = answer_delay_ms;
    world.sim.set_settings(settings);
}

/// The bill of a customer of that number, in a lane.
pub(crate) fn bill(number: Number, lane: &str, customer: u32) -> Value {
    let mut event = overdue(&format!("bill-{}", uuid::Uuid::new_v4()));
    let payload = &mut event["payload"];
    payload["phone"] = json!(format!("(47) 99990-{customer:04}"));
    payload["description"] = json!(format!("{} {customer}", number.slug));
    payload["channel"] = json!(number.name);
    payload["stage"] = json!(format!("lane_{lane}"));
    event
}

/// Posts events, as many in one request as ingest takes.
pub(crate) async fn post_all(world: &World, events: Vec<Value>) {
    for page in events.chunks(100) {
        let answer = world.post(&Value::from(page.to_vec())).await;
        assert!([200, 202, 207].contains(&answer.status), "{}", answer.body);
    }
}

/// How many deliveries of a number stand so.
pub(crate) async fn standing(world: &World, number: Number, what: &str) -> i64 {
    let query = format!(
        "select count(*) from deliveries d where d.channel_id = '{}' and ({what})",
        number.slug
    );
    world.count(&query).await
}

/// Waits until so many deliveries of a number stand so.
pub(crate) async fn until_standing(world: &World, number: Number, what: &str, many: i64) {
    world
        .until(
            &format!("{many} of {} are {what}", number.slug),
            async |world| standing(world, number, what).await == many,
        )
        .await;
}

/// Asserts that so many left in all, and nobody got the same words twice.
pub(crate) fn assert_each_left_once(world: &World, many: usize) {
    let mut got: BTreeMap<(String, String), usize> = BTreeMap::new();
    for message in world.went_out() {
        *got.entry((message.to, message.text)).or_default() += 1;
    }
    let twice: BTreeSet<_> = got.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "left more than once: {twice:?}");
    assert_eq!(got.len(), many);
}

/// Asserts that the deliveries of a number were released by lane, and in the order of their ids
/// within each.
pub(crate) async fn assert_released_in_order(world: &World, number: Number) {
    let wrong = world
        .texts(&format!(
            "select concat_ws(' ', lane, id, dispatched_at, 'after', before) from (
                 select lane, id, dispatched_at,
                        lag(dispatched_at) over (order by hub_release_rank(lane, null), id) as before
                 from deliveries where channel_id = '{}') d
             where dispatched_at < before",
            number.slug
        ))
        .await;
    assert_eq!(wrong, [""; 0], "released before an older one");
}

/// What a delivery-worker says of itself.
pub(crate) async fn metrics(world: &World, ops: SocketAddr) -> String {
    let answer = world.client().get(format!("http://{ops}/metrics")).send();
    let answer = answer.await.expect("because the worker is up");
    answer.text().await.expect("because metrics are text")
}
