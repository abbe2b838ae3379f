//! The broker as this process sees it, told at each scrape: its two connections, and the consumer
//! of each queue.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts, Registry};

use super::consumer::{ConsumerState, ConsumerView};
use super::session::{LinkState, Session};
use super::topology::Queue;

/// Reads the state of connections and consumers when it is scraped.
struct Witness {
    session: Session,
    consumers: Vec<(Queue, ConsumerView)>,
    up: IntGaugeVec,
    blocked: IntGaugeVec,
    attached: IntGaugeVec,
    holding: IntGaugeVec,
}

/// Registers the metrics of the connections and of these consumers.
///
/// # Errors
/// A name is taken on the registry.
pub fn register(
    registry: &Registry,
    session: &Session,
    consumers: Vec<(Queue, ConsumerView)>,
) -> Result<(), prometheus::Error> {
    let witness = Witness {
        session: session.clone(),
        consumers,
        up: IntGaugeVec::new(
            Opts::new(
                "hub_broker_link_up",
                "1 while the connection to the broker stands, blocked or not.",
            ),
            &["role"],
        )?,
        blocked: IntGaugeVec::new(
            Opts::new(
                "hub_broker_link_blocked",
                "1 while the broker takes no publishes (memory or disk alarm).",
            ),
            &["role"],
        )?,
        attached: IntGaugeVec::new(
            Opts::new(
                "hub_consumers_attached",
                "1 while this process consumes the queue.",
            ),
            &["queue"],
        )?,
        holding: IntGaugeVec::new(
            Opts::new(
                "hub_consumers_holding",
                "1 while this process starts no new work of the queue, because a dependency is unwell.",
            ),
            &["queue"],
        )?,
    };
    registry.register(Box::new(witness))
}

impl Witness {
    fn parts(&self) -> [&IntGaugeVec; 4] {
        [&self.up, &self.blocked, &self.attached, &self.holding]
    }

    fn refresh(&self) {
        let links = [
            ("publish", *self.session.publishing().borrow()),
            ("consume", *self.session.consuming().borrow()),
        ];
        for (role, state) in links {
            let up = !matches!(state, LinkState::Down { .. });
            let blocked = matches!(state, LinkState::Blocked { .. });
            self.up.with_label_values(&[role]).set(i64::from(up));
            self.blocked
                .with_label_values(&[role])
                .set(i64::from(blocked));
        }
        for (queue, view) in &self.consumers {
            let state = view.state();
            self.attached
                .with_label_values(&[queue.label()])
                .set(i64::from(state != ConsumerState::Down));
            self.holding
                .with_label_values(&[queue.label()])
                .set(i64::from(state == ConsumerState::Holding));
        }
    }
}

impl Collector for Witness {
    fn desc(&self) -> Vec<&Desc> {
        self.parts().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.refresh();
        self.parts()
            .into_iter()
            .flat_map(Collector::collect)
            .collect()
    }
}
