//! The store against a real PostgreSQL, a database for each test: what must hold when two do the
//! same thing, and when one does it twice.

use serde_json::json;
use shared::domain::delivery::DeliveryState;
use shared::domain::redrive::{LetterState, Refusal, Way};
use shared::runtime::clock::{Clock as _, SystemClock};
use shared::sealing::Keyring;
use shared::store::attempts::{self, AttemptResult, ClaimRequest, Room};
use shared::store::audit::Author;
use shared::store::dead_letters::{self, NewLetter, Settled};
use shared::store::deliveries::{self, NewDelivery, StateChange};
use shared::store::events::{self, NewEvent};
use shared::store::outbox::{self, NewMessage};
use shared::store::plans::{self, NewPlans, NewRouting};
use shared::store::reconcile;
use shared::store::redrive::{self, Order};
use sqlx::PgPool;
use sqlx::pool::PoolConnection;
use sqlx::postgres::Postgres;
use uuid::Uuid;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

async fn connection(pool: &PgPool) -> PoolConnection<Postgres> {
    pool.acquire().await.expect("a connection")
}

/// A delivery that waits for its first attempt.
async fn queued(pool: &PgPool, channel: &str, channel_id: Option<&str>) -> Uuid {
    let (routing, delivery) = (Uuid::new_v4(), Uuid::new_v4());
    let mut conn = connection(pool).await;
    let decision = NewRouting {
        id: routing,
        event_id: Uuid::new_v4(),
        run: 0,
        generation: 0,
        trace_id: TRACE.to_owned(),
        tenant_id: None,
        event_type: "billing.invoice.overdue".to_owned(),
        source_system: "billing".to_owned(),
        state: "routed",
        decision: plans::no_decision(),
        failure_code: None,
        error_message: None,
        processing_time_ms: 0.0,
    };
    let new = NewDelivery {
        id: delivery,
        routing_id: routing,
        ordinal: 0,
        event_id: decision.event_id,
        event_type: decision.event_type.clone(),
        source_system: decision.source_system.clone(),
        trace_id: TRACE.to_owned(),
        correlation_id: None,
        tenant_id: None,
        channel: channel.to_owned(),
        channel_id: channel_id.map(str::to_owned),
        lane: "notice".to_owned(),
        rule_id: None,
        template_id: None,
        template_key: None,
        recipient: Some("5547999900011".to_owned()),
        recipient_key: Some("tel:554799900011".to_owned()),
        recipient_name: None,
        body_text: Some("oi".to_owned()),
        body_hash: None,
        invoice_key: None,
        detail: json!({}),
        unknown_policy: "park".to_owned(),
        state: DeliveryState::Queued,
        failure_code: None,
        failure_detail: None,
        max_retries: 3,
    };
    let plans = NewPlans {
        routings: vec![&decision],
        deliveries: vec![&new],
        ..NewPlans::default()
    };
    plans::insert(&mut conn, plans, &Keyring::off())
        .await
        .expect("a delivery");
    delivery
}

fn request(delivery_id: Uuid, generation: i32, attempt: i32) -> ClaimRequest {
    ClaimRequest {
        attempt_id: Uuid::new_v4(),
        delivery_id,
        generation,
        attempt,
        room: Room::Yes,
    }
}

async fn claim(pool: &PgPool, request: &ClaimRequest) -> usize {
    let mut conn = connection(pool).await;
    attempts::claim(&mut conn, &[request], ("test", 45.0), &Keyring::off())
        .await
        .expect("a claim")
        .len()
}

async fn state(pool: &PgPool, id: Uuid) -> String {
    let mut conn = connection(pool).await;
    deliveries::lock(&mut conn, &[id])
        .await
        .expect("a look")
        .remove(0)
        .state
}

fn result(attempt_id: Uuid, delivery_id: Uuid, outcome: &'static str) -> AttemptResult {
    AttemptResult {
        attempt_id,
        delivery_id,
        outcome,
        conclusion: DeliveryState::Sent,
        failure_code: None,
        http_status: Some(200),
        response_excerpt: None,
        gateway_correlation_id: Some("corr-1".to_owned()),
        provider_message_id: None,
        duration_ms: 1.0,
        retry_after_s: None,
        held_reason: None,
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn of_many_claimers_of_one_delivery_one_opens_an_attempt(pool: PgPool) {
    let delivery = queued(&pool, "whatsapp", None).await;
    let requests: Vec<_> = (0..8).map(|_| request(delivery, 0, 1)).collect();
    let claims =
        futures_util::future::join_all(requests.iter().map(|request| claim(&pool, request))).await;
    assert_eq!(claims.iter().sum::<usize>(), 1);
    assert_eq!(state(&pool, delivery).await, "claimed");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_claim_whose_answer_was_lost_finds_its_own_attempt_again(pool: PgPool) {
    let delivery = queued(&pool, "whatsapp", None).await;
    let request = request(delivery, 0, 1);
    assert_eq!(claim(&pool, &request).await, 1);
    assert_eq!(
        claim(&pool, &request).await,
        1,
        "the repeat is answered as the first was"
    );
    assert_eq!(
        claim(&pool, &self::request(delivery, 0, 2)).await,
        0,
        "and nobody else gets in"
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn a_copy_of_another_generation_or_attempt_claims_nothing(pool: PgPool) {
    let delivery = queued(&pool, "whatsapp", None).await;
    for (generation, attempt) in [(1, 1), (0, 0), (0, 2), (-1, 1)] {
        assert_eq!(
            claim(&pool, &request(delivery, generation, attempt)).await,
            0
        );
    }
    assert_eq!(state(&pool, delivery).await, "queued");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_session_that_is_down_holds_whatsapp_and_not_the_chat(pool: PgPool) {
    sqlx::raw_sql(
        "insert into channels (id, provider_account, display_name, session_state)
         values ('number', 'Number', 'Number', 'down')",
    )
    .execute(&pool)
    .await
    .expect("a channel");
    let whatsapp = queued(&pool, "whatsapp", Some("number")).await;
    let chat = queued(&pool, "chat", Some("number")).await;
    assert_eq!(claim(&pool, &request(whatsapp, 0, 1)).await, 0);
    assert_eq!(claim(&pool, &request(chat, 0, 1)).await, 1);
    assert_eq!(state(&pool, whatsapp).await, "held");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_result_closes_its_attempt_once_and_a_late_one_closes_what_was_presumed_unknown(
    pool: PgPool,
) {
    let delivery = queued(&pool, "whatsapp", None).await;
    let request = request(delivery, 0, 1);
    claim(&pool, &request).await;
    let mut conn = connection(&pool).await;
    let mut close = async |outcome| {
        let result = result(request.attempt_id, delivery, outcome);
        attempts::close_attempts(&mut conn, &[&result])
            .await
            .expect("a result")
            .len()
    };
    assert_eq!(close("unknown").await, 1, "the reaper's verdict");
    assert_eq!(close("sent").await, 1, "a late result wins over it");
    assert_eq!(close("retry").await, 0, "and then it is closed");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_state_that_moved_meanwhile_is_not_overwritten(pool: PgPool) {
    let delivery = queued(&pool, "whatsapp", None).await;
    let mut conn = connection(&pool).await;
    let late = StateChange::plain(delivery, DeliveryState::Claimed, DeliveryState::Sent);
    deliveries::change_states(&mut conn, &[late])
        .await
        .expect("a change");
    assert_eq!(state(&pool, delivery).await, "queued");
}

fn event(key: &str) -> NewEvent {
    let id = shared::domain::ids::EventId::generate().0;
    NewEvent {
        id,
        source_system: "billing".to_owned(),
        scope: 0,
        key: key.to_owned(),
        key_ttl_s: 60.0,
        body_sha256: [7; 32],
        event_type: "a.b".to_owned(),
        tenant_id: None,
        source_event_id: None,
        trace_id: TRACE.to_owned(),
        correlation_id: None,
        causation_id: None,
        occurred_at: SystemClock.now(),
        received_at: SystemClock.now(),
        metadata: json!({}),
        body: b"{}".to_vec(),
        payload: Some(json!({})),
        provider_message_id: None,
        channel_id: None,
        direction: None,
        contact_key: None,
        invoice_key: None,
        message: shared::store::outbox::MessageJson::default(),
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn of_concurrent_posts_of_one_key_one_is_stored_and_the_others_find_it(pool: PgPool) {
    let posts: Vec<NewEvent> = (0..8).map(|_| event("one")).collect();
    let won = futures_util::future::join_all(posts.iter().map(async |post| {
        let mut conn = connection(&pool).await;
        let won = events::insert_new(&mut conn, &[post], &Keyring::off())
            .await
            .expect("an answer");
        let key = ("billing".to_owned(), 0, "one".to_owned());
        let holder = events::key_holders(&mut conn, &[key])
            .await
            .expect("a holder")
            .remove(0);
        (won.len(), holder.event_id)
    }))
    .await;
    assert_eq!(won.iter().map(|(won, _)| won).sum::<usize>(), 1);
    assert!(
        won.iter().all(|(_, holder)| *holder == won[0].1),
        "all are told the same event"
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn two_sweepers_never_lease_one_row(pool: PgPool) {
    let mut conn = connection(&pool).await;
    let messages = (0..50)
        .map(|_| NewMessage {
            target: "hub.events.route".to_owned(),
            subject_id: Uuid::new_v4(),
            body: shared::store::outbox::MessageJson::default(),
            headers: None,
        })
        .collect();
    outbox::insert(&mut conn, messages).await.expect("rows");
    let lease = std::time::Duration::from_secs(20);
    assert_eq!(
        outbox::lease_due(&mut conn, 100, lease)
            .await
            .expect("a page")
            .len(),
        0,
        "the hot path has them"
    );
    sqlx::raw_sql("update outbox set available_at = now() - interval '1 s'")
        .execute(&pool)
        .await
        .expect("a change");
    let pages = futures_util::future::join_all((0..4).map(async |_| {
        let mut conn = connection(&pool).await;
        outbox::lease_due(&mut conn, 30, lease)
            .await
            .expect("a page")
    }))
    .await;
    let mut ids: Vec<i64> = pages.into_iter().flatten().map(|row| row.id).collect();
    let leased = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((leased, ids.len()), (50, 50));
}

#[sqlx::test(migrations = "../migrations")]
async fn an_event_without_routing_and_message_is_found_and_the_mark_stays_before_the_outbox(
    pool: PgPool,
) {
    let mut conn = connection(&pool).await;
    let lost = event("lost");
    events::insert_new(&mut conn, &[&lost], &Keyring::off())
        .await
        .expect("an event");
    let soon = SystemClock.now() + chrono::TimeDelta::hours(1);
    let look = async |conn: &mut PoolConnection<Postgres>| {
        reconcile::lost_events(conn, soon, Uuid::nil(), 10)
            .await
            .expect("a look")
            .len()
    };
    assert_eq!(look(&mut conn).await, 0, "its message is in the outbox");
    reconcile::remember_decided(&mut conn, soon)
        .await
        .expect("a mark");
    sqlx::raw_sql("delete from outbox")
        .execute(&pool)
        .await
        .expect("a change");
    assert_eq!(look(&mut conn).await, 1, "the mark did not pass it");
}

/// A delivery that died at its first attempt, with its letter.
async fn given_up(pool: &PgPool) -> (Uuid, Uuid) {
    let delivery = queued(pool, "whatsapp", Some("pixel12digital")).await;
    let mut conn = connection(pool).await;
    let change = StateChange {
        failure_code: Some("gateway_throttled".to_owned()),
        ..StateChange::plain(delivery, DeliveryState::Queued, DeliveryState::Dead)
    };
    deliveries::change_states(&mut conn, &[change])
        .await
        .expect("a death");
    let now = SystemClock.now();
    let letter = NewLetter {
        id: Uuid::new_v4(),
        queue: "hub.deliveries.whatsapp".to_owned(),
        subject_kind: "delivery",
        subject_id: Some(delivery),
        generation: 0,
        run: 0,
        made_by: "posto",
        failure_code: "gateway_throttled",
        failure_class: "throttled".to_owned(),
        attempts: 1,
        first_failed_at: now,
        last_failed_at: now,
        trace_id: Some(TRACE.to_owned()),
        event_type: None,
        tenant_id: None,
        channel: None,
        template_key: None,
    };
    let new = dead_letters::insert(&mut conn, std::slice::from_ref(&letter), Settled::Stays).await;
    assert_eq!(new.expect("a letter"), [letter.id]);
    (delivery, letter.id)
}

#[sqlx::test(migrations = "../migrations")]
async fn a_death_is_seen_even_where_a_stale_copy_left_a_letter_that_is_settled(pool: PgPool) {
    let (delivery, first) = given_up(&pool).await;
    let mut conn = connection(&pool).await;
    let letter = dead_letters::find(&mut conn, first).await.expect("a look");
    let again = |id| NewLetter {
        id,
        queue: "hub.deliveries.whatsapp".to_owned(),
        subject_kind: "delivery",
        subject_id: Some(delivery),
        generation: 0,
        run: 0,
        made_by: "posto",
        failure_code: "content_rejected",
        failure_class: "content".to_owned(),
        attempts: 2,
        first_failed_at: SystemClock.now(),
        last_failed_at: SystemClock.now(),
        trace_id: Some(TRACE.to_owned()),
        event_type: None,
        tenant_id: None,
        channel: None,
        template_key: None,
    };
    assert_eq!(letter.expect("the letter").state, "dead");
    let repeated = [again(Uuid::new_v4())];
    let open = dead_letters::insert(&mut conn, &repeated, Settled::Opens).await;
    assert!(open.expect("a verdict").is_empty(), "it is open already");

    dead_letters::settle(&mut conn, &[first], &[LetterState::Discarded])
        .await
        .expect("a discard");
    let open = dead_letters::insert(&mut conn, &repeated, Settled::Stays).await;
    assert!(open.expect("a verdict").is_empty(), "it stays settled");
    let second = again(Uuid::new_v4());
    let open = dead_letters::insert(&mut conn, std::slice::from_ref(&second), Settled::Opens).await;
    assert_eq!(open.expect("a verdict"), [second.id]);
    let letter = dead_letters::find(&mut conn, second.id)
        .await
        .expect("a look");
    let letter = letter.expect("the letter");
    assert_eq!(
        (letter.state.as_str(), letter.failure_code.as_str()),
        ("dead", "content_rejected")
    );
}

fn order(dry_run: bool) -> Order<'static> {
    Order {
        author: Author {
            actor: "maria",
            reason: Some("call 47 99990-0011"),
        },
        action: "redriven",
        force: false,
        headers: None,
        dry_run,
    }
}

async fn redriven(pool: &PgPool, letter: Uuid, dry_run: bool) -> Result<Way, Refusal> {
    let mut tx = pool.begin().await.expect("a transaction");
    let done = redrive::redrive(&mut tx, &[letter], &order(dry_run))
        .await
        .expect("a verdict");
    tx.commit().await.expect("a commit");
    assert_eq!(
        done.rows.len(),
        usize::from(!dry_run && done.verdicts[0].1.is_ok())
    );
    done.verdicts[0].1
}

#[sqlx::test(migrations = "../migrations")]
async fn of_many_who_redrive_a_letter_one_does_and_the_others_are_told(pool: PgPool) {
    let (delivery, letter) = given_up(&pool).await;
    assert_eq!(redriven(&pool, letter, true).await, Ok(Way::Resend));
    assert_eq!(
        state(&pool, delivery).await,
        "dead",
        "a dry run writes nothing"
    );
    let all = futures_util::future::join_all((0..6).map(|_| redriven(&pool, letter, false))).await;
    let done = all.iter().filter(|verdict| verdict.is_ok()).count();
    let told = all
        .iter()
        .filter(|one| **one == Err(Refusal::AlreadyRedriven));
    assert_eq!((done, told.count()), (1, 5));
    assert_eq!(state(&pool, delivery).await, "queued");
    assert_eq!(
        claim(&pool, &request(delivery, 0, 1)).await,
        0,
        "copies of the life before claim nothing"
    );
    assert_eq!(claim(&pool, &request(delivery, 1, 1)).await, 1);
    let lines =
        sqlx::query_as::<_, (String, Option<String>)>("select actor, reason from audit_log");
    let lines = lines.fetch_all(&pool).await.expect("the audit log");
    assert_eq!(lines.len(), 1);
    assert!(!lines[0].1.as_deref().unwrap_or_default().contains("99990"));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_page_of_letters_of_all_kinds_is_judged_one_by_one(pool: PgPool) {
    let (_, first) = given_up(&pool).await;
    let (arrived, second) = given_up(&pool).await;
    let (_, third) = given_up(&pool).await;
    let mut conn = connection(&pool).await;
    let change = StateChange::plain(arrived, DeliveryState::Dead, DeliveryState::Delivered);
    deliveries::change_states(&mut conn, &[change])
        .await
        .expect("evidence");
    dead_letters::settle(&mut conn, &[third], &[LetterState::Discarded])
        .await
        .expect("a discard");
    let nobody = Uuid::new_v4();
    let done = redrive::redrive(
        &mut conn,
        &[first, second, third, nobody, first],
        &order(false),
    )
    .await
    .expect("verdicts");
    let verdict = |id| {
        done.verdicts
            .iter()
            .find(|one| one.0 == id)
            .expect("one for each")
            .1
    };
    assert_eq!(done.verdicts.len(), 4);
    assert_eq!(verdict(first), Ok(Way::Resend));
    assert_eq!(verdict(second), Err(Refusal::Superseded));
    assert_eq!(verdict(third), Err(Refusal::AlreadyDiscarded));
    assert_eq!(verdict(nobody), Err(Refusal::NotFound));
    let letter = dead_letters::find(&mut conn, second).await.expect("a look");
    assert_eq!(letter.expect("the letter").state, "superseded");
}
