//! Keys of sources: what they open, how they change hands, and what is left behind.

use posto_tests::world::http::Answer;
use posto_tests::world::{BILLING_TOKEN, Leaves, World, overdue};
use serde_json::{Value, json};

use crate::door::{Door, database_url, door_only};

/// Makes a key through the API and answers its number and its secret.
async fn make(world: &World, order: Value) -> (i64, String) {
    let made = world.order("/admin/keys", &order).await;
    assert_eq!(made.status, 201, "{}", made.body);
    assert_eq!(made.headers["cache-control"], "no-store");
    (number(&made, "/key/id"), made.text("/secret"))
}

fn number(answer: &Answer, pointer: &str) -> i64 {
    let found = answer.body.pointer(pointer).and_then(Value::as_i64);
    found.unwrap_or_else(|| panic!("{pointer} is no number in {}", answer.body))
}

/// An event of tenant 1 with a key of its own.
fn event() -> Value {
    overdue(&format!("key-{}", uuid::Uuid::new_v4()))
}

/// Waits until a token is answered so: every process learns of a change within moments.
async fn until_answered(world: &World, token: &str, status: u16) {
    let what = format!("the key is answered {status}");
    world
        .until(&what, async |world| {
            world.post_as(token, &event()).await.status == status
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_opens_from_its_making_to_its_revocation_and_each_change_leaves_a_line() {
    let world = door_only().await;
    let order = json!({"source": "billing", "label": "ERP", "actor": "Ana", "reason": "new ERP"});
    let (id, secret) = make(&world, order).await;
    until_answered(&world, &secret, 202).await;

    let listed = world.admin("/admin/keys?source=billing").await;
    let keys = listed.body["keys"].as_array().expect("a list").clone();
    let own = keys.iter().find(|key| key["id"] == id).expect("the key");
    assert_eq!(own["state"], "valid");
    assert_eq!(own["label"], "ERP");
    assert!(secret.starts_with(own["hint"].as_str().expect("a hint")));
    assert!(!listed.body.to_string().contains(&secret));

    let rotated = world
        .order(
            &format!("/admin/keys/{id}/rotate"),
            &json!({"actor": "Ana"}),
        )
        .await;
    assert_eq!(rotated.status, 201, "{}", rotated.body);
    let (next, next_secret) = (number(&rotated, "/key/id"), rotated.text("/secret"));
    assert_eq!(rotated.body["key"]["replaces"], id);
    assert_eq!(rotated.body["key"]["label"], "ERP");
    until_answered(&world, &next_secret, 202).await;
    assert_eq!(
        world.post_as(&secret, &event()).await.status,
        202,
        "two at once"
    );
    let week = format!(
        "select count(*) from source_credentials
         where id = {id} and valid_until between now() + interval '167 hours' and now() + interval '168 hours'"
    );
    assert_eq!(world.count(&week).await, 1, "the old one has its end");

    // Neither a second successor nor a third valid key.
    for key in [id, next] {
        let again = world
            .order(&format!("/admin/keys/{key}/rotate"), &json!({}))
            .await;
        assert_eq!(again.status, 409, "{}", again.body);
        assert_eq!(again.body["code"], "key_not_rotatable");
    }

    for key in [id, next, next] {
        let order = json!({"actor": "Bia", "reason": "leaked"});
        let revoked = world
            .order(&format!("/admin/keys/{key}/revoke"), &order)
            .await;
        assert_eq!(revoked.status, 200, "{}", revoked.body);
        assert_eq!(revoked.body["key"]["state"], "revoked");
    }
    until_answered(&world, &secret, 401).await;
    until_answered(&world, &next_secret, 401).await;

    // A successor that was revoked leaves room for another one, which does not inherit the end that
    // the rotation gave the old key.
    let (last, _) = make(&world, json!({"source": "billing", "actor": "Ana"})).await;
    let rotate = format!("/admin/keys/{last}/rotate");
    let first = world.order(&rotate, &json!({"actor": "Ana"})).await;
    let first = number(&first, "/key/id");
    let revoked = world
        .order(
            &format!("/admin/keys/{first}/revoke"),
            &json!({"actor": "Bia"}),
        )
        .await;
    assert_eq!(revoked.status, 200);
    let second = world.order(&rotate, &json!({"actor": "Ana"})).await;
    assert_eq!(second.status, 201, "{}", second.body);
    assert_eq!(second.body["key"]["valid_until"], Value::Null);
    let second = number(&second, "/key/id");

    let lines = world
        .texts("select actor || ' ' || action || ' ' || (detail ->> 'credential_id') from audit_log order by at, id")
        .await;
    assert_eq!(
        lines,
        [
            format!("Ana key_created {id}"),
            format!("Ana key_rotated {next}"),
            format!("Bia key_revoked {id}"),
            format!("Bia key_revoked {next}"),
            format!("Ana key_created {last}"),
            format!("Ana key_rotated {first}"),
            format!("Bia key_revoked {first}"),
            format!("Ana key_rotated {second}"),
        ]
    );
    let kept = world
        .texts("select row_to_json(c)::text from source_credentials c union all select row_to_json(a)::text from audit_log a")
        .await
        .join("\n");
    assert!(!kept.contains(&secret) && !kept.contains(&next_secret));
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_speaks_for_its_tenants_and_types_alone_and_reads_nothing_else() {
    let world = door_only().await;
    let (_, free) = make(&world, json!({"source": "billing"})).await;
    let (_, bound) = make(
        &world,
        json!({"source": "billing", "tenants": [1, 2], "event_types": ["billing.invoice.*"]}),
    )
    .await;
    until_answered(&world, &free, 202).await;
    until_answered(&world, &bound, 202).await;
    let with = |member: &str, value: Value| {
        let mut event = event();
        event[member] = value;
        event
    };
    for (what, event, status, code) in [
        ("its tenant", with("tenant_id", json!(2)), 202, ""),
        (
            "no tenant",
            with("tenant_id", json!(null)),
            403,
            "tenant_forbidden",
        ),
        (
            "no such tenant",
            with("tenant_id", json!(404)),
            403,
            "tenant_forbidden",
        ),
        (
            "another type",
            with("event_type", json!("billing.payment.received")),
            403,
            "event_type_forbidden",
        ),
        (
            "another source",
            with("source_system", json!("pixelhub")),
            403,
            "source_forbidden",
        ),
    ] {
        let answer = world.post_as(&bound, &event).await;
        assert_eq!(answer.status, status, "{what}: {}", answer.body);
        assert!(status == 202 || answer.body["code"] == code, "{what}");
    }
    // What others posted: of its tenants and types it reads, of no other.
    for (event, status) in [
        (event(), 200),
        (with("event_type", json!("billing.payment.received")), 404),
        (with("tenant_id", json!(null)), 404),
    ] {
        let posted = world.post_as(&free, &event).await;
        let url = format!(
            "{}{}",
            world.api(),
            posted.headers["location"].to_str().expect("a path")
        );
        let read = world.client().get(url).bearer_auth(&bound).send().await;
        assert_eq!(read.expect("an answer").status(), status, "{event}");
    }
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_cannot_be_carried_out_is_told_and_makes_nothing() {
    let world = door_only().await;
    let keys = world.count("select count(*) from source_credentials").await;
    for (order, pointer) in [
        (json!({}), "#/source"),
        (json!({"source": "nobody"}), "#/source"),
        (json!({"source": "billing", "kind": "oauth"}), "#/kind"),
        (
            json!({"source": "billing", "tenants": [1, 404]}),
            "#/tenants",
        ),
        (
            json!({"source": "billing", "tenants": ["1"]}),
            "#/tenants/0",
        ),
        (
            json!({"source": "billing", "event_types": [""]}),
            "#/event_types/0",
        ),
        (
            json!({"source": "billing", "valid_until": "soon"}),
            "#/valid_until",
        ),
        (json!({"source": "billing", "typo": 1}), "#/typo"),
    ] {
        let refused = world.order("/admin/keys", &order).await;
        assert_eq!(refused.status, 422, "{order}: {}", refused.body);
        assert_eq!(refused.body["errors"][0]["pointer"], pointer, "{order}");
    }
    for path in [
        "/admin/keys/404/rotate",
        "/admin/keys/404/revoke",
        "/admin/keys/x/revoke",
    ] {
        assert_eq!(world.order(path, &json!({})).await.status, 404, "{path}");
    }
    let order = json!({"overlap_seconds": 90 * 24 * 3600 + 1});
    assert_eq!(
        world.order("/admin/keys/1/rotate", &order).await.status,
        422
    );
    assert_eq!(world.count("select count(*) from audit_log").await, 0);
    assert_eq!(
        world.count("select count(*) from source_credentials").await,
        keys
    );
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_makes_keys_too_and_signing_secrets_go_with_their_revocation() {
    let world = door_only().await;
    let database = database_url(&world);
    let command = async |arguments: &[&str]| {
        let mut all = vec!["ingest", "admin", "keys"];
        all.extend(arguments);
        all.extend(["--database-url", &database]);
        ingest::process::run(all.into_iter().map(Into::into)).await
    };
    command(&[
        "create", "--source", "pixelhub", "--kind", "hmac", "--tenant", "1", "--actor", "Ana",
    ])
    .await
    .expect("because source and tenant are known");
    let id = world
        .count("select id from source_credentials where kind = 'hmac' and tenant_ids = '{1}' and length(signing_secret) = 33")
        .await;
    assert!(id > 0);
    let id = id.to_string();
    command(&["rotate", &id, "--overlap-hours", "0", "--actor", "Ana"])
        .await
        .expect("because it is valid");
    command(&["list"])
        .await
        .expect("because the database answers");
    let ended =
        format!("select count(*) from source_credentials where id = {id} and valid_until <= now()");
    assert_eq!(
        world.count(&ended).await,
        1,
        "without an overlap it ends at once"
    );
    command(&["revoke", &id, "--actor", "Ana"])
        .await
        .expect("because it is there");
    let gone = format!(
        "select count(*) from source_credentials where id = {id} and signing_secret is null"
    );
    assert_eq!(world.count(&gone).await, 1);
    let lines = world
        .texts("select action from audit_log where actor = 'Ana' order by at, id")
        .await;
    assert_eq!(lines, ["key_created", "key_rotated", "key_revoked"]);
    for wrong in [
        &["create", "--source", "nobody"][..],
        &["rotate", "404"],
        &["rotate", &id],
        &["revoke", "404"],
    ] {
        assert!(command(wrong).await.is_err(), "{wrong:?}");
    }
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_use_is_written_without_a_change_of_the_configuration() {
    let world = door_only().await;
    let door = Door::open(&world, &[]).await;
    let version = world.count("select version from config_version").await;
    for _ in 0..3 {
        let request = world.client().post(format!("{}/api/events", door.public));
        let answer = request
            .bearer_auth(BILLING_TOKEN)
            .json(&event())
            .send()
            .await;
        assert_eq!(answer.expect("an answer").status(), 202);
    }
    // What a process has noted, it writes at its end at the latest.
    door.close().await;
    let used = "select count(*) from source_credentials
                where last_used_at > now() - interval '1 minute' and source_system = 'billing'";
    assert_eq!(world.count(used).await, 1);
    assert_eq!(
        world.count("select version from config_version").await,
        version
    );
    world.end(Leaves::Nothing).await;
}
