//! A ciphertext placeholder and its text are one message; and the whole set of the gateway's samples
//! ends in the same state however often, and in whatever order, it is posted.

use std::sync::LazyLock;

use posto_tests::world::{Leaves, World};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use serde_json::Value;

macro_rules! samples {
    ($($path:literal),+ $(,)?) => {
        /// Every sample of the gateway.
        const SAMPLES: &[&str] = &[
            $(include_str!(concat!("../../../shared/src/source/fixtures/", $path, ".json"))),+
        ];
    };
}

samples! {
    "wpp_gateway/01_wpp_text_known_tenant_no_ninth_digit",
    "wpp_gateway/03_wpp_text_lid_sender_mapped",
    "wpp_gateway/04_wpp_text_lid_sender_unmapped",
    "wpp_gateway/05_wpp_group_text_lid_author",
    "wpp_gateway/08_wpp_image_thumbnail_in_text_with_caption",
    "wpp_gateway/10_wpp_fromme_typed_on_phone",
    "wpp_gateway/11_wpp_message_sent_echo_of_api_send",
    "wpp_gateway/12_wpp_ciphertext_placeholder_first",
    "wpp_gateway/13_wpp_ciphertext_resolved_chat_same_id",
    "wpp_gateway/15_wpp_ack_2_delivered",
    "wpp_gateway/17_wpp_ack_1_late_must_not_regress",
    "wpp_gateway/19_wpp_connection_update_is_contact_presence",
    "wpp_gateway/20_wpp_connection_update_session_dropped",
    "wpp_gateway/22_wpp_text_phone_matches_two_tenants",
    "wpp_gateway/25_wpp_e2e_notification_no_conversation",
    "wpp_gateway/27_wpp_minimal_shape_channel_key",
    "wpp_gateway/connection-update-presence-trap",
    "wpp_gateway/connection-update-session-down",
    "wpp_gateway/message-ack",
    "wpp_gateway/message-audio-base64-in-text",
    "wpp_gateway/message-group",
    "wpp_gateway/message-text-lid",
    "wppconnect/closesession",
    "wppconnect/incomingcall",
    "wppconnect/logoutsession",
    "wppconnect/onack-delivered",
    "wppconnect/onack-of-received-message",
    "wppconnect/onmessage-chat",
    "wppconnect/onmessage-chat-chatid-object",
    "wppconnect/onmessage-image-autodownload",
    "wppconnect/onpresencechanged",
    "wppconnect/onreactionmessage",
    "wppconnect/onrevokedmessage",
    "wppconnect/phonecode",
    "wppconnect/qrcode",
    "wppconnect/status-find-disconnected",
    "wppconnect/status-find-inchat",
    "wppconnect/status-find-without-session",
}

/// How many orders are tried, unless `PROPTEST_CASES` says otherwise. Each begins and ends a whole Posto.
const ORDERS: u32 = 4;
/// The most samples of an order that are posted once more.
const REPEATED: usize = 40;

/// The places of the placeholder and of its text among the samples.
const PLACEHOLDER: usize = 7;
const TEXT: usize = 8;

async fn post(world: &World, body: &str) {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let answer = world.post_webhook(&body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

/// The key of an event. What changes of a session without telling when is an event each time it is
/// posted: two real drops must not pass for one. Its key ends with the time of its reception.
const KEY: &str = "case when e.occurred_at = e.received_at then regexp_replace(e.idempotency_key, '[0-9]+$', '') else e.idempotency_key end";

async fn until_quiet(world: &World) {
    world
        .until("everything is decided, delivered and bound", async |world| {
            world
                .count(
                    "select (select count(*) from communication_events e
                             where not exists (select 1 from routings r where r.event_id = e.id))
                          + (select count(*) from deliveries where state in ('queued', 'claimed', 'held'))
                          + (select count(*) from receipts where state = 'pending')
                          + (select count(*) from outbox)",
                )
                .await
                == 0
        })
        .await;
}

/// All that the samples lead to, but for ids, traces and the times of our own clock.
async fn state(world: &World) -> Vec<String> {
    let mut state = Vec::new();
    for query in [
        "select distinct concat_ws('|', 'event', event_type, {key}, channel_id, contact_key, provider_message_id, direction)
         from communication_events e order by 1",
        "select distinct concat_ws('|', 'routing', {key}, r.state, r.tenant_id, r.failure_code)
         from routings r join communication_events e on e.id = r.event_id order by 1",
        "select concat_ws('|', 'thread', kind, channel_id, contact_key, customer_id, status, unread_count, message_count,
                case when last_message_at < now() - interval '1 day' then last_message_at at time zone 'utc' end,
                automation_paused_at is not null)
         from chat_threads order by 1",
        "select concat_ws('|', 'message', t.channel_id, t.contact_key, m.role, m.origin, m.message_id, m.content,
                m.metadata ->> 'content',
                case when m.occurred_at < now() - interval '1 day' then m.occurred_at at time zone 'utc' end)
         from chat_messages m join chat_threads t on t.id = m.thread_id order by 1",
        "select concat_ws('|', 'receipt', x.kind, x.level, x.channel_id, x.provider_message_id, x.state, x.delivery_id is null)
         from receipts x order by 1",
        "select concat_ws('|', 'session', id, session_state, session_event_at at time zone 'utc') from channels order by 1",
    ] {
        state.extend(world.texts(&query.replace("{key}", KEY)).await);
    }
    state
}

/// What a Posto knows after the samples of these places, posted in this order.
fn end_of(order: &[usize]) -> Vec<String> {
    let runtime = tokio::runtime::Runtime::new().expect("because this machine has threads");
    runtime.block_on(async {
        let world = World::start().await;
        for place in order {
            post(&world, SAMPLES[*place]).await;
        }
        until_quiet(&world).await;
        let state = state(&world).await;
        assert_eq!(
            world.sim.messages().len(),
            0,
            "nothing is sent by listening"
        );
        world.end(Leaves::Unsettled).await;
        state
    })
}

/// The state after one pass in the order of the list.
static ORDERED: LazyLock<Vec<String>> = LazyLock::new(|| {
    let all: Vec<usize> = (0..SAMPLES.len()).collect();
    let state = end_of(&all);
    assert!(state.len() > 60, "{state:#?}");
    state
});

/// Every sample once, some of them more often, in any order. Shrinks to fewer repetitions and to fewer
/// places that differ from the list's.
fn orders() -> impl Strategy<Value = Vec<usize>> {
    let repeated = proptest::collection::vec(0..SAMPLES.len(), 0..=REPEATED);
    repeated.prop_flat_map(|more| {
        Just((0..SAMPLES.len()).chain(more).collect::<Vec<_>>()).prop_shuffle()
    })
}

fn property() -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok();
    ProptestConfig {
        cases: asked.and_then(|cases| cases.parse().ok()).unwrap_or(ORDERS),
        max_shrink_iters: 40,
        // What failed once is tried first ever after.
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(
            "tests/it_doors/upgrades.seeds",
        ))),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(property())]

    #[test]
    fn the_samples_of_the_gateway_end_in_one_state_in_any_order_and_however_often(order in orders()) {
        let ended = end_of(&order);
        let lost: Vec<_> = ORDERED.iter().filter(|row| !ended.contains(row)).collect();
        let new: Vec<_> = ended.iter().filter(|row| !ORDERED.contains(row)).collect();
        prop_assert!(
            lost.is_empty() && new.is_empty(),
            "lost {:#?}, new {:#?}", lost, new
        );
        prop_assert_eq!(ended.len(), ORDERED.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_placeholder_and_its_text_are_one_message_in_any_order() {
    let mut ends = Vec::new();
    for order in [[PLACEHOLDER, TEXT], [TEXT, PLACEHOLDER]] {
        let world = World::start().await;
        for place in order {
            post(&world, SAMPLES[place]).await;
            until_quiet(&world).await;
            if order[0] == PLACEHOLDER && place == PLACEHOLDER {
                let shown = world
                    .texts("select concat_ws('|', m.content, m.metadata ->> 'content', t.unread_count, t.message_count) from chat_messages m join chat_threads t on t.id = m.thread_id")
                    .await;
                assert_eq!(shown, ["|undecrypted|0|1"], "shown, and nothing to be read");
            }
        }
        let rows = world
            .texts("select concat_ws('|', m.content <> '', m.metadata ->> 'content', t.unread_count, t.message_count) from chat_messages m join chat_threads t on t.id = m.thread_id")
            .await;
        assert_eq!(rows, ["t|text|1|1"]);
        if order[0] == PLACEHOLDER {
            let revises = world
                .count("select count(*) from chat_messages m join communication_events e on e.id = (m.metadata ->> 'revises')::uuid where e.idempotency_key like '%:ciphertext'")
                .await;
            assert_eq!(revises, 1, "the message leads back to its first event");
        }
        ends.push(world.texts("select content from chat_messages").await);
        world.end(Leaves::Nothing).await;
    }
    assert_eq!(ends[0], ends[1]);
}
