//! Sets going again what was given up, a set of letters in one transaction: letter redriven,
//! subject one generation on with a fresh budget, its message in the outbox, a line in the audit
//! log. The API, the shovel of the management UI and the one more try after a letter of the
//! broker all come here.
//!
//! Locks are taken in the order that every other writer takes them: receipts, deliveries,
//! routings, letters, each by id. So two redrives of one letter wait for each other, and the
//! second finds it redriven.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use super::StoreResult;
use super::audit::{self, Author, NewAudit};
use super::dead_letters;
use super::outbox::{self, NewMessage, OutboxRow};
use super::redrive_locks::{Letter, Subjects, lock_letters, lock_subjects, look_at_letters};
use crate::domain::delivery::DeliveryState;
use crate::domain::ids::{DeliveryId, EventId, ReceiptId, TenantId};
use crate::domain::message::{Labels, Work, WorkMessage};
use crate::domain::redrive::{LetterState, Refusal, Standing, SubjectKind, Way, judge, to_plan};

/// How a set of letters is to be redriven.
#[derive(Clone, Debug)]
pub struct Order<'a> {
    /// Who asks, and why.
    pub author: Author<'a>,
    /// What the audit log calls it.
    pub action: &'static str,
    /// Also what may have left already.
    pub force: bool,
    /// Headers of the new messages.
    pub headers: Option<Value>,
    /// Only judge; write nothing.
    pub dry_run: bool,
}

/// What became of the letters that were asked for.
#[derive(Debug, Default)]
pub struct Redriven {
    /// One verdict for each id, in the order of the ids, without repeats.
    pub verdicts: Vec<(Uuid, Result<Way, Refusal>)>,
    /// The rows to hand to the relay after the commit.
    pub rows: Vec<OutboxRow>,
}

/// Redrives letters. The caller commits, then hands the rows to the relay.
///
/// # Errors
/// See [`super::StoreError`]; on a conflict the whole transaction is repeated.
pub async fn redrive(
    conn: &mut PgConnection,
    ids: &[Uuid],
    order: &Order<'_>,
) -> StoreResult<Redriven> {
    let ids: BTreeSet<Uuid> = ids.iter().copied().collect();
    let ids: Vec<Uuid> = ids.into_iter().collect();
    let named = look_at_letters(conn, &ids).await?;
    let subjects = lock_subjects(conn, &named).await?;
    let letters = lock_letters(conn, &ids).await?;
    let mut verdicts = Vec::with_capacity(ids.len());
    let mut goes = Vec::new();
    let mut overtaken = Vec::new();
    for id in ids {
        let Some(letter) = letters.get(&id) else {
            verdicts.push((id, Err(Refusal::NotFound)));
            continue;
        };
        let verdict = verdict(letter, &subjects, order.force);
        match verdict {
            Ok(way) => goes.push((letter, way)),
            Err(Refusal::Superseded) => overtaken.push(id),
            Err(_) => {}
        }
        verdicts.push((id, verdict));
    }
    if order.dry_run {
        return Ok(Redriven {
            verdicts,
            rows: Vec::new(),
        });
    }
    let redriven = goes
        .iter()
        .map(|(letter, _)| (letter.id, LetterState::Redriven));
    let superseded = overtaken
        .into_iter()
        .map(|id| (id, LetterState::Superseded));
    let (settled, states): (Vec<_>, Vec<_>) = redriven.chain(superseded).unzip();
    dead_letters::settle(conn, &settled, &states).await?;
    set_going(conn, &goes).await?;
    audit::insert(conn, order.author, &lines(&goes, order)).await?;
    let messages = goes
        .iter()
        .filter_map(|(letter, way)| message(letter, *way, &subjects))
        .map(|message| NewMessage {
            headers: order.headers.clone(),
            ..NewMessage::work(&message)
        })
        .collect();
    Ok(Redriven {
        verdicts,
        rows: outbox::insert(conn, messages).await?,
    })
}

fn verdict(letter: &Letter, subjects: &Subjects, force: bool) -> Result<Way, Refusal> {
    // A state or kind that a newer version wrote is not ours to judge.
    let (Some(state), Some(kind)) = (letter.state, letter.kind) else {
        return Err(Refusal::NotDead);
    };
    let standing = match (kind, letter.subject_id) {
        (SubjectKind::Message, _) | (_, None) => Standing::Unreadable,
        (SubjectKind::Delivery, Some(id)) => {
            subjects
                .deliveries
                .get(&id)
                .map_or(Standing::Gone, |delivery| Standing::Delivery {
                    state: delivery.state.parse().unwrap_or(DeliveryState::Simulated),
                    same_generation: delivery.generation == letter.generation,
                    in_doubt: subjects.in_doubt.contains(&id),
                    to_plan: to_plan(delivery.failure_code.as_deref(), delivery.whole),
                })
        }
        (SubjectKind::Event, Some(id)) => {
            subjects
                .routings
                .get(&(id, letter.run))
                .map_or(Standing::Gone, |routing| Standing::Routing {
                    failed: routing.state == "failed" && !routing.waiting,
                    same_generation: routing.generation == letter.generation,
                })
        }
        (SubjectKind::Receipt, Some(id)) => {
            subjects
                .receipts
                .get(&id)
                .map_or(Standing::Gone, |receipt| Standing::Receipt {
                    ignored: receipt.state == "ignored",
                    same_generation: receipt.generation == letter.generation,
                })
        }
    };
    judge(state, standing, force)
}

fn message(letter: &Letter, way: Way, subjects: &Subjects) -> Option<WorkMessage> {
    let subject = letter.subject_id?;
    let generation = letter.generation + 1;
    let delivery = || subjects.deliveries.get(&subject);
    match way {
        Way::Resend => {
            let delivery = delivery()?;
            let work = Work::Deliver {
                delivery_id: DeliveryId(subject),
                channel: delivery.channel.parse().ok()?,
                generation,
                attempt: delivery.attempt_count + 1,
            };
            let trace_id = delivery.trace_id.parse().ok()?;
            Some(WorkMessage::new(work, trace_id, delivery.labels()))
        }
        Way::Replan => {
            let delivery = delivery()?;
            let work = Work::Replan {
                delivery_id: DeliveryId(subject),
                generation,
            };
            let trace_id = delivery.trace_id.parse().ok()?;
            Some(WorkMessage::new(work, trace_id, delivery.labels()))
        }
        Way::Route => {
            let routing = subjects.routings.get(&(subject, letter.run))?;
            let work = Work::Route {
                event_id: EventId(subject),
                run: letter.run,
                generation,
            };
            let labels = Labels {
                event_type: routing.event_type.clone(),
                source: routing.source_system.clone(),
                tenant_id: routing.tenant_id.map(TenantId),
                ..Labels::default()
            };
            Some(WorkMessage::new(
                work,
                routing.trace_id.parse().ok()?,
                labels,
            ))
        }
        Way::Apply => {
            let receipt = subjects.receipts.get(&subject)?;
            let work = Work::ApplyReceipt {
                receipt_id: ReceiptId(subject),
                generation,
            };
            let trace_id = receipt.trace_id.parse().ok()?;
            Some(WorkMessage::new(work, trace_id, Labels::default()))
        }
    }
}

fn lines(goes: &[(&Letter, Way)], order: &Order<'_>) -> Vec<NewAudit> {
    goes.iter()
        .map(|(letter, way)| NewAudit {
            action: order.action,
            subject_kind: letter.kind.map_or("message", SubjectKind::as_str),
            subject_id: letter.subject_id,
            trace_id: letter.trace_id.clone(),
            detail: json!({
                "letter_id": letter.id,
                "queue": letter.queue,
                "failure_code": letter.failure_code,
                "outcome": way.as_str(),
                "generation": letter.generation + 1,
                "force": order.force,
            }),
        })
        .collect()
}

/// Moves the subjects on, each by one generation.
async fn set_going(conn: &mut PgConnection, goes: &[(&Letter, Way)]) -> StoreResult<()> {
    let of = |ways: &[Way]| -> Vec<(Uuid, i32, bool)> {
        goes.iter()
            .filter(|(_, way)| ways.contains(way))
            .filter_map(|(letter, way)| Some((letter.subject_id?, letter.run, *way == Way::Replan)))
            .collect()
    };
    let deliveries = of(&[Way::Resend, Way::Replan]);
    let requeued: Vec<(Uuid, bool)> = deliveries.iter().map(|one| (one.0, one.2)).collect();
    requeue(conn, &requeued).await?;
    let routings = of(&[Way::Route]);
    if !routings.is_empty() {
        let (events, runs): (Vec<Uuid>, Vec<i32>) =
            routings.iter().map(|one| (one.0, one.1)).unzip();
        sqlx::query!(
            "update routings r set generation = r.generation + 1, replan_since = now()
             from unnest($1::uuid[], $2::integer[]) as i(event_id, run)
             where r.event_id = i.event_id and r.run = i.run",
            &events,
            &runs,
        )
        .execute(&mut *conn)
        .await?;
    }
    let receipts: Vec<Uuid> = of(&[Way::Apply]).iter().map(|one| one.0).collect();
    if !receipts.is_empty() {
        sqlx::query!(
            "update receipts set state = 'pending', generation = generation + 1, effect = null, dispatched_at = now()
             where id = any($1)",
            &receipts,
        )
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// Queues locked deliveries again, one generation on: a fresh budget, and nothing that tells of
/// the failure. Attempts go on counting, so that each has a number of its own over all
/// generations. `true` beside an id: to be planned again first.
///
/// # Errors
/// See [`super::StoreError`].
pub(super) async fn requeue(
    conn: &mut PgConnection,
    deliveries: &[(Uuid, bool)],
) -> StoreResult<()> {
    if deliveries.is_empty() {
        return Ok(());
    }
    let (ids, replan): (Vec<Uuid>, Vec<bool>) = deliveries.iter().copied().unzip();
    sqlx::query!(
        "update deliveries d
         set state = 'queued', generation = d.generation + 1, retry_count = 0, failure_code = null,
             failure_detail = null, held_reason = null, next_attempt_at = null, settled_at = null, updated_at = now(),
             dispatched_at = case when i.replan then null else now() end,
             replan_since = case when i.replan then now() end
         from unnest($1::uuid[], $2::boolean[]) as i(id, replan)
         where d.id = i.id and d.state in ('dead', 'unknown')",
        &ids,
        &replan,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Discards letters: what they are about stays given up. Answers one verdict for each id.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn discard(
    conn: &mut PgConnection,
    ids: &[Uuid],
    order: &Order<'_>,
) -> StoreResult<Vec<(Uuid, Result<(), Refusal>)>> {
    let ids: BTreeSet<Uuid> = ids.iter().copied().collect();
    let ids: Vec<Uuid> = ids.into_iter().collect();
    let letters = lock_letters(conn, &ids).await?;
    let mut verdicts = Vec::with_capacity(ids.len());
    let mut gone = Vec::new();
    for id in ids {
        let verdict = match letters.get(&id) {
            None => Err(Refusal::NotFound),
            Some(letter) => letter
                .state
                .map_or(Err(Refusal::NotDead), crate::domain::redrive::judge_discard),
        };
        if let (Ok(()), Some(letter)) = (verdict, letters.get(&id)) {
            gone.push(letter);
        }
        verdicts.push((id, verdict));
    }
    if order.dry_run {
        return Ok(verdicts);
    }
    let settled: Vec<Uuid> = gone.iter().map(|letter| letter.id).collect();
    let states = vec![LetterState::Discarded; settled.len()];
    dead_letters::settle(conn, &settled, &states).await?;
    let lines: Vec<NewAudit> = gone
        .iter()
        .map(|letter| NewAudit {
            action: order.action,
            subject_kind: letter.kind.map_or("message", SubjectKind::as_str),
            subject_id: letter.subject_id,
            trace_id: letter.trace_id.clone(),
            detail: json!({
                "letter_id": letter.id,
                "queue": letter.queue,
                "failure_code": letter.failure_code,
                "generation": letter.generation,
            }),
        })
        .collect();
    audit::insert(conn, order.author, &lines).await?;
    Ok(verdicts)
}
