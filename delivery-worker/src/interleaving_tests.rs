//! Delivery truth while everything happens at once: the news of several deliveries, to the same and
//! to other recipients, dealt out to tasks that record and apply them in small batches.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use shared::domain::failure::FailureCode;
use sqlx::PgPool;

use crate::lab_tests::{Answer, Lab, Specimen};
use crate::truth_tests::{News, told};

/// How many interleavings are tried.
const CASES: usize = 64;
/// Tasks that work at the same time.
const TASKS: usize = 4;

/// What really happened to one send, and what is heard of it.
#[derive(Clone, Debug)]
struct Fate {
    answer: Option<Answer>,
    lapses: bool,
    /// 0 is the echo, the others are acks; only what left is heard of.
    heard: Vec<i32>,
    /// Whether it has its recipient and text in common with others.
    is_twin: bool,
    /// Whether it is claimed only after half of the others' news.
    is_later: bool,
    answer_has_key: bool,
    echo_has_text: bool,
}

impl Fate {
    fn news(&self) -> Vec<News> {
        let answer = self.answer.map(News::Answer);
        let lapse = self.lapses.then_some(News::Lapse);
        let heard = self.heard.iter().map(|level| News::Heard(*level));
        answer.into_iter().chain(lapse).chain(heard).collect()
    }

    fn specimen(&self, case: usize, number: usize) -> Specimen {
        let mut one = Specimen::new(1_000 * (case + 1) + number);
        one.answer_has_key = self.answer_has_key;
        one.echo_has_text = self.echo_has_text || self.is_twin;
        if self.is_twin {
            one.recipient = format!("tel:twins-{case}");
            one.text = format!("the same {case}");
        }
        if one.echo_has_text {
            one.correlation = None;
        }
        one
    }
}

fn fate() -> impl Strategy<Value = Fate> {
    let answer = prop_oneof![
        Just(Some(Answer::Sent)),
        Just(Some(Answer::Sent)),
        Just(Some(Answer::Failed(FailureCode::GatewayTimeout))),
        Just(Some(Answer::Failed(FailureCode::NumberNotOnWhatsapp))),
        Just(Some(Answer::Failed(FailureCode::GatewayRefused))),
        Just(Some(Answer::Failed(FailureCode::GatewayThrottled))),
        Just(Some(Answer::NotBegun)),
        Just(None),
    ];
    let heard = prop_oneof![
        Just(vec![]),
        Just(vec![0, -1]),
        proptest::sample::subsequence(vec![0, 1, 2, 3], 0..=4),
        Just(vec![0, 1, 2, 3]),
    ];
    let flags = proptest::array::uniform5(any::<bool>());
    (answer, heard, flags).prop_map(|(answer, heard, flags)| {
        let [lapses, is_twin, is_later, answer_has_key, echo_has_text] = flags;
        let proven_unsent = matches!(
            answer,
            Some(Answer::NotBegun | Answer::Failed(FailureCode::GatewayThrottled))
        );
        Fate {
            answer,
            // Where no answer ever comes, the lease is over some day.
            lapses: lapses || answer.is_none(),
            heard: if proven_unsent { Vec::new() } else { heard },
            is_twin,
            is_later,
            answer_has_key,
            echo_has_text,
        }
    })
}

type Dealt<'a> = Vec<(&'a Specimen, News)>;

/// Lets the tasks work through what they were dealt, each in batches of two.
async fn work(lab: &Lab, news: Dealt<'_>) {
    let mut hands: Vec<Dealt<'_>> = vec![Vec::new(); TASKS];
    for (place, news) in news.into_iter().enumerate() {
        hands[place % TASKS].push(news);
    }
    futures_util::future::join_all(hands.into_iter().map(async |hand| {
        for batch in hand.chunks(2) {
            let of = |wanted: fn(&News) -> bool| {
                let chosen = batch.iter().filter(move |(_, news)| wanted(news));
                chosen.copied().collect::<Vec<_>>()
            };
            let heard: Vec<_> = of(|news| matches!(news, News::Heard(_)))
                .iter()
                .filter_map(|(one, news)| match news {
                    News::Heard(level) => Some((*one, *level)),
                    _ => None,
                })
                .collect();
            let answers: Vec<_> = of(|news| matches!(news, News::Answer(_)))
                .iter()
                .filter_map(|(one, news)| match news {
                    News::Answer(answer) => Some((*one, *answer)),
                    _ => None,
                })
                .collect();
            let lapsed = of(|news| *news == News::Lapse);
            let lapsed: Vec<_> = lapsed.iter().map(|(one, _)| *one).collect();
            let receipts = lab.hear(&heard).await;
            lab.apply(&receipts).await;
            lab.answer(&answers).await;
            lab.lapse(&lapsed).await;
        }
    }))
    .await;
}

/// The words that no order changes: the state, and what became of the receipts.
fn gist(known: &str) -> (String, BTreeSet<String>) {
    let state = known.split(' ').next().unwrap_or_default().to_owned();
    let receipts = known.rsplit_once('(').map_or("", |(_, receipts)| receipts);
    let receipts = receipts.trim_end_matches(')').split(", ");
    (state, receipts.map(str::to_owned).collect())
}

#[sqlx::test(migrations = "../migrations")]
async fn whatever_happens_at_once_everybody_gets_their_own_evidence_and_no_update_is_lost(
    pool: PgPool,
) {
    let lab = Lab::new(pool);
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let strategy = proptest::collection::vec(fate(), 2..6);
    for case in 0..CASES {
        let fates = strategy
            .new_tree(&mut runner)
            .expect("because nothing is filtered")
            .current();
        let specimens = fates
            .iter()
            .enumerate()
            .map(|(number, fate)| fate.specimen(case, number));
        let mut specimens: Vec<Specimen> = specimens.collect();
        lab.plan(&specimens, "park").await;
        // Some are claimed only when half of the others' news is known.
        for (one, fate) in specimens.iter_mut().zip(&fates) {
            if !fate.is_later {
                lab.claim(std::slice::from_mut(one), 1).await;
            }
        }
        let mut early = shuffled(places(&fates, false), &mut runner);
        let rest = early.split_off(early.len() / 2);
        work(&lab, deal(&specimens, &early)).await;
        for (one, fate) in specimens.iter_mut().zip(&fates) {
            if fate.is_later {
                lab.claim(std::slice::from_mut(one), 1).await;
            }
        }
        let mut late = places(&fates, true);
        late.extend(rest);
        let late = shuffled(late, &mut runner);
        work(&lab, deal(&specimens, &late)).await;
        lab.bind_late().await;

        for ((one, fate), known) in specimens
            .iter()
            .zip(&fates)
            .zip(lab.known(&specimens).await)
        {
            assert!(
                !known.contains("of another"),
                "case {case}: {known}\n{fates:?}"
            );
            let all = fate.news();
            let with = gist(&told(&all, one));
            let told_nothing: Vec<News> = all
                .iter()
                .filter(|news| !matches!(news, News::Heard(_)))
                .copied()
                .collect();
            let without = gist(&told(&told_nothing, one)).0;
            let found = gist(&known);
            let stays_open = fate.is_twin && found.0 == without;
            assert!(
                found == with || stays_open,
                "case {case}: {known}, not {with:?}\n{fates:?}"
            );
        }
    }
    assert_eq!(lab.count("chat_messages").await, 0, "nobody typed anything");
}

/// The news of all deliveries that are claimed later, or of the others, by their places.
fn places(fates: &[Fate], later: bool) -> Vec<(usize, News)> {
    fates
        .iter()
        .enumerate()
        .filter(|(_, fate)| fate.is_later == later)
        .flat_map(|(place, fate)| fate.news().into_iter().map(move |news| (place, news)))
        .collect()
}

fn shuffled(news: Vec<(usize, News)>, runner: &mut TestRunner) -> Vec<(usize, News)> {
    let tree = Just(news).prop_shuffle().new_tree(runner);
    tree.expect("because nothing is filtered").current()
}

fn deal<'a>(specimens: &'a [Specimen], news: &[(usize, News)]) -> Dealt<'a> {
    news.iter()
        .map(|(place, news)| (&specimens[*place], *news))
        .collect()
}
