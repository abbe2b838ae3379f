//! The gauges of the service as a whole, kept by ingest from one look at the database. Several
//! instances tell the same numbers: rules and dashboards take the greatest.

use std::collections::BTreeSet;
use std::sync::Mutex;

use prometheus::{Gauge, GaugeVec, IntGauge, IntGaugeVec, Opts, Registry, core::Collector};

use crate::ledger::{FINDINGS, Look};

/// What a look is shown as.
pub(crate) struct LedgerMetrics {
    events: IntGaugeVec,
    deliveries: IntGaugeVec,
    imbalance: IntGauge,
    findings: IntGaugeVec,
    backlog_depth: IntGaugeVec,
    backlog_oldest: GaugeVec,
    unknown_open: IntGauge,
    unknown_oldest: Gauge,
    letters: IntGaugeVec,
    outbox_depth: IntGauge,
    outbox_oldest: Gauge,
    /// Label pairs that were shown once stay, at 0: a series that vanishes cannot be compared.
    shown: Mutex<Shown>,
}

#[derive(Default)]
struct Shown {
    backlog: BTreeSet<(String, String)>,
    letters: BTreeSet<(String, String)>,
}

/// What waits in which queue in which state, from the start.
const BACKLOG: [(&str, &str); 13] = [
    ("hub.events.route", "unrouted"),
    ("hub.deliveries.whatsapp", "queued"),
    ("hub.deliveries.whatsapp", "retry"),
    ("hub.deliveries.whatsapp", "held"),
    ("hub.deliveries.whatsapp", "claimed"),
    ("hub.deliveries.whatsapp", "unknown"),
    ("hub.deliveries.chat", "queued"),
    ("hub.deliveries.chat", "retry"),
    ("hub.deliveries.chat", "held"),
    ("hub.deliveries.chat", "claimed"),
    ("hub.deliveries.chat", "unknown"),
    ("hub.receipts", "pending"),
    ("hub.receipts", "unbound"),
];

impl LedgerMetrics {
    /// Registers the gauges.
    ///
    /// # Errors
    /// A name is taken on this registry.
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let labelled = |name: &str, help: &str, labels: &[&str]| {
            IntGaugeVec::new(Opts::new(name, help), labels)
        };
        let metrics = Self {
            events: labelled(
                "hub_ledger_events",
                "Events by whether they have their routing; together all that were ever accepted.",
                &["state"],
            )?,
            deliveries: labelled(
                "hub_ledger_deliveries",
                "Deliveries by state, all counted and none derived.",
                &["state"],
            )?,
            imbalance: IntGauge::new(
                "hub_ledger_imbalance",
                "Rows that contradict each other; 0 at rest.",
            )?,
            findings: labelled(
                "hub_ledger_findings",
                "Rows that contradict each other, by what is wrong; 0 at rest.",
                &["finding"],
            )?,
            backlog_depth: labelled(
                "hub_backlog_depth",
                "Work that waits, as the database sees it, by queue and state.",
                &["queue", "state"],
            )?,
            backlog_oldest: GaugeVec::new(
                Opts::new(
                    "hub_backlog_oldest_seconds",
                    "The longest wait of that work in seconds.",
                ),
                &["queue", "state"],
            )?,
            unknown_open: IntGauge::new(
                "hub_unknown_open",
                "Deliveries whose outcome is unknown and not settled.",
            )?,
            unknown_oldest: Gauge::new(
                "hub_unknown_oldest_seconds",
                "How long the oldest of them has been so, in seconds.",
            )?,
            letters: labelled(
                "hub_dead_letters_open",
                "Dead letters that nobody has redriven or discarded, by queue and failure code.",
                &["queue", "failure_code"],
            )?,
            outbox_depth: IntGauge::new("hub_outbox_depth", "Messages that wait in the outbox.")?,
            outbox_oldest: Gauge::new(
                "hub_outbox_oldest_seconds",
                "Age of the oldest message in the outbox, in seconds.",
            )?,
            shown: Mutex::default(),
        };
        let all: [Box<dyn Collector>; 11] = [
            Box::new(metrics.events.clone()),
            Box::new(metrics.deliveries.clone()),
            Box::new(metrics.imbalance.clone()),
            Box::new(metrics.findings.clone()),
            Box::new(metrics.backlog_depth.clone()),
            Box::new(metrics.backlog_oldest.clone()),
            Box::new(metrics.unknown_open.clone()),
            Box::new(metrics.unknown_oldest.clone()),
            Box::new(metrics.letters.clone()),
            Box::new(metrics.outbox_depth.clone()),
            Box::new(metrics.outbox_oldest.clone()),
        ];
        for collector in all {
            registry.register(collector)?;
        }
        Ok(metrics)
    }

    /// Shows what a look saw.
    pub(crate) fn show(&self, look: &Look) {
        self.events.with_label_values(&["routed"]).set(look.routed);
        self.events
            .with_label_values(&["unrouted"])
            .set(look.unrouted);
        for (state, count) in &look.deliveries {
            if let Some(count) = count {
                self.deliveries.with_label_values(&[state]).set(*count);
            }
        }
        self.imbalance.set(look.imbalance());
        for (finding, _) in FINDINGS {
            let count = look.wrong.get(finding).map_or(0, |found| found.count);
            self.findings.with_label_values(&[finding]).set(count);
        }
        self.outbox_depth.set(look.outbox.0);
        self.outbox_oldest.set(look.outbox.1);
        let unknown = || look.waiting.iter().filter(|w| w.state == "unknown");
        self.unknown_open.set(unknown().map(|w| w.depth).sum());
        self.unknown_oldest
            .set(unknown().map(|w| w.oldest_s).fold(0.0, f64::max));
        let Ok(mut shown) = self.shown.lock() else {
            return;
        };
        self.show_backlog(look, &mut shown.backlog);
        self.show_letters(look, &mut shown.letters);
    }

    fn show_backlog(&self, look: &Look, shown: &mut BTreeSet<(String, String)>) {
        let known = BACKLOG.map(|(queue, state)| (queue.to_owned(), state.to_owned()));
        shown.extend(known);
        let pairs = look.waiting.iter();
        shown.extend(pairs.map(|w| (w.queue.clone(), w.state.clone())));
        for (queue, state) in shown.iter() {
            let waits = look
                .waiting
                .iter()
                .find(|w| w.queue == *queue && w.state == *state);
            self.backlog_depth
                .with_label_values(&[queue, state])
                .set(waits.map_or(0, |w| w.depth));
            self.backlog_oldest
                .with_label_values(&[queue, state])
                .set(waits.map_or(0.0, |w| w.oldest_s));
        }
    }

    fn show_letters(&self, look: &Look, shown: &mut BTreeSet<(String, String)>) {
        let pairs = look.letters.iter();
        shown.extend(pairs.map(|l| (l.queue.clone(), l.failure_code.clone())));
        for (queue, code) in shown.iter() {
            let open = look
                .letters
                .iter()
                .find(|l| l.queue == *queue && l.failure_code == *code)
                .map_or(0, |l| l.open);
            self.letters.with_label_values(&[queue, code]).set(open);
        }
    }
}
