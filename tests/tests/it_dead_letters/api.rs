//! How letters are found, and what an order must say.

use posto_tests::world::Leaves;
use serde_json::{Value, json};

use crate::support::{bill, dead, die, letters, post, world};

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_counted_by_why_listed_by_page_and_found_by_filter() {
    let world = world().await;
    die(&world, 0..5).await;
    let mut event = bill(6);
    event["payload"].as_object_mut().unwrap().remove("amount");
    event["payload"]["stage"] = json!("pre_due");
    post(&world, &event).await;
    world
        .until("six are dead", async |world| dead(world).await == 6)
        .await;

    let groups = world.admin("/admin/dead-letters/groups").await;
    assert_eq!(groups.body["total"], 6);
    let told: Vec<_> = groups.body["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| {
            let text = |name: &str| group[name].as_str().unwrap_or_default().to_owned();
            let seen = group["first_seen"].as_str() <= group["last_seen"].as_str();
            assert!(seen && group["first_seen"].is_string());
            (
                text("failure_code"),
                text("template"),
                group["count"].as_i64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("gateway_throttled".to_owned(), "overdue_7d".to_owned(), 5),
            (
                "template_variable_missing".to_owned(),
                "pre_due".to_owned(),
                1
            ),
        ]
    );

    let mut seen = Vec::new();
    let mut path = "/admin/dead-letters?limit=4".to_owned();
    loop {
        let page = world.admin(&path).await;
        let items = page.body["dead_letters"].as_array().unwrap().clone();
        seen.extend(
            items
                .iter()
                .map(|one| one["letter_id"].as_str().unwrap().to_owned()),
        );
        match page.body["next"].as_str() {
            Some(next) => path = format!("/admin/dead-letters?limit=4&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen, letters(&world, "dead").await);

    for (query, count) in [
        ("failure_code=gateway_throttled", 5),
        ("template=pre_due", 1),
        ("channel=whatsapp&tenant_id=1", 6),
        ("tenant_id=2", 0),
        ("event_type=billing.invoice.overdue", 6),
        (
            "queue=hub.deliveries.whatsapp&since=2020-01-01T00:00:00Z",
            6,
        ),
        ("until=2020-01-01T00:00:00Z", 0),
        ("since=2020-01-01T03:00:00%2B03:00", 6),
        ("state=redriven", 0),
    ] {
        let found = world.admin(&format!("/admin/dead-letters?{query}")).await;
        let items = found.body["dead_letters"].as_array().map(Vec::len);
        assert_eq!(items, Some(count), "{query}: {}", found.body);
    }
    for (query, pointer) in [
        ("state=gone", "#/state"),
        ("failure_cod=x", "#/failure_cod"),
        ("tenant_id=one", "#/tenant_id"),
        ("since=yesterday", "#/since"),
        ("limit=0", "#/limit"),
        ("after=me", "#/after"),
        ("channel=sms", "#/channel"),
    ] {
        let refused = world.admin(&format!("/admin/dead-letters?{query}")).await;
        assert_eq!(
            (refused.status, refused.text("/code")),
            (400, "invalid_query".to_owned())
        );
        assert_eq!(refused.text("/errors/0/pointer"), pointer, "{query}");
    }
    world.end(Leaves::Unsettled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_says_which_letters_and_how_many() {
    let world = world().await;
    die(&world, 0..3).await;
    let ids = letters(&world, "dead").await;
    let order = async |order: Value| world.order("/admin/dead-letters/redrive", &order).await;
    let differs = order(json!({"filter": {}, "expected_count": 2})).await;
    assert_eq!(
        (differs.status, differs.text("/code")),
        (409, "count_differs".to_owned())
    );
    assert!(
        differs.text("/detail").contains("matches 3"),
        "{}",
        differs.body
    );
    for (body, pointer) in [
        (json!({"filter": {}}), "#/expected_count"),
        (json!({}), "#"),
        (
            json!({"ids": ids, "filter": {}, "expected_count": 3}),
            "#/expected_count",
        ),
        (json!({"ids": []}), "#/ids"),
        (json!({"ids": ["x"]}), "#/ids/0"),
        (json!({"ids": ids, "forse": true}), "#/forse"),
        (json!({"ids": ids, "force": "yes"}), "#/force"),
        (
            json!({"filter": {"tenant": 1}, "expected_count": 3}),
            "#/filter/tenant",
        ),
        (
            json!({"filter": {"state": "redriven"}, "expected_count": 0}),
            "#/filter/state",
        ),
        (json!({"filter": [], "expected_count": 3}), "#/filter"),
        (json!([]), "#"),
    ] {
        let refused = order(body.clone()).await;
        assert_eq!(
            (refused.status, refused.text("/code")),
            (422, "invalid_order".to_owned()),
            "{body}"
        );
        let pointers: Vec<_> = refused.body["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|error| error["pointer"].as_str().unwrap().to_owned())
            .collect();
        assert!(
            pointers.contains(&pointer.to_owned()),
            "{body}: {pointers:?}"
        );
    }
    let unauthorised = world
        .client()
        .post(format!("{}/admin/dead-letters/redrive", world.admin_url()))
        .send()
        .await
        .unwrap();
    assert_eq!(unauthorised.status(), 401);
    assert_eq!(dead(&world).await, 3, "nothing was done");

    let nobody = uuid::Uuid::new_v4();
    let mixed = order(json!({"ids": [ids[0], nobody, ids[0]], "dry_run": true})).await;
    assert_eq!(mixed.body["matched"], 2, "a repeat counts once");
    assert_eq!(
        mixed.body["outcomes"],
        json!({"redriven": 1, "not_found": 1})
    );
    // Nobody has said who they are.
    let done = order(json!({"filter": {}, "expected_count": 3})).await;
    assert_eq!(done.body["outcomes"], json!({"redriven": 3}));
    assert_eq!(
        world.texts("select distinct actor from audit_log").await,
        ["operator"]
    );
    world.end(Leaves::Unsettled).await;
}
