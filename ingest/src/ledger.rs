//! The ledger (design §1): where every event and delivery stands, and what contradicts itself.
//!
//! Events = routed + unrouted, deliveries = the sum of their twelve states, all counted and none
//! derived. What is unsettled is counted at each look; what is settled is gone through page by
//! page, so that a look costs the same however old the installation is. Everything in `wrong` is
//! 0 at rest, and not only there: no lawful sequence of commits leaves such a row behind.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared::broker::health::queue_is_empty;
use shared::broker::{Queue, Session};
use shared::domain::delivery::DeliveryState;
use shared::domain::message::WorkQueue;
use shared::store::ledger::{self, Book, EventWindow, Page};
use shared::store::{StoreResult, outbox};
use sqlx::{Connection, PgConnection, PgPool};
use tokio::sync::Mutex;
use uuid::Uuid;

/// The most rows of one state that are counted; more are told as this many.
pub(crate) const MOST: i64 = 50_000;
/// Events of one statement, and how many statements one look may take to catch up.
const EVENTS: (i64, usize) = (50_000, 4);
/// Settled rows of one look: ten million deliveries take about three and a half hours.
const DELIVERIES: i64 = 4_000;
/// As [`DELIVERIES`]; each routing's plan is compared with its deliveries besides.
const ROUTINGS: i64 = 2_000;
/// Events younger than this may still be committed behind their neighbours, in seconds: longer
/// than the accept may wait for a connection and take for its statement.
const LATE_S: f64 = 20.0;
/// Work without a message is told once reconciliation must have seen it twice, in seconds.
const LOST_AFTER_S: f64 = 120.0;
/// The most rows that are looked for of one finding.
const WRONG: i64 = 1_000;
/// The most ids that are shown of one finding.
const SHOWN: usize = 20;

/// What may be wrong, and what it means for a person.
pub(crate) const FINDINGS: [(&str, &str); 13] = [
    (
        "attempt_past_lease",
        "an attempt is open though its lease has lapsed: no reaper concludes it",
    ),
    (
        "attempt_without_claim",
        "an attempt is open and its delivery waits or is unknown: it could be sent twice",
    ),
    (
        "attempt_never_asked_for",
        "an attempt is open that its delivery has not come to yet",
    ),
    (
        "two_open_attempts",
        "two attempts of one delivery are open: it could be sent twice",
    ),
    (
        "claim_without_attempt",
        "a delivery is claimed and no attempt is open: nobody will conclude it",
    ),
    (
        "queued_and_never_dispatched",
        "a delivery is queued without a message and without a due time: nobody will try it",
    ),
    (
        "held_without_account",
        "a delivery is held by an account that does not exist: nobody will release it",
    ),
    (
        "settled_without_time",
        "a delivery is settled and has no time of it, or the reverse",
    ),
    (
        "sent_without_time",
        "a delivery was sent and has no time of it",
    ),
    (
        "dead_without_letter",
        "a delivery is dead and no letter tells of it: nobody will redrive it",
    ),
    (
        "plan_without_delivery",
        "a routing planned more deliveries than there are",
    ),
    (
        "delivery_without_plan",
        "a routing has more deliveries than it planned",
    ),
    (
        "message_lost",
        "work was dispatched, waits, and has no message in outbox or broker",
    ),
];

/// One kind of thing that is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) count: i64,
    pub(crate) ids: Vec<Uuid>,
}

impl Found {
    fn add(&mut self, ids: impl IntoIterator<Item = Uuid>) {
        for id in ids {
            self.count += 1;
            if self.ids.len() < SHOWN {
                self.ids.push(id);
            }
        }
    }
}

/// What one walk through a table counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counted {
    #[serde(default)]
    states: BTreeMap<String, i64>,
    #[serde(default)]
    wrong: BTreeMap<String, Found>,
}

impl Counted {
    /// Reads what a book holds; what an older build wrote otherwise begins anew.
    fn read(value: Option<&Value>) -> Self {
        value
            .and_then(|value| serde_json::from_value(value.clone()).ok())
            .unwrap_or_default()
    }

    fn add(&mut self, page: &Page) {
        let states: BTreeMap<String, i64> =
            serde_json::from_value(page.states.clone()).unwrap_or_default();
        for (state, count) in states {
            *self.states.entry(state).or_default() += count;
        }
        let wrong: BTreeMap<String, Vec<Uuid>> =
            serde_json::from_value(page.wrong.clone()).unwrap_or_default();
        for (finding, ids) in wrong {
            if !ids.is_empty() {
                self.wrong.entry(finding).or_default().add(ids);
            }
        }
    }
}

/// What one look saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Look {
    pub(crate) routed: i64,
    pub(crate) unrouted: i64,
    /// Every state; none before the first walk has ended.
    pub(crate) deliveries: BTreeMap<&'static str, Option<i64>>,
    pub(crate) wrong: BTreeMap<String, Found>,
    pub(crate) waiting: Vec<ledger::Waiting>,
    pub(crate) letters: Vec<ledger::OpenLetters>,
    pub(crate) outbox: (i64, f64),
}

impl Look {
    /// How many rows are wrong.
    pub(crate) fn imbalance(&self) -> i64 {
        self.wrong.values().map(|found| found.count).sum()
    }
}

/// Keeps the ledger.
#[derive(Clone)]
pub(crate) struct Auditor {
    pool: PgPool,
    session: Session,
    /// One look at a time in this process: whoever asks gets one that began after the question.
    turn: Arc<Mutex<()>>,
}

impl Auditor {
    pub(crate) fn new(pool: PgPool, session: Session) -> Self {
        Self {
            pool,
            session,
            turn: Arc::default(),
        }
    }

    /// Looks once, and turns one page of each book.
    ///
    /// # Errors
    /// The database is unwell: look again later.
    pub(crate) async fn look(&self) -> StoreResult<Look> {
        let _turn = self.turn.lock().await;
        let mut conn = self.pool.acquire().await?;
        let mut look = Look {
            waiting: ledger::waiting(&mut conn, MOST).await?,
            letters: ledger::open_letters(&mut conn, MOST).await?,
            outbox: outbox::backlog(&mut conn).await?,
            ..Look::default()
        };
        for row in ledger::contradictions(&mut conn, WRONG).await? {
            look.wrong.entry(row.finding).or_default().add([row.id]);
        }
        let mut dispatched = ledger::dispatched(&mut conn, LOST_AFTER_S, WRONG).await?;
        let events = self.events(&mut conn, &mut look).await?;
        dispatched.extend(events.dispatched.into_iter().map(|id| ledger::Dispatched {
            queue: WorkQueue::Route.name().to_owned(),
            id,
        }));
        let deliveries = turn_page(&mut conn, "deliveries").await?;
        let routings = turn_page(&mut conn, "routings").await?;
        drop(conn);
        look.deliveries = states(&look.waiting, deliveries.as_ref());
        for walk in [deliveries, routings].into_iter().flatten() {
            for (finding, found) in walk.wrong {
                look.wrong.insert(finding, found);
            }
        }
        self.lost(dispatched, &mut look).await;
        Ok(look)
    }

    async fn events(&self, conn: &mut PgConnection, look: &mut Look) -> StoreResult<EventWindow> {
        let (limit, rounds) = EVENTS;
        let mut round = 1;
        loop {
            let (window, routed) = turn_events(conn, limit).await?;
            // A full window that was closed to its end: the mark is catching up.
            if round < rounds && window.seen == limit && window.closed == limit {
                round += 1;
                continue;
            }
            look.routed = routed;
            look.unrouted = window.seen - window.routed;
            look.waiting.push(ledger::Waiting {
                queue: WorkQueue::Route.name().to_owned(),
                state: "unrouted".to_owned(),
                depth: look.unrouted,
                oldest_s: window.oldest_s.max(0.0),
            });
            return Ok(window);
        }
    }

    /// What waits for a message is lost when its queue is empty; while it is not, or the broker
    /// cannot be asked, nothing is claimed.
    async fn lost(&self, dispatched: Vec<ledger::Dispatched>, look: &mut Look) {
        let mut by_queue: BTreeMap<String, Vec<Uuid>> = BTreeMap::new();
        for work in dispatched {
            by_queue.entry(work.queue).or_default().push(work.id);
        }
        for (queue, ids) in by_queue {
            let Some(queue) = WorkQueue::by_name(&queue) else {
                continue;
            };
            if queue_is_empty(&self.session, Queue::Work(queue)).await == Ok(true) {
                look.wrong
                    .entry("message_lost".to_owned())
                    .or_default()
                    .add(ids);
            }
        }
    }
}

/// Moves the mark behind which every event has its routing; answers what lies after it, and how
/// many events have been routed in all.
async fn turn_events(conn: &mut PgConnection, limit: i64) -> StoreResult<(EventWindow, i64)> {
    let mut tx = conn.begin().await?;
    let taken = ledger::take_book(&mut tx, "events").await?;
    let ours = taken.is_some();
    let book = match taken {
        Some(book) => book,
        None => ledger::read_book(&mut tx, "events").await?,
    };
    let window = ledger::event_window(&mut tx, book.up_to, (LATE_S, LOST_AFTER_S), limit).await?;
    let before = book.counting["routed"].as_i64().unwrap_or_default();
    if ours && let Some(up_to) = window.closed_up_to {
        let counting = json!({"routed": before + window.closed});
        ledger::write_book(&mut tx, "events", (up_to, &counting), Some(&counting)).await?;
    }
    tx.commit().await?;
    let routed = before + window.routed;
    Ok((window, routed))
}

/// Goes one page further through a table; answers what the last whole walk counted.
async fn turn_page(conn: &mut PgConnection, name: &str) -> StoreResult<Option<Counted>> {
    let mut tx = conn.begin().await?;
    let Some(book) = ledger::take_book(&mut tx, name).await? else {
        let book = ledger::read_book(&mut tx, name).await?;
        tx.commit().await?;
        return Ok(book.counted.map(|counted| Counted::read(Some(&counted))));
    };
    let (page, limit) = if name == "deliveries" {
        let page = ledger::deliveries_page(&mut tx, book.up_to, DELIVERIES).await?;
        (page, DELIVERIES)
    } else {
        let page = ledger::routings_page(&mut tx, book.up_to, ROUTINGS).await?;
        (page, ROUTINGS)
    };
    let turned = turned(&book, &page, limit);
    ledger::write_book(
        &mut tx,
        name,
        (turned.up_to, &turned.counting),
        turned.counted.as_ref(),
    )
    .await?;
    tx.commit().await?;
    let counted = turned.counted.or(book.counted);
    Ok(counted.map(|counted| Counted::read(Some(&counted))))
}

/// Where a book stands after a page.
struct Turned {
    up_to: Uuid,
    counting: Value,
    counted: Option<Value>,
}

/// Adds a page to a walk. One that is not full is the last, and the next walk begins.
fn turned(book: &Book, page: &Page, limit: i64) -> Turned {
    let mut counting = Counted::read(Some(&book.counting));
    counting.add(page);
    let counting = json!(counting);
    match page.last {
        Some(last) if page.size == limit => Turned {
            up_to: last,
            counting,
            counted: None,
        },
        _ => Turned {
            up_to: Uuid::nil(),
            counting: json!({}),
            counted: Some(counting),
        },
    }
}

/// Every state of a delivery: the unsettled as they are now, the settled as last counted.
fn states(
    waiting: &[ledger::Waiting],
    counted: Option<&Counted>,
) -> BTreeMap<&'static str, Option<i64>> {
    let now = |state: DeliveryState| -> i64 {
        waiting
            .iter()
            .filter(|w| {
                w.state == state.as_str() || (state == DeliveryState::Queued && w.state == "retry")
            })
            .map(|w| w.depth)
            .sum()
    };
    DeliveryState::ALL
        .iter()
        .map(|state| {
            let count = if state.is_settled() {
                counted.map(|counted| counted.states.get(state.as_str()).copied().unwrap_or(0))
            } else {
                Some(now(*state))
            };
            (state.as_str(), count)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(up_to: u128, counting: Value) -> Book {
        Book {
            up_to: Uuid::from_u128(up_to),
            counting,
            counted: None,
            counted_at: None,
        }
    }

    fn page(size: i64, last: u128, states: Value, wrong: Value) -> Page {
        Page {
            size,
            last: Some(Uuid::from_u128(last)),
            states,
            wrong,
        }
    }

    #[test]
    fn a_full_page_goes_on_and_a_short_one_ends_the_walk() {
        let lost = Uuid::from_u128(7);
        let first = turned(
            &book(0, json!({})),
            &page(
                2,
                9,
                json!({"read": 1, "dead": 1}),
                json!({"dead_without_letter": [lost]}),
            ),
            2,
        );
        assert_eq!((first.up_to, first.counted), (Uuid::from_u128(9), None));
        let last = turned(
            &book(9, first.counting),
            &page(
                1,
                11,
                json!({"read": 1}),
                json!({"dead_without_letter": []}),
            ),
            2,
        );
        assert_eq!((last.up_to, last.counting), (Uuid::nil(), json!({})));
        let counted = Counted::read(last.counted.as_ref());
        assert_eq!(counted.states["read"], 2);
        assert_eq!(counted.states["dead"], 1);
        let found = &counted.wrong["dead_without_letter"];
        assert_eq!((found.count, &found.ids[..]), (1, &[lost][..]));
    }

    #[test]
    fn an_empty_table_is_a_whole_walk() {
        let empty = Page {
            size: 0,
            last: None,
            states: json!({}),
            wrong: json!({}),
        };
        let turned = turned(&book(0, json!({})), &empty, 2);
        assert!(turned.counted.is_some());
    }

    #[test]
    fn every_state_is_counted_and_none_is_derived() {
        let waiting = |state: &str, depth| ledger::Waiting {
            queue: "hub.deliveries.whatsapp".to_owned(),
            state: state.to_owned(),
            depth,
            oldest_s: 0.0,
        };
        let rows = [
            waiting("queued", 2),
            waiting("retry", 3),
            waiting("held", 4),
        ];
        let before = states(&rows, None);
        assert_eq!(before.len(), DeliveryState::ALL.len());
        assert_eq!(
            (before["queued"], before["held"], before["claimed"]),
            (Some(5), Some(4), Some(0))
        );
        assert_eq!(
            before["read"], None,
            "nothing is claimed before it was counted"
        );
        let counted = Counted {
            states: BTreeMap::from([("read".to_owned(), 6), ("queued".to_owned(), 99)]),
            ..Counted::default()
        };
        let after = states(&rows, Some(&counted));
        assert_eq!(
            (after["read"], after["dead"], after["queued"]),
            (Some(6), Some(0), Some(5))
        );
    }

    #[test]
    fn no_more_ids_are_shown_than_a_person_reads() {
        let mut found = Found::default();
        found.add((0..50).map(Uuid::from_u128));
        assert_eq!((found.count, found.ids.len()), (50, SHOWN));
    }
}
