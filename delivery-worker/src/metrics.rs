//! The delivery-worker's own metrics. The doc comment of each field is its help text.

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
    core::Collector,
};
use shared::broker::dead_metrics::DeadLetterMetrics;

/// The metrics of this process.
pub(crate) struct Metrics {
    /// Attempts by outcome and failure code.
    attempts: IntCounterVec,
    /// Seconds a send to the provider took.
    pub(crate) send_duration: Histogram,
    /// Work messages that claimed nothing: another copy did, the delivery moved on, or its account holds it.
    pub(crate) stale_copies: IntCounter,
    /// Receipts by what became of them.
    pub(crate) receipts: IntCounterVec,
    /// Deliveries moved by evidence, by the state they reached.
    pub(crate) moved: IntCounterVec,
    /// 1 while the account's session is not known to be down.
    pub(crate) session_up: IntGaugeVec,
    /// Deliveries that an account holds.
    pub(crate) held: IntGaugeVec,
    /// 1 while this process releases what the account holds.
    pub(crate) release_leader: IntGaugeVec,
    /// Held deliveries released, by lane.
    pub(crate) released: IntCounterVec,
    /// Dead letters.
    pub(crate) letters: DeadLetterMetrics,
}

impl Metrics {
    /// Registers the metrics.
    ///
    /// # Errors
    /// A name is taken on this registry.
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            letters: DeadLetterMetrics::register(registry)?,
            attempts: IntCounterVec::new(
                Opts::new(
                    "hub_delivery_attempts_total",
                    "Attempts by outcome and failure code.",
                ),
                &["outcome", "failure_code"],
            )?,
            send_duration: Histogram::with_opts(
                HistogramOpts::new(
                    "hub_delivery_send_duration_seconds",
                    "Seconds a send to the provider took.",
                )
                .buckets(vec![
                    0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
                ]),
            )?,
            stale_copies: IntCounter::new(
                "hub_delivery_stale_copies_total",
                "Work messages that claimed nothing: another copy did, the delivery moved on, or its account holds it.",
            )?,
            receipts: IntCounterVec::new(
                Opts::new("hub_receipts_total", "Receipts by what became of them."),
                &["outcome"],
            )?,
            moved: IntCounterVec::new(
                Opts::new(
                    "hub_deliveries_moved_total",
                    "Deliveries moved by evidence, by the state they reached.",
                ),
                &["state"],
            )?,
            session_up: IntGaugeVec::new(
                Opts::new(
                    "hub_session_up",
                    "1 while the account's session is not known to be down.",
                ),
                &["channel_account"],
            )?,
            held: IntGaugeVec::new(
                Opts::new("hub_deliveries_held", "Deliveries that an account holds."),
                &["channel_account"],
            )?,
            release_leader: IntGaugeVec::new(
                Opts::new(
                    "hub_release_leader",
                    "1 while this process releases what the account holds.",
                ),
                &["channel_account"],
            )?,
            released: IntCounterVec::new(
                Opts::new(
                    "hub_deliveries_released_total",
                    "Held deliveries released, by lane.",
                ),
                &["lane"],
            )?,
        };
        let all: [Box<dyn Collector>; 9] = [
            Box::new(metrics.attempts.clone()),
            Box::new(metrics.send_duration.clone()),
            Box::new(metrics.stale_copies.clone()),
            Box::new(metrics.receipts.clone()),
            Box::new(metrics.moved.clone()),
            Box::new(metrics.session_up.clone()),
            Box::new(metrics.held.clone()),
            Box::new(metrics.release_leader.clone()),
            Box::new(metrics.released.clone()),
        ];
        for collector in all {
            registry.register(collector)?;
        }
        Ok(metrics)
    }

    /// Counts an attempt.
    pub(crate) fn attempt(&self, outcome: &str, failure_code: Option<&str>) {
        self.attempts
            .with_label_values(&[outcome, failure_code.unwrap_or("none")])
            .inc();
    }
}
