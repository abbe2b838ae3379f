//! A world in which tenant 2 has one of everything, and tenant 1 asks for it.

use posto_tests::gateway_sim::{Fault, FaultRule};
use posto_tests::world::http::answer;
use posto_tests::world::{Setup, World, overdue};
use secrecy::SecretString;
use serde_json::{Value, json};
use shared::store::pool::{self, DatabaseArgs, MigrateAtStart};
use sqlx::{ConnectOptions as _, PgPool};
use uuid::Uuid;

/// What a caller can name.
#[derive(Clone, Debug)]
pub(crate) struct Ids {
    pub(crate) tenant: i64,
    pub(crate) event: Uuid,
    /// An event that names no tenant, and of which its decision found one.
    pub(crate) found_out: Uuid,
    /// An event whose week was dropped.
    pub(crate) dropped: Uuid,
    pub(crate) trace: String,
    pub(crate) chat_trace: String,
    pub(crate) log_trace: String,
    pub(crate) dead_trace: String,
    /// Of an ack of its message.
    pub(crate) ack_trace: String,
    pub(crate) delivery: Uuid,
    pub(crate) unknown: Uuid,
    pub(crate) letter: Uuid,
    /// The number of its credential.
    pub(crate) key: i64,
    pub(crate) source: String,
    pub(crate) address: String,
    /// Keys that its events have.
    pub(crate) event_keys: Vec<String>,
    pub(crate) invoice: i64,
    /// A service order, and its chat.
    pub(crate) order: i64,
    pub(crate) thread: i64,
}

impl Ids {
    /// What nobody has; of the same looks and lengths.
    pub(crate) fn of_nobody() -> Self {
        let trace = || Uuid::new_v4().simple().to_string();
        Self {
            tenant: 9,
            event: Uuid::new_v4(),
            found_out: Uuid::new_v4(),
            dropped: Uuid::new_v4(),
            trace: trace(),
            chat_trace: trace(),
            log_trace: trace(),
            dead_trace: trace(),
            ack_trace: trace(),
            delivery: Uuid::new_v4(),
            unknown: Uuid::new_v4(),
            letter: Uuid::new_v4(),
            key: 9,
            source: "nosuch".to_owned(),
            address: "203.0.113.9".to_owned(),
            event_keys: (0..TRIES).map(|n| format!("nobodys-key-{n}")).collect(),
            invoice: 909,
            order: 7009,
            thread: 999_999,
        }
    }

    /// Everything that an answer may echo.
    pub(crate) fn texts(&self) -> Vec<String> {
        let mut texts = vec![
            self.trace.clone(),
            self.chat_trace.clone(),
            self.log_trace.clone(),
            self.dead_trace.clone(),
            self.ack_trace.clone(),
            self.source.clone(),
            self.address.clone(),
            self.order.to_string(),
            self.thread.to_string(),
        ];
        let ids = [
            self.event,
            self.found_out,
            self.dropped,
            self.delivery,
            self.unknown,
            self.letter,
        ];
        texts.extend(ids.map(|id| id.to_string()));
        texts.extend(self.event_keys.iter().cloned());
        texts
    }
}

/// How often a comparison may be repeated because a process did something of its own meanwhile.
pub(crate) const TRIES: usize = 8;
/// What opens the chat of tenant 2's order.
pub(crate) const ORDER_TOKEN: &str = "the-token-of-order-7002";
/// The invoice that is tenant 2's.
const INVOICE: i64 = 902;

/// A world whose tenant 2 has one of everything. The workers are at rest.
pub(crate) async fn world() -> (World, Ids) {
    let mut world = World::start_with(Setup {
        retry_base: "1ms",
        owners: true,
        ..Setup::default()
    })
    .await;
    // Threads have numbers that stand in no answer by chance.
    world
        .run_sql("select setval(pg_get_serial_sequence('chat_threads', 'id'), 424242)")
        .await;
    let made = world
        .order("/admin/keys", &json!({"source": "chat", "tenants": [2]}))
        .await;
    assert_eq!(made.status, 201, "{}", made.body);
    let key = made.body["key"]["id"].as_i64().expect("a number");
    let token = made.text("/secret");
    until_known(&world, &token).await;
    // Chat: threads and messages. Ids of tenant 2's own choice stand in no answer to others.
    let mut event_keys = Vec::new();
    let mut chats = Vec::new();
    for number in 0..TRIES {
        let event_key = format!("foreign-key-{number}");
        let answer = world.post_as(&token, &chat(2, &event_key)).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        chats.push((answer.text("/event_id"), answer.text("/trace_id")));
        event_keys.push(event_key);
    }
    let refused = world.post_as(&token, &chat(1, "not-mine")).await;
    assert_eq!(refused.status, 403);
    // A bill that is read, and one that dies.
    let (read, trace) = bill(&world, "read", "11 98880-0022").await;
    world.until_states(&read, &["read"]).await;
    world.sim.set_fault(FaultRule::new(Fault::RateLimited));
    let (dead, dead_trace) = bill(&world, "dead", "11 98880-0023").await;
    world.until_states(&dead, &["dead"]).await;
    world.sim.clear_faults();
    // A charge of its customer at Asaas, which names no tenant.
    let charge = json!({"id": "evt_two&1", "event": "PAYMENT_CREATED", "dateCreated": "2026-02-03 03:10:00",
                        "payment": {"id": "pay_two", "customer": "cus_000000000022"}});
    assert_eq!(world.post_asaas(charge.to_string()).await.status, 200);
    world
        .until("everything is decided and settled", async |world| {
            world
                .count(
                    "select (select count(*) from communication_events e
                         where not exists (select from routings r where r.event_id = e.id))
                     + (select count(*) from deliveries where state in ('queued', 'held', 'claimed', 'sent', 'delivered') and channel = 'whatsapp')
                     + (select count(*) from deliveries where state in ('queued', 'held', 'claimed') and channel = 'chat')
                     + (select count(*) from receipts where state = 'pending')
                     + (select count(*) from outbox)",
                )
                .await
                == 0
        })
        .await;
    world.stop_router().await;
    world.stop_delivery().await;
    world
        .run_sql(&format!(
            "insert into ip_blocks (address, blocked_at, blocked_until) values ('203.0.113.2', now(), now() + interval '1 hour');
             insert into audit_log (id, actor, action, subject_kind, trace_id) values (gen_random_uuid(), 'maria', 'looked', 'event', '{trace}');
             insert into service_orders (id, tenant_id, token_sha256) values (7002, 2, sha256('{ORDER_TOKEN}'::bytea));
             insert into module_switches (module, tenant_id, mode, changed_by) values ('chat', 2, 'live', 'maria');
             insert into billing_invoices (tenant_id, invoice_key) values (2, 'invoice:{INVOICE}');
             update deliveries set state = 'unknown' where event_id = '{unknown}';
             delete from communication_events where id = '{dropped}'",
            unknown = chats[1].0,
            dropped = chats[2].0,
        ))
        .await;
    let one = async |query: String| world.texts(&query).await.remove(0);
    let id = async |query: String| one(query).await.parse::<Uuid>().expect("an id");
    let of_event =
        |event: &str| format!("select id::text from deliveries where event_id = '{event}' limit 1");
    let ids = Ids {
        tenant: 2,
        event: chats[0].0.parse().expect("an id"),
        found_out: id(
            "select id::text from communication_events where source_system = 'asaas'".to_owned(),
        )
        .await,
        dropped: chats[2].0.parse().expect("an id"),
        trace,
        chat_trace: chats[0].1.clone(),
        log_trace: one(
            "select trace_id from communication_logs where tenant_id = 2 limit 1".to_owned(),
        )
        .await,
        dead_trace,
        ack_trace: one(
            "select trace_id from receipts where delivery_id is not null limit 1".to_owned(),
        )
        .await,
        delivery: id(of_event(&read)).await,
        unknown: id(of_event(&chats[1].0)).await,
        letter: id("select id::text from dead_letters".to_owned()).await,
        key,
        source: "chat".to_owned(),
        address: "203.0.113.2".to_owned(),
        event_keys,
        invoice: INVOICE,
        order: 7002,
        thread: one("select id::text from chat_threads where order_id = 7002".to_owned())
            .await
            .parse()
            .expect("a number"),
    };
    (world, ids)
}

/// A key is known once the directory has been read again.
async fn until_known(world: &World, token: &str) {
    world
        .until("the new key opens", async |world| {
            let url = format!("{}/api/events/{}", world.api(), Uuid::new_v4());
            let asked = answer(world.client().get(url).bearer_auth(token)).await;
            asked.status == 404
        })
        .await;
}

async fn bill(world: &World, key: &str, phone: &str) -> (String, String) {
    let mut event = overdue(key);
    event["tenant_id"] = json!(2);
    event["payload"]["phone"] = json!(phone);
    event["payload"]["invoice_id"] = json!(format!("of-two-{key}"));
    let answer = world.post(&event).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    (answer.text("/event_id"), answer.text("/trace_id"))
}

/// A message on a tenant's thread.
pub(crate) fn chat(tenant: i64, key: &str) -> Value {
    json!({"event_type": "chat.message.received", "source_system": "chat", "tenant_id": tenant,
           "idempotency_key": key, "payload": {"order_id": 7000 + tenant, "message": "bom dia", "role": "user"}})
}

/// A pool as the services open it.
pub(crate) fn services_pool(world: &World) -> PgPool {
    let url = world.db.connect_options().to_url_lossy();
    let args = DatabaseArgs {
        database_url: SecretString::from(url.as_str()),
        database_max_connections: 4,
        migrate: MigrateAtStart::Check,
    };
    pool::open(&args, posto_tests::world::BOUND).expect("because the world's own URL can be read")
}

/// All rows that are tenant 2's or the agency's, as one text. Bookkeeping of the processes is left out.
pub(crate) async fn fingerprint(world: &World) -> Vec<String> {
    let tables = [
        ("tenants", "id = 2"),
        ("routings", "tenant_id = 2"),
        ("deliveries", "tenant_id = 2"),
        ("dead_letters", "tenant_id = 2"),
        ("communication_events", "coalesce(tenant_id, 2) = 2"),
        ("communication_logs", "tenant_id = 2"),
        ("chat_threads", "customer_id = 2"),
        ("billing_invoices", "tenant_id = 2"),
        ("service_orders", "tenant_id = 2"),
        ("module_switches", "true"),
        ("delivery_attempts", "true"),
        ("receipts", "true"),
        ("audit_log", "true"),
        ("sources", "true"),
        ("channels", "true"),
        ("ip_blocks", "true"),
        ("routing_rules", "true"),
    ];
    let mut prints = Vec::new();
    for (table, whose) in tables {
        let query = format!(
            "select '{table} ' || count(*) || ' ' || coalesce(md5(string_agg(t::text, '|' order by t::text)), '')
             from {table} t where {whose}"
        );
        prints.extend(world.texts(&query).await);
    }
    // Not when they were last used: that is written by the minute.
    prints.extend(
        world
            .texts("select concat_ws(' ', id, valid_until, revoked_at, tenant_ids, label) from source_credentials order by id")
            .await,
    );
    prints
}
