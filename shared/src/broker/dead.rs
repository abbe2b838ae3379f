//! The form of dead letters: the headers of those that we write, and the reading of those that
//! the broker made.
//!
//! Invariant: no personal data; whoever looks into the management UI sees ids, codes and labels
//! (design §1.4, §3).

use sqlx::PgConnection;
use uuid::Uuid;

use super::topology::Target;
use crate::domain::message::{WorkMessage, WorkQueue};
use crate::store::StoreResult;
use crate::store::dead_letters::{self, NewLetter};
use crate::store::outbox::{NewMessage, encode};
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value};

use crate::domain::channel::Channel;
use crate::domain::failure::FailureCode;
use crate::domain::ids::{LetterId, TenantId, TraceId};

const LETTER_ID: &str = "x-letter-id";
const GENERATION: &str = "x-generation";

/// Why a message was given up, as its letter tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The row in `dead_letters`.
    pub id: LetterId,
    /// The subject's generation when it died.
    pub generation: i32,
    /// The last failure.
    pub code: FailureCode,
    /// Attempts made.
    pub attempts: i32,
    /// The first failure's time.
    pub first_at: DateTime<Utc>,
    /// The last failure's time.
    pub last_at: DateTime<Utc>,
    /// The trace of the subject.
    pub trace_id: TraceId,
    /// The event's type, where known.
    pub event_type: Option<String>,
    /// The tenant, where known.
    pub tenant_id: Option<TenantId>,
    /// The channel, for deliveries.
    pub channel: Option<Channel>,
    /// The template's key, for deliveries.
    pub template: Option<String>,
}

impl Letter {
    /// The headers, as they go into `outbox.headers`.
    #[must_use]
    pub fn headers(&self) -> Map<String, Value> {
        let class = serde_json::to_value(self.code.class()).unwrap_or_default();
        let mut headers = Map::from_iter([
            (LETTER_ID.to_owned(), self.id.to_string().into()),
            (GENERATION.to_owned(), self.generation.into()),
            ("x-failure-code".to_owned(), self.code.as_str().into()),
            ("x-failure-class".to_owned(), class),
            ("x-attempts".to_owned(), self.attempts.into()),
            ("x-first-at".to_owned(), rfc3339(self.first_at)),
            ("x-last-at".to_owned(), rfc3339(self.last_at)),
            ("x-trace-id".to_owned(), self.trace_id.as_str().into()),
        ]);
        let labels = [
            ("x-event-type", self.event_type.clone().map(Value::from)),
            ("x-tenant-id", self.tenant_id.map(|id| id.0.into())),
            ("x-channel", self.channel.map(|c| c.as_str().into())),
            ("x-template", self.template.clone().map(Value::from)),
        ];
        for (name, value) in labels {
            if let Some(value) = value {
                headers.insert(name.to_owned(), value);
            }
        }
        headers
    }

    /// The letter's row.
    #[must_use]
    pub fn row(
        &self,
        queue: WorkQueue,
        subject_kind: &'static str,
        subject: Option<Uuid>,
    ) -> NewLetter {
        NewLetter {
            id: self.id.0,
            queue: queue.name().to_owned(),
            subject_kind,
            subject_id: subject,
            generation: self.generation,
            failure_code: self.code.as_str(),
            failure_class: self.code.class().as_str().to_owned(),
            attempts: self.attempts,
            first_failed_at: self.first_at,
            last_failed_at: self.last_at,
            trace_id: Some(self.trace_id.to_string()),
            event_type: self.event_type.clone(),
            tenant_id: self.tenant_id.map(|tenant| tenant.0),
            channel: self.channel.map(|channel| channel.as_str().to_owned()),
            template_key: self.template.clone(),
        }
    }

    /// The letter itself: the original thin message beside its work queue, with headers that tell why.
    #[must_use]
    pub fn message(&self, message: &WorkMessage) -> NewMessage {
        NewMessage {
            target: Target::Letter(message.work.queue()).to_string(),
            subject_id: message.work.subject(),
            body: encode(message),
            headers: Some(Value::Object(self.headers())),
        }
    }
}

/// Records the letters of deliveries; answers the messages of those that are new. One delivery has
/// one letter per generation, so a repeated verdict adds nothing.
///
/// # Errors
/// See [`crate::store::StoreError`].
pub async fn record(
    conn: &mut PgConnection,
    letters: &[(Letter, WorkMessage)],
) -> StoreResult<Vec<NewMessage>> {
    let rows: Vec<NewLetter> = letters
        .iter()
        .map(|(letter, message)| {
            letter.row(
                message.work.queue(),
                "delivery",
                Some(message.work.subject()),
            )
        })
        .collect();
    let new = dead_letters::insert_new(conn, &rows).await?;
    Ok(letters
        .iter()
        .filter(|(letter, _)| new.contains(&letter.id.0))
        .map(|(letter, message)| letter.message(message))
        .collect())
}

/// The letter that a message is, when it is one of our own; the broker's have none.
#[must_use]
pub fn letter_id(headers: &Map<String, Value>) -> Option<LetterId> {
    headers.get(LETTER_ID)?.as_str()?.parse().ok()
}

/// The generation that a letter of our own was written for.
#[must_use]
pub fn generation(headers: &Map<String, Value>) -> Option<i32> {
    i32::try_from(headers.get(GENERATION)?.as_i64()?).ok()
}

/// What the broker tells of a message that it gave up itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerDeath {
    /// The queue that it died in. `None`: a name that is none of ours, or of another prefix.
    pub queue: Option<WorkQueue>,
    /// Why: `delivery_limit`, `rejected`, `expired` or `maxlen`.
    pub reason: String,
    /// How often it died there for that reason.
    pub count: u64,
    /// When it died first.
    pub first_at: Option<DateTime<Utc>>,
}

impl BrokerDeath {
    /// Reads the newest entry of `x-death`. `None`: the broker did not make this letter.
    #[must_use]
    pub fn of(headers: &Map<String, Value>) -> Option<Self> {
        let newest = headers.get("x-death")?.as_array()?.first()?.as_object()?;
        let key = newest.get("routing-keys").and_then(|keys| keys.get(0));
        let queue = newest.get("queue").and_then(Value::as_str);
        let time = newest.get("time").and_then(Value::as_i64);
        Some(Self {
            queue: key
                .and_then(Value::as_str)
                .and_then(WorkQueue::by_name)
                .or_else(|| queue.and_then(work_queue_of)),
            reason: newest.get("reason")?.as_str()?.to_owned(),
            count: newest.get("count").and_then(Value::as_u64).unwrap_or(1),
            first_at: time.and_then(|seconds| DateTime::from_timestamp(seconds, 0)),
        })
    }
}

/// The work queue whose prefixed name this is. The prefix is not asked for: no queue's name ends
/// with another's, so the ending decides.
fn work_queue_of(name: &str) -> Option<WorkQueue> {
    WorkQueue::ALL
        .into_iter()
        .find(|queue| name.ends_with(queue.name()))
}

fn rfc3339(time: DateTime<Utc>) -> Value {
    time.to_rfc3339_opts(SecondsFormat::Millis, true).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter() -> Letter {
        Letter {
            id: LetterId(uuid::Uuid::from_u128(1)),
            generation: 2,
            code: FailureCode::GatewayUnreachable,
            attempts: 4,
            first_at: DateTime::UNIX_EPOCH,
            last_at: DateTime::from_timestamp(60, 5_000_000).unwrap(),
            trace_id: "0af7651916cd43dd8448eb211c80319c".parse().unwrap(),
            event_type: Some("billing.invoice.overdue".to_owned()),
            tenant_id: Some(TenantId(7)),
            channel: Some(Channel::Whatsapp),
            template: None,
        }
    }

    #[test]
    fn a_letter_tells_why_in_its_headers() {
        insta::assert_json_snapshot!(letter().headers());
    }

    #[test]
    fn our_own_letter_is_known_by_its_headers() {
        let headers = letter().headers();
        assert_eq!(letter_id(&headers), Some(letter().id));
        assert_eq!(generation(&headers), Some(2));
        assert_eq!(BrokerDeath::of(&headers), None);
    }

    #[test]
    fn a_letter_of_the_broker_tells_its_queue_and_reason() {
        // As RabbitMQ 3.10.8 writes it at the delivery limit.
        let headers = serde_json::json!({"x-death": [{
            "count": 1, "exchange": "t1.hub.deliveries", "queue": "t1.hub.deliveries.chat",
            "reason": "delivery_limit", "routing-keys": ["hub.deliveries.chat"], "time": 60,
        }]});
        let death = BrokerDeath::of(headers.as_object().unwrap()).unwrap();
        assert_eq!(death.queue, Some(WorkQueue::Deliver(Channel::Chat)));
        assert_eq!(death.reason, "delivery_limit");
        assert_eq!(death.first_at, DateTime::from_timestamp(60, 0));
    }

    #[test]
    fn a_letter_without_a_routing_key_is_known_by_its_queue() {
        let headers = serde_json::json!({"x-death": [
            {"queue": "t1.hub.receipts", "reason": "rejected"}
        ]});
        let death = BrokerDeath::of(headers.as_object().unwrap()).unwrap();
        assert_eq!(death.queue, Some(WorkQueue::Receipts));
    }
}
