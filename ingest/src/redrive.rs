//! The use case: letters are redriven or discarded, page by page, each page in a transaction of its
//! own, so that a hundred thousand letters lock nothing for long. What was done is told also when
//! a later page fails.

use std::collections::BTreeMap;

use shared::broker::dead_metrics::Action;
use shared::domain::redrive::Refusal;
use shared::store::audit::Author;
use shared::store::dead_letter_search::{self as search, LetterFilter};
use shared::store::redrive::{self, Order};
use shared::store::{StoreError, StoreResult};
use uuid::Uuid;

use crate::admin::AdminState;

/// The most letters of one transaction.
const PAGE: usize = 500;
/// How often a transaction that met another one is repeated.
const CONFLICT_REPEATS: u32 = 5;

/// What an operator asks for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) letters: Letters,
    pub(crate) deed: Deed,
    pub(crate) dry_run: bool,
    pub(crate) reason: Option<String>,
    pub(crate) actor: String,
}

/// Which letters.
#[derive(Clone, Debug)]
pub(crate) enum Letters {
    /// These.
    Named(Vec<Uuid>),
    /// Those that match now, if they are as many as the operator counted.
    Matching {
        filter: LetterFilter,
        expected: Option<i64>,
    },
}

/// What is to be done with them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Deed {
    Redrive { force: bool },
    Discard,
}

/// What was done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) dry_run: bool,
    /// `redriven` or `discarded`.
    pub(crate) deed: &'static str,
    /// Letters that the order meant.
    pub(crate) matched: usize,
    /// Every page was done.
    pub(crate) complete: bool,
    /// Letters redriven, by how; or discarded.
    pub(crate) ways: BTreeMap<&'static str, usize>,
    /// Letters left as they are, and why.
    pub(crate) refused: Vec<(Uuid, Refusal)>,
}

impl Report {
    /// How many letters were redriven or discarded.
    pub(crate) fn done(&self) -> usize {
        self.ways.values().sum()
    }

    /// True when no letter was looked at.
    pub(crate) fn is_empty(&self) -> bool {
        self.ways.is_empty() && self.refused.is_empty()
    }
}

/// Why an order was not carried out, or not to its end.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// The filter matches another number of letters than the operator counted.
    CountDiffers { matched: i64 },
    /// The database went away; the report tells what had been done.
    Unavailable { report: Report, error: StoreError },
}

/// Carries an order out.
///
/// # Errors
/// See [`Stopped`]; the same order may be repeated, what was done is not done twice.
pub(crate) async fn carry_out(state: AdminState, asked: Asked) -> Result<Report, Stopped> {
    let mut report = Report {
        dry_run: asked.dry_run,
        deed: match asked.deed {
            Deed::Redrive { .. } => "redriven",
            Deed::Discard => "discarded",
        },
        ..Report::default()
    };
    let done = all_pages(&state, &asked, &mut report).await;
    if !asked.dry_run {
        tracing::info!(
            outcome = report.deed,
            letters = report.done(),
            refused = report.refused.len(),
            "an operator settled dead letters"
        );
    }
    match done {
        Ok(None) => {
            report.complete = true;
            Ok(report)
        }
        Ok(Some(matched)) => Err(Stopped::CountDiffers { matched }),
        Err(error) => Err(Stopped::Unavailable { report, error }),
    }
}

/// Answers the count when it is another than the operator's.
async fn all_pages(
    state: &AdminState,
    asked: &Asked,
    report: &mut Report,
) -> StoreResult<Option<i64>> {
    match &asked.letters {
        Letters::Named(ids) => {
            let mut ids = ids.clone();
            ids.sort_unstable();
            ids.dedup();
            report.matched = ids.len();
            for page in ids.chunks(PAGE) {
                one_page(state, asked, page, report).await?;
            }
        }
        Letters::Matching { filter, expected } => {
            let (matched, last) = search::count(&mut *state.reader().await?, filter).await?;
            if expected.is_some_and(|expected| expected != matched) {
                return Ok(Some(matched));
            }
            report.matched = usize::try_from(matched).unwrap_or_default();
            // What dies from now on has a higher id, and nobody agreed to it.
            let (mut after, Some(last)) = (Uuid::nil(), last) else {
                return Ok(None);
            };
            let limit = i64::try_from(PAGE).unwrap_or(i64::MAX);
            loop {
                let span = (after, last);
                let page = search::ids(&mut *state.reader().await?, filter, span, limit).await?;
                let Some(end) = page.last() else { break };
                after = *end;
                one_page(state, asked, &page, report).await?;
            }
        }
    }
    Ok(None)
}

async fn one_page(
    state: &AdminState,
    asked: &Asked,
    page: &[Uuid],
    report: &mut Report,
) -> StoreResult<()> {
    let mut repeats = 0;
    let verdicts = loop {
        match one_transaction(state, asked, page).await {
            Err(StoreError::Conflict(_)) if repeats < CONFLICT_REPEATS => repeats += 1,
            other => break other?,
        }
    };
    for (letter, verdict) in verdicts {
        match verdict {
            Ok(way) => *report.ways.entry(way).or_default() += 1,
            Err(refusal) => report.refused.push((letter, refusal)),
        }
    }
    Ok(())
}

type Verdicts = Vec<(Uuid, Result<&'static str, Refusal>)>;

async fn one_transaction(
    state: &AdminState,
    asked: &Asked,
    page: &[Uuid],
) -> StoreResult<Verdicts> {
    let mut tx = state.writer().await?;
    let order = |action, force| Order {
        author: Author {
            actor: &asked.actor,
            reason: asked.reason.as_deref(),
        },
        action,
        force,
        headers: None,
        dry_run: asked.dry_run,
    };
    let (verdicts, rows): (Verdicts, _) = match asked.deed {
        Deed::Redrive { force } => {
            let done = redrive::redrive(&mut tx, page, &order("redriven", force)).await?;
            let verdicts = done.verdicts.into_iter();
            let named = verdicts.map(|(id, verdict)| (id, verdict.map(|way| way.as_str())));
            (named.collect(), done.rows)
        }
        Deed::Discard => {
            let done = redrive::discard(&mut tx, page, &order("discarded", false)).await?;
            let named = done
                .into_iter()
                .map(|(id, verdict)| (id, verdict.map(|()| "discard")));
            (named.collect(), Vec::new())
        }
    };
    if asked.dry_run {
        return Ok(verdicts);
    }
    tx.commit().await?;
    state.relay.hand_over(rows);
    count(state, asked, &verdicts);
    Ok(verdicts)
}

fn count(state: &AdminState, asked: &Asked, verdicts: &Verdicts) {
    let done = verdicts
        .iter()
        .filter(|(_, verdict)| verdict.is_ok())
        .count() as u64;
    let action = match asked.deed {
        Deed::Redrive { .. } => Action::Redriven,
        Deed::Discard => Action::Discarded,
    };
    state.metrics.letters.settled(action, done);
}
