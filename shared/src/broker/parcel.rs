//! One delivery on its way through a handler, with its panics caught.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use lapin::message::Delivery;
use serde_json::{Map, Value};
use tracing::error;

use super::consumer::{ALONE_FROM, DeadItem, Handler, Incoming, Verdict};
use super::headers::{ALONE, DELIVERY_COUNT, PUBLISHED_MS, from_table};
use super::topology::Queue;
use crate::domain::failure::FailureCode;
use crate::domain::message::WorkMessage;

/// A delivery that is not settled.
#[derive(Clone)]
pub(super) struct Parcel {
    pub(super) tag: u64,
    contents: Arc<Contents>,
    /// It is given up; only the letter is still to be written.
    dead: Option<FailureCode>,
}

struct Contents {
    queue: Queue,
    body: Vec<u8>,
    headers: Arc<Map<String, Value>>,
    redelivered: bool,
}

/// What came of a run.
pub(super) enum Settled {
    /// Acknowledge it.
    Yes,
    /// Run it again later.
    Hold(Parcel),
}

impl Parcel {
    pub(super) fn new(queue: Queue, delivery: Delivery) -> Self {
        let headers = delivery.properties.headers().as_ref();
        Self {
            tag: delivery.delivery_tag,
            contents: Arc::new(Contents {
                queue,
                headers: Arc::new(headers.map(from_table).unwrap_or_default()),
                redelivered: delivery.redelivered,
                body: delivery.data,
            }),
            dead: None,
        }
    }

    pub(super) fn published_ms(&self) -> Option<i64> {
        self.contents.headers.get(PUBLISHED_MS)?.as_i64()
    }

    pub(super) fn is_alone(&self) -> bool {
        self.delivery_count() >= ALONE_FROM
            || self.contents.headers.get(ALONE) == Some(&Value::Bool(true))
    }

    /// Runs it to a verdict and, when it is dead, until its letter is written.
    ///
    /// What is seldom done is boxed here and in the handlers: a task is moved about and kept as large
    /// as the largest thing that it may ever do, and there is one for every message taken.
    pub(super) async fn run<H: Handler>(self, handler: &H) -> Settled {
        let code = match self.dead {
            Some(code) => code,
            None => match self.handle(handler).await {
                Verdict::Done => return Settled::Yes,
                Verdict::Hold => return Settled::Hold(self),
                Verdict::Dead(code) => code,
            },
        };
        Box::pin(self.bury(code, handler)).await
    }

    async fn bury<H: Handler>(self, code: FailureCode, handler: &H) -> Settled {
        let item = self.dead_item(code);
        let recorded = AssertUnwindSafe(async { handler.dead(item).await })
            .catch_unwind()
            .await;
        match recorded {
            Ok(Ok(())) => Settled::Yes,
            Ok(Err(_)) => self.hold_dead(code),
            Err(_) => {
                let queue = self.contents.queue.label();
                error!(queue, failure.code = %code, "writing a dead letter panicked; held");
                self.hold_dead(code)
            }
        }
    }

    async fn handle<H: Handler>(&self, handler: &H) -> Verdict {
        let Ok(message) = serde_json::from_slice(&self.contents.body) else {
            return Verdict::Dead(FailureCode::MessageUnreadable);
        };
        let incoming = self.incoming(message);
        AssertUnwindSafe(async { handler.handle(incoming).await })
            .catch_unwind()
            .await
            .unwrap_or(Verdict::Dead(FailureCode::Panicked))
    }

    fn incoming(&self, message: WorkMessage) -> Incoming {
        Incoming {
            message,
            delivery_count: self.delivery_count(),
            alone: self.is_alone(),
            published_at_ms: self.published_ms(),
            redelivered: self.contents.redelivered,
            headers: Arc::clone(&self.contents.headers),
        }
    }

    fn dead_item(&self, code: FailureCode) -> DeadItem {
        DeadItem {
            code,
            queue: self.contents.queue,
            message: serde_json::from_slice(&self.contents.body).ok(),
            body: self.contents.body.clone(),
            headers: Arc::clone(&self.contents.headers),
            delivery_count: self.delivery_count(),
        }
    }

    fn delivery_count(&self) -> u32 {
        self.contents
            .headers
            .get(DELIVERY_COUNT)
            .and_then(Value::as_u64)
            .and_then(|count| u32::try_from(count).ok())
            .unwrap_or(0)
    }

    fn hold_dead(self, code: FailureCode) -> Settled {
        Settled::Hold(Self {
            dead: Some(code),
            ..self
        })
    }
}
