//! The router-worker's own metrics. The doc comment of each field is its help text.

use prometheus::{
    Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry, core::Collector,
};
use shared::broker::dead_metrics::DeadLetterMetrics;
use shared::store::deliveries::NewDelivery;

/// The metrics of this process.
pub(crate) struct Metrics {
    /// Events decided, by the state of their routing.
    events_routed: IntCounterVec,
    /// Deliveries planned, by channel and first state.
    deliveries_planned: IntCounterVec,
    /// Seconds from an event's receipt to its stored decision.
    pub(crate) route_latency: Histogram,
    /// Dead letters.
    pub(crate) letters: DeadLetterMetrics,
    /// Events that a sending account's session told, by kind.
    session_heard: IntCounterVec,
    /// Decisions about Asaas's events that wait for somebody to say whose they are.
    pub(crate) unresolved: IntGauge,
}

impl Metrics {
    /// Registers the metrics.
    ///
    /// # Errors
    /// A name is taken on this registry.
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            letters: DeadLetterMetrics::register(registry)?,
            events_routed: IntCounterVec::new(
                Opts::new(
                    "hub_events_routed_total",
                    "Events decided, by the state of their routing.",
                ),
                &["outcome"],
            )?,
            deliveries_planned: IntCounterVec::new(
                Opts::new(
                    "hub_deliveries_planned_total",
                    "Deliveries planned, by channel and first state.",
                ),
                &["channel", "state"],
            )?,
            route_latency: Histogram::with_opts(
                HistogramOpts::new(
                    "hub_route_latency_seconds",
                    "Seconds from an event's receipt to its stored decision.",
                )
                .buckets(vec![
                    0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0,
                ]),
            )?,
            session_heard: IntCounterVec::new(
                Opts::new(
                    "hub_session_heard_total",
                    "Events that a sending account's session told, by kind.",
                ),
                &["channel_account", "kind"],
            )?,
            unresolved: IntGauge::new(
                "hub_events_unresolved",
                "Decisions about Asaas's events that wait for somebody to say whose they are.",
            )?,
        };
        let all: [Box<dyn Collector>; 5] = [
            Box::new(metrics.unresolved.clone()),
            Box::new(metrics.events_routed.clone()),
            Box::new(metrics.deliveries_planned.clone()),
            Box::new(metrics.route_latency.clone()),
            Box::new(metrics.session_heard.clone()),
        ];
        for collector in all {
            registry.register(collector)?;
        }
        for outcome in ["routed", "unrouted", "failed"] {
            metrics.events_routed.with_label_values(&[outcome]);
        }
        Ok(metrics)
    }

    /// Counts what a session told.
    pub(crate) fn heard(&self, channel_account: &str, kind: &str) {
        self.session_heard
            .with_label_values(&[channel_account, kind])
            .inc();
    }

    /// Counts a decision and what it planned.
    pub(crate) fn routed(&self, state: &str, deliveries: &[NewDelivery]) {
        self.events_routed.with_label_values(&[state]).inc();
        for delivery in deliveries {
            self.deliveries_planned
                .with_label_values(&[delivery.channel.as_str(), delivery.state.as_str()])
                .inc();
        }
    }
}
