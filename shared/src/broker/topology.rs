//! The topology as data: which exchanges, queues and bindings there are, and their names.
//!
//! Queue arguments are schema: a change means a new queue name and a drain (design §3). Routing
//! keys are the work queues' unprefixed names everywhere, so that a letter which the broker makes
//! (`x-dead-letter-routing-key`) and one of our own take the same way through `hub.dead`.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::domain::message::WorkQueue;

/// Returns of one message before the broker gives it up. Each return counts, also a lost
/// connection, so a small limit kills the innocent (design §3).
const DELIVERY_LIMIT: i64 = 50;

/// Of the queues that have no way on. Unset means 20 from RabbitMQ 4 on, and −1 drops at the
/// first look on 3.10 (design §3).
const PRACTICALLY_NO_LIMIT: i64 = 1_000_000;

/// Longest prefix, so that no name comes near AMQP's 255 bytes.
const MAX_PREFIX: usize = 64;

/// An exchange by its role. All are durable and direct.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exchange {
    /// Events to be routed.
    Events,
    /// Deliveries, by channel.
    Deliveries,
    /// Receipts to be applied.
    Receipts,
    /// Dead letters, the broker's and ours.
    Dead,
}

impl Exchange {
    /// Every exchange.
    pub const ALL: [Self; 4] = [Self::Events, Self::Deliveries, Self::Receipts, Self::Dead];

    /// The exchange that feeds a work queue.
    #[must_use]
    pub const fn of(queue: WorkQueue) -> Self {
        match queue {
            WorkQueue::Route => Self::Events,
            WorkQueue::Deliver(_) => Self::Deliveries,
            WorkQueue::Receipts => Self::Receipts,
        }
    }

    const fn base_name(self) -> &'static str {
        match self {
            Self::Events => "hub.events",
            Self::Deliveries => "hub.deliveries",
            Self::Receipts => "hub.receipts",
            Self::Dead => "hub.dead",
        }
    }
}

/// A queue by its role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Queue {
    /// A work queue.
    Work(WorkQueue),
    /// The dead letters of a work queue; they stay until redriven or discarded.
    Dead(WorkQueue),
    /// A copy of every dead letter, for recording those that the broker made.
    Intake,
}

impl Queue {
    /// Every queue.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let work = WorkQueue::ALL.into_iter().map(Self::Work);
        let dead = WorkQueue::ALL.into_iter().map(Self::Dead);
        work.chain(dead).chain([Self::Intake]).collect()
    }

    /// The name without the prefix; also the closed metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        use crate::domain::channel::Channel;
        match self {
            Self::Work(queue) => queue.name(),
            Self::Dead(WorkQueue::Route) => "hub.events.route.dead",
            Self::Dead(WorkQueue::Deliver(Channel::Whatsapp)) => "hub.deliveries.whatsapp.dead",
            Self::Dead(WorkQueue::Deliver(Channel::Chat)) => "hub.deliveries.chat.dead",
            Self::Dead(WorkQueue::Deliver(Channel::Email)) => "hub.deliveries.email.dead",
            Self::Dead(WorkQueue::Receipts) => "hub.receipts.dead",
            Self::Intake => "hub.dead.intake",
        }
    }
}

/// Where an outbox row goes.
///
/// Its text, as kept in `outbox.target`, is the work queue's name, or `dead:` and that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// To a work queue.
    Work(WorkQueue),
    /// A dead letter of our own making, to the dead queue of a work queue.
    Letter(WorkQueue),
}

/// The text names no target that this build knows (a newer one wrote it).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown outbox target")]
pub struct UnknownTarget;

impl Target {
    /// The exchange to publish to.
    #[must_use]
    pub const fn exchange(self) -> Exchange {
        match self {
            Self::Work(queue) => Exchange::of(queue),
            Self::Letter(_) => Exchange::Dead,
        }
    }

    /// The routing key to publish with.
    #[must_use]
    pub const fn routing_key(self) -> &'static str {
        match self {
            Self::Work(queue) | Self::Letter(queue) => queue.name(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Work(queue) => f.write_str(queue.name()),
            Self::Letter(queue) => write!(f, "dead:{}", queue.name()),
        }
    }
}

impl FromStr for Target {
    type Err = UnknownTarget;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let target = match text.strip_prefix("dead:") {
            Some(name) => WorkQueue::by_name(name).map(Self::Letter),
            None => WorkQueue::by_name(text).map(Self::Work),
        };
        target.ok_or(UnknownTarget)
    }
}

/// The names of everything, under one prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    prefix: String,
}

/// The prefix cannot be part of a queue's name; mend the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a topology prefix has at most {MAX_PREFIX} characters out of a-z, 0-9, '.', '-' and '_'")]
pub struct InvalidPrefix;

impl Topology {
    /// The topology whose every exchange and queue name starts with `prefix` (may be empty).
    ///
    /// # Errors
    /// The prefix has characters or a length that names must not have; refuse to start.
    pub fn new(prefix: &str) -> Result<Self, InvalidPrefix> {
        let lawful =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
        if prefix.len() > MAX_PREFIX || !prefix.chars().all(lawful) {
            return Err(InvalidPrefix);
        }
        Ok(Self {
            prefix: prefix.to_owned(),
        })
    }

    /// The name of an exchange on the broker.
    #[must_use]
    pub fn exchange(&self, exchange: Exchange) -> String {
        format!("{}{}", self.prefix, exchange.base_name())
    }

    /// The name of a queue on the broker.
    #[must_use]
    pub fn queue(&self, queue: Queue) -> String {
        format!("{}{}", self.prefix, queue.label())
    }

    /// Every queue with its arguments.
    #[must_use]
    pub fn queues(&self) -> Vec<QueueSpec> {
        Queue::all()
            .into_iter()
            .map(|queue| QueueSpec {
                name: self.queue(queue),
                arguments: self.arguments(queue),
            })
            .collect()
    }

    /// Every binding.
    #[must_use]
    pub fn bindings(&self) -> Vec<BindingSpec> {
        let bind = |queue, exchange, key: WorkQueue| BindingSpec {
            queue: self.queue(queue),
            exchange: self.exchange(exchange),
            routing_key: key.name(),
        };
        WorkQueue::ALL
            .into_iter()
            .flat_map(|work| {
                [
                    bind(Queue::Work(work), Exchange::of(work), work),
                    bind(Queue::Dead(work), Exchange::Dead, work),
                    bind(Queue::Intake, Exchange::Dead, work),
                ]
            })
            .collect()
    }

    fn arguments(&self, queue: Queue) -> Vec<(&'static str, Argument)> {
        let quorum = ("x-queue-type", Argument::Text("quorum".to_owned()));
        let Queue::Work(work) = queue else {
            return vec![
                quorum,
                ("x-delivery-limit", Argument::Number(PRACTICALLY_NO_LIMIT)),
            ];
        };
        let text = |text: &str| Argument::Text(text.to_owned());
        vec![
            quorum,
            ("x-delivery-limit", Argument::Number(DELIVERY_LIMIT)),
            (
                "x-dead-letter-exchange",
                Argument::Text(self.exchange(Exchange::Dead)),
            ),
            ("x-dead-letter-routing-key", text(work.name())),
            ("x-dead-letter-strategy", text("at-least-once")),
            ("x-overflow", text("reject-publish")),
        ]
    }
}

/// A durable queue to declare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueueSpec {
    /// Its name, prefixed.
    pub name: String,
    /// Its `x-` arguments.
    pub arguments: Vec<(&'static str, Argument)>,
}

/// The value of a queue argument.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Argument {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
}

/// A binding to declare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BindingSpec {
    /// The queue, prefixed.
    pub queue: String,
    /// The exchange, prefixed.
    pub exchange: String,
    /// The routing key, never prefixed.
    pub routing_key: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_arguments_are_schema_and_do_not_change_by_accident() {
        insta::assert_json_snapshot!(Topology::default().queues());
    }

    #[test]
    fn a_dead_letter_reaches_the_dead_queue_of_its_work_queue_and_the_intake() {
        let topology = Topology::new("t1.").unwrap();
        for work in WorkQueue::ALL {
            let reached: Vec<_> = topology
                .bindings()
                .into_iter()
                .filter(|b| b.exchange == "t1.hub.dead" && b.routing_key == work.name())
                .map(|b| b.queue)
                .collect();
            let dead = format!("t1.{}.dead", work.name());
            assert_eq!(reached, [dead, "t1.hub.dead.intake".to_owned()]);
        }
    }

    #[test]
    fn the_dead_queue_is_named_after_its_work_queue() {
        for work in WorkQueue::ALL {
            let dead = Queue::Dead(work).label();
            assert_eq!(dead, format!("{}.dead", work.name()));
        }
    }

    #[test]
    fn a_target_reads_back_what_it_wrote() {
        for queue in WorkQueue::ALL {
            for target in [Target::Work(queue), Target::Letter(queue)] {
                assert_eq!(target.to_string().parse(), Ok(target));
            }
        }
        assert_eq!("dead:hub.nothing".parse::<Target>(), Err(UnknownTarget));
    }

    #[test]
    fn a_prefix_that_could_not_be_part_of_a_name_is_refused() {
        for prefix in ["a b", "Ä", "A", &"x".repeat(65)] {
            assert_eq!(Topology::new(prefix), Err(InvalidPrefix), "{prefix}");
        }
    }
}
