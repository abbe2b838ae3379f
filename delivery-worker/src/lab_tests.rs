//! A laboratory for what becomes known about sends: the real jobs over a real database, without a
//! broker, driven step by step.

use std::slice;
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use shared::broker::{BrokerArgs, Session, outbox};
use shared::domain::failure::FailureCode;
use shared::domain::ids::{DeliveryId, EventId, ReceiptId, RoutingId};
use shared::runtime::batcher::{BatchJob as _, Batcher, BatcherConfig, WhenUnavailable};
use shared::runtime::clock::{Clock, SystemClock};
use shared::runtime::lifecycle::Lifecycle;
use shared::runtime::vitals::Vitals;
use shared::sealing::Keyring;
use shared::store::attempts::AttemptResult;
use shared::store::plans::{self, NewPlans};
use shared::store::receipts::{self, NewReceipt};
use sqlx::{AssertSqlSafe, PgPool};
use tokio::sync::{Mutex, mpsc};
use uuid::Uuid;

use crate::deliver::{Claim, claim_request};
use crate::early::{EarlyReceipts, apply_waiting};
use crate::metrics::Metrics;
use crate::reaper::Reaper;
use crate::receipt::ApplyReceipts;
use crate::record::{Record, Recorded};
use crate::retry::{Budget, judge};

/// The sending account of all.
pub(crate) const ACCOUNT: &str = "number";

/// What a send may come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    Sent,
    Failed(FailureCode),
    /// The process stopped before the request began.
    NotBegun,
}

/// One delivery under study, with the ids that its send has at the gateway and at WhatsApp.
#[derive(Clone, Debug)]
pub(crate) struct Specimen {
    pub(crate) delivery: Uuid,
    pub(crate) attempt: Uuid,
    pub(crate) key: String,
    /// The gateway's own id of the send; whether its answer and its echo tell it.
    pub(crate) correlation: Option<String>,
    /// Whether the answer of the send tells WhatsApp's key id.
    pub(crate) answer_has_key: bool,
    /// Whether the echo carries the text.
    pub(crate) echo_has_text: bool,
    pub(crate) recipient: String,
    pub(crate) text: String,
}

impl Specimen {
    /// A delivery to a recipient of its own, as the gateway tells of it in general: the answer and
    /// the echo carry its correlation id, the echo has no text.
    pub(crate) fn new(number: usize) -> Self {
        Self {
            delivery: Uuid::new_v4(),
            attempt: Uuid::nil(),
            key: format!("KEY{number}"),
            correlation: Some(format!("corr-{number}")),
            answer_has_key: false,
            echo_has_text: false,
            recipient: format!("tel:{number}"),
            text: format!("text {number}"),
        }
    }

    fn hash(&self) -> Vec<u8> {
        self.text.as_bytes().to_vec()
    }
}

/// The jobs under test.
pub(crate) struct Lab {
    pub(crate) pool: PgPool,
    claim: Claim,
    record: Record,
    pub(crate) apply: ApplyReceipts,
    reaper: Reaper,
    receipts: Batcher<ApplyReceipts>,
    /// Attempts whose early receipts are to be looked for.
    known: Mutex<mpsc::Receiver<Uuid>>,
    clock: Arc<dyn Clock>,
    _lifecycle: Lifecycle,
}

impl Lab {
    /// A laboratory over a migrated database.
    pub(crate) fn new(pool: PgPool) -> Self {
        let lifecycle = Lifecycle::default();
        let registry = Registry::new();
        // Nobody listens there: rows of the outbox stay where they are.
        let broker = BrokerArgs {
            amqp_url: "amqp://127.0.0.1:9/%2f".to_owned().into(),
            amqp_prefix: String::new(),
            rabbitmq_management_url: None,
        };
        let config = broker.config("lab").expect("because it has no prefix");
        let session = Session::start(&config, &lifecycle.links.tasks, &lifecycle.links.stop)
            .expect("because the address is one");
        let relay = outbox::start_relay(&session, pool.clone(), &registry, &lifecycle.relay)
            .expect("because the registry is empty");
        let vitals = Vitals::register(&registry, "lab", "0").expect("because the names are free");
        let metrics = Arc::new(Metrics::new(&registry).expect("because the names are free"));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let apply = || ApplyReceipts {
            pool: pool.clone(),
            relay: relay.clone(),
            metrics: Arc::clone(&metrics),
            seals: Keyring::off(),
        };
        let config = BatcherConfig {
            name: "receipts",
            max_items: 200,
            when_unavailable: WhenUnavailable::Hold,
        };
        let (early, known) = EarlyReceipts::channel();
        let record = Record {
            pool: pool.clone(),
            relay: relay.clone(),
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
            early,
        };
        let reaper = Reaper {
            pool: pool.clone(),
            relay: relay.clone(),
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
            silence: Duration::from_secs(60),
            beat: vitals.beat("reaper"),
        };
        let claim = Claim {
            pool: pool.clone(),
            worker: "lab".to_owned(),
            lease: Duration::from_secs(600),
            seals: Keyring::off(),
        };
        let receipts = Batcher::start(apply(), config, &lifecycle.work.tasks);
        Self {
            apply: apply(),
            pool,
            claim,
            record,
            reaper,
            receipts,
            known: Mutex::new(known),
            clock,
            _lifecycle: lifecycle,
        }
    }

    /// Plans deliveries, with their policy for unknown outcomes.
    pub(crate) async fn plan(&self, specimens: &[Specimen], policy: &str) {
        let column = |of: fn(&Specimen) -> String| specimens.iter().map(of).collect::<Vec<_>>();
        let ids: Vec<Uuid> = specimens.iter().map(|one| one.delivery).collect();
        sqlx::query(
            "with input as (
                 select * from unnest($1::uuid[], $2::text[], $3::text[]) as i(id, recipient, body)
             ), routed as (
                 insert into routings (id, event_id, trace_id, event_type, source_system, state, decision, processing_time_ms)
                 select id, id, md5(id::text), 'billing.invoice.overdue', 'billing', 'routed', '{}', 0 from input
             )
             insert into deliveries (id, routing_id, ordinal, event_id, event_type, source_system, trace_id, channel,
                                     channel_id, recipient, recipient_key, body_text, body_hash, unknown_policy, state,
                                     dispatched_at)
             select id, id, 0, id, 'billing.invoice.overdue', 'billing', md5(id::text), 'whatsapp', $4, recipient,
                    recipient, body, convert_to(body, 'UTF8'), $5, 'queued', now()
             from input",
        )
        .bind(ids)
        .bind(column(|one| one.recipient.clone()))
        .bind(column(|one| one.text.clone()))
        .bind(ACCOUNT)
        .bind(policy)
        .execute(&self.pool)
        .await
        .expect("because the rows are whole");
    }

    /// Claims the attempt of that number of each.
    pub(crate) async fn claim(&self, specimens: &mut [Specimen], number: i32) {
        let requests: Vec<_> = specimens
            .iter()
            .map(|one| claim_request(DeliveryId(one.delivery), 0, number))
            .collect();
        for (page, specimens) in requests.chunks(200).zip(specimens.chunks_mut(200)) {
            let claimed = self.claim.run(page).await.expect("because it is well");
            for (one, claimed) in specimens.iter_mut().zip(claimed) {
                one.attempt = claimed.expect("because it waits").attempt_id;
            }
        }
    }

    /// Plans and claims deliveries whose outcome stays parked.
    pub(crate) async fn open(&self, mut specimens: Vec<Specimen>) -> Vec<Specimen> {
        self.plan(&specimens, "park").await;
        self.claim(&mut specimens, 1).await;
        specimens
    }

    /// Records what sends came to, in batches, and waits for what recording leaves to be done.
    pub(crate) async fn answer(&self, answers: &[(&Specimen, Answer)]) {
        let recorded: Vec<Recorded> = answers
            .iter()
            .map(|(one, answer)| Recorded {
                result: result(one, *answer),
                channel_id: None,
            })
            .collect();
        for page in recorded.chunks(200) {
            self.record.run(page).await.expect("because it is well");
        }
        let mut known = self.known.lock().await;
        let attempts: Vec<Uuid> = std::iter::from_fn(|| known.try_recv().ok()).collect();
        apply_waiting(&self.pool, &self.receipts, &attempts).await;
    }

    /// Lets the leases of attempts be over, and the reaper see it.
    pub(crate) async fn lapse(&self, specimens: &[&Specimen]) {
        let attempts: Vec<Uuid> = specimens.iter().map(|one| one.attempt).collect();
        sqlx::query(
            "update delivery_attempts set lease_until = now() - interval '1 s' where id = any($1)",
        )
        .bind(attempts)
        .execute(&self.pool)
        .await
        .expect("because it is well");
        while self
            .count("delivery_attempts where outcome = 'open' and lease_until <= now()")
            .await
            > 0
        {
            self.reaper
                .conclude_lapsed()
                .await
                .expect("because it is well");
        }
    }

    /// Lets the reaper look for what its policy may send again.
    pub(crate) async fn look_for_silence(&self) {
        self.reaper
            .resend_by_policy()
            .await
            .expect("because it is well");
    }

    /// Stores evidence; answers its ids, in the same order. Nothing is applied yet.
    pub(crate) async fn hear(&self, news: &[(&Specimen, i32)]) -> Vec<Uuid> {
        let all: Vec<NewReceipt> = news
            .iter()
            .map(|(one, level)| self.receipt(one, *level))
            .collect();
        for page in all.chunks(500) {
            self.store(page).await;
        }
        all.iter().map(|receipt| receipt.id).collect()
    }

    /// Stores one receipt as it is.
    pub(crate) async fn hear_just(&self, receipt: &NewReceipt) {
        self.store(slice::from_ref(receipt)).await;
    }

    /// As the router does; which decision each receipt follows from is the same to whoever applies it.
    async fn store(&self, receipts: &[NewReceipt]) {
        let routing = RoutingId::generate().0;
        let plans = NewPlans {
            decided_again: vec![routing],
            receipts: receipts.iter().map(|receipt| (routing, receipt)).collect(),
            ..NewPlans::default()
        };
        let mut conn = self.pool.acquire().await.expect("a connection");
        plans::insert(&mut conn, plans, &Keyring::off())
            .await
            .expect("because the rows are whole");
    }

    /// Evidence of a send: its echo for level 0, else an ack.
    pub(crate) fn receipt(&self, one: &Specimen, level: i32) -> NewReceipt {
        let is_echo = level == 0;
        let text = (is_echo && one.echo_has_text).then(|| one.text.clone());
        NewReceipt {
            id: ReceiptId::generate().0,
            event_id: EventId::generate().0,
            trace_id: "a".repeat(32),
            kind: if is_echo { "echo" } else { "ack" },
            channel_id: ACCOUNT.to_owned(),
            level: Some(level),
            evidence: Some(match level {
                -1 => "provider_failed",
                2 => "delivered",
                3 => "read",
                _ => "sent",
            }),
            provider_message_id: Some(one.key.clone()),
            gateway_correlation_id: one.correlation.clone().filter(|_| is_echo),
            delivery_ref: None,
            recipient_key: Some(one.recipient.clone()),
            recipient: Some(one.recipient.clone()),
            body_hash: text.as_ref().map(|_| one.hash()),
            body_text: text,
            provider_at: self.clock.now(),
        }
    }

    /// Applies receipts, in batches as their messages would bring them.
    pub(crate) async fn apply(&self, receipts: &[Uuid]) {
        for page in receipts.chunks(200) {
            self.apply.run(page).await.expect("because it is well");
        }
    }

    /// What the binder does, until it finds nothing more.
    pub(crate) async fn bind_late(&self) {
        let unbound = "receipts where state = 'unbound'";
        loop {
            let before = self.count(unbound).await;
            let mut conn = self.pool.acquire().await.expect("a connection");
            let found = receipts::settleable(&mut conn, 10_000)
                .await
                .expect("because it is well");
            drop(conn);
            self.apply(&found).await;
            if self.count(unbound).await == before {
                return;
            }
        }
    }

    pub(crate) async fn count(&self, what: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from {what}")))
            .fetch_one(&self.pool)
            .await
            .unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    pub(crate) async fn run(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&self.pool)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// All that is known about each delivery, as `state failure_code [attempts] (receipts)`, where a
    /// receipt that is bound to nothing of ours, or to another delivery, shows as such.
    pub(crate) async fn known(&self, specimens: &[Specimen]) -> Vec<String> {
        let ids: Vec<Uuid> = specimens.iter().map(|one| one.delivery).collect();
        let keys: Vec<String> = specimens.iter().map(|one| one.key.clone()).collect();
        sqlx::query_scalar(
            "select concat_ws(' ', d.state, d.failure_code, a.all_of_it, coalesce(r.all_of_it, '()'))
             from unnest($1::uuid[], $2::text[]) with ordinality as i(id, key, place)
             join deliveries d on d.id = i.id
             cross join lateral (
                 select '[' || string_agg(concat_ws(' ', outcome, failure_code, provider_message_id), ', ' order by number) || ']'
                        as all_of_it
                 from delivery_attempts where delivery_id = d.id
             ) a
             cross join lateral (
                 select '(' || string_agg(distinct concat_ws(' ', kind, level, state,
                                                    case when delivery_id <> d.id then 'of another' end), ', ') || ')'
                        as all_of_it
                 from receipts where provider_message_id = i.key
             ) r
             order by i.place",
        )
        .bind(ids)
        .bind(keys)
        .fetch_all(&self.pool)
        .await
        .expect("because it is well")
    }
}

fn result(one: &Specimen, answer: Answer) -> AttemptResult {
    let mut result = AttemptResult {
        attempt_id: one.attempt,
        delivery_id: one.delivery,
        outcome: "not_sent",
        conclusion: shared::domain::delivery::DeliveryState::Queued,
        failure_code: None,
        http_status: None,
        response_excerpt: None,
        gateway_correlation_id: None,
        provider_message_id: None,
        duration_ms: 1.0,
        retry_after_s: Some(3600.0),
        held_reason: None,
    };
    match answer {
        Answer::NotBegun => {}
        Answer::Sent => {
            result.outcome = "sent";
            result.conclusion = shared::domain::delivery::DeliveryState::Sent;
            result.gateway_correlation_id.clone_from(&one.correlation);
            result.provider_message_id = one.answer_has_key.then(|| one.key.clone());
            result.retry_after_s = None;
        }
        Answer::Failed(code) => {
            let budget = Budget { used: 0, limit: 3 };
            let judgement = judge(code, None, budget, |_, _| Duration::from_secs(3600));
            result.outcome = judgement.outcome;
            result.conclusion = judgement.conclusion;
            result.failure_code = Some(code.as_str());
            result.retry_after_s = judgement.wait.map(|wait| wait.as_secs_f64());
            result.held_reason = judgement.held_reason;
        }
    }
    result
}
