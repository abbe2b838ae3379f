//! What a stored decision makes, and what a lost one must not, against a real PostgreSQL.

use shared::domain::ids::{ReceiptId, TraceId};
use shared::domain::message::WorkMessage;
use shared::runtime::clock::{Clock as _, SystemClock};
use shared::sealing::Keyring;
use shared::store::outbox::{self, NewMessage};
use shared::store::plans::{self, Durability, NewPlans, NewRouting, StoredPlans};
use shared::store::receipts::NewReceipt;
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn routing(event_id: Uuid) -> NewRouting {
    NewRouting {
        id: Uuid::new_v4(),
        event_id,
        run: 0,
        generation: 0,
        trace_id: TRACE.to_owned(),
        tenant_id: None,
        event_type: "whatsapp.delivery.ack".to_owned(),
        source_system: "wpp_gateway".to_owned(),
        state: "routed",
        decision: plans::no_decision(),
        failure_code: None,
        error_message: None,
        processing_time_ms: 0.0,
    }
}

fn receipt(event_id: Uuid) -> NewReceipt {
    NewReceipt {
        id: Uuid::new_v4(),
        event_id,
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
    }
}

fn message(receipt: &NewReceipt) -> NewMessage {
    let trace: TraceId = TRACE.parse().expect("a trace");
    NewMessage::work(&WorkMessage::apply_receipt(ReceiptId(receipt.id), trace))
}

/// Stores a decision that brought a receipt.
async fn decide(
    pool: &PgPool,
    routing: &NewRouting,
    receipt: &NewReceipt,
    durability: Durability,
) -> StoredPlans {
    let plans = NewPlans {
        durability,
        routings: vec![routing],
        receipts: vec![(routing.id, receipt)],
        messages: vec![(routing.id, message(receipt))],
        ..NewPlans::default()
    };
    let mut conn = pool.acquire().await.expect("a connection");
    plans::insert(&mut conn, plans, &Keyring::off())
        .await
        .expect("because the rows are whole")
}

async fn texts(pool: &PgPool, query: &str) -> Vec<String> {
    sqlx::query_scalar(AssertSqlSafe(query.to_owned()))
        .fetch_all(pool)
        .await
        .expect("a look")
}

#[sqlx::test(migrations = "../migrations")]
async fn nothing_follows_from_a_decision_that_was_made_already(pool: PgPool) {
    let event = Uuid::new_v4();
    let (first, second) = (receipt(event), receipt(event));
    let stored = decide(&pool, &routing(event), &first, Durability::OnDisk).await;
    assert_eq!((stored.routings.len(), stored.messages.len()), (1, 1));
    let lost = decide(&pool, &routing(event), &second, Durability::Soon).await;
    assert_eq!((lost.routings.len(), lost.messages.len()), (0, 0));
    assert_eq!(
        texts(&pool, "select id::text from receipts").await,
        [first.id.to_string()]
    );
    assert_eq!(
        texts(&pool, "select subject_id::text from outbox").await,
        [first.id.to_string()]
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn only_a_decision_that_can_be_made_again_is_not_waited_for(pool: PgPool) {
    // Told at the commit, which is when it counts.
    let note = "
        create table noted (setting text);
        create function note() returns trigger language plpgsql as $$
        begin
            insert into noted values (current_setting('synchronous_commit'));
            return null;
        end $$;
        create constraint trigger note after insert on routings
            deferrable initially deferred for each row execute function note()";
    sqlx::raw_sql(note).execute(&pool).await.expect("a note");
    for durability in [Durability::Soon, Durability::OnDisk, Durability::Soon] {
        let event = Uuid::new_v4();
        decide(&pool, &routing(event), &receipt(event), durability).await;
    }
    assert_eq!(
        texts(&pool, "select setting from noted").await,
        ["off", "on", "off"]
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn an_outbox_id_is_given_once_also_when_a_crash_takes_its_number_back(pool: PgPool) {
    let mut conn = pool.acquire().await.expect("a connection");
    let mut ids = Vec::new();
    for _ in 0..2 {
        sqlx::query("select setval('outbox_number', 7)")
            .execute(&mut *conn)
            .await
            .expect("a fall");
        let rows = outbox::insert(&mut conn, vec![message(&receipt(Uuid::new_v4()))])
            .await
            .expect("a row");
        ids.push(rows[0].id);
        // A restart of PostgreSQL takes far longer than the millisecond that tells the two apart.
        let begun = std::time::Instant::now();
        while begun.elapsed().as_millis() < 2 {
            std::hint::spin_loop();
        }
    }
    assert!(ids[0] < ids[1], "{ids:?}");
}
