//! What an answer means when nothing else tells: no echo, no ack.

use posto_tests::gateway_sim::{Fault, FaultRule, Settings};
use posto_tests::world::{Leaves, Setup, World};
use serde_json::json;

use crate::bills::{assert_nobody_got_two, post_against};

/// A fault, where its delivery ends, and the messages that the gateway took in.
struct Case {
    rule: FaultRule,
    fate: &'static str,
    messages: &'static [bool],
    requests: usize,
}

fn case(rule: FaultRule, fate: &'static str, messages: &'static [bool]) -> Case {
    Case {
        rule,
        fate,
        messages,
        requests: 1,
    }
}

const OUT: &[bool] = &[true];
const STAYS: &[bool] = &[false];
const REFUSED: &[bool] = &[];

fn cases() -> Vec<Case> {
    use Fault::*;

    let mut cases: Vec<Case> = [
        // E1: our own limit.
        (
            TimeoutAfterSend,
            "unknown gateway_timeout [unknown gateway_timeout]",
            OUT,
        ),
        (
            TimeoutBefore,
            "unknown gateway_timeout [unknown gateway_timeout]",
            STAYS,
        ),
        (
            ResetAfterSend,
            "unknown connection_reset [unknown connection_reset]",
            OUT,
        ),
        (
            CutAnswer,
            "unknown connection_reset [unknown connection_reset]",
            OUT,
        ),
        // The request was written: that nothing was taken in is the gateway's secret.
        (
            ResetBefore,
            "unknown connection_reset [unknown connection_reset]",
            REFUSED,
        ),
        // E3.
        (
            Empty200,
            "unknown empty_response [unknown empty_response]",
            OUT,
        ),
        (
            Empty500,
            "unknown gateway_unreadable [unknown gateway_unreadable]",
            STAYS,
        ),
        // E6, E7, E8.
        (
            Html504Sent,
            "unknown gateway_html_error [unknown gateway_html_error]",
            OUT,
        ),
        (
            Html504NotSent,
            "unknown gateway_html_error [unknown gateway_html_error]",
            STAYS,
        ),
        (
            ServerErrorInvalidJson,
            "unknown gateway_unreadable [unknown gateway_unreadable]",
            STAYS,
        ),
        (
            ServerErrorJson,
            "unknown gateway_unreadable [unknown gateway_unreadable]",
            STAYS,
        ),
        (
            ErrorObject,
            "unknown gateway_unreadable [unknown gateway_unreadable]",
            STAYS,
        ),
        // E13, E14.
        (
            NotExists,
            "failed number_not_on_whatsapp [failed number_not_on_whatsapp]",
            STAYS,
        ),
        (
            WppconnectTimeout,
            "unknown engine_timeout [unknown engine_timeout]",
            OUT,
        ),
        // E15, E16.
        (
            InvalidBase64,
            "dead content_rejected [failed content_rejected]",
            REFUSED,
        ),
        (
            AudioConvertFailed,
            "dead content_rejected [failed content_rejected]",
            REFUSED,
        ),
        // E18, E19.
        (NoIdInAnswer, "sent [sent]", OUT),
        (MessageIdInAnswer, "sent [sent]", OUT),
        (
            SuccessFalse,
            "dead gateway_refused [failed gateway_refused]",
            STAYS,
        ),
        // §1.7 Q12: nobody can tell but the acks that never come.
        (AcceptedNotSent, "sent [sent]", STAYS),
    ]
    .into_iter()
    .map(|(fault, fate, messages)| case(FaultRule::new(fault), fate, messages))
    .collect();
    // E8: the same words in each place where they were seen.
    for field in ["error", "message", "error_message", "details", "data.error"] {
        cases.push(case(
            FaultRule {
                field: Some(field.to_owned()),
                error: Some(json!("O número informado não existe.")),
                ..FaultRule::new(ErrorInField)
            },
            "failed number_not_on_whatsapp [failed number_not_on_whatsapp]",
            STAYS,
        ));
    }
    cases.push(case(
        FaultRule {
            error: Some(json!({"name": "Error", "message": "O número não existe"})),
            ..FaultRule::new(ErrorObject)
        },
        "failed number_not_on_whatsapp [failed number_not_on_whatsapp]",
        STAYS,
    ));
    cases
}

pub(crate) fn faults() -> Vec<Fault> {
    cases().into_iter().map(|case| case.rule.fault).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_answer_leads_where_its_shape_asks_and_is_never_answered_with_a_second_send() {
    let world = World::start_with(Setup {
        send_timeout: "2s",
        ..Setup::default()
    })
    .await;
    world.sim.set_settings(Settings {
        echo: false,
        acks: Vec::new(),
        ..world.sim.settings()
    });
    let mut bills = Vec::new();
    for (number, case) in (100..).zip(cases()) {
        let bill = post_against(&world, number, case.rule.clone()).await;
        bills.push((bill, case));
    }
    for (bill, case) in &bills {
        bill.until(&world, case.fate).await;
    }
    for (bill, case) in &bills {
        let name = case.rule.fault.name();
        assert_eq!(bill.fate(&world).await, case.fate, "{name} stays so");
        assert_eq!(bill.messages(&world), case.messages, "{name}");
        assert_eq!(bill.requests(&world).await, case.requests, "{name}");
        assert_eq!(bill.count(&world, "d.retry_count").await, 0, "{name}");
    }
    assert_nobody_got_two(&world);
    let dead = bills
        .iter()
        .filter(|(_, case)| case.fate.starts_with("dead"))
        .count();
    assert_eq!(
        world
            .count("select count(*) from dead_letters where state = 'dead'")
            .await,
        i64::try_from(dead).unwrap(),
        "each of the dead has its letter"
    );
    let told = world
        .texts("select a.response_excerpt from delivery_attempts a where a.response_excerpt ~ '[0-9]{8}'")
        .await;
    assert_eq!(told, [""; 0], "an excerpt is scrubbed of numbers");
    world.end(Leaves::Unsettled).await;
}
