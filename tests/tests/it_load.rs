//! The load tool in its short form: a few hundred events a figure, and everything that it asserts
//! besides measuring: nothing lost, nothing sent twice, the ledger closed.

use std::path::PathBuf;
use std::time::Duration;

use posto_tests::load::figure::{Figure, Setup, Start};
use posto_tests::load::fleet::{Programs, Servers, Workers};
use posto_tests::load::post::{Load, Pace};
use posto_tests::load::trial::{self, Place, Trial};

async fn one_trial(figure: Figure) -> Trial {
    let url = |name: &str| {
        std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run ./tests/run"))
    };
    let servers = Servers {
        database_url: url("DATABASE_URL"),
        amqp_url: url("AMQP_URL"),
        management_url: url("RABBITMQ_MANAGEMENT_URL"),
    };
    let programs = Programs::One {
        service: PathBuf::from(env!("CARGO_BIN_EXE_service")),
        gateway_sim: PathBuf::from(env!("CARGO_BIN_EXE_gateway-sim")),
    };
    let logs = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("load");
    let place = Place {
        servers: &servers,
        programs: &programs,
        logs: &logs,
    };
    let mut told = Vec::new();
    trial::run(&figure, 1, &place, |trial| {
        told.push(trial.clone());
        Ok(())
    })
    .await
    .expect("nothing is lost, doubled or unaccounted for");
    told.pop().expect("a trial")
}

fn figure(load: Load, start: Start) -> Figure {
    Figure {
        name: "short",
        title: "a short form",
        load,
        workers: Workers {
            routers: 1,
            deliverers: 1,
        },
        start,
        echo: false,
        setup: Setup::Plain,
        told: &[],
    }
}

const LOAD: Load = Load {
    events: 400,
    batch: 1,
    connections: 16,
    pace: Pace::Closed,
};

#[tokio::test(flavor = "multi_thread")]
async fn every_good_event_is_accepted_while_strangers_post_as_fast_as_they_can() {
    let load = Load {
        pace: Pace::Rate(100),
        ..LOAD
    };
    let flooded = Figure {
        setup: Setup::Strangers { connections: 32 },
        ..figure(load, Start::Never)
    };
    let trial = one_trial(flooded).await;
    assert_eq!((trial.accepted.events, trial.accepted.repeated), (400, 0));
    let refused = trial.strangers.expect("there were strangers");
    let statuses: Vec<u16> = refused.by_status.keys().copied().collect();
    assert_eq!(statuses, [401, 429], "{refused:?}");
    assert!(refused.by_status[&401] < 100, "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_is_worked_off_to_the_last_event() {
    let trial = one_trial(figure(Load { batch: 100, ..LOAD }, Start::After)).await;
    let sent = trial.gateway.expect("the workers were started");
    assert_eq!((trial.accepted.events, sent.messages), (400, 400));
    let counted: Vec<_> = trial
        .processes
        .iter()
        .filter(|(_, cost)| cost.counted)
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(
        counted,
        [
            "PostgreSQL",
            "RabbitMQ",
            "delivery-worker",
            "ingest",
            "router-worker"
        ]
    );
    assert!(
        trial
            .processes
            .values()
            .all(|cost| cost.cpu_s > 0.0 && cost.peak_mib > 1.0),
        "{:?}",
        trial.processes
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn events_with_echo_and_acks_close_the_ledger_over_an_old_history() {
    let load = Load {
        pace: Pace::InFlight(100),
        ..LOAD
    };
    let usual = figure(load, Start::Before);
    let trial = one_trial(Figure {
        echo: true,
        setup: Setup::History(7_000),
        ..usual
    })
    .await;
    let ledger = trial.ledger;
    assert_eq!(ledger["imbalance"], 0, "{ledger}");
    assert!(trial.gateway.is_some_and(|sent| sent.per_s > 0.0));
    let row = |what: &str| trial.rows.get(what).copied();
    // The posts that warmed up are counted too.
    assert_eq!(row("deliveries whatsapp read"), Some(900));
    assert_eq!(row("attempts sent"), Some(900));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_with_two_rules_becomes_two_messages() {
    let usual = figure(LOAD, Start::After);
    let trial = one_trial(Figure {
        setup: Setup::FanOut,
        ..usual
    })
    .await;
    assert!(trial.gateway.is_some_and(|sent| sent.messages == 800));
    assert_eq!(trial.rows.get("deliveries chat delivered"), Some(&900));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_loop_keeps_its_rate_whatever_one_recipient_does() {
    let load = Load {
        events: 200,
        pace: Pace::Rate(100),
        ..LOAD
    };
    let setup = Setup::SlowRecipient {
        every: 100,
        by: Duration::from_secs(1),
    };
    let trial = one_trial(Figure {
        setup,
        ..figure(load, Start::Before)
    })
    .await;
    assert!(
        (1.9..60.0).contains(&trial.accepted.seconds),
        "{:?}",
        trial.accepted
    );
    let latency = trial
        .gateway
        .and_then(|sent| sent.latency_ms)
        .expect("all arrived");
    assert!(
        latency.p50 > 0.0 && latency.p50 <= latency.p99,
        "{latency:?}"
    );
}
