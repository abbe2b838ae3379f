//! Counts of dead letters: recorded, settled, and copies dropped.

use prometheus::{IntCounterVec, Opts, Registry};

use crate::store::outbox::OutboxRow;

/// What becomes of a letter, as the label of `hub_dead_letters_settled_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Redriven through the API.
    Redriven,
    /// Discarded through the API.
    Discarded,
    /// Its subject reached its end by another way.
    Superseded,
    /// Moved back to its work queue by a person.
    ByHand,
    /// Tried once more, alone, after the broker gave its message up.
    RetriedAlone,
}

impl Action {
    /// The closed label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Redriven => "redriven",
            Self::Discarded => "discarded",
            Self::Superseded => "superseded",
            Self::ByHand => "by_hand",
            Self::RetriedAlone => "retried_alone",
        }
    }
}

/// Why a copy of a letter is dropped, as the label of `hub_dead_letter_copies_dropped_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// Tidied out of its dead queue: its letter is settled.
    Settled,
    /// Nobody knows its letter.
    Unknown,
    /// Moved back by a person, but its letter is settled or its subject moved on.
    MovedOn,
    /// Moved back by a person, but it may not be redriven as it is; it lies in its dead queue again.
    Refused,
}

impl Dropped {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Unknown => "unknown",
            Self::MovedOn => "moved_on",
            Self::Refused => "refused",
        }
    }
}

/// The counters; clones share them.
#[derive(Clone, Debug)]
pub struct DeadLetterMetrics {
    recorded: IntCounterVec,
    settled: IntCounterVec,
    dropped: IntCounterVec,
}

impl DeadLetterMetrics {
    /// Registers the counters.
    ///
    /// # Errors
    /// A name is taken on this registry.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        Ok(Self {
            recorded: counter(
                "hub_dead_letters_recorded_total",
                "Dead letters recorded, by work queue, failure code and who made them.",
                &["queue", "failure_code", "made_by"],
            )?,
            settled: counter(
                "hub_dead_letters_settled_total",
                "Dead letters settled, by what became of them.",
                &["action"],
            )?,
            dropped: counter(
                "hub_dead_letter_copies_dropped_total",
                "Copies of dead letters dropped, by why.",
                &["reason"],
            )?,
        })
    }

    /// Counts the letters among rows that were just committed: each tells itself what it is.
    pub fn recorded(&self, rows: &[OutboxRow]) {
        for row in rows {
            let Some(queue) = row.target.strip_prefix("dead:") else {
                continue;
            };
            let code = row
                .headers
                .as_ref()
                .and_then(|headers| headers.get("x-failure-code")?.as_str())
                .unwrap_or_default();
            self.recorded
                .with_label_values(&[queue, code, "posto"])
                .inc();
        }
    }

    /// Counts a letter that the broker made.
    pub fn recorded_of_broker(&self, queue: &str, code: &str) {
        self.recorded
            .with_label_values(&[queue, code, "broker"])
            .inc();
    }

    /// Counts settled letters.
    pub fn settled(&self, action: Action, letters: u64) {
        if letters > 0 {
            self.settled
                .with_label_values(&[action.as_str()])
                .inc_by(letters);
        }
    }

    /// Counts dropped copies.
    pub fn dropped(&self, why: Dropped, copies: u64) {
        if copies > 0 {
            self.dropped
                .with_label_values(&[why.as_str()])
                .inc_by(copies);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn row(target: &str, headers: Option<Value>) -> OutboxRow {
        OutboxRow {
            id: 1,
            target: target.to_owned(),
            body: crate::store::outbox::MessageJson::default(),
            headers,
            leased_at: std::time::Instant::now(),
        }
    }

    #[test]
    fn only_letters_among_the_rows_are_counted() {
        let metrics = DeadLetterMetrics::register(&Registry::new()).unwrap();
        let headers = Some(json!({"x-failure-code": "panicked"}));
        metrics.recorded(&[
            row("hub.deliveries.chat", None),
            row("dead:hub.deliveries.chat", headers),
        ]);
        let counted =
            metrics
                .recorded
                .with_label_values(&["hub.deliveries.chat", "panicked", "posto"]);
        assert_eq!(counted.get(), 1);
    }
}
