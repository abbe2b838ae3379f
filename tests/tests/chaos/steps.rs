//! `kill -9` at every step of the walk: a service dies at its failpoint with 240 events under way, is
//! started again, and everything ends as if nothing had happened.

use std::time::Instant;

use posto_tests::gateway_sim::{Fault, FaultRule};
use serde_json::json;
use shared::runtime::failpoint::Failpoint;

use crate::rig::{Rig, Which};
use crate::traffic::{Batch, Kind};

const EVENTS: u32 = 240;

/// What makes the walk come by a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Bills, all well.
    Bills,
    /// Messages on chats of our own.
    Chats,
    /// Bills whose first tries are throttled.
    Retries,
    /// Bills whose session is gone for the first of them.
    Holds,
    /// Bills, and a message about an event that does not exist.
    Poison,
}

struct Step {
    which: Which,
    point: Failpoint,
    /// How often the point is reached until it kills.
    times: u32,
    way: Way,
}

async fn dies(step: Step) {
    let Step {
        which,
        point,
        times,
        way,
    } = step;
    let mut rig = Rig::new(1).await;
    for other in [Which::Ingest, Which::Router, Which::Deliverer] {
        if other == which {
            rig.service(other).start_fatally(point.name(), times);
        } else {
            rig.service(other).start();
        }
    }
    rig.until_ready().await;
    prepare(&rig, way).await;
    let kind = if way == Way::Chats {
        Kind::Chat
    } else {
        Kind::Bill
    };
    let posts = Batch {
        kind,
        ..Batch::of_bills(EVENTS)
    }
    .post(&rig.api);
    rig.service(which).dead().await;
    rig.service(which).start();
    let since = Instant::now();
    let posted = posts.await.expect("because every post was answered");
    let scenario = format!("{} killed at `{}`", rig.service(which).name(), point.name());
    rig.verdict(&scenario, since, &posted).await;
    for service in rig.services() {
        assert!(service.lives(), "{} had to be restarted", service.name());
    }
    rig.end().await;
}

async fn prepare(rig: &Rig, way: Way) {
    match way {
        Way::Bills | Way::Chats => {}
        Way::Retries => {
            let rule = FaultRule {
                retry_after: Some(json!(0)),
                ..FaultRule::new(Fault::RateLimited)
            };
            rig.sim.set_fault(rule.times(80));
        }
        Way::Holds => rig
            .sim
            .set_fault(FaultRule::new(Fault::SessionInactive).times(3)),
        Way::Poison => {
            route_messages_of(rig, "select gen_random_uuid() as id").await;
        }
    }
}

/// Messages that ask for a decision about each of these events, in the outbox and held by nobody.
async fn route_messages_of(rig: &Rig, events: &str) {
    rig.run_sql(&format!(
        "insert into outbox (target, subject_id, body, available_at)
         select 'hub.events.route', id, jsonb_build_object('version', 1, 'kind', 'route', 'event_id', id, 'run', 0,
                'generation', 0, 'trace_id', replace(id::text, '-', '')), now()
         from ({events}) events"
    ))
    .await;
}

macro_rules! steps {
    ($($test:ident: $which:ident $point:ident $times:literal $way:ident;)+) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $test() {
            dies(Step {
                which: Which::$which,
                point: Failpoint::$point,
                times: $times,
                way: Way::$way,
            })
            .await;
        }
    )+

        /// What the tests above kill at.
        const TRIED: &[Failpoint] = &[$(Failpoint::$point),+];
    };
}

steps! {
    ingest_dies_before_it_stores: Ingest AcceptBegun 3 Bills;
    brief_ingest_dies_when_it_has_stored: Ingest AcceptStored 3 Bills;
    ingest_dies_before_it_answers: Ingest AcceptOffered 3 Bills;
    ingest_dies_before_it_publishes: Ingest RelayTaken 3 Bills;
    ingest_dies_between_confirm_and_delete: Ingest RelayConfirmed 3 Bills;
    ingest_dies_after_the_delete: Ingest RelayDeleted 3 Bills;
    router_dies_before_it_decides: Router RouteBegun 3 Bills;
    router_dies_before_the_commit: Router RouteWritten 3 Bills;
    brief_router_dies_when_it_has_committed: Router RouteCommitted 3 Bills;
    router_dies_before_the_ack: Router RouteOffered 3 Bills;
    router_dies_before_it_publishes: Router RelayTaken 3 Bills;
    router_dies_between_confirm_and_delete: Router RelayConfirmed 3 Bills;
    router_dies_while_it_buries: Router BurialWritten 1 Poison;
    router_dies_when_it_has_buried: Router BurialCommitted 1 Poison;
    delivery_worker_dies_before_the_claim: Deliverer ClaimBegun 3 Bills;
    brief_delivery_worker_dies_between_claim_and_ack: Deliverer ClaimCommitted 3 Bills;
    delivery_worker_dies_before_the_request: Deliverer SendBegun 50 Bills;
    brief_delivery_worker_dies_between_answer_and_record: Deliverer SendAnswered 50 Bills;
    delivery_worker_dies_before_the_result_is_committed: Deliverer RecordWritten 3 Bills;
    delivery_worker_dies_when_the_result_is_committed: Deliverer RecordCommitted 3 Bills;
    delivery_worker_dies_before_due_ones_are_committed: Deliverer DueWritten 2 Retries;
    delivery_worker_dies_when_due_ones_are_committed: Deliverer DueCommitted 2 Retries;
    delivery_worker_dies_when_it_has_released: Deliverer ReleaseCommitted 1 Holds;
    delivery_worker_dies_before_evidence_is_committed: Deliverer ReceiptWritten 3 Bills;
    delivery_worker_dies_when_evidence_is_committed: Deliverer ReceiptCommitted 3 Bills;
    delivery_worker_dies_before_chats_are_committed: Deliverer ChatWritten 2 Chats;
    delivery_worker_dies_when_chats_are_committed: Deliverer ChatCommitted 2 Chats;
}

/// The reaper has work only when a sender died before: so the worker dies twice.
async fn dies_reaping(point: Failpoint) {
    let mut rig = Rig::new(1).await;
    rig.ingest.start();
    rig.routers[0].start();
    rig.deliverers[0].start_fatally(Failpoint::SendAnswered.name(), 50);
    rig.until_ready().await;
    let posts = Batch::of_bills(EVENTS).post(&rig.api);
    rig.deliverers[0].dead().await;
    // Without evidence the attempts stay open until their leases lapse.
    rig.deliverers[0].start_fatally(point.name(), 1);
    rig.deliverers[0].dead().await;
    rig.deliverers[0].start();
    let since = Instant::now();
    let posted = posts.await.expect("because every post was answered");
    let scenario = format!("delivery-worker killed at `{}`", point.name());
    let told = rig.verdict(&scenario, since, &posted).await;
    assert!(told.proven > 0, "attempts were unknown until evidence came");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delivery_worker_dies_before_lapsed_attempts_are_committed() {
    dies_reaping(Failpoint::ReapWritten).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delivery_worker_dies_when_lapsed_attempts_are_committed() {
    dies_reaping(Failpoint::ReapCommitted).await;
}

/// Whoever sweeps first gets the rows, so the one that is to die sweeps alone.
async fn dies_sweeping(which: Which) {
    let mut rig = Rig::new(1).await;
    rig.ingest.start();
    let posted = Batch::of_bills(EVENTS)
        .post(&rig.api)
        .await
        .expect("because every post was answered");
    rig.ingest.stop().await;
    // Duplicates are allowed, so a second message for each event is a lawful way to have rows.
    route_messages_of(&rig, "select id from communication_events").await;
    rig.service(which)
        .start_fatally(Failpoint::SweepLeased.name(), 1);
    rig.service(which).dead().await;
    for service in rig.services() {
        service.start();
    }
    let since = Instant::now();
    let scenario = format!(
        "{} killed at `{}`",
        rig.service(which).name(),
        Failpoint::SweepLeased.name()
    );
    rig.verdict(&scenario, since, &posted).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ingest_dies_with_leased_rows() {
    dies_sweeping(Which::Ingest).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn router_dies_with_leased_rows() {
    dies_sweeping(Which::Router).await;
}

#[test]
fn brief_every_failpoint_kills_in_some_scenario() {
    let elsewhere = [
        Failpoint::ReapWritten,
        Failpoint::ReapCommitted,
        Failpoint::SweepLeased,
    ];
    for point in Failpoint::ALL {
        assert!(
            TRIED.contains(point) || elsewhere.contains(point),
            "{} is never tried",
            point.name()
        );
    }
}
