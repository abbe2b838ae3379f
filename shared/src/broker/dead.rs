//! The form of dead letters: the headers of those that we write, and the reading of those that
//! the broker made.
//!
//! Invariant: no personal data; whoever looks into the management UI sees ids, codes and labels
//! (design §1.4, §3).

use sqlx::PgConnection;

use super::headers::PUBLISHED_MS;
use super::topology::Target;
use crate::domain::message::{Work, WorkMessage, WorkQueue};
use crate::domain::redrive::SubjectKind;
use crate::store::StoreResult;
use crate::store::dead_letters::{self, FoundLetter, NewLetter, Settled};
use crate::store::outbox::{MessageJson, NewMessage, encode};
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value};

use crate::domain::channel::Channel;
use crate::domain::failure::FailureCode;
use crate::domain::ids::{LetterId, TenantId, TraceId};

const LETTER_ID: &str = "x-letter-id";
const GENERATION: &str = "x-generation";
const X_DEATH: &str = "x-death";

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

    /// The letter's row: about the subject of a message, or about bytes that are none.
    #[must_use]
    pub fn row(&self, queue: WorkQueue, message: Option<&WorkMessage>) -> NewLetter {
        let work = message.map(|message| &message.work);
        NewLetter {
            id: self.id.0,
            queue: queue.name().to_owned(),
            subject_kind: work
                .map_or(SubjectKind::Message, Work::subject_kind)
                .as_str(),
            subject_id: work.map(Work::subject),
            generation: self.generation,
            run: match work {
                Some(Work::Route { run, .. }) => *run,
                _ => 0,
            },
            made_by: "posto",
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

/// Records the letters of deliveries that have just died; answers the messages of those that are open
/// by it. One delivery has one letter per generation, so a repeated verdict adds nothing.
///
/// # Errors
/// See [`crate::store::StoreError`].
pub async fn record(
    conn: &mut PgConnection,
    letters: &[(Letter, WorkMessage)],
) -> StoreResult<Vec<NewMessage>> {
    let rows: Vec<NewLetter> = letters
        .iter()
        .map(|(letter, message)| letter.row(message.work.queue(), Some(message)))
        .collect();
    let open = dead_letters::insert(conn, &rows, Settled::Opens).await?;
    Ok(letters
        .iter()
        .filter(|(letter, _)| open.contains(&letter.id.0))
        .map(|(letter, message)| letter.message(message))
        .collect())
}

/// The letter that a message is, when it is one of our own; the broker's have none.
#[must_use]
pub fn letter_id(headers: &Map<String, Value>) -> Option<LetterId> {
    headers.get(LETTER_ID)?.as_str()?.parse().ok()
}

/// True for a message that a person moved or copied: a letter of ours or of the broker that was
/// moved back to its work queue, or a message that did not leave through the relay, which marks
/// each with its time. An ordinary copy (a redelivery, a second publish of one row) is none of
/// these, so it can never be taken for a wish to redrive.
#[must_use]
pub fn is_by_hand(headers: &Map<String, Value>) -> bool {
    is_moved_letter(headers) || !headers.contains_key(PUBLISHED_MS)
}

/// True for a letter that lies in a work queue: whoever moved it took it out of its dead queue.
#[must_use]
pub fn is_moved_letter(headers: &Map<String, Value>) -> bool {
    headers.contains_key(LETTER_ID) || headers.contains_key(X_DEATH)
}

/// A letter that goes back to its dead queue, because it may not be redriven as it is.
#[must_use]
pub fn put_back(letter: &FoundLetter, body: MessageJson) -> Option<NewMessage> {
    let queue = WorkQueue::by_name(&letter.queue)?;
    let headers = Letter {
        id: LetterId(letter.id),
        generation: letter.generation,
        code: letter.failure_code.parse().ok()?,
        attempts: letter.attempts,
        first_at: letter.first_failed_at,
        last_at: letter.last_failed_at,
        trace_id: letter.trace_id.as_deref()?.parse().ok()?,
        event_type: letter.event_type.clone(),
        tenant_id: letter.tenant_id.map(TenantId),
        channel: letter
            .channel
            .as_deref()
            .and_then(|channel| channel.parse().ok()),
        template: letter.template_key.clone(),
    }
    .headers();
    Some(NewMessage {
        target: Target::Letter(queue).to_string(),
        subject_id: letter.subject_id.unwrap_or(letter.id),
        body,
        headers: Some(Value::Object(headers)),
    })
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
        let newest = headers.get(X_DEATH)?.as_array()?.first()?.as_object()?;
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
        assert_eq!(headers[GENERATION], 2);
        assert_eq!(BrokerDeath::of(&headers), None);
    }

    #[test]
    fn what_a_person_moved_or_published_is_told_from_what_the_relay_sent() {
        let map = |value: Value| value.as_object().cloned().unwrap();
        let relayed = map(serde_json::json!({"x-published-ms": 1, "traceparent": "00-…"}));
        assert!(!is_by_hand(&relayed));
        let redelivered = map(serde_json::json!({"x-published-ms": 1, "x-delivery-count": 2}));
        assert!(!is_by_hand(&redelivered));
        assert!(is_by_hand(&Map::new()), "published in the management UI");
        let mut ours = letter().headers();
        ours.insert(PUBLISHED_MS.to_owned(), 1.into());
        assert!(is_by_hand(&ours) && is_moved_letter(&ours));
        let brokers = map(serde_json::json!({"x-published-ms": 1, "x-death": []}));
        assert!(is_by_hand(&brokers) && is_moved_letter(&brokers));
    }

    #[test]
    fn a_letter_goes_back_as_it_was() {
        let letter = letter();
        let row = FoundLetter {
            id: letter.id.0,
            state: "dead".to_owned(),
            queue: "hub.deliveries.whatsapp".to_owned(),
            subject_id: None,
            generation: letter.generation,
            failure_code: letter.code.as_str().to_owned(),
            attempts: letter.attempts,
            first_failed_at: letter.first_at,
            last_failed_at: letter.last_at,
            trace_id: Some(letter.trace_id.to_string()),
            event_type: letter.event_type.clone(),
            tenant_id: letter.tenant_id.map(|tenant| tenant.0),
            channel: letter.channel.map(|channel| channel.as_str().to_owned()),
            template_key: letter.template.clone(),
        };
        let back = put_back(&row, MessageJson::default()).unwrap();
        assert_eq!(back.headers, Some(Value::Object(letter.headers())));
        assert_eq!(back.target, "dead:hub.deliveries.whatsapp");
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
