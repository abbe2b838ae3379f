//! Sealed values against a real PostgreSQL: what SQL sees of them, and who claims them.

use serde_json::{Value, json};
use shared::domain::delivery::DeliveryState;
use shared::sealing::{Column, Keyring, KeyringError, Place, sealed_with};
use shared::store::attempts::{self, ClaimRequest, Room};
use shared::store::deliveries::NewDelivery;
use shared::store::plans::{self, NewPlans, NewRouting};
use shared::store::sealing_keys::{self, DisagreementError};
use sqlx::{PgPool, Row as _};
use uuid::Uuid;

const K1: &str = "k1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const FALSE_K1: &str = "k1:enl4d3Z1dHNycXBvbm1sa2ppaGdmZWRjYmE5ODc2NTQ=";

fn keys(list: &str) -> Keyring {
    Keyring::parse(list).expect("keys")
}

#[sqlx::test(migrations = "../migrations")]
async fn sql_and_the_services_agree_on_what_is_sealed_and_with_which_key(pool: PgPool) {
    let long = "k2_with-a-long-id:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let place = Place::new(Column::DeliveryText, Uuid::new_v4());
    for (list, wanted) in [
        ("", None),
        (K1, Some("k1")),
        (long, Some("k2_with-a-long-id")),
    ] {
        let seals = keys(list);
        for clear in [
            "olá",
            "\u{2}PS1:k1:forged",
            "\u{2}PS",
            "{\"a\":1}",
            "\u{2}PS9:x",
        ] {
            let text = seals.seal_text(place, clear).into_owned();
            let bytes = seals.seal_bytes(place, clear.as_bytes()).into_owned();
            let value = Value::from(clear);
            let json = seals.seal_json(place, &value).into_owned();
            assert_eq!(sealed_with(&bytes), wanted);
            let row = sqlx::query(
                "select hub_sealed_with($1::text), hub_sealed_with($2::bytea), hub_sealed_with($3::jsonb),
                        hub_in_clear($1::text), hub_in_clear($3::jsonb)",
            )
            .bind(&text)
            .bind(&bytes)
            .bind(&json)
            .fetch_one(&pool)
            .await
            .expect("an answer");
            for column in 0..3 {
                let found: Option<String> = row.get(column);
                assert_eq!(found.as_deref(), wanted, "{clear:?} in column {column}");
            }
            // What may be shown is the text itself, or nothing.
            let shown: (Option<String>, Option<Value>) = (row.get(3), row.get(4));
            let clear = wanted.is_none().then(|| clear.to_owned());
            assert_eq!(shown, (clear.clone(), clear.map(Value::from)));
        }
        let object = json!({"a": 1});
        let json = seals.seal_json(place, &object).into_owned();
        let found: Option<String> = sqlx::query_scalar("select hub_sealed_with($1::jsonb)")
            .bind(&json)
            .fetch_one(&pool)
            .await
            .expect("an answer");
        assert_eq!(found.as_deref(), wanted);
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn of_two_keys_of_one_id_the_first_is_right(pool: PgPool) {
    let (first, second) = (keys(K1), keys(FALSE_K1));
    let mut conns = (
        pool.acquire().await.expect("a connection"),
        pool.acquire().await.expect("a connection"),
    );
    let (a, b) = tokio::join!(
        sealing_keys::agree(&mut conns.0, &first),
        sealing_keys::agree(&mut conns.1, &second),
    );
    let refused = match (a, b) {
        (Ok(()), Err(refused)) | (Err(refused), Ok(())) => refused,
        other => panic!("{other:?}"),
    };
    assert!(matches!(
        refused,
        DisagreementError::Keys(KeyringError::Wrong { .. })
    ));
    let off = sealing_keys::agree(&mut conns.0, &Keyring::off()).await;
    assert!(matches!(
        off,
        Err(DisagreementError::Keys(KeyringError::Missing { .. }))
    ));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_text_is_claimed_by_who_has_its_key_and_waits_for_them(pool: PgPool) {
    let seals = keys(K1);
    let id = queued(&pool, "segredo", &seals).await;
    assert_eq!(claim(&pool, id, &Keyring::off()).await, None);
    let other = keys("k2:enl4d3Z1dHNycXBvbm1sa2ppaGdmZWRjYmE5ODc2NTQ=");
    assert_eq!(claim(&pool, id, &other).await, None);
    let state: String = sqlx::query_scalar("select state from deliveries where id = $1")
        .bind(id)
        .fetch_one(&pool)
        .await
        .expect("a state");
    assert_eq!(state, "queued", "nothing was burnt");
    assert_eq!(claim(&pool, id, &seals).await.as_deref(), Some("segredo"));
    // A text in clear is everybody's.
    let id = queued(&pool, "aberto", &Keyring::off()).await;
    assert_eq!(claim(&pool, id, &seals).await.as_deref(), Some("aberto"));
}

async fn claim(pool: &PgPool, delivery_id: Uuid, seals: &Keyring) -> Option<String> {
    let mut conn = pool.acquire().await.expect("a connection");
    let request = ClaimRequest {
        attempt_id: Uuid::new_v4(),
        delivery_id,
        generation: 0,
        attempt: 1,
        room: Room::Yes,
    };
    let claimed = attempts::claim(&mut conn, &[&request], ("test", 45.0), seals)
        .await
        .expect("a claim");
    claimed.into_iter().next().and_then(|one| one.body_text)
}

/// A delivery of that text that waits for its first attempt.
async fn queued(pool: &PgPool, text: &str, seals: &Keyring) -> Uuid {
    let decision = NewRouting {
        id: Uuid::new_v4(),
        event_id: Uuid::new_v4(),
        run: 0,
        generation: 0,
        trace_id: "0af7651916cd43dd8448eb211c80319c".to_owned(),
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
        id: Uuid::new_v4(),
        routing_id: decision.id,
        ordinal: 0,
        event_id: decision.event_id,
        event_type: decision.event_type.clone(),
        source_system: decision.source_system.clone(),
        trace_id: decision.trace_id.clone(),
        correlation_id: None,
        tenant_id: None,
        channel: "chat".to_owned(),
        channel_id: None,
        lane: "notice".to_owned(),
        rule_id: None,
        template_id: None,
        template_key: None,
        recipient: None,
        recipient_key: None,
        recipient_name: None,
        body_text: Some(text.to_owned()),
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
    let mut conn = pool.acquire().await.expect("a connection");
    plans::insert(&mut conn, plans, seals)
        .await
        .expect("a delivery");
    new.id
}
