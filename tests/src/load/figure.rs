//! The figures: what is done for each, and which numbers of it are told.

use std::time::Duration;

use super::event::Kind;
use super::fleet::Workers;
use super::post::{Load, Pace};

/// What is measured under one name.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it shows.
    pub title: &'static str,
    /// What is posted.
    pub load: Load,
    /// Who works it off.
    pub workers: Workers,
    /// When the workers start.
    pub start: Start,
    /// Whether each message is followed by its echo and three acks.
    pub echo: bool,
    /// What is set up besides.
    pub setup: Setup,
    /// The numbers that are told: name and JSON pointer into the trial.
    pub told: &'static [(&'static str, &'static str)],
}

/// When the workers start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Before the first post.
    Before,
    /// When everything is posted.
    After,
    /// Not at all.
    Never,
}

/// What a trial has besides its posts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
    /// Nothing.
    Plain,
    /// So many events of earlier weeks, routed, delivered and read.
    History(u64),
    /// Strangers post with a wrong key meanwhile, as fast as they are answered.
    Strangers {
        /// Over how many connections.
        connections: u32,
    },
    /// Every so-manieth message is for a recipient at whom the gateway takes so long.
    SlowRecipient {
        /// One of how many events.
        every: u64,
        /// How long its answers take.
        by: Duration,
    },
    /// A rule that makes of each event a message on the thread of an order, besides the WhatsApp
    /// message: of each channel one rule wins, and for these two there is a driver.
    FanOut,
}

impl Setup {
    /// What is posted.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::FanOut => Kind::WithThread,
            Self::Plain
            | Self::History(_)
            | Self::SlowRecipient { .. }
            | Self::Strangers { .. } => Kind::Plain,
        }
    }

    /// How many messages an event becomes.
    #[must_use]
    pub const fn messages(self) -> u64 {
        match self {
            Self::FanOut => 2,
            Self::Plain
            | Self::History(_)
            | Self::SlowRecipient { .. }
            | Self::Strangers { .. } => 1,
        }
    }

    /// Whether the n-th event of a trial is for a recipient at whom the gateway is slow.
    #[must_use]
    pub const fn is_slow(self, nth: u64) -> bool {
        match self {
            Self::SlowRecipient { every, .. } => nth.is_multiple_of(every),
            Self::Plain | Self::History(_) | Self::Strangers { .. } | Self::FanOut => false,
        }
    }
}

const ONE: Workers = Workers {
    routers: 1,
    deliverers: 1,
};
const CLOSED: Load = Load {
    events: 60_000,
    batch: 1,
    connections: 128,
    pace: Pace::Closed,
};
/// Enough under way that nobody waits for work, few enough that no backlog grows.
const SUSTAINED: Load = Load {
    pace: Pace::InFlight(2_000),
    ..CLOSED
};

const ACCEPTED: &[(&str, &str)] = &[
    ("accepted/s", "/accepted/per_s"),
    ("accept p50 ms", "/accepted/latency_ms/p50"),
    ("accept p99 ms", "/accepted/latency_ms/p99"),
    ("CPU µs/event", "/cpu_us_per_event"),
];
const WHOLE_WAY: &[(&str, &str)] = &[
    ("messages/s", "/gateway/per_s"),
    ("CPU µs/event", "/cpu_us_per_event"),
    ("ingest MiB", "/processes/ingest/peak_mib"),
    ("router-worker MiB", "/processes/router-worker/peak_mib"),
    ("delivery-worker MiB", "/processes/delivery-worker/peak_mib"),
];
const LATENCY: &[(&str, &str)] = &[
    ("accept p50 ms", "/accepted/latency_ms/p50"),
    ("accept p99 ms", "/accepted/latency_ms/p99"),
    ("gateway p50 ms", "/gateway/latency_ms/p50"),
    ("gateway p99 ms", "/gateway/latency_ms/p99"),
    ("CPU µs/event", "/cpu_us_per_event"),
];
const BESIDE_STRANGERS: &[(&str, &str)] = &[
    ("accepted/s", "/accepted/per_s"),
    ("accept p50 ms", "/accepted/latency_ms/p50"),
    ("accept p99 ms", "/accepted/latency_ms/p99"),
    ("posts repeated", "/accepted/repeated"),
    ("strangers refused/s", "/strangers/per_s"),
    ("ingest MiB", "/processes/ingest/peak_mib"),
];
const FAN_OUT: &[(&str, &str)] = &[
    ("events/s", "/gateway/events_per_s"),
    ("messages/s", "/gateway/per_s"),
    ("CPU µs/event", "/cpu_us_per_event"),
];
const FLOOD: &[(&str, &str)] = &[
    ("accepted/s", "/accepted/per_s"),
    ("posts repeated", "/accepted/repeated"),
    ("disk bytes/event", "/disk_bytes_per_event"),
    ("ingest MiB", "/processes/ingest/peak_mib"),
];

/// Every figure.
#[must_use]
pub fn all() -> Vec<Figure> {
    let plain = |name, title, load, told| Figure {
        name,
        title,
        load,
        workers: ONE,
        start: Start::Before,
        echo: false,
        setup: Setup::Plain,
        told,
    };
    let rate = |rate, seconds: u64| Load {
        events: u64::from(rate) * seconds,
        pace: Pace::Rate(rate),
        ..CLOSED
    };
    let with = |name, title, workers| Figure {
        workers,
        ..plain(name, title, SUSTAINED, WHOLE_WAY)
    };
    let batches = Load {
        batch: 100,
        connections: 16,
        ..CLOSED
    };
    vec![
        Figure {
            start: Start::Never,
            ..plain(
                "accept-single",
                "accepted, single posts, 128 connections, workers stopped",
                CLOSED,
                ACCEPTED,
            )
        },
        Figure {
            start: Start::Never,
            ..plain(
                "accept-batch",
                "accepted, batches of 100, workers stopped",
                Load {
                    events: 120_000,
                    ..batches
                },
                ACCEPTED,
            )
        },
        plain(
            "sustained",
            "post to gateway, 60,000 events, echo and acks off",
            SUSTAINED,
            WHOLE_WAY,
        ),
        Figure {
            echo: true,
            ..plain(
                "sustained-echo",
                "the same with echo and three acks each",
                Load {
                    events: 20_000,
                    ..SUSTAINED
                },
                WHOLE_WAY,
            )
        },
        Figure {
            setup: Setup::FanOut,
            ..plain(
                "fan-out-2",
                "each event to WhatsApp and to the thread of its order, echo and acks off",
                Load {
                    events: 40_000,
                    ..SUSTAINED
                },
                FAN_OUT,
            )
        },
        plain(
            "rate-200",
            "latency at 200 events/s",
            rate(200, 60),
            LATENCY,
        ),
        plain(
            "rate-1000",
            "latency at 1,000 events/s",
            rate(1_000, 30),
            LATENCY,
        ),
        plain(
            "long",
            "200,000 events: is memory flat?",
            Load {
                events: 200_000,
                ..SUSTAINED
            },
            WHOLE_WAY,
        ),
        Figure {
            start: Start::After,
            ..plain(
                "drain",
                "a backlog of 100,000 events, then the workers start",
                Load {
                    events: 100_000,
                    ..batches
                },
                WHOLE_WAY,
            )
        },
        Figure {
            setup: Setup::History(10_000_000),
            ..plain(
                "history",
                "post to gateway, with 10 million old events",
                SUSTAINED,
                WHOLE_WAY,
            )
        },
        with(
            "workers-2",
            "post to gateway with 2 of each worker",
            Workers {
                routers: 2,
                deliverers: 2,
            },
        ),
        with(
            "workers-4",
            "post to gateway with 4 of each worker",
            Workers {
                routers: 4,
                deliverers: 4,
            },
        ),
        Figure {
            setup: Setup::SlowRecipient {
                every: 100,
                by: Duration::from_secs(10),
            },
            ..plain(
                "slow-recipient",
                "latency of the others at 200 events/s, one of a hundred for a recipient at whom the gateway takes 10 s",
                rate(200, 60),
                LATENCY,
            )
        },
        Figure {
            start: Start::Never,
            ..plain(
                "calm-1000",
                "1,000 events/s accepted, workers stopped",
                rate(1_000, 30),
                BESIDE_STRANGERS,
            )
        },
        Figure {
            start: Start::Never,
            setup: Setup::Strangers { connections: 128 },
            ..plain(
                "strangers-128",
                "the same while strangers post with a wrong key over 128 connections",
                rate(1_000, 30),
                BESIDE_STRANGERS,
            )
        },
        Figure {
            start: Start::Never,
            setup: Setup::Strangers { connections: 1_024 },
            ..plain(
                "strangers-1024",
                "the same over 1,024 connections, more than are let wait",
                rate(1_000, 30),
                BESIDE_STRANGERS,
            )
        },
        Figure {
            start: Start::Never,
            ..plain(
                "flood",
                "1,000,000 events at once, workers stopped",
                Load {
                    events: 1_000_000,
                    ..batches
                },
                FLOOD,
            )
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_figures_have_one_name_and_every_load_is_whole_posts() {
        let all = all();
        let mut names: Vec<_> = all.iter().map(|figure| figure.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len());
        for figure in all {
            assert_eq!(figure.load.events % figure.load.batch, 0, "{}", figure.name);
        }
    }
}
