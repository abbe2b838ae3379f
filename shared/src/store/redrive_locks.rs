//! Locks letters and what they are about, in the order that every other writer takes: receipts,
//! deliveries, routings, letters, each by id.

use std::collections::{BTreeSet, HashMap};

use sqlx::PgConnection;
use uuid::Uuid;

use super::StoreResult;
use crate::domain::ids::TenantId;
use crate::domain::message::Labels;
use crate::domain::redrive::{LetterState, SubjectKind};

/// A letter, locked.
pub(super) struct Letter {
    pub(super) id: Uuid,
    pub(super) kind: Option<SubjectKind>,
    pub(super) subject_id: Option<Uuid>,
    pub(super) run: i32,
    pub(super) generation: i32,
    pub(super) state: Option<LetterState>,
    pub(super) failure_code: String,
    pub(super) queue: String,
    pub(super) trace_id: Option<String>,
}

/// What the letters are about, locked.
#[derive(Default)]
pub(super) struct Subjects {
    pub(super) receipts: HashMap<Uuid, Receipt>,
    pub(super) deliveries: HashMap<Uuid, Delivery>,
    pub(super) in_doubt: BTreeSet<Uuid>,
    pub(super) routings: HashMap<(Uuid, i32), Routing>,
}

pub(super) struct Receipt {
    pub(super) id: Uuid,
    pub(super) state: String,
    pub(super) generation: i32,
    pub(super) trace_id: String,
}

pub(super) struct Delivery {
    pub(super) id: Uuid,
    pub(super) state: String,
    pub(super) generation: i32,
    pub(super) attempt_count: i32,
    pub(super) event_type: String,
    pub(super) source_system: String,
    pub(super) trace_id: String,
    pub(super) tenant_id: Option<i64>,
    pub(super) channel: String,
    pub(super) channel_id: Option<String>,
    pub(super) lane: String,
    pub(super) template_key: Option<String>,
    pub(super) failure_code: Option<String>,
    /// It has all that its channel needs to send it.
    pub(super) whole: bool,
}

pub(super) struct Routing {
    pub(super) event_id: Uuid,
    pub(super) run: i32,
    pub(super) state: String,
    pub(super) generation: i32,
    pub(super) waiting: bool,
    pub(super) event_type: String,
    pub(super) source_system: String,
    pub(super) trace_id: String,
    pub(super) tenant_id: Option<i64>,
}

impl Delivery {
    /// The labels of its messages.
    pub(super) fn labels(&self) -> Labels {
        Labels {
            event_type: self.event_type.clone(),
            source: self.source_system.clone(),
            tenant_id: self.tenant_id.map(TenantId),
            template: self.template_key.clone(),
            account: self.channel_id.clone(),
            lane: Some(self.lane.clone()),
        }
    }
}

/// Letters without a lock: only what they are about, which never changes.
pub(super) async fn look_at_letters(
    conn: &mut PgConnection,
    ids: &[Uuid],
) -> StoreResult<Vec<(String, Uuid, i32)>> {
    let rows = sqlx::query!(
        r#"select subject_kind, subject_id as "subject_id!", run from dead_letters
           where id = any($1) and subject_id is not null"#,
        ids,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.subject_kind, row.subject_id, row.run))
        .collect())
}

pub(super) async fn lock_letters(
    conn: &mut PgConnection,
    ids: &[Uuid],
) -> StoreResult<HashMap<Uuid, Letter>> {
    let rows = sqlx::query!(
        "select id, subject_kind, subject_id, run, generation, state, failure_code, queue, trace_id
         from dead_letters where id = any($1) order by id for update",
        ids,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let letter = Letter {
                id: row.id,
                kind: row.subject_kind.parse().ok(),
                subject_id: row.subject_id,
                run: row.run,
                generation: row.generation,
                state: row.state.parse().ok(),
                failure_code: row.failure_code,
                queue: row.queue,
                trace_id: row.trace_id,
            };
            (letter.id, letter)
        })
        .collect())
}

pub(super) async fn lock_subjects(
    conn: &mut PgConnection,
    named: &[(String, Uuid, i32)],
) -> StoreResult<Subjects> {
    let of = |kind: SubjectKind| -> Vec<&(String, Uuid, i32)> {
        named.iter().filter(|one| one.0 == kind.as_str()).collect()
    };
    let mut subjects = Subjects::default();
    let receipts: Vec<Uuid> = of(SubjectKind::Receipt).iter().map(|one| one.1).collect();
    if !receipts.is_empty() {
        let rows = sqlx::query_as!(
            Receipt,
            "select id, state, generation, trace_id from receipts where id = any($1) order by id for update",
            &receipts,
        )
        .fetch_all(&mut *conn)
        .await?;
        subjects.receipts = rows.into_iter().map(|row| (row.id, row)).collect();
    }
    let deliveries: Vec<Uuid> = of(SubjectKind::Delivery).iter().map(|one| one.1).collect();
    if !deliveries.is_empty() {
        let rows = sqlx::query_as!(
            Delivery,
            r#"select id, state, generation, attempt_count, event_type, source_system, trace_id, tenant_id, channel,
                      channel_id, lane, template_key, failure_code,
                      (body_text is not null
                       and (channel <> 'whatsapp' or (channel_id is not null and recipient is not null))) as "whole!"
               from deliveries where id = any($1) order by id for update"#,
            &deliveries,
        )
        .fetch_all(&mut *conn)
        .await?;
        subjects.deliveries = rows.into_iter().map(|row| (row.id, row)).collect();
        subjects.in_doubt = in_doubt(conn, &deliveries).await?;
    }
    let (events, runs): (Vec<Uuid>, Vec<i32>) = of(SubjectKind::Event)
        .iter()
        .map(|one| (one.1, one.2))
        .unzip();
    if !events.is_empty() {
        let rows = sqlx::query_as!(
            Routing,
            r#"select r.event_id, r.run, r.state, r.generation, r.replan_since is not null as "waiting!", r.event_type,
                      r.source_system, r.trace_id, r.tenant_id
               from routings r
               join unnest($1::uuid[], $2::integer[]) as i(event_id, run) on r.event_id = i.event_id and r.run = i.run
               order by r.event_id, r.run for update of r"#,
            &events,
            &runs,
        )
        .fetch_all(&mut *conn)
        .await?;
        subjects.routings = rows
            .into_iter()
            .map(|row| ((row.event_id, row.run), row))
            .collect();
    }
    Ok(subjects)
}

/// Deliveries with an attempt that has no known outcome, in whatever generation: its message may
/// have left. Asked after the locks, so that no attempt opens meanwhile.
async fn in_doubt(conn: &mut PgConnection, deliveries: &[Uuid]) -> StoreResult<BTreeSet<Uuid>> {
    let ids = sqlx::query_scalar!(
        "select distinct delivery_id from delivery_attempts
         where delivery_id = any($1) and outcome in ('open', 'unknown')",
        deliveries,
    )
    .fetch_all(conn)
    .await?;
    Ok(ids.into_iter().collect())
}
