//! Letters that the broker made by itself, at the delivery limit: their row, and if nothing stands
//! against the message, one more try alone. A message that ends the process it runs in then takes
//! no other with it, and one that was innocent is not lost (design §3).

use std::sync::Arc;

use serde_json::{Map, Value, json};
use sqlx::{Connection, PgConnection};

use super::burial::{Burial, mark_subject};
use super::consumer::{DeadItem, NotRecorded};
use super::dead_metrics::Action;
use super::headers::ALONE;
use super::topology::Queue;
use crate::domain::failure::FailureCode;
use crate::domain::message::{WorkMessage, WorkQueue};
use crate::domain::redrive::{LetterState, Refusal};
use crate::runtime::telemetry::chain;
use crate::store::StoreResult;
use crate::store::audit::Author;
use crate::store::dead_letters::{self, Settled};
use crate::store::outbox::OutboxRow;
use crate::store::redrive::{self, Order};

/// What became of a letter of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Noted {
    /// It had its row already.
    Before,
    /// It waits for a person.
    Dead,
    /// Its subject gets one more try, alone.
    RetriedAlone,
    /// The message was a stale copy: its subject is further on.
    Superseded,
}

impl Burial {
    /// Records a letter that the broker made by itself. The letter itself lies beside its work
    /// queue already. `message` is none when its bytes are no message of ours. Safe to repeat.
    ///
    /// # Errors
    /// The database is unwell: hold the message and call again.
    pub async fn note_broker_letter(
        &self,
        message: Option<&WorkMessage>,
        queue: WorkQueue,
    ) -> Result<(), NotRecorded> {
        let noted = self.note(message, queue).await;
        let (noted, rows) = noted.map_err(|error| {
            tracing::warn!(queue = queue.name(), error = %chain(&error), "a letter of the broker cannot be recorded yet");
            NotRecorded
        })?;
        let code = FailureCode::BrokerDeliveryLimit;
        if noted == Noted::Before {
            return Ok(());
        }
        self.relay.hand_over(rows);
        self.metrics.recorded_of_broker(queue.name(), code.as_str());
        match noted {
            Noted::RetriedAlone => self.metrics.settled(Action::RetriedAlone, 1),
            Noted::Superseded => self.metrics.settled(Action::Superseded, 1),
            Noted::Before | Noted::Dead => {}
        }
        tracing::error!(
            queue = queue.name(),
            trace_id = message.map(|message| message.trace_id.as_str()),
            message.kind = message.map(|message| message.work.kind()),
            failure.code = code.as_str(),
            outcome = ?noted,
            "the broker gave a message up"
        );
        Ok(())
    }

    async fn note(
        &self,
        message: Option<&WorkMessage>,
        queue: WorkQueue,
    ) -> StoreResult<(Noted, Vec<OutboxRow>)> {
        let item = DeadItem {
            code: FailureCode::BrokerDeliveryLimit,
            queue: Queue::Work(queue),
            message: message.cloned(),
            body: Vec::new(),
            headers: Arc::default(),
            delivery_count: 0,
        };
        let letter = self.letter(&item, queue);
        let mut row = letter.row(queue, message);
        row.made_by = "broker";
        let mut conn = self.pool.acquire().await?;
        let mut tx = conn.begin().await?;
        let (settled, tried_before) = match message {
            Some(message) => {
                let settled = mark_subject(&mut tx, message, &letter).await?;
                let work = &message.work;
                let kind = work.subject_kind().as_str();
                let made = dead_letters::made_by_broker(&mut tx, kind, work.subject()).await?;
                (settled, made > 0)
            }
            None => (Settled::Stays, false),
        };
        let open = dead_letters::insert(&mut tx, &[row], settled).await?;
        if open.is_empty() {
            // An open letter tells of it already, also when its subject died only now.
            tx.commit().await?;
            return Ok((Noted::Before, Vec::new()));
        }
        let (noted, rows) = try_once_more(&mut tx, letter.id.0, tried_before).await?;
        tx.commit().await?;
        Ok((noted, rows))
    }
}

/// One more try, alone: once for a subject, and never for what may have left.
async fn try_once_more(
    conn: &mut PgConnection,
    letter: uuid::Uuid,
    tried_before: bool,
) -> StoreResult<(Noted, Vec<OutboxRow>)> {
    let order = Order {
        author: Author {
            actor: "posto",
            reason: Some("the broker gave the message up; one more try, alone"),
        },
        action: "retried_alone",
        force: false,
        headers: Some(Value::Object(Map::from_iter([(
            ALONE.to_owned(),
            json!(true),
        )]))),
        dry_run: tried_before,
    };
    let redriven = redrive::redrive(conn, &[letter], &order).await?;
    let noted = match redriven.verdicts.first().map(|(_, verdict)| *verdict) {
        Some(Ok(_)) if !tried_before => Noted::RetriedAlone,
        Some(Err(Refusal::Superseded | Refusal::NotDead)) => {
            dead_letters::settle(conn, &[letter], &[LetterState::Superseded]).await?;
            Noted::Superseded
        }
        _ => Noted::Dead,
    };
    Ok((noted, redriven.rows))
}
