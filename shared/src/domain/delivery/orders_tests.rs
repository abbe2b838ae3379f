//! The lattice over all orders: what a send answered, its echo and its acks, with repeats, each set
//! in each order that it may become known in, against a reference that is written from the design's
//! words and shares nothing with the code.

use std::collections::BTreeSet;

use super::{DeliveryState, Evidence, Standing};
use crate::domain::failure::FailureCode;

/// Something that becomes known about a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum News {
    Answer(Answer),
    /// The reaper found the lease over.
    Lapse,
    Echo,
    Ack(i32),
}

/// What the send itself came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    Sent,
    /// 200 with `success: false`, and nothing known about the text.
    Refused,
    DoesNotExist,
    Timeout,
    ErrorWithRetry,
    LastError,
    SessionDown,
    NotBegun,
}

const ANSWERS: [Answer; 8] = [
    Answer::Sent,
    Answer::Refused,
    Answer::DoesNotExist,
    Answer::Timeout,
    Answer::ErrorWithRetry,
    Answer::LastError,
    Answer::SessionDown,
    Answer::NotBegun,
];

impl Answer {
    /// Where the attempt alone leads (facts §1.3, product 5.3).
    const fn alone(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::DoesNotExist => "failed",
            Self::Timeout => "unknown",
            Self::ErrorWithRetry | Self::NotBegun => "queued",
            Self::Refused | Self::LastError => "dead",
            Self::SessionDown => "held",
        }
    }
}

/// The code under test: what the store's users do with a locked row, one piece of news after another.
fn lived(order: &[News]) -> DeliveryState {
    let mut standing = Standing::new(DeliveryState::Claimed, None);
    let mut is_open = true;
    let mut is_unknown = false;
    for news in order {
        let (next, failure) = match news {
            News::Answer(answer) => {
                let conclusion: DeliveryState = answer.alone().parse().unwrap();
                // A closed attempt takes no second result, but proof stays proof.
                let counts = is_open || is_unknown || conclusion == DeliveryState::Sent;
                (is_open, is_unknown) = (false, false);
                let next = counts.then(|| standing.after_attempt(conclusion)).flatten();
                (next, Some(FailureCode::NumberNotOnWhatsapp))
            }
            News::Lapse if is_open => {
                (is_open, is_unknown) = (false, true);
                let next = standing.after_attempt(DeliveryState::Unknown);
                (next, Some(FailureCode::LeaseExpired))
            }
            News::Lapse => (None, None),
            News::Echo => (standing.after_echo(), None),
            News::Ack(level) => {
                let evidence = Evidence::from_wppconnect_ack(*level).unwrap();
                let failure = (*level < 0).then_some(FailureCode::ProviderRejected);
                (standing.after_ack(evidence), failure)
            }
        };
        if let Some(next) = next {
            let fell = match standing.state() {
                DeliveryState::Read => true,
                DeliveryState::Delivered => next != DeliveryState::Read,
                _ => false,
            };
            assert!(!fell, "a device has it: {order:?}");
            standing = Standing::new(next, failure.map(FailureCode::as_str));
        }
    }
    standing.state()
}

/// The reference, in the words of the design: read and delivered win over all; else the provider's
/// own "failed" wins over whatever only says that it was handed over, unless its server's ack came
/// after it; else any proof that it left; else what the send said by itself.
fn told(order: &[News]) -> &'static str {
    let has = |news: News| order.contains(&news);
    if has(News::Ack(3)) {
        return "read";
    }
    if has(News::Ack(2)) {
        return "delivered";
    }
    let places = |wanted: News| order.iter().enumerate().filter(move |(_, n)| **n == wanted);
    let left_before = |place: usize| {
        order[..place]
            .iter()
            .any(|news| matches!(news, News::Answer(Answer::Sent) | News::Echo | News::Ack(1)))
    };
    // The first answer counts; a lapse is none, what follows it is still heard.
    let answer_before = |place: usize| {
        order[..place].iter().find_map(|news| match news {
            News::Answer(answer) => Some(*answer),
            _ => None,
        })
    };
    // "−1 fails only claimed, unknown or sent": what is known to be unsent otherwise stays so.
    let refusal = places(News::Ack(-1))
        .filter(|(place, _)| {
            left_before(*place) || matches!(answer_before(*place), None | Some(Answer::Timeout))
        })
        .map(|(place, _)| place)
        .next_back();
    if let Some(refusal) = refusal {
        let server_took_it = places(News::Ack(1)).any(|(place, _)| place > refusal);
        return if server_took_it { "sent" } else { "failed" };
    }
    if left_before(order.len()) {
        return "sent";
    }
    match answer_before(order.len()) {
        Some(answer) => answer.alone(),
        None if has(News::Lapse) => "unknown",
        None => "claimed",
    }
}

/// Calls back with every order of the items; equal items make no new order.
fn orders(items: &mut Vec<News>, begun: &mut Vec<News>, each: &mut impl FnMut(&[News])) {
    if items.is_empty() {
        each(begun);
        return;
    }
    let mut tried = BTreeSet::new();
    for place in 0..items.len() {
        if !tried.insert(items[place]) {
            continue;
        }
        let item = items.remove(place);
        begun.push(item);
        orders(items, begun, each);
        begun.pop();
        items.insert(place, item);
    }
}

/// Every set of news about one send: an answer or none, a lapse or none, any evidence, one of them twice.
fn sets() -> Vec<Vec<News>> {
    let evidence = [
        News::Echo,
        News::Ack(-1),
        News::Ack(1),
        News::Ack(2),
        News::Ack(3),
    ];
    let mut sets = Vec::new();
    let answers = ANSWERS.iter().map(|answer| Some(News::Answer(*answer)));
    for answer in answers.chain([None]) {
        for lapse in [None, Some(News::Lapse)] {
            for chosen in 0_u32..1 << evidence.len() {
                let mut set: Vec<News> = answer.into_iter().chain(lapse).collect();
                set.extend(
                    evidence
                        .iter()
                        .enumerate()
                        .filter(|(bit, _)| chosen & (1 << bit) != 0)
                        .map(|(_, news)| *news),
                );
                for twice in 0..set.len() {
                    let mut repeated = set.clone();
                    repeated.push(set[twice]);
                    sets.push(repeated);
                }
                sets.push(set);
            }
        }
    }
    sets
}

/// WhatsApp's own "failed", and what says the contrary: that its server took the message, or an
/// answer that proves that it never left. There alone the order may matter.
fn contradicts_itself(set: &[News]) -> bool {
    set.contains(&News::Ack(-1))
        && set.iter().any(|news| match news {
            News::Ack(level) => *level == 1,
            News::Answer(answer) => !matches!(answer, Answer::Sent | Answer::Timeout),
            News::Lapse | News::Echo => false,
        })
}

#[test]
fn every_order_of_answer_lapse_echo_and_acks_ends_where_the_lattice_says() {
    let mut tried = 0_u64;
    for mut set in sets() {
        let is_bound = !contradicts_itself(&set);
        let mut end = None;
        orders(&mut set, &mut Vec::new(), &mut |order| {
            tried += 1;
            let lived = lived(order);
            assert_eq!(lived.as_str(), told(order), "{order:?}");
            if is_bound {
                assert_eq!(
                    *end.get_or_insert(lived),
                    lived,
                    "the order matters: {order:?}"
                );
            }
        });
    }
    assert!(tried > 500_000, "only {tried} orders");
}
