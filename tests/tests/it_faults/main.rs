//! One scenario for each way in which the gateway misbehaves (facts §1.3): where the delivery
//! ends, what its attempts say, what arrived at the gateway, and never a second message.

mod answers;
mod bills;
mod evidence;
mod policies;
mod receipts;
mod retries;
mod sessions;

use std::collections::BTreeSet;

use posto_tests::gateway_sim::{Effect, Fault};

#[test]
fn every_fault_of_a_send_that_the_simulator_knows_has_a_scenario() {
    let tables = [
        answers::faults(),
        evidence::faults(),
        receipts::faults(),
        retries::faults(),
        sessions::faults(),
    ];
    let met: BTreeSet<&str> = tables.into_iter().flatten().map(Fault::name).collect();
    let missing: Vec<&str> = Fault::ALL
        .iter()
        // No send of ours asks for a QR code.
        .filter(|fault| fault.effect() != Effect::Qr)
        .map(|fault| fault.name())
        .filter(|name| !met.contains(name))
        .collect();
    assert_eq!(missing, [""; 0]);
}
