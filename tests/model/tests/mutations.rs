//! What each invariant is for: it is taken out, and the checker finds the shortest way to harm.
//!
//! Each test prints its way; `docs/protocol-model.md` tells them in words. Where nothing breaks,
//! another invariant stands in its place, and the next test takes both out.

use std::time::Duration;

use posto_model::checker::{Report, Until, explore};
use posto_model::properties::{
    BEGUN_WHILE_OPEN, DEAD_HAS_LETTER, DIES_OF_ITS_OWN, KNOWN_COUNTS, LETTER_HAS_DEAD, NEVER_EARLY,
    NEVER_TWO_AT_ONCE, NO_CLAIM_AFTER_CANCEL, NOTHING_IS_LOST, ONE_UNLESS_ASKED, SETTLED_STAYS,
};
use posto_model::{Bounds, Policy, Protocol, Rules};

/// Where the rule is missed.
#[derive(Clone, Copy)]
enum World {
    /// Everything may happen, and the reconciler makes good what it can.
    Whole,
    /// The broker keeps what it confirmed, so there is no reconciler.
    HonestBroker,
    /// The template resends what is unknown.
    Resending,
    /// Nobody steps in, and nothing breaks however long one looks.
    Unattended,
    /// Nobody steps in, and three faults come together.
    Unlucky,
}

fn look(world: World, cut: fn(&mut Rules), until: Option<&'static str>) -> Report {
    let mut rules = Rules::ALL;
    rules.reconciler = !matches!(world, World::HonestBroker);
    cut(&mut rules);
    let protocol = Protocol {
        rules,
        policy: match world {
            World::Resending => Policy::Resend,
            _ => Policy::Park,
        },
        bounds: Bounds {
            faults: if matches!(world, World::Unlucky) {
                3
            } else {
                2
            },
            people: u8::from(!matches!(world, World::Unattended | World::Unlucky)),
            retries: 1,
            broker_may_be_wiped: !matches!(world, World::HonestBroker),
        },
    };
    let until = Until {
        broken: until,
        states: 10_000_000,
        time: Duration::from_secs(60),
    };
    explore(&protocol, until).report
}

fn breaks(name: &str, (world, property): (World, &'static str), cut: fn(&mut Rules)) {
    let report = look(world, cut, Some(property));
    let Some(way) = report.broken.get(property) else {
        panic!("nothing breaks `{property}`: {}", report.numbers());
    };
    // In one go: other tests print at the same time.
    eprintln!(
        "\n{name}\nbroken: {property}, in {} steps\n  {}",
        way.len(),
        way.join("\n  ")
    );
}

fn breaks_nothing(name: &str, world: World, cut: fn(&mut Rules)) {
    let report = look(world, cut, None);
    assert!(report.complete, "{:?}", report.broken);
    assert!(report.broken.is_empty(), "{:?}", report.broken);
    eprintln!("\n{name}\nnothing breaks: {}", report.numbers());
}

macro_rules! mutations {
    ($($name:ident: $world:ident without $($rule:ident),+ => $($property:ident)?;)+) => {
        $(
            #[test]
            fn $name() {
                mutations!(@check $name, $world, |rules| { $(rules.$rule = false;)+ }, $($property)?);
            }
        )+

        /// Every rule that is taken out by a test here.
        const TAKEN_OUT: &[&str] = &[$($(stringify!($rule)),+),+];
    };
    (@check $name:ident, $world:ident, $cut:expr, $property:ident) => {
        breaks(stringify!($name), (World::$world, $property), $cut)
    };
    (@check $name:ident, $world:ident, $cut:expr,) => {
        breaks_nothing(stringify!($name), World::$world, $cut)
    };
}

mutations! {
    // The mouth and the broker. The reconciler makes good each of the first three.
    without_the_outbox_a_crash_between_commit_and_publish_loses_the_message:
        HonestBroker without outbox => NOTHING_IS_LOST;
    a_row_deleted_before_its_confirm_loses_the_message:
        HonestBroker without delete_after_confirm => NOTHING_IS_LOST;
    a_message_acked_before_its_claim_dies_with_its_sender:
        HonestBroker without claim_before_ack => NOTHING_IS_LOST;
    the_reconciler_makes_good_all_three:
        Unattended without outbox, delete_after_confirm, claim_before_ack => ;
    without_the_reconciler_the_broker_takes_the_work_with_its_data:
        Whole without reconciler => NOTHING_IS_LOST;
    a_hot_path_that_outlives_its_lease_only_makes_copies:
        Unattended without hot_path_keeps_its_lease => ;

    // The claim.
    a_claim_that_ignores_the_state_raises_the_dead:
        Whole without claim_reads_state => SETTLED_STAYS;
    a_claim_that_ignores_the_attempt_number_is_saved_by_state_and_time:
        Unattended without claim_reads_attempt => ;
    a_claim_that_ignores_number_and_state_sends_twice:
        Whole without claim_reads_attempt, claim_reads_state => ONE_UNLESS_ASKED;
    a_claim_that_ignores_the_time_is_saved_by_the_number:
        Unattended without claim_reads_due => ;
    a_claim_that_ignores_number_and_time_is_early:
        Whole without claim_reads_attempt, claim_reads_due => NEVER_EARLY;
    a_claim_that_ignores_the_generation_is_saved_by_numbers_that_go_on:
        Whole without claim_reads_generation => ;
    a_send_before_its_claim_is_repeated_after_a_crash:
        Whole without claim_before_send => ONE_UNLESS_ASKED;

    // The lease.
    without_the_reaper_a_crash_leaves_the_delivery_claimed_for_ever:
        Whole without reaper => NOTHING_IS_LOST;
    a_sender_that_ignores_half_of_the_lease_begins_what_was_concluded:
        Whole without half_lease => BEGUN_WHILE_OPEN;
    a_sender_that_ignores_half_of_the_lease_sends_beside_the_resend:
        Whole without half_lease => ONE_UNLESS_ASKED;
    a_sender_that_ignores_half_of_the_lease_sends_at_the_same_time_as_the_resend:
        Resending without half_lease => NEVER_TWO_AT_ONCE;
    a_reaper_that_ignores_the_lease_concludes_what_begins_afterwards:
        Whole without reaper_waits => BEGUN_WHILE_OPEN;
    a_reaper_that_ignores_the_lease_lets_the_policy_send_beside_the_first:
        Resending without reaper_waits => NEVER_TWO_AT_ONCE;
    a_reaper_that_says_not_sent_sends_twice:
        Whole without reaper_says_unknown => ONE_UNLESS_ASKED;

    // Results.
    an_unclear_answer_that_is_retried_sends_twice:
        Whole without unclear_is_unknown => ONE_UNLESS_ASKED;
    a_stop_that_gives_back_what_was_begun_sends_twice:
        Whole without stop_finishes_begun => ONE_UNLESS_ASKED;
    a_late_result_that_loses_to_unknown_is_forgotten:
        Whole without late_result_wins => KNOWN_COUNTS;
    a_result_of_a_replaced_attempt_moves_the_next_one:
        Resending without results_follow_attempt => ONE_UNLESS_ASKED;
    a_result_that_ignores_the_lattice_undoes_evidence:
        Whole without results_follow_lattice => SETTLED_STAYS;

    // Letters and people.
    a_late_result_that_leaves_the_letter_open_shows_a_sent_delivery_as_dead:
        Whole without late_result_settles_letter => LETTER_HAS_DEAD;
    a_redrive_that_keeps_the_generation_leaves_the_second_death_without_letter:
        Whole without redrive_raises_generation => DEAD_HAS_LETTER;
    a_redrive_of_what_may_have_left_without_force_sends_twice:
        Whole without doubt_needs_force => ONE_UNLESS_ASKED;
    a_letter_that_is_redriven_twice_sets_going_what_another_letter_holds:
        Whole without letters_once => LETTER_HAS_DEAD;
    a_burial_that_ignores_the_attempt_number_kills_what_waits_for_another_message:
        Unlucky without burial_reads_attempt => DIES_OF_ITS_OWN;
    a_stale_copy_that_leaves_a_letter_takes_the_place_of_the_real_one:
        Unlucky without stale_copies_leave_no_letter => DEAD_HAS_LETTER;

    // The payment.
    a_guard_read_from_a_cache_lets_a_claim_follow_the_payment:
        Whole without guard_in_claim => NO_CLAIM_AFTER_CANCEL;
    a_guard_that_ends_with_the_routing_lets_a_retry_follow_the_payment:
        Whole without guard_stays => NO_CLAIM_AFTER_CANCEL;
}

#[test]
fn every_rule_is_taken_out_once_and_told_in_the_docs() {
    let fields = format!("{:?}", Rules::ALL);
    let page = include_str!("../../../docs/protocol-model.md");
    let rules: Vec<&str> = fields
        .split(['{', ',', '}'])
        .filter_map(|field| Some(field.split_once(':')?.0.trim()))
        .collect();
    assert!(rules.len() > 20, "{rules:?}");
    for rule in rules {
        assert!(TAKEN_OUT.contains(&rule), "no test takes `{rule}` out");
        assert!(
            page.contains(&format!("`{rule}`")),
            "docs/protocol-model.md does not tell `{rule}`"
        );
    }
}
