//! The tidy pass: copies of letters that are settled are acked out of their dead queues, in bulk,
//! best effort, bounded. AMQP cannot take a message by its id, so a look takes what lies there and
//! gives back what waits for a person, in its order.
//!
//! Each look counts as a delivery of each message against the queue's limit of 1,000,000 (design
//! §3), so a queue is looked through only when a letter of it was settled, and rests longer each
//! time that nothing was found.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::Channel;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use serde_json::{Map, Value};
use sqlx::PgPool;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::dead;
use super::dead_metrics::{DeadLetterMetrics, Dropped};
use super::headers::from_table;
use super::link::Live;
use super::session::{Role, Session};
use super::topology::Queue;
use crate::domain::message::{WorkMessage, WorkQueue};
use crate::runtime::telemetry::chain;
use crate::store::StoreResult;
use crate::store::dead_queues::{self, CopyOf, Looked};

/// How often is asked whether there is something to tidy.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// How long ago a letter must have been settled, in seconds: its transaction and what was on its
/// way have ended by then.
const SETTLED_FOR_S: f64 = 2.0;
/// The most messages of one look.
const LOOK: u16 = 50_000;
/// The longest look.
const LONGEST_LOOK: Duration = Duration::from_secs(30);
/// How long the next message may take to come.
const LONGEST_SILENCE: Duration = Duration::from_secs(2);
/// An answer that takes longer comes from a broker that is not there any more.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The tidy pass of this process.
pub struct Tidy {
    session: Session,
    pool: PgPool,
    metrics: DeadLetterMetrics,
}

/// What a look found in a queue.
struct Look {
    channel: Channel,
    copies: Vec<(u64, Copy)>,
    /// It came to the end of the queue.
    complete: bool,
}

/// What is to be known of a message in a dead queue, so that its letter is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copy {
    /// A letter of ours.
    Ours(Uuid),
    /// A letter of the broker about something of ours.
    Brokers(&'static str, Uuid, i32),
    /// A letter of the broker whose bytes are no message of ours: nobody can tell which.
    Nameless,
    /// Nothing that belongs here.
    Stranger,
}

impl Tidy {
    /// A pass over the dead queues of a session.
    #[must_use]
    pub const fn new(session: Session, pool: PgPool, metrics: DeadLetterMetrics) -> Self {
        Self {
            session,
            pool,
            metrics,
        }
    }

    /// Looks until `stopping`.
    pub async fn run(self, stopping: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(ASK_EVERY) => {}
                () = stopping.cancelled() => return,
            }
            // Without a broker there is nothing to look at, and no lease to waste on it.
            let Some(live) = self.session.live(Role::Consume) else {
                continue;
            };
            let queues = async {
                let mut conn = self.pool.acquire().await?;
                dead_queues::take_untidy(&mut conn, SETTLED_FOR_S).await
            };
            match queues.await {
                Ok(queues) => {
                    for queue in queues {
                        self.tidy(&live, &queue).await;
                    }
                }
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "dead queues cannot be tidied now");
                }
            }
        }
    }

    async fn tidy(&self, live: &Live, name: &str) {
        let looked = async {
            let queue = WorkQueue::by_name(name);
            let wanted =
                dead_queues::untidy_letters(&mut *self.pool.acquire().await?, name, SETTLED_FOR_S)
                    .await?;
            let look = match queue {
                Some(queue) if !wanted.is_empty() => {
                    look(live, self.session.topology().queue(Queue::Dead(queue))).await
                }
                _ => None,
            };
            let Some(look) = look else {
                // Nobody looked, so nothing was in vain.
                let mut conn = self.pool.acquire().await?;
                return dead_queues::finish_look(&mut conn, name, &Looked::default()).await;
            };
            let found = self.drop_settled(live, name, &look).await?;
            let (dropped, missing): (Vec<Uuid>, Vec<Uuid>) =
                wanted.into_iter().partition(|id| found.contains(id));
            let looked = Looked {
                in_vain: dropped.is_empty(),
                dropped,
                // A look that did not come to the end proves nothing.
                missing: if look.complete { missing } else { Vec::new() },
            };
            let mut conn = self.pool.acquire().await?;
            dead_queues::finish_look(&mut conn, name, &looked).await
        };
        let result: StoreResult<()> = looked.await;
        if let Err(error) = result {
            tracing::warn!(queue = name, error = %chain(&error), "a dead queue cannot be tidied now");
        }
    }

    /// Drops the copies of settled letters and of nobody's, and gives the rest back. Answers the
    /// letters of ours whose copies it dropped.
    async fn drop_settled(
        &self,
        live: &Live,
        queue: &str,
        look: &Look,
    ) -> StoreResult<HashSet<Uuid>> {
        let decided = self.decide(queue, look).await;
        let drops = match &decided {
            Ok(drops) => drops.as_slice(),
            // Nothing is known, so nothing is dropped.
            Err(_) => &[],
        };
        let mut dropped = HashSet::new();
        if settle(live, look, drops).await.is_some() {
            for (_, letter, why) in drops {
                self.metrics.dropped(*why, 1);
                dropped.extend(letter);
            }
        }
        let closing = look.channel.close(200, "tidied".into());
        let _closed_or_gone = timeout(ANSWER_TIMEOUT, closing).await;
        if !dropped.is_empty() {
            tracing::info!(
                looked_at = look.copies.len(),
                dropped = dropped.len(),
                "a dead queue was tidied"
            );
        }
        decided.map(|_| dropped)
    }

    async fn decide(
        &self,
        queue: &str,
        look: &Look,
    ) -> StoreResult<Vec<(u64, Option<Uuid>, Dropped)>> {
        let ids: Vec<Uuid> = look
            .copies
            .iter()
            .filter_map(|(_, copy)| match copy {
                Copy::Ours(id) => Some(*id),
                _ => None,
            })
            .collect();
        let subjects: Vec<(&'static str, Uuid, i32)> = look
            .copies
            .iter()
            .filter_map(|(_, copy)| match copy {
                Copy::Brokers(kind, subject, generation) => Some((*kind, *subject, *generation)),
                _ => None,
            })
            .collect();
        let mut conn = self.pool.acquire().await?;
        let ours: HashMap<_, _> = dead_queues::letters(&mut conn, &ids)
            .await?
            .into_iter()
            .collect();
        let brokers: HashMap<_, _> = dead_queues::letters_of_subjects(&mut conn, &subjects)
            .await?
            .into_iter()
            .collect();
        let nameless = look.copies.iter().any(|(_, copy)| *copy == Copy::Nameless);
        let nameless_stay = nameless && dead_queues::has_open_nameless(&mut conn, queue).await?;
        let settled = |letter: &Uuid, of: &CopyOf| {
            (*of == CopyOf::Settled).then_some((Some(*letter), Dropped::Settled))
        };
        let fate = |copy: &Copy| match copy {
            Copy::Ours(id) => match ours.get(id) {
                Some(of) => settled(id, of),
                None => Some((None, Dropped::Unknown)),
            },
            Copy::Brokers(kind, subject, generation) => {
                // Without a row: the intake has not come to it yet.
                let subject = ((*kind).to_owned(), *subject, *generation);
                let (letter, of) = brokers.get(&subject)?;
                settled(letter, of)
            }
            Copy::Nameless => (!nameless_stay).then_some((None, Dropped::Settled)),
            Copy::Stranger => Some((None, Dropped::Unknown)),
        };
        Ok(look
            .copies
            .iter()
            .filter_map(|(tag, copy)| {
                let (letter, why) = fate(copy)?;
                Some((*tag, letter, why))
            })
            .collect())
    }
}

/// Takes what lies in a queue, within the bounds. None: the broker is away.
///
/// Through a consumer and not message by message: what several `basic.get` took comes back in
/// another order (seen on 3.10.8: each is a consumer of its own, and their tags are sorted as text).
async fn look(live: &Live, queue: String) -> Option<Look> {
    let channel = live.open_channel().await.ok()?;
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let declare = channel.queue_declare(queue.as_str().into(), passive, FieldTable::default());
    let waiting = answer(live, declare).await?.message_count();
    // Just as many as are wanted: what is on its way to a cancelled consumer would be returned,
    // before its time.
    let wanted = u16::try_from(waiting).unwrap_or(u16::MAX).min(LOOK);
    let mut copies = Vec::with_capacity(usize::from(wanted));
    if wanted > 0 {
        let qos = channel.basic_qos(wanted, BasicQosOptions::default());
        answer(live, qos).await?;
        let consume = channel.basic_consume(
            queue.as_str().into(),
            "posto tidies".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let mut consumer = answer(live, consume).await?;
        let until = Instant::now() + LONGEST_LOOK;
        while copies.len() < usize::from(wanted) {
            // Fewer come when somebody else took some meanwhile.
            let patience = until.min(Instant::now() + LONGEST_SILENCE);
            match timeout_at(patience, consumer.next()).await {
                Ok(Some(Ok(message))) => copies.push((message.delivery_tag, copy_of(&message))),
                Ok(Some(Err(_)) | None) => return None,
                Err(_) => break,
            }
        }
        let cancel = channel.basic_cancel(consumer.tag(), BasicCancelOptions::default());
        answer(live, cancel).await?;
    }
    Some(Look {
        complete: usize::try_from(waiting).is_ok_and(|waiting| copies.len() >= waiting),
        channel,
        copies,
    })
}

/// Acks what is dropped and gives the rest back, as one transaction of the channel; none when the
/// broker did not take it.
///
/// To the queue it is then two commands. One for each copy is more than its client in the broker has
/// under way at a time (32), and what waits there behind them is gone with the channel: seen on
/// 3.10.8, three of four copies lay in their queue again, whose letters were held for tidied.
async fn settle(live: &Live, look: &Look, drops: &[(u64, Option<Uuid>, Dropped)]) -> Option<()> {
    answer(live, look.channel.tx_select()).await?;
    let acked: HashSet<u64> = drops.iter().map(|(tag, ..)| *tag).collect();
    for tag in &acked {
        let ack = look.channel.basic_ack(*tag, BasicAckOptions::default());
        live.guard(ack).await.ok()?;
    }
    // A tag that is acked is none any more: the broker closes the channel over it.
    let kept = look.copies.iter().map(|(tag, _)| tag);
    if let Some(last) = kept.rev().find(|tag| !acked.contains(*tag)) {
        let options = BasicNackOptions {
            multiple: true,
            requeue: true,
        };
        live.guard(look.channel.basic_nack(*last, options))
            .await
            .ok()?;
    }
    answer(live, look.channel.tx_commit()).await
}

async fn answer<T>(live: &Live, call: impl Future<Output = lapin::Result<T>>) -> Option<T> {
    let answered = timeout(ANSWER_TIMEOUT, live.guard(call)).await;
    answered.ok()?.ok()
}

fn copy_of(message: &Delivery) -> Copy {
    let headers = message.properties.headers().as_ref();
    let headers = headers.map(from_table).unwrap_or_default();
    copy(&headers, &message.data)
}

fn copy(headers: &Map<String, Value>, body: &[u8]) -> Copy {
    if let Some(id) = dead::letter_id(headers) {
        return Copy::Ours(id.0);
    }
    let brokers = dead::BrokerDeath::of(headers).is_some();
    match serde_json::from_slice::<WorkMessage>(body) {
        Ok(message) if brokers => {
            let work = &message.work;
            Copy::Brokers(
                work.subject_kind().as_str(),
                work.subject(),
                work.generation(),
            )
        }
        Err(_) if brokers => Copy::Nameless,
        Ok(_) | Err(_) => Copy::Stranger,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::ids::EventId;
    use crate::domain::message::Labels;

    #[test]
    fn a_copy_tells_whose_letter_it_is() {
        let id = Uuid::from_u128(7);
        let headers = |value: Value| value.as_object().cloned().unwrap();
        let trace = "0af7651916cd43dd8448eb211c80319c".parse().unwrap();
        let message = WorkMessage::route(EventId(id), trace, Labels::default());
        let body = serde_json::to_vec(&message).unwrap();
        let death = json!({"x-death": [{"queue": "hub.events.route", "reason": "delivery_limit"}]});
        assert_eq!(
            copy(&headers(json!({"x-letter-id": id})), b"?"),
            Copy::Ours(id)
        );
        assert_eq!(
            copy(&headers(death.clone()), &body),
            Copy::Brokers("event", id, 0)
        );
        assert_eq!(copy(&headers(death), b"?"), Copy::Nameless);
        assert_eq!(copy(&Map::new(), &body), Copy::Stranger);
    }
}
