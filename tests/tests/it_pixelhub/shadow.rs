//! A module in shadow: everything is decided and told, and nothing leaves.

use posto_tests::world::{Leaves, World};
use serde_json::{Value, json};

use crate::rig::{ORDER_77, SERVER, prepare, switch, thread_of, write};

/// A rule that lets a team know of each chat message over WhatsApp, and one that cannot be followed.
const RULES: &str = "insert into message_templates (key, channel, version, body, variables)
         values ('chat_notice', 'whatsapp', 1, 'Nova mensagem: {{ text }}',
                 '[{\"name\":\"text\",\"required\":true,\"sample\":\"oi\"}]');
     insert into routing_rules (name, event_type, channel, template, priority)
         values ('tell-the-team', 'chat.message.received', 'whatsapp', 'chat_notice', 30),
                ('broken', 'chat.message.received', 'email', 'no_such_template', 30)";

async fn is_switched(world: &World, module: &str, order: Value) {
    let answer = switch(world, module, order).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_shadow_what_would_have_gone_out_is_told_and_nothing_goes_out() {
    let world = World::start().await;
    prepare(&world).await;
    let thread = thread_of(&world, ORDER_77).await;
    world.run_sql(RULES).await;
    world
        .until("the router knows the rules", async |world| {
            let written = write(world, ORDER_77, thread, "antes", None).await;
            assert_eq!(written.status, 200, "{}", written.body);
            let three = "select count(*) from (select from deliveries group by routing_id having count(*) = 3) planned";
            world.count(three).await > 0
        })
        .await;
    is_switched(
        &world,
        "chat",
        json!({"mode": "shadow", "actor": "Ana", "reason": "first week"}),
    )
    .await;

    // Every process follows within moments: the first that is simulated tells that it did.
    let mut number = 0;
    let mut first = String::new();
    world
        .until("a message is taken in shadow", async |world| {
            number += 1;
            let text = format!("mensagem {number}");
            let written = write(world, ORDER_77, thread, &text, None).await;
            assert_eq!(written.status, 200, "{}", written.body);
            first = written.text("/message/id");
            let marked = format!(
                "select count(*) from communication_events where id = '{first}' and metadata -> 'posto' ->> 'shadow' = 'chat'"
            );
            world.count(&marked).await == 1
        })
        .await;
    world.until_states(&first, &["simulated"; 3]).await;
    let told = world
        .texts(&format!(
            "select concat_ws('|', channel, body_text, recipient, failure_code) from deliveries
             where event_id = '{first}' order by channel"
        ))
        .await;
    let text = format!("mensagem {number}");
    assert_eq!(
        told,
        [
            format!("chat|{text}"),
            "email|channel_unavailable".to_owned(),
            format!("whatsapp|Nova mensagem: {text}|5547999900011"),
        ]
    );
    let decision = world
        .texts(&format!(
            "select decision ->> 'note' from routings where event_id = '{first}'"
        ))
        .await;
    assert_eq!(decision, ["the module is in shadow: nothing leaves"]);
    let letters = format!(
        "select count(*) from dead_letters l join deliveries d on d.id = l.subject_id
                           where d.event_id = '{first}'"
    );
    assert_eq!(
        world.count(&letters).await,
        0,
        "nobody has to act on what would have failed"
    );

    // Live again: the next one goes out, and what was told in shadow stays as it is.
    world
        .run_sql("delete from routing_rules where name = 'broken'")
        .await;
    is_switched(&world, "chat", json!({"mode": "live", "actor": "Ana"})).await;
    let mut last = String::new();
    world
        .until("a message is taken live", async |world| {
            let written = write(world, ORDER_77, thread, "de verdade", None).await;
            last = written.text("/message/id");
            let live = format!("select count(*) from communication_events where id = '{last}' and not metadata ? 'posto'");
            world.count(&live).await == 1
        })
        .await;
    world
        .until("it went out", async |world| {
            let sent = world.went_out();
            sent.iter()
                .any(|message| message.text.contains("de verdade"))
        })
        .await;
    let simulated = format!("Nova mensagem: {text}");
    assert!(
        world
            .went_out()
            .iter()
            .all(|message| message.text != simulated)
    );
    assert_eq!(
        world
            .count(&format!(
                "select count(*) from deliveries where event_id = '{first}' and state = 'simulated'"
            ))
            .await,
        3
    );
    assert_eq!(
        world
            .count(&format!(
                "select count(*) from chat_messages where event_id = '{first}'"
            ))
            .await,
        0
    );
    assert!(
        world
            .metric(
                "ingest",
                "hub_module_requests_total{mode=\"shadow\",module=\"chat\"}"
            )
            .await
            > 0.5
    );
    world.end(Leaves::Unsettled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_posto_says_that_an_event_is_in_shadow() {
    let world = World::start().await;
    prepare(&world).await;
    let event = json!({
        "event_type": "chat.message.received", "source_system": "pixelhub", "tenant_id": 1,
        "metadata": {"posto": {"shadow": "chat"}, "note": "x"},
        "payload": {"order_id": 77, "text": "oi"}
    });
    let accepted = world.post_as(SERVER, &event).await;
    world
        .until_states(&accepted.text("/event_id"), &["delivered"])
        .await;
    let kept = world
        .texts("select metadata::text from communication_events")
        .await;
    assert_eq!(kept, ["{\"note\": \"x\"}"]);
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn switches_are_listed_kept_with_who_and_why_and_taken_away_again() {
    let world = World::start().await;
    prepare(&world).await;
    let fresh = world.admin("/admin/modules").await;
    assert_eq!(
        fresh.body,
        json!({"modules": ["chat", "tenants"], "default": "live", "switches": []})
    );
    is_switched(
        &world,
        "tenants",
        json!({"mode": "off", "actor": "Ana", "reason": "moved back"}),
    )
    .await;
    let answer = switch(
        &world,
        "tenants",
        json!({"mode": "shadow", "tenant_id": 2, "actor": "Bia"}),
    )
    .await;
    assert_eq!(
        answer.body,
        json!({"module": "tenants", "tenant_id": 2, "from": null, "to": "shadow"})
    );
    let listed = world.admin("/admin/modules").await;
    let shown: Vec<String> = listed.body["switches"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|line| {
            format!(
                "{} {} {} {}",
                line["module"], line["tenant_id"], line["mode"], line["changed_by"]
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            r#""tenants" null "off" "Ana""#,
            r#""tenants" 2 "shadow" "Bia""#
        ]
    );
    let answer = switch(
        &world,
        "tenants",
        json!({"mode": "default", "tenant_id": 2, "actor": "Bia"}),
    )
    .await;
    assert_eq!(
        (&answer.body["from"], &answer.body["to"]),
        (&json!("shadow"), &Value::Null)
    );
    let lines = world
        .texts(
            "select concat_ws('|', actor, reason, detail ->> 'module', detail ->> 'tenant_id', detail ->> 'from', detail ->> 'to')
             from audit_log where action = 'module_switched' order by at, id",
        )
        .await;
    assert_eq!(
        lines,
        [
            "Ana|moved back|tenants|off",
            "Bia|tenants|2|shadow",
            "Bia|tenants|2|shadow"
        ]
    );
    for (module, order, status, pointer) in [
        ("chat", json!({}), 422, "#/mode"),
        ("chat", json!({"mode": "on"}), 422, "#/mode"),
        (
            "chat",
            json!({"mode": "off", "tenant_id": 999}),
            422,
            "#/tenant_id",
        ),
        ("chat", json!({"mode": "off", "tenant": 1}), 422, "#/tenant"),
        ("asaas", json!({"mode": "off"}), 404, ""),
    ] {
        let refused = switch(&world, module, order.clone()).await;
        assert_eq!(refused.status, status, "{order}");
        if status == 422 {
            assert_eq!(refused.text("/errors/0/pointer"), pointer, "{order}");
        }
    }
    world.end(Leaves::Nothing).await;
}
