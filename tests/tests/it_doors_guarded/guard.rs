//! From where one may come, how much one may bring, and who is shut out.

use posto_tests::world::http::{Answer, answer};
use posto_tests::world::{BILLING_TOKEN, CHAT_TOKEN, Leaves, WEBHOOK_SECRET, World, overdue};
use serde_json::{Value, json};

use crate::door::{Door, database_url, door_only};

/// Every request of a test comes from here, where the proxy tells nothing else.
const PROXY: [&str; 2] = ["--trusted-proxies", "127.0.0.0/8,::1"];

/// Posts to `/api/events` as if from an address.
async fn post(world: &World, door: &Door, from: &str, token: &str, body: &Value) -> Answer {
    let request = world
        .client()
        .post(format!("{}/api/events", door.public))
        .header("x-forwarded-for", from)
        .bearer_auth(token)
        .json(body);
    answer(request).await
}

/// Posts a presence to the gateway's door, which is counted and not stored.
async fn webhook(world: &World, door: &Door, from: &str, secret: &str) -> u16 {
    let body = json!({"event": "connection.update", "session": {"id": "pixel12digital"},
                      "raw": {"payload": {"event": "onpresencechanged"}}});
    let request = world
        .client()
        .post(format!("{}/api/whatsapp/webhook", door.public))
        .header("x-forwarded-for", from)
        .header("x-gateway-secret", secret)
        .json(&body);
    answer(request).await.status
}

fn event(tenant: i64, event_type: &str) -> Value {
    let mut event = overdue(&format!("guard-{}", uuid::Uuid::new_v4()));
    event["tenant_id"] = json!(tenant);
    event["event_type"] = json!(event_type);
    event
}

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    let value = answer
        .headers
        .get(name)
        .and_then(|value| value.to_str().ok());
    value.unwrap_or_else(|| panic!("no {name} in {:?}", answer.headers))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_speaks_only_from_its_networks_behind_trusted_proxies_alone() {
    let world = door_only().await;
    let (behind, bare) = (
        Door::open(&world, &PROXY).await,
        Door::open(&world, &[]).await,
    );
    let set = async |source: &str, order: Value| {
        let path = format!("/admin/sources/{source}/networks");
        world.order(&path, &order).await
    };
    let order = json!({"networks": ["203.0.113.0/24", "2001:db8::/32"], "actor": "Ana"});
    assert_eq!(set("billing", order).await.status, 200);
    assert_eq!(
        set("wpp_gateway", json!({"networks": ["198.51.100.7"]}))
            .await
            .status,
        200
    );
    world
        .until("the list is in force", async |world| {
            post(world, &behind, "192.0.2.1", BILLING_TOKEN, &event(1, "a"))
                .await
                .status
                == 403
        })
        .await;
    for (from, status) in [
        ("203.0.113.9", 202),
        ("::ffff:203.0.113.9", 202),
        ("2001:db8::1", 202),
        ("192.0.2.1, 203.0.113.9", 202),
        ("203.0.113.9, 192.0.2.1", 403),
        ("203.0.113.9, nonsense", 403),
    ] {
        let answer = post(&world, &behind, from, BILLING_TOKEN, &event(1, "a")).await;
        assert_eq!(answer.status, status, "{from}: {}", answer.body);
    }
    let refused = post(&world, &behind, "192.0.2.1", BILLING_TOKEN, &event(1, "a")).await;
    assert_eq!(refused.body["code"], "address_forbidden");
    let chat = json!({"event_type": "chat.message.received", "source_system": "chat", "tenant_id": 1, "payload": {}});
    let other = post(&world, &behind, "192.0.2.1", CHAT_TOKEN, &chat).await;
    assert_eq!(
        other.status, 202,
        "another source has no list: {}",
        other.body
    );
    world
        .until("the other door has the list too", async |world| {
            // A stranger's header is not believed where no proxy is trusted.
            post(world, &bare, "203.0.113.9", BILLING_TOKEN, &event(1, "a"))
                .await
                .status
                == 403
        })
        .await;
    world
        .until("the gateway's list is in force", async |world| {
            webhook(world, &behind, "198.51.100.8", WEBHOOK_SECRET).await == 401
        })
        .await;
    assert_eq!(
        webhook(&world, &behind, "198.51.100.7", WEBHOOK_SECRET).await,
        200
    );

    for (source, order, status) in [
        ("nobody", json!({"any": true}), 404),
        ("billing", json!({}), 422),
        ("billing", json!({"any": true, "preset": "asaas"}), 422),
        ("billing", json!({"networks": ["203.0.113.0/33"]}), 422),
        ("billing", json!({"preset": "stripe"}), 422),
        ("asaas", json!({"preset": "asaas", "actor": "Ana"}), 200),
    ] {
        assert_eq!(
            set(source, order.clone()).await.status,
            status,
            "{source} {order}"
        );
    }
    let database = database_url(&world);
    let command = [
        "ingest",
        "admin",
        "sources",
        "networks",
        "--source",
        "billing",
        "--any",
        "--actor",
        "Ana",
        "--database-url",
        &database,
    ];
    ingest::process::run(command.map(Into::into))
        .await
        .expect("because the source is known");
    let listed = world.admin("/admin/sources").await.body;
    let networks = |name: &str| {
        let all = listed["sources"].as_array().expect("a list").iter();
        let found = all.clone().find(|source| source["name"] == name);
        found.expect("the source")["networks"].clone()
    };
    assert_eq!(networks("asaas").as_array().map(Vec::len), Some(4));
    assert_eq!(networks("billing"), json!([]));
    let lines =
        "select count(*) from audit_log where action = 'source_networks_set' and actor = 'Ana'";
    assert_eq!(world.count(lines).await, 3);
    behind.close().await;
    bare.close().await;
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_over_a_limit_is_told_when_to_come_again_and_the_others_come_in() {
    let world = door_only().await;
    let limits = [
        "--limit-address=4/60s",
        "--limit-source=6/60s,chat=off",
        "--limit-tenant=5/60s",
        "--limit-source-type=3/60s",
    ];
    let door = Door::open(&world, &[&PROXY[..], &limits].concat()).await;
    let from = |n: u8| format!("203.0.113.{n}");
    for _ in 0..3 {
        assert_eq!(
            post(&world, &door, &from(1), BILLING_TOKEN, &event(1, "a"))
                .await
                .status,
            202
        );
    }
    let cases = [
        // (address, tenant, type, the policy that is met)
        (1, 1, "a", Some("source-type")),
        (1, 1, "b", Some("address")),
        (2, 1, "b", None),
        (2, 1, "b", Some("tenant")),
        (2, 2, "c", Some("source")),
    ];
    for (address, tenant, event_type, met) in cases {
        let answer = post(
            &world,
            &door,
            &from(address),
            BILLING_TOKEN,
            &event(tenant, event_type),
        )
        .await;
        let Some(policy) = met else {
            assert_eq!(answer.status, 202, "{}", answer.body);
            continue;
        };
        assert_eq!(answer.status, 429, "{policy}: {}", answer.body);
        let wait: u64 = header(&answer, "retry-after").parse().expect("seconds");
        assert!((1..=60).contains(&wait), "{policy}: {wait}");
        let fields = (
            header(&answer, "ratelimit-policy"),
            header(&answer, "ratelimit"),
        );
        assert!(fields.0.starts_with(&format!("\"{policy}\";q=")) && fields.0.ends_with(";w=60"));
        assert_eq!(fields.1, format!("\"{policy}\";r=0;t={wait}"));
        assert_eq!(header(&answer, "content-type"), "application/problem+json");
        assert_eq!(
            answer.body["type"],
            "https://iana.org/assignments/http-problem-types#quota-exceeded"
        );
        assert_eq!(answer.body["code"], "rate_limited");
        assert_eq!(answer.body["violated-policies"], json!([policy]));
        let series = format!("hub_limits_exceeded_total{{policy=\"{policy}\"}} ");
        assert_eq!(door.metric(&world, &series).await, 1.0, "{policy}");
    }
    // Of a batch the items within the limit are taken; each other one says when it may come again.
    let chat = |n: usize| {
        json!({"event_type": "chat.message.received", "source_system": "chat", "tenant_id": 1,
                                 "idempotency_key": format!("batch-{n}"), "payload": {}})
    };
    let batch: Vec<Value> = (0..4).map(chat).collect();
    let answer = post(&world, &door, &from(3), CHAT_TOKEN, &json!(batch)).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    for item in answer.body.as_array().expect("a list") {
        assert_eq!(
            item["problem"]["code"], "rate_limited",
            "the tenant is through: {item}"
        );
        assert!(item["problem"]["retry_after_seconds"].as_u64() >= Some(1));
    }
    // A gateway is never told to wait.
    for _ in 0..20 {
        assert_eq!(webhook(&world, &door, &from(1), WEBHOOK_SECRET).await, 200);
    }
    let rows = "select count(*) from communication_logs where code = 'rate_limited'";
    assert_eq!(world.count(rows).await, 0, "a flood writes no rows");
    door.close().await;
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_fails_again_and_again_is_shut_out_for_longer_each_time_until_it_is_let_in()
{
    let world = door_only().await;
    let after = ["--shut-out-after=5"];
    let settings = [&PROXY[..], &after].concat();
    let (door, other) = (
        Door::open(&world, &settings).await,
        Door::open(&world, &settings).await,
    );
    let (bad, good) = ("203.0.113.66", "203.0.113.1");
    for n in 0..5 {
        let answer = post(&world, &door, bad, "wrong", &event(1, "a")).await;
        assert_eq!(answer.status, 401, "failure {n}");
    }
    let begun = std::time::Instant::now();
    let shut = post(&world, &door, bad, "wrong", &event(1, "a")).await;
    assert!(begun.elapsed().as_millis() >= 1000, "who is shut out waits");
    assert_eq!(shut.status, 429, "{}", shut.body);
    assert_eq!(shut.body["code"], "address_shut_out");
    let wait: u64 = header(&shut, "retry-after").parse().expect("seconds");
    assert!((1..=61).contains(&wait), "{wait}");
    assert_eq!(
        post(&world, &door, good, "wrong", &event(1, "a"))
            .await
            .status,
        401
    );
    // A source's own key is no guess, and a gateway's post may not come again.
    assert_eq!(
        post(&world, &door, bad, BILLING_TOKEN, &event(1, "a"))
            .await
            .status,
        202
    );
    assert_eq!(webhook(&world, &door, bad, WEBHOOK_SECRET).await, 200);
    assert_eq!(webhook(&world, &door, bad, "wrong").await, 401);

    let shut_out = "hub_addresses_shut_out ";
    // Looked at by its metric: whoever tries is counted.
    let until_shut_out = async |count: f64| {
        let what = format!("both processes have {count} shut out");
        world
            .until(&what, async |world| {
                door.metric(world, shut_out).await == count
                    && other.metric(world, shut_out).await == count
            })
            .await;
    };
    until_shut_out(1.0).await;
    assert_eq!(
        post(&world, &other, bad, "wrong", &event(1, "a"))
            .await
            .status,
        429
    );
    assert_eq!(door.metric(&world, "hub_address_blocks_total ").await, 1.0);
    let listed = world.admin("/admin/ip-blocks").await.body;
    assert_eq!(listed["blocks"][0]["address"], bad);
    assert_eq!(listed["blocks"][0]["active"], true);
    assert_eq!(listed["blocks"][0]["times"], 1);

    // Its time is over; it fails again, and is shut out for twice as long.
    world
        .run_sql("update ip_blocks set blocked_until = now() - interval '1 second'")
        .await;
    until_shut_out(0.0).await;
    for _ in 0..5 {
        post(&world, &door, bad, "wrong", &event(1, "a")).await;
    }
    let twice = "select count(*) from ip_blocks where times = 2 and blocked_until > now() + interval '100 seconds'";
    world
        .until("it is shut out for twice as long", async |world| {
            world.count(twice).await == 1
        })
        .await;

    let order = json!({"address": bad, "actor": "Ana", "reason": "our own test"});
    assert_eq!(
        world.order("/admin/ip-blocks/lift", &order).await.status,
        200
    );
    assert_eq!(
        world.order("/admin/ip-blocks/lift", &order).await.status,
        404
    );
    let wrong = json!({"address": "everybody"});
    assert_eq!(
        world.order("/admin/ip-blocks/lift", &wrong).await.status,
        422
    );
    until_shut_out(0.0).await;
    for process in [&door, &other] {
        assert_eq!(
            post(&world, process, bad, "wrong", &event(1, "a"))
                .await
                .status,
            401
        );
    }
    let line = "select count(*) from audit_log where action = 'address_let_in' and actor = 'Ana'";
    assert_eq!(world.count(line).await, 1);
    door.close().await;
    other.close().await;
    world.end(Leaves::Nothing).await;
}
