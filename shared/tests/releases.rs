//! Releasing what accounts hold, against a real PostgreSQL: who may, what, and in which order; and
//! the order of the replies of one thread.

use std::time::Duration;

use shared::domain::delivery::DeliveryState;
use shared::sealing::Keyring;
use shared::store::attempts::{self, ClaimRequest, Room};
use shared::store::deliveries::{self, StateChange};
use shared::store::releases::{self, Reign};
use sqlx::pool::PoolConnection;
use sqlx::postgres::Postgres;
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

const LEASE: Duration = Duration::from_secs(10);
const FIRST: &str = "delivery-worker@first";
const SECOND: &str = "delivery-worker@second";

async fn connection(pool: &PgPool) -> PoolConnection<Postgres> {
    pool.acquire().await.expect("a connection")
}

async fn sql(pool: &PgPool, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
        .execute(pool)
        .await
        .expect("a statement of the test");
}

/// Accounts `a` and `b`, both up, and a routing for deliveries to belong to.
async fn accounts(pool: &PgPool) {
    sql(
        pool,
        "insert into channels (id, provider_account, display_name, session_state)
             values ('a', 'A', 'A', 'up'), ('b', 'B', 'B', 'up');
         insert into routings (id, event_id, trace_id, event_type, source_system, state, decision, processing_time_ms)
             values (gen_random_uuid(), gen_random_uuid(), repeat('a', 32), 'a.b', 'billing', 'routed', '{}', 0)",
    )
    .await;
}

/// The delivery of that number.
fn id(number: u32) -> Uuid {
    Uuid::from_u128(u128::from(number))
}

/// Deliveries of these numbers, in a lane and a state, each to a recipient of its own.
async fn deliveries(
    pool: &PgPool,
    numbers: std::ops::RangeInclusive<u32>,
    (account, lane, state): (&str, &str, &str),
) {
    let (from, to) = (numbers.start(), numbers.end());
    let reason = if state == "held" {
        "'session_down'"
    } else {
        "null"
    };
    sql(
        pool,
        &format!(
            "insert into deliveries (id, routing_id, ordinal, event_id, event_type, source_system, trace_id, channel,
                                     channel_id, lane, recipient, recipient_key, body_text, state, held_reason)
             select lpad(to_hex(n), 32, '0')::uuid, r.id, n, r.event_id, r.event_type, r.source_system, r.trace_id,
                    'whatsapp', '{account}', '{lane}', n::text, 'tel:' || n, 'oi', '{state}', {reason}
             from generate_series({from}, {to}) n, routings r"
        ),
    )
    .await;
}

/// Makes these deliveries one thread.
async fn one_thread(pool: &PgPool, numbers: std::ops::RangeInclusive<u32>) {
    let (from, to) = (numbers.start(), numbers.end());
    sql(
        pool,
        &format!(
            "update deliveries set recipient_key = 'tel:1' where ordinal between {from} and {to}"
        ),
    )
    .await;
}

async fn take(pool: &PgPool, holder: &str, account: &str) -> Option<Reign> {
    let mut conn = connection(pool).await;
    releases::take_leases(&mut conn, holder, &[account.to_owned()], LEASE)
        .await
        .expect("an answer")
        .pop()
}

/// Releases a page of an account and answers the numbers of what was released, in their order.
async fn release(pool: &PgPool, holder: &str, reigns: &[Reign], at_once: i64) -> Vec<u128> {
    let mut conn = connection(pool).await;
    let due = releases::release_page(&mut conn, holder, reigns, at_once)
        .await
        .expect("a page");
    due.iter().map(|delivery| delivery.id.as_u128()).collect()
}

async fn claim(pool: &PgPool, number: u32, room: Room) -> usize {
    let request = ClaimRequest {
        attempt_id: Uuid::new_v4(),
        delivery_id: id(number),
        generation: 0,
        attempt: 1,
        room,
    };
    let mut conn = connection(pool).await;
    attempts::claim(&mut conn, &[&request], ("test", 45.0), &Keyring::off())
        .await
        .expect("a claim")
        .len()
}

/// Concludes a claimed delivery; answers the numbers of the replies that follow.
async fn conclude(pool: &PgPool, number: u32, to: DeliveryState) -> Vec<u128> {
    let mut conn = connection(pool).await;
    let change = StateChange::plain(id(number), DeliveryState::Claimed, to);
    deliveries::change_states(&mut conn, &[change])
        .await
        .expect("a change");
    let next = releases::release_next_replies(&mut conn, &[id(number)])
        .await
        .expect("an answer");
    next.iter().map(|delivery| delivery.id.as_u128()).collect()
}

/// State and reason of a delivery.
async fn stands(pool: &PgPool, number: u32) -> String {
    sqlx::query_scalar(
        "select concat_ws(' ', state, held_reason) from deliveries where ordinal = $1",
    )
    .bind(i32::try_from(number).expect("a small number"))
    .fetch_one(pool)
    .await
    .expect("a delivery")
}

async fn lapse(pool: &PgPool) {
    sql(pool, "update release_leases set lease_until = now()").await;
}

#[sqlx::test(migrations = "../migrations")]
async fn of_many_who_want_to_lead_one_does_until_its_lease_ends(pool: PgPool) {
    accounts(&pool).await;
    let holders: Vec<String> = (0..8).map(|n| format!("worker {n}")).collect();
    let taken = futures_util::future::join_all(holders.iter().map(|it| take(&pool, it, "a"))).await;
    assert_eq!(taken.iter().flatten().count(), 1);
    let leader = taken.iter().position(Option::is_some).expect("a leader");
    let first = take(&pool, &holders[leader], "a").await.expect("its own");
    assert_eq!(first.fence, 1, "a reign that goes on keeps its number");
    assert_eq!(take(&pool, SECOND, "a").await, None);
    assert!(take(&pool, SECOND, "b").await.is_some(), "accounts apart");

    lapse(&pool).await;
    assert_eq!(take(&pool, SECOND, "a").await.map(|it| it.fence), Some(2));
    assert_eq!(take(&pool, &holders[leader], "a").await, None);
    lapse(&pool).await;
    let again = take(&pool, SECOND, "a").await.expect("its own");
    assert_eq!(again.fence, 3, "a reign that was interrupted is a new one");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_deposed_leader_releases_nothing(pool: PgPool) {
    accounts(&pool).await;
    deliveries(&pool, 1..=3, ("a", "notice", "held")).await;
    let old = take(&pool, FIRST, "a").await.expect("a reign");
    lapse(&pool).await;
    assert!(
        release(&pool, FIRST, std::slice::from_ref(&old), 10)
            .await
            .is_empty(),
        "its lease is over, whoever leads"
    );
    let new = take(&pool, SECOND, "a").await.expect("a reign");
    for (holder, fence) in [(FIRST, old.fence), (FIRST, new.fence), (SECOND, old.fence)] {
        let reign = Reign {
            fence,
            ..new.clone()
        };
        assert!(
            release(&pool, holder, &[reign], 10).await.is_empty(),
            "{holder} {fence}"
        );
    }
    assert_eq!(stands(&pool, 1).await, "held session_down");
    assert_eq!(release(&pool, SECOND, &[new], 10).await, [1, 2, 3]);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_release_that_was_overtaken_while_it_waited_releases_nothing(pool: PgPool) {
    accounts(&pool).await;
    deliveries(&pool, 1..=3, ("a", "notice", "held")).await;
    let old = take(&pool, FIRST, "a").await.expect("a reign");
    // Another takes over; its transaction is not committed when the old leader's statement comes.
    let mut taking = pool.begin().await.expect("a transaction");
    sqlx::raw_sql("update release_leases set holder = 'delivery-worker@second', fence = fence + 1")
        .execute(&mut *taking)
        .await
        .expect("a change");
    let reigns = [old];
    let mut releasing = std::pin::pin!(release(&pool, FIRST, &reigns, 10));
    tokio::select! {
        _ = &mut releasing => panic!("it has to wait for the lease"),
        () = waits_for_a_lock(&pool) => {}
    }
    taking.commit().await.expect("a commit");
    assert!(releasing.await.is_empty());
    assert_eq!(stands(&pool, 1).await, "held session_down");
}

/// Until some statement of this database waits for a lock.
async fn waits_for_a_lock(pool: &PgPool) {
    loop {
        let waiting: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
        )
        .fetch_one(pool)
        .await
        .expect("a look");
        if waiting > 0 {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn replies_are_released_before_notices_before_bulk_and_never_too_many(pool: PgPool) {
    accounts(&pool).await;
    deliveries(&pool, 1..=4, ("a", "bulk", "held")).await;
    deliveries(&pool, 5..=8, ("a", "notice", "held")).await;
    deliveries(&pool, 9..=10, ("a", "reply", "held")).await;
    let reigns = [take(&pool, FIRST, "a").await.expect("a reign")];
    assert_eq!(
        release(&pool, FIRST, &reigns, 7).await,
        [9, 10, 5, 6, 7, 8, 1]
    );
    assert!(
        release(&pool, FIRST, &reigns, 7).await.is_empty(),
        "as many are out"
    );
    // One that is claimed is out no more.
    assert_eq!(claim(&pool, 9, Room::Yes).await, 1);
    assert_eq!(release(&pool, FIRST, &reigns, 7).await, [2]);
}

#[sqlx::test(migrations = "../migrations")]
async fn what_comes_back_for_want_of_room_rests_and_then_is_the_first_again(pool: PgPool) {
    accounts(&pool).await;
    deliveries(&pool, 1..=4, ("a", "notice", "held")).await;
    let reigns = [take(&pool, FIRST, "a").await.expect("a reign")];
    assert_eq!(release(&pool, FIRST, &reigns, 2).await, [1, 2]);
    assert_eq!(claim(&pool, 1, Room::No).await, 0);
    assert_eq!(stands(&pool, 1).await, "held account_busy");
    assert!(release(&pool, FIRST, &reigns, 2).await.is_empty());
    sql(
        &pool,
        "update deliveries set updated_at = now() - interval '2 s' where ordinal = 1",
    )
    .await;
    assert_eq!(release(&pool, FIRST, &reigns, 2).await, [1]);
}

#[sqlx::test(migrations = "../migrations")]
async fn an_account_of_unknown_state_gets_one_trial_and_one_that_is_down_nothing(pool: PgPool) {
    accounts(&pool).await;
    deliveries(&pool, 1..=4, ("a", "notice", "held")).await;
    let reigns = [take(&pool, FIRST, "a").await.expect("a reign")];
    for barred in [
        "session_state = 'down'",
        "session_state = 'up', enabled = false",
    ] {
        sql(&pool, &format!("update channels set {barred}")).await;
        assert!(
            release(&pool, FIRST, &reigns, 10).await.is_empty(),
            "{barred}"
        );
    }
    sql(
        &pool,
        "update channels set session_state = 'unknown', enabled = true",
    )
    .await;
    assert_eq!(release(&pool, FIRST, &reigns, 10).await, [1]);
    assert!(
        release(&pool, FIRST, &reigns, 10).await.is_empty(),
        "the trial is out"
    );
    assert_eq!(claim(&pool, 1, Room::Yes).await, 1);
    assert!(
        release(&pool, FIRST, &reigns, 10).await.is_empty(),
        "it is being sent"
    );
    sql(&pool, "update delivery_attempts set outcome = 'held'").await;
    assert_eq!(
        release(&pool, FIRST, &reigns, 10).await,
        [2],
        "it said nothing: another"
    );
    sql(&pool, "update channels set session_state = 'up'").await;
    assert_eq!(
        release(&pool, FIRST, &reigns, 10).await,
        [3, 4],
        "it worked: all"
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn only_accounts_that_can_send_and_hold_something_are_looked_at(pool: PgPool) {
    accounts(&pool).await;
    deliveries(&pool, 1..=2, ("a", "notice", "held")).await;
    let look = async |holder: &str| {
        let mut conn = connection(&pool).await;
        let found = releases::holding_accounts(&mut conn, holder)
            .await
            .expect("a look");
        let of = |it: &releases::HoldingAccount| {
            (
                it.channel_id.clone(),
                it.own_lease_s.is_some(),
                it.free,
                it.fence,
            )
        };
        found.iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(look(FIRST).await, [("a".to_owned(), false, true, 0)]);
    take(&pool, FIRST, "a").await.expect("a reign");
    assert_eq!(look(FIRST).await, [("a".to_owned(), true, false, 1)]);
    assert_eq!(look(SECOND).await, [("a".to_owned(), false, false, 1)]);
    let mut conn = connection(&pool).await;
    releases::resign(&mut conn, FIRST).await.expect("a change");
    assert_eq!(look(SECOND).await, [("a".to_owned(), false, true, 1)]);
    sql(&pool, "update channels set session_state = 'down'").await;
    assert!(look(FIRST).await.is_empty());
    sql(
        &pool,
        "update channels set session_state = 'up'; update deliveries set state = 'queued'",
    )
    .await;
    assert!(look(FIRST).await.is_empty());
}

#[sqlx::test(migrations = "../migrations")]
async fn a_reply_waits_for_the_older_ones_of_its_thread_and_follows_each_at_once(pool: PgPool) {
    accounts(&pool).await;
    deliveries(&pool, 1..=4, ("a", "reply", "queued")).await;
    one_thread(&pool, 1..=3).await;
    for number in [3, 2] {
        assert_eq!(claim(&pool, number, Room::Yes).await, 0);
        assert_eq!(stands(&pool, number).await, "held reply_order");
    }
    assert_eq!(
        claim(&pool, 4, Room::Yes).await,
        1,
        "another thread waits for nobody"
    );
    assert_eq!(claim(&pool, 1, Room::Yes).await, 1);
    assert_eq!(conclude(&pool, 1, DeliveryState::Sent).await, [2]);
    assert_eq!(stands(&pool, 3).await, "held reply_order");
    assert_eq!(claim(&pool, 3, Room::Yes).await, 0);
    assert_eq!(claim(&pool, 2, Room::Yes).await, 1);
    assert_eq!(
        conclude(&pool, 2, DeliveryState::Queued).await,
        [0; 0],
        "it is to be retried"
    );
    sql(
        &pool,
        "update deliveries set state = 'claimed' where ordinal = 2",
    )
    .await;
    for blocking in [DeliveryState::Held, DeliveryState::Queued] {
        assert_eq!(conclude(&pool, 2, blocking).await, [0; 0], "{blocking}");
        sql(
            &pool,
            "update deliveries set state = 'claimed', held_reason = null where ordinal = 2",
        )
        .await;
    }
    assert_eq!(conclude(&pool, 2, DeliveryState::Dead).await, [3]);
    assert_eq!(claim(&pool, 3, Room::Yes).await, 1);
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_gone_given_up_or_unknown_blocks_no_reply(pool: PgPool) {
    accounts(&pool).await;
    let gone: Vec<_> = DeliveryState::ALL
        .iter()
        .filter(|state| !state.waits_or_is_claimed())
        .collect();
    for (number, state) in (1..).zip(&gone) {
        deliveries(&pool, number..=number, ("a", "reply", state.as_str())).await;
    }
    let last = u32::try_from(gone.len()).expect("few states") + 1;
    deliveries(&pool, last..=last, ("a", "reply", "queued")).await;
    one_thread(&pool, 1..=last).await;
    assert_eq!(claim(&pool, last, Room::Yes).await, 1);
}

#[sqlx::test(migrations = "../migrations")]
async fn the_other_lanes_wait_for_nobody(pool: PgPool) {
    accounts(&pool).await;
    deliveries(&pool, 1..=1, ("a", "reply", "queued")).await;
    deliveries(&pool, 2..=2, ("a", "notice", "queued")).await;
    deliveries(&pool, 3..=3, ("a", "bulk", "queued")).await;
    one_thread(&pool, 1..=3).await;
    for number in [3, 2, 1] {
        assert_eq!(claim(&pool, number, Room::Yes).await, 1);
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_reply_whose_release_was_missed_is_found_by_the_leader_alone(pool: PgPool) {
    accounts(&pool).await;
    deliveries(&pool, 1..=3, ("a", "reply", "queued")).await;
    one_thread(&pool, 1..=3).await;
    for number in [2, 3] {
        assert_eq!(claim(&pool, number, Room::Yes).await, 0);
    }
    let reigns = [take(&pool, FIRST, "a").await.expect("a reign")];
    let missed = async |holder: &str| {
        let mut conn = connection(&pool).await;
        let due = releases::release_missed_replies(&mut conn, holder, &reigns)
            .await
            .expect("a look");
        due.iter().map(|it| it.id.as_u128()).collect::<Vec<_>>()
    };
    assert!(
        missed(FIRST).await.is_empty(),
        "the first is still to leave"
    );
    assert!(
        release(&pool, FIRST, &reigns, 10).await.is_empty(),
        "a page leaves them alone"
    );
    sql(
        &pool,
        "update deliveries set state = 'sent' where ordinal = 1",
    )
    .await;
    assert!(missed(SECOND).await.is_empty());
    assert_eq!(missed(FIRST).await, [2]);
}
