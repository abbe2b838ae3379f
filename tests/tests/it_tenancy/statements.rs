//! Which statements a request made the process send to the database, as sqlx tells of each.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

/// Listens on this thread; everything of a scenario on one thread is heard.
pub(crate) struct Statements {
    heard: Arc<Mutex<Vec<String>>>,
    _listening: DefaultGuard,
}

impl Statements {
    /// Begins to listen.
    pub(crate) fn listen() -> Self {
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let listener = Listener(Arc::clone(&heard)).with_filter(LevelFilter::DEBUG);
        let subscriber = tracing_subscriber::registry().with(listener);
        Self {
            heard,
            _listening: tracing::subscriber::set_default(subscriber),
        }
    }

    /// What was sent since the last call, in the order of the alphabet: processes do things of their
    /// own in between.
    pub(crate) fn take(&self) -> Vec<String> {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = std::mem::take(&mut *heard);
        taken.sort();
        taken
    }
}

struct Listener(Arc<Mutex<Vec<String>>>);

impl<S: Subscriber> Layer<S> for Listener {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() != "sqlx::query" {
            return;
        }
        let mut text = Text::default();
        event.record(&mut text);
        let said = if text.whole.is_empty() {
            text.summary
        } else {
            text.whole
        };
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(said.split_whitespace().collect::<Vec<_>>().join(" "));
    }
}

/// A statement: sqlx gives a short one as its summary alone.
#[derive(Default)]
struct Text {
    summary: String,
    whole: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "summary" => value.clone_into(&mut self.summary),
            "db.statement" => value.clone_into(&mut self.whole),
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}
