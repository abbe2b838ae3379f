//! What is given up, against a real PostgreSQL and without a broker, which a burial does not wait
//! for: whoever dies is found by a letter, also where a stale copy took its place before.

use std::sync::Arc;

use prometheus::Registry;
use secrecy::SecretString;
use serde_json::Map;
use shared::broker::burial::Burial;
use shared::broker::dead_metrics::DeadLetterMetrics;
use shared::broker::session::BrokerConfig;
use shared::broker::{DeadItem, Queue, Session, outbox};
use shared::domain::channel::Channel;
use shared::domain::delivery::DeliveryState;
use shared::domain::failure::FailureCode;
use shared::domain::ids::{DeliveryId, ReceiptId};
use shared::domain::message::{Labels, Work, WorkMessage};
use shared::domain::redrive::LetterState;
use shared::runtime::clock::{Clock as _, SystemClock};
use shared::runtime::lifecycle::Lifecycle;
use shared::sealing::Keyring;
use shared::store::dead_letters;
use shared::store::deliveries::{self, StateChange};
use shared::store::plans::{self, NewPlans};
use shared::store::receipts::NewReceipt;
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// A burial in a process whose broker is away.
struct Buried {
    pool: PgPool,
    burial: Burial,
    lifecycle: Lifecycle,
}

impl Buried {
    fn over(pool: PgPool) -> Self {
        let lifecycle = Lifecycle::default();
        let nobody = SecretString::from("amqp://guest:guest@127.0.0.1:1/%2f");
        let config = BrokerConfig::new(nobody, "test");
        let session = Session::start(&config, &lifecycle.links.tasks, &lifecycle.links.stop)
            .expect("an address");
        let registry = Registry::new();
        let relay = outbox::start_relay(&session, pool.clone(), &registry, &lifecycle.relay)
            .expect("a registry of its own");
        let metrics = DeadLetterMetrics::register(&registry).expect("a registry of its own");
        Self {
            burial: Burial::new(pool.clone(), relay, Arc::new(SystemClock), metrics),
            pool,
            lifecycle,
        }
    }

    /// The consumer panicked over a copy of a message.
    async fn panics(&self, message: &WorkMessage) {
        let item = DeadItem {
            code: FailureCode::Panicked,
            queue: Queue::Work(message.work.queue()),
            message: Some(message.clone()),
            body: Vec::new(),
            headers: Map::new().into(),
            delivery_count: 0,
        };
        self.burial.bury(item).await.expect("a record");
    }

    /// The broker gave a copy of a message up.
    async fn broker_gives_up(&self, message: &WorkMessage) {
        let queue = message.work.queue();
        let noted = self.burial.note_broker_letter(Some(message), queue).await;
        noted.expect("a record");
    }

    /// A person thinks nothing of the only letter.
    async fn discard(&self) {
        let id = self.texts("select id::text from dead_letters").await;
        let id: Uuid = id[0].parse().expect("an id");
        let mut conn = self.pool.acquire().await.expect("a connection");
        let done = dead_letters::settle(&mut conn, &[id], &[LetterState::Discarded]).await;
        assert_eq!(done.expect("a discard"), [id]);
    }

    async fn moves(&self, delivery: Uuid, from: DeliveryState, to: DeliveryState) {
        let mut conn = self.pool.acquire().await.expect("a connection");
        let change = StateChange::plain(delivery, from, to);
        deliveries::change_states(&mut conn, &[change])
            .await
            .expect("a change");
    }

    async fn texts(&self, query: &str) -> Vec<String> {
        sqlx::query_scalar(AssertSqlSafe(query.to_owned()))
            .fetch_all(&self.pool)
            .await
            .expect("an answer")
    }

    async fn letters(&self) -> Vec<String> {
        self.texts("select concat_ws(' ', made_by, failure_code, state) from dead_letters")
            .await
    }

    async fn delivery(&self) -> Vec<String> {
        self.texts("select state from deliveries").await
    }

    async fn end(self) {
        for stage in [&self.lifecycle.relay, &self.lifecycle.links] {
            stage.stop.cancel();
            stage.tasks.close();
            stage.tasks.wait().await;
        }
    }
}

/// A delivery that waits for its first attempt, and the message that it waits for.
async fn waiting(pool: &PgPool) -> (Uuid, WorkMessage) {
    let delivery = Uuid::new_v4();
    let statement = format!(
        "with decided as (
             insert into routings (id, event_id, run, trace_id, event_type, source_system, state, decision, processing_time_ms)
             values (gen_random_uuid(), gen_random_uuid(), 0, '{TRACE}', 'billing.invoice.overdue', 'billing', 'routed', '{{}}', 0)
             returning id, event_id, event_type, source_system
         )
         insert into deliveries (id, routing_id, ordinal, event_id, event_type, source_system, trace_id, channel, channel_id,
                                 lane, recipient, recipient_key, body_text, detail, unknown_policy, state, max_retries)
         select '{delivery}', id, 0, event_id, event_type, source_system, '{TRACE}', 'whatsapp', 'pixel12digital',
                'notice', '5547999900011', 'tel:554799900011', 'oi', '{{}}', 'park', 'queued', 3
         from decided"
    );
    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(pool)
        .await
        .expect("a delivery");
    let work = Work::Deliver {
        delivery_id: DeliveryId(delivery),
        channel: Channel::Whatsapp,
        generation: 0,
        attempt: 1,
    };
    let trace = TRACE.parse().expect("a trace");
    (delivery, WorkMessage::new(work, trace, Labels::default()))
}

#[sqlx::test(migrations = "../migrations")]
async fn a_death_by_a_panic_is_seen_even_where_a_stale_copy_left_a_letter_that_is_settled(
    pool: PgPool,
) {
    let (delivery, message) = waiting(&pool).await;
    let buried = Buried::over(pool);
    // Held: nobody waits for the copy that the consumer panics over.
    buried
        .moves(delivery, DeliveryState::Queued, DeliveryState::Held)
        .await;
    buried.panics(&message).await;
    assert_eq!(buried.delivery().await, ["held"]);
    assert_eq!(buried.letters().await, ["posto panicked dead"]);
    buried.discard().await;
    buried.panics(&message).await;
    assert_eq!(
        buried.letters().await,
        ["posto panicked discarded"],
        "nothing died of it, so what a person settled stays so"
    );

    buried
        .moves(delivery, DeliveryState::Held, DeliveryState::Queued)
        .await;
    buried.panics(&message).await;
    assert_eq!(buried.delivery().await, ["dead"]);
    assert_eq!(buried.letters().await, ["posto panicked dead"]);
    buried.discard().await;
    buried.panics(&message).await;
    assert_eq!(
        buried.letters().await,
        ["posto panicked discarded"],
        "it died once, and was told of once"
    );
    buried.end().await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_death_by_the_delivery_limit_is_seen_even_where_a_stale_copy_left_a_letter(pool: PgPool) {
    let (delivery, message) = waiting(&pool).await;
    let buried = Buried::over(pool);
    buried
        .moves(delivery, DeliveryState::Queued, DeliveryState::Held)
        .await;
    buried.broker_gives_up(&message).await;
    let superseded = ["broker broker_delivery_limit superseded"];
    assert_eq!(buried.letters().await, superseded);
    buried.broker_gives_up(&message).await;
    assert_eq!(buried.letters().await, superseded);
    assert_eq!(buried.delivery().await, ["held"]);

    buried
        .moves(delivery, DeliveryState::Held, DeliveryState::Queued)
        .await;
    buried.broker_gives_up(&message).await;
    assert_eq!(buried.delivery().await, ["dead"]);
    assert_eq!(
        buried.letters().await,
        ["broker broker_delivery_limit dead"]
    );
    buried.discard().await;
    buried.broker_gives_up(&message).await;
    assert_eq!(
        buried.letters().await,
        ["broker broker_delivery_limit discarded"],
        "it died once, and was told of once"
    );
    buried.end().await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_death_by_the_delivery_limit_is_told_by_the_letter_of_a_stale_copy_that_is_open(
    pool: PgPool,
) {
    let (delivery, message) = waiting(&pool).await;
    let buried = Buried::over(pool);
    buried
        .moves(delivery, DeliveryState::Queued, DeliveryState::Held)
        .await;
    buried.panics(&message).await;
    buried
        .moves(delivery, DeliveryState::Held, DeliveryState::Queued)
        .await;
    buried.broker_gives_up(&message).await;
    assert_eq!(buried.delivery().await, ["dead"]);
    assert_eq!(buried.letters().await, ["posto panicked dead"]);
    buried.end().await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_copy_of_an_older_generation_takes_no_receipt_with_it(pool: PgPool) {
    let id = Uuid::new_v4();
    let receipt = NewReceipt {
        id,
        event_id: Uuid::new_v4(),
        trace_id: TRACE.to_owned(),
        kind: "ack",
        channel_id: "pixel12digital".to_owned(),
        level: Some(2),
        evidence: Some("delivered"),
        provider_message_id: Some("3EB0".to_owned()),
        gateway_correlation_id: None,
        delivery_ref: None,
        recipient_key: None,
        recipient: None,
        body_text: None,
        body_hash: None,
        provider_at: SystemClock.now(),
    };
    let mut conn = pool.acquire().await.expect("a connection");
    let plans = NewPlans {
        decided_again: vec![id],
        receipts: vec![(id, &receipt)],
        ..NewPlans::default()
    };
    plans::insert(&mut conn, plans, &Keyring::off())
        .await
        .expect("a receipt");
    drop(conn);
    let trace = TRACE.parse().expect("a trace");
    let message = WorkMessage::apply_receipt(ReceiptId(id), trace);
    let buried = Buried::over(pool);
    // The broker gives it up, and it gets its one more try: it waits in generation 1.
    buried.broker_gives_up(&message).await;
    let waits = "select concat_ws(' ', generation, state, effect) from receipts";
    assert_eq!(buried.texts(waits).await, ["1 pending"]);
    // The same letter is read again, and a consumer panics over the old message besides.
    buried.broker_gives_up(&message).await;
    buried.panics(&message).await;
    assert_eq!(buried.texts(waits).await, ["1 pending"]);
    assert_eq!(
        buried.letters().await,
        ["broker broker_delivery_limit redriven"]
    );
    buried.end().await;
}
