//! What settles an unknown outcome, and whose evidence is whose, over the real store.

use shared::domain::failure::FailureCode;
use sqlx::PgPool;

use crate::lab_tests::{ACCOUNT, Answer, Lab, Specimen};

const TIMEOUT: Answer = Answer::Failed(FailureCode::GatewayTimeout);
const ONCE: &str = "unknown gateway_timeout [unknown gateway_timeout] ()";
/// Longer than the laboratory's silence.
const LONG_AGO: &str = "update deliveries set updated_at = updated_at - interval '90 s', created_at = created_at - interval '90 s';
     update delivery_attempts set claimed_at = claimed_at - interval '90 s';
     update receipts set created_at = created_at - interval '80 s', provider_at = provider_at - interval '80 s'";

/// Two deliveries with the same text to the same recipient, whose echoes carry nothing but the text.
fn twins() -> Vec<Specimen> {
    let twin = |number: usize| Specimen {
        correlation: None,
        echo_has_text: true,
        recipient: "tel:twins".to_owned(),
        text: "the same".to_owned(),
        ..Specimen::new(number)
    };
    vec![twin(1), twin(2)]
}

/// Deliveries of that policy whose only attempt met a timeout.
async fn unknown(lab: &Lab, mut specimens: Vec<Specimen>, policy: &str) -> Vec<Specimen> {
    lab.plan(&specimens, policy).await;
    lab.claim(&mut specimens, 1).await;
    let answers: Vec<_> = specimens.iter().map(|one| (one, TIMEOUT)).collect();
    lab.answer(&answers).await;
    specimens
}

/// Another message goes out meanwhile, and its echo is heard.
async fn hear_another(lab: &Lab) {
    let another = lab.open(vec![Specimen::new(99)]).await;
    let echo = lab.hear(&[(&another[0], 0)]).await;
    lab.apply(&echo).await;
}

async fn state(lab: &Lab, one: &Specimen) -> String {
    let known = lab.known(std::slice::from_ref(one)).await.remove(0);
    known.split(' ').next().unwrap_or_default().to_owned()
}

#[sqlx::test(migrations = "../migrations")]
async fn what_was_given_up_and_is_proven_to_have_left_has_its_letter_superseded(pool: PgPool) {
    let lab = Lab::new(pool);
    let all = lab.open((0..3).map(Specimen::new).collect()).await;
    let refused = Answer::Failed(FailureCode::GatewayRefused);
    // The evidence came first: there is nothing to give up.
    let early = lab.hear(&[(&all[0], 0), (&all[0], 2)]).await;
    lab.apply(&early).await;
    let answers: Vec<_> = all.iter().map(|one| (one, refused)).collect();
    lab.answer(&answers).await;
    assert_eq!(lab.count("dead_letters where state = 'dead'").await, 2);
    let late = lab.hear(&[(&all[1], 2), (&all[1], 0)]).await;
    lab.apply(&late).await;
    assert_eq!(
        lab.known(&all).await,
        [
            "delivered [failed gateway_refused KEY0] (ack 2 applied, echo 0 applied)",
            "delivered [failed gateway_refused KEY1] (ack 2 applied, echo 0 applied)",
            "dead gateway_refused [failed gateway_refused] ()",
        ]
    );
    assert_eq!(
        lab.count("dead_letters where state = 'superseded'").await,
        1
    );
    assert_eq!(lab.count("dead_letters where state = 'dead'").await, 1);
}

#[sqlx::test(migrations = "../migrations")]
async fn of_two_results_in_one_batch_the_second_is_judged_by_what_the_first_proved(pool: PgPool) {
    let lab = Lab::new(pool);
    let first = unknown(&lab, (0..20).map(Specimen::new).collect(), "resend").await;
    lab.run(LONG_AGO).await;
    lab.look_for_silence().await;
    let mut second = first.clone();
    lab.claim(&mut second, 2).await;
    // The first send succeeded after all, and that becomes known with the failure of the second.
    let throttled = Answer::Failed(FailureCode::GatewayThrottled);
    let both = (0..20).flat_map(|number| {
        let both = [(&first[number], Answer::Sent), (&second[number], throttled)];
        if number % 2 == 0 {
            both
        } else {
            [both[1], both[0]]
        }
    });
    lab.answer(&both.collect::<Vec<_>>()).await;
    for known in lab.known(&first).await {
        assert_eq!(known, "sent [sent, retry gateway_throttled] ()");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn an_unknown_outcome_is_parked_resent_once_in_silence_or_resent(pool: PgPool) {
    let lab = Lab::new(pool);
    let parked = unknown(&lab, vec![Specimen::new(1)], "park").await;
    let silent = unknown(&lab, vec![Specimen::new(2)], "resend_if_silent").await;
    let resent = unknown(&lab, vec![Specimen::new(3)], "resend").await;
    hear_another(&lab).await;
    lab.look_for_silence().await;
    for one in [&parked[0], &silent[0], &resent[0]] {
        assert_eq!(state(&lab, one).await, "unknown", "evidence may still come");
    }
    lab.run(LONG_AGO).await;
    lab.look_for_silence().await;
    assert_eq!(state(&lab, &parked[0]).await, "unknown", "a person decides");
    assert_eq!(state(&lab, &silent[0]).await, "queued");
    assert_eq!(state(&lab, &resent[0]).await, "queued");
    let mut again = vec![silent[0].clone(), resent[0].clone()];
    lab.claim(&mut again, 2).await;
    lab.answer(&[(&again[0], TIMEOUT), (&again[1], TIMEOUT)])
        .await;
    lab.run(LONG_AGO).await;
    hear_another_again(&lab).await;
    lab.look_for_silence().await;
    assert_eq!(
        state(&lab, &silent[0]).await,
        "unknown",
        "once and not for ever"
    );
    assert_eq!(
        state(&lab, &resent[0]).await,
        "queued",
        "while its budget lasts"
    );
}

/// As [`hear_another`], when one was heard before: in the window that is over by now.
async fn hear_another_again(lab: &Lab) {
    lab.run(&format!(
        "insert into receipts (id, event_id, trace_id, kind, channel_id, provider_at, state, created_at)
         values (gen_random_uuid(), gen_random_uuid(), repeat('a', 32), 'echo', '{ACCOUNT}', now(), 'applied',
                 now() - interval '40 s')"
    ))
    .await;
}

#[sqlx::test(migrations = "../migrations")]
async fn silence_is_none_when_evidence_came_or_no_echo_of_the_session_was_heard(pool: PgPool) {
    let lab = Lab::new(pool);
    let deaf = unknown(&lab, vec![Specimen::new(1)], "resend_if_silent").await;
    lab.run(LONG_AGO).await;
    lab.look_for_silence().await;
    assert_eq!(
        state(&lab, &deaf[0]).await,
        "unknown",
        "nobody's echo was heard"
    );

    let told = unknown(&lab, vec![Specimen::new(2)], "resend_if_silent").await;
    let echo = lab.hear(&[(&told[0], 0)]).await;
    lab.apply(&echo).await;
    hear_another(&lab).await;
    lab.run(LONG_AGO).await;
    lab.look_for_silence().await;
    assert_eq!(
        state(&lab, &told[0]).await,
        "sent",
        "its own echo came in time"
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn an_echo_that_may_be_its_own_is_no_silence(pool: PgPool) {
    let lab = Lab::new(pool);
    // Both left; their echoes cannot be told apart and bind to neither.
    let twins = unknown(&lab, twins(), "resend_if_silent").await;
    let echoes = lab.hear(&[(&twins[0], 0), (&twins[1], 0)]).await;
    lab.apply(&echoes).await;
    // This one's echo was stored and is not applied yet.
    let waiting = unknown(&lab, vec![Specimen::new(3)], "resend_if_silent").await;
    lab.hear(&[(&waiting[0], 0)]).await;
    hear_another(&lab).await;
    lab.run(LONG_AGO).await;
    lab.look_for_silence().await;
    for one in twins.iter().chain(&waiting) {
        assert_eq!(
            state(&lab, one).await,
            "unknown",
            "a second message might reach them"
        );
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn of_two_equal_texts_neither_takes_the_evidence_of_the_other(pool: PgPool) {
    let lab = Lab::new(pool);
    let both = unknown(&lab, twins(), "park").await;
    let heard = lab
        .hear(&[(&both[1], 0), (&both[1], 2), (&both[0], 0), (&both[0], 3)])
        .await;
    lab.apply(&heard).await;
    lab.bind_late().await;
    assert_eq!(
        lab.known(&both).await,
        [
            "unknown gateway_timeout [unknown gateway_timeout] (ack 3 unbound, echo 0 unbound)",
            "unknown gateway_timeout [unknown gateway_timeout] (ack 2 unbound, echo 0 unbound)",
        ]
    );
    assert_eq!(lab.count("chat_messages").await, 0);
}

#[sqlx::test(migrations = "../migrations")]
async fn an_echo_that_comes_hours_late_is_not_taken_for_that_of_the_same_text_sent_since(
    pool: PgPool,
) {
    let lab = Lab::new(pool);
    let [old, new] = <[Specimen; 2]>::try_from(twins()).expect("two");
    let old = unknown(&lab, vec![old], "park").await;
    lab.run("update delivery_attempts set claimed_at = now() - interval '2 hours'")
        .await;
    let new = unknown(&lab, vec![new], "park").await;
    // The gateway held its webhooks back; the message itself says when it was sent.
    let mut late = lab.receipt(&old[0], 0);
    late.provider_at -= chrono::TimeDelta::hours(2);
    lab.hear_just(&late).await;
    lab.apply(&[late.id]).await;
    assert_eq!(lab.known(&new).await, [ONCE], "it is not its own");
    assert_eq!(
        lab.known(&old).await,
        ["sent [unknown gateway_timeout KEY1] (echo 0 applied)"]
    );
    let own = lab.hear(&[(&new[0], 0)]).await;
    lab.apply(&own).await;
    assert_eq!(
        lab.known(&new).await,
        ["sent [unknown gateway_timeout KEY2] (echo 0 applied)"]
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn the_echo_of_a_first_send_that_comes_after_the_second_is_not_typed_on_the_phone(
    pool: PgPool,
) {
    let lab = Lab::new(pool);
    let text_alone = Specimen {
        correlation: None,
        echo_has_text: true,
        ..Specimen::new(1)
    };
    let first = unknown(&lab, vec![text_alone], "resend").await;
    lab.run(LONG_AGO).await;
    lab.look_for_silence().await;
    let mut second = first.clone();
    second[0].key = "KEY1-AGAIN".to_owned();
    lab.claim(&mut second, 2).await;
    lab.answer(&[(&second[0], Answer::Sent)]).await;
    // Both had left: the customer has it twice, which the policy accepted.
    let heard = lab
        .hear(&[(&second[0], 0), (&first[0], 0), (&first[0], 2)])
        .await;
    lab.apply(&heard).await;
    lab.bind_late().await;
    let known = lab.known(&first).await.remove(0);
    assert!(known.starts_with("delivered ["), "{known}");
    assert!(
        known.ends_with("(ack 2 applied, echo 0 applied)"),
        "{known}"
    );
    assert_eq!(lab.count("receipts where delivery_id is null").await, 0);
    assert_eq!(lab.count("chat_messages").await, 0, "nobody typed anything");
}

#[sqlx::test(migrations = "../migrations")]
async fn an_echo_with_our_text_is_never_typed_on_the_phone_even_if_all_its_sends_failed(
    pool: PgPool,
) {
    let lab = Lab::new(pool);
    let both = lab.open(twins()).await;
    let missing = Answer::Failed(FailureCode::NumberNotOnWhatsapp);
    lab.answer(&[(&both[0], missing), (&both[1], missing)])
        .await;
    let echo = lab.hear(&[(&both[0], 0)]).await;
    lab.apply(&echo).await;
    assert_eq!(lab.count("receipts where state = 'unbound'").await, 1);
    assert_eq!(lab.count("chat_messages").await, 0);
}
