//! What the relay counts.

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry, exponential_buckets,
};

use super::publisher::PublishError;

/// Counters of the relay.
#[derive(Clone, Debug)]
pub struct RelayMetrics {
    /// Messages published and confirmed, by path.
    pub(super) published: IntCounterVec,
    /// Messages not confirmed, by reason; the sweeper tries them again.
    pub(super) failures: IntCounterVec,
    /// Failed calls of the outbox store; they are tried again.
    pub(super) store_failures: IntCounter,
    /// Committed messages that the hot path left to the sweeper.
    pub(super) dropped_hot: IntCounter,
    /// Time from publish to confirm of a chunk.
    pub(super) publish_seconds: Histogram,
}

/// The way that a message took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Path {
    /// Published by the process that committed it.
    Hot,
    /// Found in the outbox.
    Sweep,
}

impl Path {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Sweep => "sweep",
        }
    }
}

impl RelayMetrics {
    /// Registers the metrics; every series exists from the start.
    ///
    /// # Errors
    /// Another metric of the registry has one of the names; a mistake of the program.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            published: IntCounterVec::new(
                Opts::new(
                    "hub_relay_published_total",
                    "Outbox messages published and confirmed.",
                ),
                &["path"],
            )?,
            failures: IntCounterVec::new(
                Opts::new(
                    "hub_relay_failures_total",
                    "Outbox messages not confirmed; the sweeper tries them again.",
                ),
                &["reason"],
            )?,
            store_failures: IntCounter::new(
                "hub_relay_store_failures_total",
                "Failed calls of the outbox table; they are tried again.",
            )?,
            dropped_hot: IntCounter::new(
                "hub_relay_dropped_hot_total",
                "Committed messages that the hot path left to the sweeper.",
            )?,
            publish_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "hub_relay_publish_seconds",
                    "Time from publish to confirm of a chunk of outbox messages.",
                )
                .buckets(exponential_buckets(0.001, 2.0, 14)?),
            )?,
        };
        registry.register(Box::new(metrics.published.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        registry.register(Box::new(metrics.store_failures.clone()))?;
        registry.register(Box::new(metrics.dropped_hot.clone()))?;
        registry.register(Box::new(metrics.publish_seconds.clone()))?;
        for path in [Path::Hot, Path::Sweep] {
            metrics.published.with_label_values(&[path.as_str()]);
        }
        for reason in PublishError::ALL {
            metrics.failures.with_label_values(&[reason.as_str()]);
        }
        Ok(metrics)
    }
}
