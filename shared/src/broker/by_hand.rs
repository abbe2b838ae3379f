//! A letter that a person moved back to its work queue with the management UI (its shovel, or "get
//! message" and "publish message") is a wish to redrive it: the same transaction as the API's, one
//! new message, and the copy itself is dropped (design §3).
//!
//! Ordinary messages cost nothing here: what the relay sent is told from what a person moved by
//! its headers alone.

use sqlx::{Connection, PgConnection, PgPool};

use super::consumer::{Incoming, Verdict};
use super::dead;
use super::dead_metrics::{Action, DeadLetterMetrics, Dropped};
use super::relay::Relay;
use crate::domain::failure::FailureCode;
use crate::domain::redrive::{LetterState, Refusal, Way};
use crate::runtime::telemetry::chain;
use crate::store::audit::Author;
use crate::store::dead_letters::{self, FoundLetter};
use crate::store::outbox::{self, OutboxRow, encode};
use crate::store::redrive::{self, Order};
use crate::store::{StoreError, StoreResult};

/// What the audit log calls whoever moves letters about.
const ACTOR: &str = "management-ui";
/// How often a transaction that met another one is repeated.
const CONFLICT_REPEATS: u32 = 5;

/// Takes messages that a person moved.
#[derive(Clone)]
pub struct ByHand {
    pool: PgPool,
    relay: Relay,
    metrics: DeadLetterMetrics,
}

/// What became of a message that a person moved.
enum Taken {
    /// It is no letter: whoever consumes the queue handles it.
    Ordinary,
    /// Its letter was redriven.
    Redriven(Way),
    /// The copy is dropped; a letter that was overtaken meanwhile is settled with it.
    Dropped(Dropped, Option<Refusal>),
}

impl ByHand {
    /// Over a database and its relay.
    #[must_use]
    pub const fn new(pool: PgPool, relay: Relay, metrics: DeadLetterMetrics) -> Self {
        Self {
            pool,
            relay,
            metrics,
        }
    }

    /// Takes a message that a person moved. None: nobody did, or it is no letter; it is to be
    /// handled as ever.
    pub async fn take(&self, incoming: &Incoming) -> Option<Verdict> {
        if !dead::is_by_hand(&incoming.headers) {
            return None;
        }
        Box::pin(self.take_moved(incoming)).await
    }

    async fn take_moved(&self, incoming: &Incoming) -> Option<Verdict> {
        let mut repeats = 0;
        let taken = loop {
            match self.judge(incoming).await {
                Err(StoreError::Conflict(_)) if repeats < CONFLICT_REPEATS => repeats += 1,
                other => break other,
            }
        };
        let message = &incoming.message;
        let (trace_id, kind) = (message.trace_id.as_str(), message.work.kind());
        match taken {
            Ok(Taken::Ordinary) => return None,
            Ok(Taken::Redriven(way)) => {
                self.metrics.settled(Action::ByHand, 1);
                tracing::info!(
                    trace_id,
                    message.kind = kind,
                    outcome = way.as_str(),
                    "a letter that was moved back by hand is redriven"
                );
            }
            Ok(Taken::Dropped(why, refusal)) => {
                if refusal == Some(Refusal::Superseded) {
                    self.metrics.settled(Action::Superseded, 1);
                }
                self.metrics.dropped(why, 1);
                tracing::warn!(
                    trace_id,
                    message.kind = kind,
                    outcome = refusal.map(Refusal::as_str),
                    "a letter that was moved back by hand is not redriven"
                );
            }
            Err(StoreError::Data(error)) => {
                tracing::error!(trace_id, error = %chain(&error), "a letter that was moved back cannot be redriven");
                return Some(Verdict::Dead(FailureCode::DataRefused));
            }
            Err(error) => {
                tracing::warn!(trace_id, error = %chain(&error), "a letter that was moved back cannot be looked at yet");
                return Some(Verdict::Hold);
            }
        }
        Some(Verdict::Done)
    }

    async fn judge(&self, incoming: &Incoming) -> StoreResult<Taken> {
        let mut conn = self.pool.acquire().await?;
        let mut tx = conn.begin().await?;
        let (taken, rows) = judge_in(&mut tx, incoming).await?;
        tx.commit().await?;
        self.relay.hand_over(rows);
        Ok(taken)
    }
}

async fn judge_in(
    conn: &mut PgConnection,
    incoming: &Incoming,
) -> StoreResult<(Taken, Vec<OutboxRow>)> {
    let named = dead::letter_id(&incoming.headers);
    let letter = match named {
        Some(id) => dead_letters::find(conn, id.0).await?,
        None => letter_of_subject(conn, incoming).await?,
    };
    let dropped = |why, refusal| Ok((Taken::Dropped(why, refusal), Vec::new()));
    let Some(letter) = letter else {
        return match named {
            Some(_) => dropped(Dropped::Unknown, None),
            None => Ok((Taken::Ordinary, Vec::new())),
        };
    };
    if letter.state != LetterState::Dead.as_str() {
        return dropped(Dropped::MovedOn, None);
    }
    let order = Order {
        author: Author {
            actor: ACTOR,
            reason: None,
        },
        action: "redriven",
        force: false,
        headers: None,
        dry_run: false,
    };
    let redriven = redrive::redrive(conn, &[letter.id], &order).await?;
    match redriven.verdicts.first().map(|(_, verdict)| *verdict) {
        Some(Ok(way)) => Ok((Taken::Redriven(way), redriven.rows)),
        Some(Err(refusal @ (Refusal::NeedsForce | Refusal::Unreadable | Refusal::SubjectGone))) => {
            let rows = put_back(conn, &letter, incoming).await?;
            Ok((Taken::Dropped(Dropped::Refused, Some(refusal)), rows))
        }
        // Whoever published this has read the queue's form, not a letter: let it claim what it can.
        Some(Err(Refusal::NotDead)) if !dead::is_moved_letter(&incoming.headers) => {
            Ok((Taken::Ordinary, Vec::new()))
        }
        Some(Err(refusal)) => dropped(Dropped::MovedOn, Some(refusal)),
        None => dropped(Dropped::MovedOn, None),
    }
}

/// A letter of the broker, or a message that was published without its headers, tells no letter's
/// id; what it is about does.
async fn letter_of_subject(
    conn: &mut PgConnection,
    incoming: &Incoming,
) -> StoreResult<Option<FoundLetter>> {
    let work = &incoming.message.work;
    let kind = work.subject_kind().as_str();
    dead_letters::find_of_subject(conn, kind, work.subject(), work.generation()).await
}

/// What may not be redriven as it is goes back to where it was found; of what was only copied,
/// the letter lies there still.
async fn put_back(
    conn: &mut PgConnection,
    letter: &FoundLetter,
    incoming: &Incoming,
) -> StoreResult<Vec<OutboxRow>> {
    if !dead::is_moved_letter(&incoming.headers) {
        return Ok(Vec::new());
    }
    let back = dead::put_back(letter, encode(&incoming.message));
    outbox::insert(conn, back.into_iter().collect()).await
}
