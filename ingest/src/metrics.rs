//! Ingest's own metrics. The doc comment of each field is its help text.

use prometheus::{
    Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry, core::Collector,
};
use shared::broker::dead_metrics::DeadLetterMetrics;
use shared::domain::module::{Mode, Module};
use shared::source;

use crate::api::problem::Code;
use crate::pixelhub;

/// The metrics of this process.
pub(crate) struct Metrics {
    /// Events answered as accepted, by source and whether they were new.
    pub(crate) accepted: IntCounterVec,
    /// Requests refused, by door and code.
    pub(crate) refused: IntCounterVec,
    /// Answers to Asaas, by HTTP status; fifteen in a row that are not 200 stop its queue.
    pub(crate) asaas_answers: IntCounterVec,
    /// Authentic noise that is counted and not stored, by reason.
    pub(crate) dropped: IntCounterVec,
    /// Requests to PixelHub's addresses, by module and who served it.
    pub(crate) module_requests: IntCounterVec,
    /// Requests of modules that are off, by what came of passing them on to PixelHub.
    pub(crate) passed_on: IntCounterVec,
    /// Seconds from the request's body to its answer.
    pub(crate) accept_duration: Histogram,
    /// Dead letters.
    pub(crate) letters: DeadLetterMetrics,
    /// Deliveries of unknown outcome that an operator settled, by what was found out.
    pub(crate) settled_by_hand: IntCounterVec,
    /// Whole weeks of event partitions that lie ahead.
    pub(crate) partitions_ahead: IntGauge,
}

impl Metrics {
    /// Registers the metrics.
    ///
    /// # Errors
    /// A name is taken on this registry.
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            letters: DeadLetterMetrics::register(registry)?,
            settled_by_hand: IntCounterVec::new(
                Opts::new(
                    "hub_deliveries_settled_by_hand_total",
                    "Deliveries of unknown outcome that an operator settled, by what was found out.",
                ),
                &["outcome"],
            )?,
            accepted: IntCounterVec::new(
                Opts::new(
                    "hub_events_accepted_total",
                    "Events answered as accepted, by source and whether they were new.",
                ),
                &["source", "outcome"],
            )?,
            refused: IntCounterVec::new(
                Opts::new(
                    "hub_requests_refused_total",
                    "Requests refused, by door and code.",
                ),
                &["door", "code"],
            )?,
            asaas_answers: IntCounterVec::new(
                Opts::new(
                    "hub_asaas_answers_total",
                    "Answers to Asaas, by HTTP status; fifteen in a row that are not 200 stop its queue.",
                ),
                &["status"],
            )?,
            dropped: IntCounterVec::new(
                Opts::new(
                    "hub_webhook_dropped_total",
                    "Authentic noise that is counted and not stored, by reason.",
                ),
                &["reason"],
            )?,
            module_requests: IntCounterVec::new(
                Opts::new(
                    "hub_module_requests_total",
                    "Requests to PixelHub's addresses, by module and who served it.",
                ),
                &["module", "mode"],
            )?,
            passed_on: IntCounterVec::new(
                Opts::new(
                    "hub_pixelhub_passed_on_total",
                    "Requests of modules that are off, by what came of passing them on to PixelHub.",
                ),
                &["outcome"],
            )?,
            accept_duration: Histogram::with_opts(
                HistogramOpts::new(
                    "hub_accept_duration_seconds",
                    "Seconds from the request's body to its answer.",
                )
                .buckets(vec![
                    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0,
                ]),
            )?,
            partitions_ahead: IntGauge::new(
                "hub_event_partitions_ahead",
                "Whole weeks of event partitions that lie ahead.",
            )?,
        };
        let all: [Box<dyn Collector>; 9] = [
            Box::new(metrics.module_requests.clone()),
            Box::new(metrics.passed_on.clone()),
            Box::new(metrics.asaas_answers.clone()),
            Box::new(metrics.settled_by_hand.clone()),
            Box::new(metrics.accepted.clone()),
            Box::new(metrics.refused.clone()),
            Box::new(metrics.dropped.clone()),
            Box::new(metrics.accept_duration.clone()),
            Box::new(metrics.partitions_ahead.clone()),
        ];
        for collector in all {
            registry.register(collector)?;
        }
        // What rules watch begins at 0: Prometheus does not see the first count of a series that
        // begins with it.
        let own = [
            "events",
            "wpp_gateway",
            "delivery_status",
            "asaas",
            pixelhub::DOOR,
        ];
        let registered = source::doors().map(|(source, _)| source.name());
        for door in own.into_iter().chain(registered) {
            for code in [
                Code::Unauthenticated,
                Code::AddressShutOut,
                Code::Unavailable,
                Code::Internal,
            ] {
                metrics.refused.with_label_values(&[door, code.as_str()]);
            }
        }
        metrics.begin_modules();
        for status in ["200", "401", "503"] {
            metrics.asaas_answers.with_label_values(&[status]);
        }
        metrics.accepted.with_label_values(&["asaas", "new"]);
        Ok(metrics)
    }

    fn begin_modules(&self) {
        for module in Module::ALL {
            for mode in Mode::ALL {
                self.module_requests
                    .with_label_values(&[module.as_str(), mode.as_str()]);
            }
        }
        for outcome in pixelhub::PASSED_ON {
            self.passed_on.with_label_values(&[outcome]);
        }
    }
}
