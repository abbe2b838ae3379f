//! A model of the protocol that carries a delivery from its row to the wire and back: outbox,
//! claim, ack, lease, reaper, redrive and cancel, with everything that may go wrong on the way.
//! The checker explores every interleaving within some bounds. What it shows, what it does not,
//! and what breaks when an invariant is taken out is told in `docs/protocol-model.md`.
//!
//! The model follows the code; whoever changes one changes the other. It moves deliveries by the
//! product's own `shared::domain::delivery`, so the lattice is not modelled but used. Each step is
//! one transaction, or one message:
//!
//! | Step | In the code | Design |
//! |---|---|---|
//! | the first state; every outbox row | `store::outbox::insert` in the transaction of the data, then `Relay::hand_over` | §1.2 |
//! | `Publish`, `PublishLost`, `ConfirmLost` | `broker::relay::Mouth::publish` and its confirm | §1.2 |
//! | `Delete`, `PublisherDies` | `broker::relay::delete_confirmed`, and a crash around it | §1.2 |
//! | `PublisherSlow` | `Mouth::publish_offered`: dropped after half of the lease | §1.2 |
//! | `RowLapses`, `Sweep` | `store::outbox::lease_due`, `broker::sweeper` | §1.2 |
//! | `Reconcile`, `Misjudged`, `BrokerWiped` | `store::reconcile::take_lost_deliveries`, `broker::reconcile` | §1.8 |
//! | `Consume` | `delivery-worker` `consume`, `deliver`; `store::attempts::claim`, one statement | §1.3, §1.5, §1.9 |
//! | `Ack`, `Redelivered` | `broker::consume_loop`, after the handler's verdict | §1.5, §1.7 |
//! | `Begin`, `GiveBack`, `Stopped` | `WhatsappSender::send_and_record` | §1.5 |
//! | `Accept`, `Answers` | `driver::whatsapp::send`, `retry::judge` | §1.5 |
//! | `Record`, `CommitUnseen` | `record::conclude`, `store::attempts::close_attempts` | §1.5 |
//! | `LeaseLapses`, `Paused`, `Killed` | `delivery_attempts.lease_until` by the database's clock | §1.5 |
//! | `Reap`, `ReaperSlow`, `ReapLate` | `reaper::conclude_lapsed` | §1.5 |
//! | `ResendByPolicy` | `reaper::resend_by_policy`, `store::deliveries::resendable_unknown` | §1.5 |
//! | `TimePasses`, `TakeDue` | `store::deliveries::take_due`, `dispatch::look` | §1.3 |
//! | `AccountDown`, `AccountUp`, `Release` | held for whatever reason (`store::attempts::claim`), `store::releases::release_page` | §1.9, §1.11 |
//! | `Evidence` | `receipt::ApplyReceipts` | §1.10, lattice |
//! | `GivenUp` | `broker::burial`: by the consumer, or noted after the broker did | §1.7, §3 |
//! | `Redrives`, `Discards` | `store::redrive`, judged by `domain::redrive` | §3 |
//! | `Shovels`, and the `Consume` that follows | `broker::by_hand` | §3 |
//! | `FindsDelivered`, `FindsNotDelivered…` | `store::settle` | §3, product 5.4 |
//! | `Pays`, `RoutePayment` | not built yet: as the design wants it | §1.9, §5, product 5.8 |
//!
//! **Why a checker of our own.** `stateright` (0.31, MIT) was weighed and left out. It takes an HTTP
//! server and a dozen crates along that cannot be switched off; it queues with each state the whole
//! path to it and copies that for each step; it knows states by a 64-bit fingerprint; and its
//! `eventually` misses what its documentation says it misses, while what is to be shown here is that
//! the protocol, left alone, always comes to good order. [`checker`] keeps whole states and one
//! number for the way back, knows what a state at rest is, and finds circles. It has tests of its own.

mod action;
mod bag;
pub mod checker;
mod mouth;
mod people;
pub mod properties;
mod protocol;
mod record;
mod rules;
mod sender;
mod state;

pub use action::{Action, Fault, Person};
pub use protocol::Protocol;
pub use rules::{Bounds, Policy, Rules};
pub use state::State;
