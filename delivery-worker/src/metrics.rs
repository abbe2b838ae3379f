//! The delivery-worker's own metrics. The doc comment of each field is its help text.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
    core::Collector,
};
use shared::broker::dead_metrics::DeadLetterMetrics;
use shared::domain::failure::{FailureClass, FailureCode};
use shared::domain::ids::EventId;
use shared::runtime::vitals::unix_seconds;
use uuid::Uuid;

/// From a fraction of a second to a day: a number may be down for a night.
const LATENCY_BUCKETS: [f64; 14] = [
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 86_400.0,
];

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
    /// Seconds from an event's receipt to a stage of its delivery.
    latency: HistogramVec,
    /// Messages that the gateway took, by sending account.
    session_sends: IntCounterVec,
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
            latency: HistogramVec::new(
                HistogramOpts::new(
                    "hub_delivery_latency_seconds",
                    "Seconds from an event's receipt to a stage of its delivery.",
                )
                .buckets(LATENCY_BUCKETS.to_vec()),
                &["channel", "stage"],
            )?,
            session_sends: IntCounterVec::new(
                Opts::new(
                    "hub_session_sends_total",
                    "Messages that the gateway took, by sending account.",
                ),
                &["channel_account"],
            )?,
        };
        let all: [Box<dyn Collector>; 11] = [
            Box::new(metrics.attempts.clone()),
            Box::new(metrics.send_duration.clone()),
            Box::new(metrics.stale_copies.clone()),
            Box::new(metrics.receipts.clone()),
            Box::new(metrics.moved.clone()),
            Box::new(metrics.session_up.clone()),
            Box::new(metrics.held.clone()),
            Box::new(metrics.release_leader.clone()),
            Box::new(metrics.released.clone()),
            Box::new(metrics.latency.clone()),
            Box::new(metrics.session_sends.clone()),
        ];
        for collector in all {
            registry.register(collector)?;
        }
        metrics.begin();
        Ok(metrics)
    }

    /// Every outcome that rules watch begins at 0: Prometheus does not see the first count of a
    /// series that begins with it.
    fn begin(&self) {
        self.attempts.with_label_values(&["sent", "none"]);
        self.attempts.with_label_values(&["not_sent", "none"]);
        for code in FailureCode::ALL {
            let outcomes: &[&str] = match code.class() {
                FailureClass::Transient | FailureClass::Throttled => &["retry", "failed"],
                FailureClass::SessionDown | FailureClass::Away | FailureClass::Config => &["held"],
                FailureClass::UnknownOutcome => &["unknown"],
                FailureClass::Recipient | FailureClass::Content | FailureClass::Internal => {
                    &["failed"]
                }
            };
            for outcome in outcomes {
                self.attempts.with_label_values(&[outcome, code.as_str()]);
            }
        }
        for outcome in ["applied", "unbound"] {
            self.receipts.with_label_values(&[outcome]);
        }
        for state in ["sent", "delivered", "read", "failed"] {
            self.moved.with_label_values(&[state]);
        }
        for stage in ["requested", "sent", "delivered", "read"] {
            self.latency.with_label_values(&["whatsapp", stage]);
        }
        self.latency.with_label_values(&["chat", "delivered"]);
        for lane in ["reply", "notice", "bulk"] {
            self.released.with_label_values(&[lane]);
        }
    }

    /// Observes that a delivery has reached a stage: `requested` (its first request begins), `sent`,
    /// `delivered` or `read`. The event's id tells when it was received, so nothing is looked up.
    pub(crate) fn reached(&self, channel: &str, stage: &str, event_id: Uuid) {
        if let Some(received_at) = EventId(event_id).received_at_s() {
            self.latency
                .with_label_values(&[channel, stage])
                .observe((unix_seconds() - received_at).max(0.0));
        }
    }

    /// Counts a message that the gateway took of an account.
    pub(crate) fn sent_by(&self, channel_account: Option<&str>) {
        if let Some(account) = channel_account {
            self.session_sends.with_label_values(&[account]).inc();
        }
    }

    /// Counts an attempt.
    pub(crate) fn attempt(&self, outcome: &str, failure_code: Option<&str>) {
        self.attempts
            .with_label_values(&[outcome, failure_code.unwrap_or("none")])
            .inc();
    }
}
