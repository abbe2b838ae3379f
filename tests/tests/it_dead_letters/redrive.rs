//! Redrive and discard through the API.

use futures_util::future::join_all;
use posto_tests::gateway_sim::{Fault, FaultRule};
use posto_tests::world::{Leaves, Setup, World};
use serde_json::json;
use shared::broker::Queue;

use crate::management::until_depth;
use crate::support::{
    WHATSAPP, audit, bill, dead, die, letters, messages_to, phone, post, until_all, world,
};

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_letters_redriven_at_once_leave_one_message_each() {
    let world = world().await;
    die(&world, 0..200).await;
    let filter = json!({"failure_code": "gateway_throttled", "queue": WHATSAPP.name()});
    let asked = json!({"filter": filter, "dry_run": true});
    let first = world.order("/admin/dead-letters/redrive", &asked).await;
    assert_eq!(first.status, 200, "{}", first.body);
    assert_eq!(first.body["matched"], 200);
    assert_eq!(first.body["ways"], json!({"resend": 200}));
    assert_eq!(dead(&world).await, 200, "a dry run does nothing");

    let order = json!({"filter": filter, "expected_count": 200, "actor": "maria", "reason": "the gateway is well again"});
    let done = world.order("/admin/dead-letters/redrive", &order).await;
    assert_eq!(done.body["outcomes"], json!({"redriven": 200}));
    assert_eq!(done.body["complete"], true);
    until_all(&world, "read").await;
    for number in 0..200 {
        assert_eq!(messages_to(&world, number), [true], "customer {number}");
    }
    let fresh = "select count(*) from deliveries where generation = 1 and retry_count = 0
                 and failure_code is null and attempt_count = 5";
    assert_eq!(world.count(fresh).await, 200);
    assert_eq!(audit(&world).await, ["maria redriven delivery resend"; 200]);
    // Their copies leave the dead queue by themselves.
    until_depth(&world, Queue::Dead(WHATSAPP), 0).await;
    world.end(Leaves::Unsettled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_redrive_the_same_letters_at_once_send_them_once() {
    let world = world().await;
    let posted = die(&world, 0..20).await;
    let order = json!({"ids": letters(&world, "dead").await, "actor": "maria"});
    let answers =
        join_all((0..8).map(|_| world.order("/admin/dead-letters/redrive", &order))).await;
    let of = |name: &str| -> u64 {
        answers
            .iter()
            .filter_map(|answer| answer.body["outcomes"][name].as_u64())
            .sum()
    };
    assert_eq!((of("redriven"), of("already_redriven")), (20, 140));
    until_all(&world, "read").await;
    for number in 0..20 {
        assert_eq!(messages_to(&world, number), [true], "customer {number}");
    }
    assert_eq!(audit(&world).await.len(), 20);

    let story = world.story(&posted[0].1).await;
    let delivery = &story["deliveries"][0];
    assert_eq!(delivery["generation"], 1);
    let attempts: Vec<_> = delivery["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| (attempt["generation"].as_i64(), attempt["number"].as_i64()))
        .collect();
    let wanted = [(0, 1), (0, 2), (0, 3), (0, 4), (1, 5)];
    assert_eq!(attempts, wanted.map(|(g, n)| (Some(g), Some(n))));
    assert_eq!(story["dead_letters"][0]["state"], "redriven");
    assert_eq!(story["audit"][0]["actor"], "maria");
    let steps: Vec<_> = story["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|step| step["step"].as_str())
        .collect();
    assert!(
        steps.contains(&"dead_letter") && steps.contains(&"redriven"),
        "{steps:?}"
    );
    world.end(Leaves::Unsettled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_is_redriven_and_dies_again_has_another_letter_of_the_next_generation() {
    let world = world().await;
    die(&world, 7..8).await;
    let first = letters(&world, "dead").await;
    world.sim.set_fault(FaultRule::new(Fault::RateLimited));
    let order = json!({"ids": first});
    let done = world.order("/admin/dead-letters/redrive", &order).await;
    assert_eq!(done.body["outcomes"]["redriven"], 1);
    world
        .until("it is dead again", async |world| dead(world).await == 1)
        .await;
    world.sim.clear_faults();
    let second = letters(&world, "dead").await;
    assert_ne!(first, second);
    assert_eq!(
        world
            .texts(
                "select concat_ws(' ', generation, attempts, state) from dead_letters order by id"
            )
            .await,
        ["0 4 redriven", "1 8 dead"]
    );
    let again = world
        .order(
            "/admin/dead-letters/redrive",
            &json!({"ids": [first[0], second[0]]}),
        )
        .await;
    assert_eq!(
        again.body["outcomes"],
        json!({"redriven": 1, "already_redriven": 1})
    );
    assert_eq!(again.body["refused"][0]["letter_id"], first[0].as_str());
    until_all(&world, "read").await;
    assert_eq!(messages_to(&world, 7), [true]);
    world.end(Leaves::Unsettled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_discarded_stays_given_up_and_is_told_so() {
    let world = world().await;
    die(&world, 0..5).await;
    let queue = Queue::Dead(WHATSAPP);
    until_depth(&world, queue, 5).await;
    let ids = letters(&world, "dead").await;
    let order = json!({"ids": &ids[..3], "actor": "maria", "reason": "customer gone, call (47) 99990-0011"});
    let looked = json!({"ids": &ids[..3], "dry_run": true});
    let dry = world.order("/admin/dead-letters/discard", &looked).await;
    assert_eq!(dry.body["outcomes"], json!({"discarded": 3}));
    let done = world.order("/admin/dead-letters/discard", &order).await;
    assert_eq!(done.body["outcomes"], json!({"discarded": 3}));
    let again = world.order("/admin/dead-letters/discard", &order).await;
    assert_eq!(
        again.body["outcomes"],
        json!({"discarded": 0, "already_discarded": 3})
    );
    let redriven = world.order("/admin/dead-letters/redrive", &order).await;
    assert_eq!(
        redriven.body["outcomes"],
        json!({"redriven": 0, "already_discarded": 3})
    );
    assert_eq!(audit(&world).await, ["maria discarded delivery"; 3]);
    let reasons = world.texts("select distinct reason from audit_log").await;
    assert!(
        !reasons[0].contains("99990-0011"),
        "a reason is masked: {reasons:?}"
    );
    until_depth(&world, queue, 2).await;
    assert_eq!(
        world
            .count("select count(*) from deliveries where state = 'dead'")
            .await,
        5
    );
    assert!(world.sim.messages().is_empty());
    world.end(Leaves::Unsettled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_have_left_is_redriven_only_by_force() {
    let world = World::start_with(Setup {
        send_timeout: "500ms",
        retry_base: "1ms",
        unknown_silence: "1s",
        router: false,
        ..Setup::default()
    })
    .await;
    let mut world = world;
    // Its first send has no known outcome, its template resends, and then the gateway refuses.
    world
        .run_sql("update message_templates set unknown_policy = 'resend' where key = 'overdue_7d'")
        .await;
    world.start_router().await.unwrap();
    let to = phone(9);
    world
        .sim
        .set_fault(FaultRule::new(Fault::TimeoutBefore).to(&to).times(1));
    world
        .sim
        .set_fault(FaultRule::new(Fault::SuccessFalse).to(&to).times(1));
    post(&world, &bill(9)).await;
    world
        .until("it is dead", async |world| dead(world).await == 1)
        .await;
    let ids = letters(&world, "dead").await;
    let asked = json!({"ids": ids, "dry_run": true});
    let dry = world.order("/admin/dead-letters/redrive", &asked).await;
    assert_eq!(
        dry.body["outcomes"],
        json!({"redriven": 0, "needs_force": 1})
    );
    let refused = world
        .order("/admin/dead-letters/redrive", &json!({"ids": ids}))
        .await;
    assert_eq!(refused.body["refused"][0]["outcome"], "needs_force");
    assert_eq!(dead(&world).await, 1);
    let forced = json!({"ids": ids, "force": true, "actor": "maria"});
    let done = world.order("/admin/dead-letters/redrive", &forced).await;
    assert_eq!(done.body["outcomes"], json!({"redriven": 1}));
    until_all(&world, "read").await;
    assert_eq!(messages_to(&world, 9), [false, false, true]);
    assert_eq!(
        world
            .texts("select detail ->> 'force' from audit_log where action = 'redriven'")
            .await,
        ["true"]
    );
    world.end(Leaves::Unsettled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_turned_out_to_have_arrived_is_superseded_and_not_sent_again() {
    let world = world().await;
    // The answer says no, the message left all the same, and its evidence comes late.
    let rule = FaultRule {
        went_out: Some(true),
        ..FaultRule::new(Fault::SuccessFalse)
    };
    world.sim.set_fault(rule);
    let late = FaultRule::new(Fault::LateWebhooks).delayed(1_500);
    world.sim.set_fault(late);
    let (_, trace) = post(&world, &bill(3)).await;
    world
        .until("it is dead", async |world| dead(world).await == 1)
        .await;
    let ids = letters(&world, "dead").await;
    until_all(&world, "read").await;
    assert_eq!(letters(&world, "superseded").await, ids);
    let order = json!({"ids": ids, "force": true});
    let late = world.order("/admin/dead-letters/redrive", &order).await;
    assert_eq!(
        late.body["outcomes"],
        json!({"redriven": 0, "superseded": 1})
    );
    assert_eq!(messages_to(&world, 3), [true]);
    assert!(audit(&world).await.is_empty(), "nobody did anything");
    let story = world.story(&trace).await;
    let steps = story["timeline"].to_string();
    assert!(steps.contains("dead_letter_superseded"), "{steps}");
    until_depth(&world, Queue::Dead(WHATSAPP), 0).await;
    world.end(Leaves::Unsettled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_that_comes_between_redrive_and_send_keeps_the_message_back() {
    let mut world = world().await;
    let rule = FaultRule {
        went_out: Some(true),
        ..FaultRule::new(Fault::SuccessFalse)
    };
    world.sim.set_fault(rule);
    let late = FaultRule::new(Fault::LateWebhooks).delayed(2_500);
    world.sim.set_fault(late);
    post(&world, &bill(4)).await;
    world
        .until("it is dead", async |world| dead(world).await == 1)
        .await;
    world.sim.clear_faults();
    world.stop_delivery().await;
    let order = json!({"ids": letters(&world, "dead").await, "force": true});
    let done = world.order("/admin/dead-letters/redrive", &order).await;
    assert_eq!(done.body["outcomes"], json!({"redriven": 1}));
    // The message waits in the queue, as does the proof that the first one arrived.
    world
        .until("the evidence is here", async |world| {
            world
                .count("select count(*) from receipts where kind = 'echo'")
                .await
                == 1
                && world.count("select count(*) from outbox").await == 0
        })
        .await;
    world
        .run_sql("update deliveries set state = 'delivered', delivered_at = now(), sent_at = now()")
        .await;
    world.start_delivery().await.unwrap();
    until_depth(&world, Queue::Work(WHATSAPP), 0).await;
    assert_eq!(messages_to(&world, 4), [true], "the copy claims nothing");
    world.end(Leaves::Unsettled).await;
}
