//! What is posted: overdue invoices of 1 KiB, each with a key and a recipient of its own.

use serde_json::{Value, json};

/// The size of one event's JSON, in bytes.
pub const SIZE: usize = 1024;
/// The first recipient; the n-th event goes to the n-th number after it.
const FIRST_RECIPIENT: u64 = 5_547_980_000_000;

/// What each event leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One WhatsApp message.
    Plain,
    /// Also names an order's thread, and what is to be said there.
    WithThread,
}

/// Makes the events of one run; no two runs share a key.
#[derive(Clone, Debug)]
pub struct Events {
    run: String,
    first: u64,
    /// The text of an event, cut where something of its own comes.
    pieces: Vec<String>,
    own: Vec<Own>,
}

/// What an event has of its own.
#[derive(Clone, Copy, Debug)]
enum Own {
    Key,
    Recipient,
    Order,
}

impl Own {
    /// What stands for it in the text that all events have in common.
    const ALL: [(Self, &'static str); 3] = [
        (Self::Key, "@key"),
        (Self::Recipient, "@phone"),
        // A number, without the quotes of a text.
        (Self::Order, "\"@order\""),
    ];

    fn text(self, run: &str, nth: u64) -> String {
        match self {
            Self::Key => key(run, nth),
            Self::Recipient => recipient(nth),
            Self::Order => (1_000_000_000 + nth).to_string(),
        }
    }
}

impl Events {
    /// Events that nobody has posted before.
    #[must_use]
    pub fn new() -> Self {
        Self::from(0, Kind::Plain)
    }

    /// The same, whose recipients begin with the n-th.
    #[must_use]
    pub fn from(first: u64, kind: Kind) -> Self {
        let run = uuid::Uuid::new_v4().simple().to_string();
        Self {
            first,
            ..Self::of_run(&run, kind)
        }
    }

    /// The same events, without so many of the first.
    #[must_use]
    pub fn after(&self, events: u64) -> Self {
        Self {
            first: self.first + events,
            ..self.clone()
        }
    }

    fn of_run(run: &str, kind: Kind) -> Self {
        let event = |filler: &str| -> String {
            let mut event: Value = json!({
                "event_type": "billing.invoice.overdue",
                "source_system": "billing",
                "tenant_id": 1,
                "idempotency_key": "@key",
                "payload": {
                    "phone": "@phone",
                    "invoice_id": 503,
                    "customer_name": "Padaria Aurora",
                    "description": "Hospedagem e manutenção do site, plano anual",
                    "amount": "59.80",
                    "due_date": "2026-01-27",
                    "invoice_url": "https://pay.example/503",
                    "note": filler,
                },
            });
            if kind == Kind::WithThread {
                event["payload"]["order_id"] = json!("@order");
                event["payload"]["text"] = json!("A fatura deste pedido está em aberto.");
            }
            event.to_string()
        };
        let bare = event("");
        let longer: usize = Own::ALL
            .iter()
            .filter(|(_, mark)| bare.contains(mark))
            .map(|(own, mark)| own.text(run, 0).len() - mark.len())
            .sum();
        let filler = SIZE.saturating_sub(bare.len() + longer);
        let mut rest = event(&"lorem ipsum ".repeat(SIZE)[..filler]);
        let (mut pieces, mut own) = (Vec::new(), Vec::new());
        let next = |text: &str| {
            Own::ALL
                .into_iter()
                .filter_map(|(own, mark)| Some((text.find(mark)?, own, mark)))
                .min_by_key(|(at, ..)| *at)
        };
        while let Some((at, one, mark)) = next(&rest) {
            pieces.push(rest[..at].to_owned());
            own.push(one);
            rest = rest[at + mark.len()..].to_owned();
        }
        pieces.push(rest);
        Self {
            run: run.to_owned(),
            first: 0,
            pieces,
            own,
        }
    }

    /// The n-th event, or the `batch` events from the n-th on as one array.
    #[must_use]
    pub fn body(&self, nth: u64, batch: u64) -> Vec<u8> {
        let nth = self.first + nth;
        let events: Vec<String> = (nth..nth + batch).map(|nth| self.event(nth)).collect();
        match events.as_slice() {
            [one] => one.clone().into_bytes(),
            many => format!("[{}]", many.join(",")).into_bytes(),
        }
    }

    fn event(&self, nth: u64) -> String {
        let mut event = String::with_capacity(SIZE);
        for (nth_piece, piece) in self.pieces.iter().enumerate() {
            event.push_str(piece);
            if let Some(own) = self.own.get(nth_piece) {
                event.push_str(&own.text(&self.run, nth));
            }
        }
        event
    }
}

impl Default for Events {
    fn default() -> Self {
        Self::new()
    }
}

fn key(run: &str, nth: u64) -> String {
    format!("load-{run}-{nth:08}")
}

/// For whom the n-th event is.
#[must_use]
pub fn recipient(nth: u64) -> String {
    (FIRST_RECIPIENT + nth).to_string()
}

/// Which event a recipient belongs to.
#[must_use]
pub fn number_of(recipient: &str) -> Option<u64> {
    recipient.parse::<u64>().ok()?.checked_sub(FIRST_RECIPIENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_is_a_kibibyte_of_json_with_a_key_and_a_recipient_of_its_own() {
        for kind in [Kind::Plain, Kind::WithThread] {
            let events = Events::from(0, kind);
            let read = |nth| -> Value {
                let body = events.body(nth, 1);
                assert_eq!(body.len(), SIZE, "{kind:?}");
                serde_json::from_slice(&body).expect("it is JSON")
            };
            let (first, last) = (read(0), read(9_999_999));
            for pointer in ["/idempotency_key", "/payload/phone"] {
                assert_ne!(first.pointer(pointer), last.pointer(pointer), "{pointer}");
            }
            let order = last["payload"]["order_id"].as_i64();
            let expected = (kind == Kind::WithThread).then_some(1_009_999_999);
            assert_eq!(order, expected, "{kind:?}");
            assert_eq!(
                number_of(last["payload"]["phone"].as_str().unwrap()),
                Some(9_999_999)
            );
            let batch: Vec<Value> =
                serde_json::from_slice(&events.body(3, 100)).expect("it is JSON");
            assert_eq!((batch.len(), &batch[0]), (100, &read(3)));
        }
    }
}
