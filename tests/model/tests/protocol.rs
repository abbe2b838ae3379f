//! With every invariant in its place nothing breaks, everything that the model is meant to bear
//! does happen, and the protocol always comes to rest.
//!
//! `POSTO_MODEL=full` explores further than the default tests have time for (`./tests/run model`).

use std::time::Duration;

use posto_model::checker::{Until, explore};
use posto_model::{Bounds, Policy, Protocol, Rules};

/// More than that is no laptop's.
const STATES: usize = 60_000_000;

fn holds(name: &str, protocol: Protocol) {
    let until = Until {
        broken: None,
        states: STATES,
        time: Duration::from_secs(600),
    };
    let explored = explore(&protocol, until);
    let report = &explored.report;
    eprintln!("\n{name}, {:?}\n{}", protocol.bounds, report.numbers());
    if let Some((property, way)) = report.broken.first_key_value() {
        panic!(
            "broken: {property}
  {}",
            way.join(
                "
  "
            )
        );
    }
    assert!(report.complete, "not everything was explored");
    assert_eq!(report.pruned, 0, "the model has no room for its own bounds");
    // This looks at every step twice more; in the default tests the smaller bounds speak for it.
    if full() || report.states < 200_000 {
        let endless = explored.endless();
        assert_eq!(
            endless, 0,
            "states from which the protocol alone might never rest"
        );
    }
    if protocol.bounds.people > 0 && protocol.bounds.faults > 1 {
        assert_eq!(
            report.unseen, [""; 0],
            "nothing shows that the model bears this"
        );
    }
}

fn full() -> bool {
    std::env::var("POSTO_MODEL").is_ok_and(|bound| bound == "full")
}

fn bounds(quick: (u8, u8), further: (u8, u8)) -> Bounds {
    let (faults, people) = if full() { further } else { quick };
    Bounds {
        faults,
        people,
        retries: 1,
        broker_may_be_wiped: true,
    }
}

#[test]
fn the_protocol_holds_where_unknown_is_parked() {
    let protocol = Protocol {
        rules: Rules::ALL,
        policy: Policy::Park,
        bounds: bounds((2, 1), (3, 1)),
    };
    holds("park", protocol);
}

#[test]
fn the_protocol_holds_where_people_step_in_twice() {
    let protocol = Protocol {
        rules: Rules::ALL,
        policy: Policy::Park,
        bounds: bounds((1, 2), (2, 2)),
    };
    holds("park, two people", protocol);
}

#[test]
fn the_protocol_holds_where_silence_is_answered_with_a_resend() {
    let protocol = Protocol {
        rules: Rules::ALL,
        policy: Policy::ResendIfSilent,
        bounds: bounds((2, 0), (2, 1)),
    };
    holds("resend_if_silent", protocol);
}

#[test]
fn the_protocol_holds_where_unknown_is_resent() {
    let protocol = Protocol {
        rules: Rules::ALL,
        policy: Policy::Resend,
        bounds: bounds((2, 0), (3, 0)),
    };
    holds("resend", protocol);
}

/// The reconciler is for a broker that lost its data, and for nothing else: while the broker keeps
/// what it confirmed, nothing is lost without one.
#[test]
fn the_protocol_needs_no_reconciler_while_the_broker_keeps_its_word() {
    let mut rules = Rules::ALL;
    rules.reconciler = false;
    let mut bounds = bounds((2, 0), (3, 1));
    bounds.broker_may_be_wiped = false;
    let protocol = Protocol {
        rules,
        policy: Policy::Park,
        bounds,
    };
    holds("honest broker", protocol);
}
