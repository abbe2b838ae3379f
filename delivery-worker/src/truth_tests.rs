//! Delivery truth over the real store: whatever order a send's answer, its lapse, its echo and its
//! acks become known in, the same is known in the end (design §1, States; §1.10).

use shared::domain::failure::FailureCode;
use sqlx::PgPool;

use crate::lab_tests::{Answer, Lab, Specimen};

/// Something that becomes known about a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    Answer(Answer),
    Lapse,
    /// An echo (level 0) or an ack.
    Heard(i32),
}

const ECHO: News = News::Heard(0);

const ANSWERS: [Answer; 7] = [
    Answer::Sent,
    // 200 with `success: false`.
    Answer::Failed(FailureCode::GatewayRefused),
    Answer::Failed(FailureCode::NumberNotOnWhatsapp),
    Answer::Failed(FailureCode::GatewayTimeout),
    Answer::Failed(FailureCode::GatewayThrottled),
    Answer::Failed(FailureCode::SessionDown),
    Answer::NotBegun,
];

/// What evidence may come, besides the answer.
const EVIDENCE: [&[News]; 6] = [
    &[],
    &[ECHO],
    &[ECHO, News::Heard(-1)],
    &[ECHO, News::Heard(-1), News::Heard(2)],
    &[ECHO, News::Heard(1), News::Heard(2), News::Heard(3)],
    // The echo is lost.
    &[News::Heard(1), News::Heard(2)],
];

/// Every order of the items, which are all different.
fn orders(items: &[News]) -> Vec<Vec<News>> {
    if items.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (place, first) in items.iter().enumerate() {
        let mut rest = items.to_vec();
        rest.remove(place);
        for mut order in orders(&rest) {
            order.insert(0, *first);
            all.push(order);
        }
    }
    all
}

/// Everything that may become known about one send, in every order.
fn lives() -> Vec<Vec<News>> {
    let mut all = Vec::new();
    for answer in ANSWERS {
        for evidence in EVIDENCE {
            let mut news = evidence.to_vec();
            news.push(News::Answer(answer));
            all.extend(orders(&news));
            // The reaper may be first, and the answer late.
            if evidence.len() < 4 {
                news.push(News::Lapse);
                all.extend(orders(&news));
            }
        }
    }
    for evidence in EVIDENCE {
        // The process died: there never is an answer.
        let mut news = evidence.to_vec();
        news.push(News::Lapse);
        all.extend(orders(&news));
    }
    all
}

/// The reference, from the set of what became known: its order decides nothing but a reason's word.
pub(crate) fn told(life: &[News], one: &Specimen) -> String {
    let answer = life.iter().find_map(|news| match news {
        News::Answer(answer) => Some(*answer),
        _ => None,
    });
    let heard = |level| life.contains(&News::Heard(level));
    let answered_with_key = answer == Some(Answer::Sent) && one.answer_has_key;
    // Acks know WhatsApp's key alone: without an echo, or an answer with it, they are nobody's.
    let binds = heard(0) || answered_with_key;
    let bound = |level| binds && heard(level);
    let (mut state, mut code, outcome) = match answer {
        None => ("unknown", Some("lease_expired"), "unknown"),
        Some(Answer::Sent) => ("sent", None, "sent"),
        Some(Answer::NotBegun) => ("queued", None, "not_sent"),
        Some(Answer::Failed(failure)) => match failure {
            FailureCode::GatewayRefused => ("dead", Some("gateway_refused"), "failed"),
            FailureCode::NumberNotOnWhatsapp => {
                ("failed", Some("number_not_on_whatsapp"), "failed")
            }
            FailureCode::GatewayTimeout => ("unknown", Some("gateway_timeout"), "unknown"),
            FailureCode::GatewayThrottled => ("queued", Some("gateway_throttled"), "retry"),
            FailureCode::SessionDown => ("held", Some("session_down"), "held"),
            other => panic!("{other} is not among the answers"),
        },
    };
    let of_attempt = code;
    if heard(0) {
        (state, code) = ("sent", None);
    }
    if bound(-1) {
        (state, code) = ("failed", Some("provider_rejected"));
    }
    for (level, reached) in [(2, "delivered"), (3, "read")] {
        if bound(level) {
            (state, code) = (reached, None);
        }
    }
    // The one thing that the order decides: a delivery keeps the first reason why it is unknown, and
    // a late answer that has none takes none away.
    let lapsed_first = life
        .iter()
        .find(|news| matches!(news, News::Lapse | News::Answer(_)))
        == Some(&News::Lapse);
    let code = match (state, answer) {
        ("unknown", Some(_)) | ("queued", Some(Answer::NotBegun)) if lapsed_first => {
            Some("lease_expired")
        }
        _ => code,
    };
    let mut words = vec![state.to_owned()];
    words.extend(code.map(str::to_owned));
    let key = binds.then(|| one.key.clone());
    let known_of_attempt: Vec<String> =
        [Some(outcome.to_owned()), of_attempt.map(str::to_owned), key]
            .into_iter()
            .flatten()
            .collect();
    words.push(format!("[{}]", known_of_attempt.join(" ")));
    let mut heard: Vec<String> = life
        .iter()
        .filter_map(|news| match news {
            News::Heard(0) => Some("echo 0 applied".to_owned()),
            News::Heard(level) if binds => Some(format!("ack {level} applied")),
            News::Heard(level) => Some(format!("ack {level} unbound")),
            _ => None,
        })
        .collect();
    heard.sort();
    words.push(format!("({})", heard.join(", ")));
    words.join(" ")
}

/// An answer that proves that nothing left, and an echo all the same. One with our text is ours,
/// whatever the answer said; one without a text, of an id that no answer told, is somebody else's
/// send: it must not end a retry.
fn is_of_somebody_else(life: &[News]) -> bool {
    life.contains(&ECHO)
        && life.iter().any(|news| {
            matches!(
                news,
                News::Answer(
                    Answer::NotBegun
                        | Answer::Failed(FailureCode::GatewayThrottled | FailureCode::SessionDown)
                )
            )
        })
}

/// Lives every life through, all at the same step together, and compares what is known at the end.
async fn live_through(lab: &Lab, shape: fn(&mut Specimen)) {
    let mut example = Specimen::new(0);
    shape(&mut example);
    let mut lives = lives();
    lives.retain(|life| example.echo_has_text || !is_of_somebody_else(life));
    let specimens = (0..lives.len())
        .map(|number| {
            let mut one = Specimen::new(number);
            shape(&mut one);
            one
        })
        .collect();
    let specimens = lab.open(specimens).await;
    let mut receipts = Vec::new();
    let longest = lives.iter().map(Vec::len).max().unwrap_or_default();
    for step in 0..longest {
        let news: Vec<(&Specimen, News)> = specimens
            .iter()
            .zip(&lives)
            .filter_map(|(one, life)| Some((one, *life.get(step)?)))
            .collect();
        let answers: Vec<(&Specimen, Answer)> = news
            .iter()
            .filter_map(|(one, news)| match news {
                News::Answer(answer) => Some((*one, *answer)),
                _ => None,
            })
            .collect();
        lab.answer(&answers).await;
        let lapsed: Vec<&Specimen> = news
            .iter()
            .filter(|(_, news)| *news == News::Lapse)
            .map(|(one, _)| *one)
            .collect();
        lab.lapse(&lapsed).await;
        let heard: Vec<(&Specimen, i32)> = news
            .iter()
            .filter_map(|(one, news)| match news {
                News::Heard(level) => Some((*one, *level)),
                _ => None,
            })
            .collect();
        let heard = lab.hear(&heard).await;
        lab.apply(&heard).await;
        receipts.extend(heard);
    }
    lab.bind_late().await;
    let compare = async |when: &str| {
        for ((one, life), known) in specimens
            .iter()
            .zip(&lives)
            .zip(lab.known(&specimens).await)
        {
            assert_eq!(sorted(&known), told(life, one), "{when}: {life:?}");
        }
    };
    compare("after all orders").await;

    // Everything comes once more: results are recorded again, messages are delivered again.
    let again: Vec<(&Specimen, Answer)> = specimens
        .iter()
        .zip(&lives)
        .flat_map(|(one, life)| life.iter().map(move |news| (one, *news)))
        .filter_map(|(one, news)| match news {
            News::Answer(answer) => Some((one, answer)),
            _ => None,
        })
        .collect();
    lab.answer(&again).await;
    lab.apply(&receipts).await;
    compare("after everything came twice").await;
    assert_eq!(
        lab.count("chat_messages").await,
        0,
        "nothing of ours was typed on the phone"
    );
}

/// What is known, with the receipts in the order of the alphabet.
fn sorted(known: &str) -> String {
    let Some((before, receipts)) = known.split_once('(') else {
        return known.to_owned();
    };
    let mut receipts: Vec<&str> = receipts.trim_end_matches(')').split(", ").collect();
    receipts.sort_unstable();
    format!("{before}({})", receipts.join(", "))
}

#[sqlx::test(migrations = "../migrations")]
async fn every_order_ends_the_same_when_answer_and_echo_share_the_gateways_id(pool: PgPool) {
    live_through(&Lab::new(pool), |_| {}).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn every_order_ends_the_same_when_the_echo_has_the_text_alone(pool: PgPool) {
    live_through(&Lab::new(pool), |one| {
        one.correlation = None;
        one.echo_has_text = true;
    })
    .await;
}

#[sqlx::test(migrations = "../migrations")]
async fn every_order_ends_the_same_when_the_answer_tells_the_key(pool: PgPool) {
    live_through(&Lab::new(pool), |one| one.answer_has_key = true).await;
}
