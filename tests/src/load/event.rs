//! What is posted: overdue invoices of 1 KiB, each with a key and a recipient of its own.

use serde_json::{Value, json};

/// The size of one event's JSON, in bytes.
pub const SIZE: usize = 1024;
/// The first recipient; the n-th event goes to the n-th number after it.
const FIRST_RECIPIENT: u64 = 5_547_980_000_000;

/// Makes the events of one run; no two runs share a key.
#[derive(Clone, Debug)]
pub struct Events {
    run: String,
    first: u64,
    before_key: String,
    before_phone: String,
    after_phone: String,
}

impl Events {
    /// Events that nobody has posted before.
    #[must_use]
    pub fn new() -> Self {
        Self::from(0)
    }

    /// The same, whose recipients begin with the n-th.
    #[must_use]
    pub fn from(first: u64) -> Self {
        let run = uuid::Uuid::new_v4().simple().to_string();
        Self {
            first,
            ..Self::of_run(&run)
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

    fn of_run(run: &str) -> Self {
        const KEY: &str = "@key";
        const PHONE: &str = "@phone";
        const FILLER: &str = "@filler";
        let event = |filler: &str| -> String {
            let event: Value = json!({
                "event_type": "billing.invoice.overdue",
                "source_system": "billing",
                "tenant_id": 1,
                "idempotency_key": KEY,
                "payload": {
                    "phone": PHONE,
                    "invoice_id": 503,
                    "customer_name": "Padaria Aurora",
                    "description": "Hospedagem e manutenção do site, plano anual",
                    "amount": "59.80",
                    "due_date": "2026-01-27",
                    "invoice_url": "https://pay.example/503",
                    "note": filler,
                },
            });
            event.to_string()
        };
        let usual = event(FILLER).len() - KEY.len() - PHONE.len() - FILLER.len();
        let of_this = usual + key(run, 0).len() + recipient(0).len();
        let whole = event(&"lorem ipsum ".repeat(SIZE)[..SIZE.saturating_sub(of_this)]);
        let (before_key, rest) = whole
            .split_once(KEY)
            .expect("because the event has the mark");
        let (before_phone, after_phone) = rest
            .split_once(PHONE)
            .expect("because the event has the mark, and the key comes before the payload");
        Self {
            run: run.to_owned(),
            first: 0,
            before_key: before_key.to_owned(),
            before_phone: before_phone.to_owned(),
            after_phone: after_phone.to_owned(),
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
        [
            &self.before_key,
            &key(&self.run, nth),
            &self.before_phone,
            &recipient(nth),
            &self.after_phone,
        ]
        .map(String::as_str)
        .concat()
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
        let events = Events::new();
        let read = |nth| -> Value {
            let body = events.body(nth, 1);
            assert_eq!(body.len(), SIZE);
            serde_json::from_slice(&body).expect("it is JSON")
        };
        let (first, last) = (read(0), read(9_999_999));
        for pointer in ["/idempotency_key", "/payload/phone"] {
            assert_ne!(first.pointer(pointer), last.pointer(pointer), "{pointer}");
        }
        assert_eq!(
            number_of(last["payload"]["phone"].as_str().unwrap()),
            Some(9_999_999)
        );
        let batch: Vec<Value> = serde_json::from_slice(&events.body(3, 100)).expect("it is JSON");
        assert_eq!((batch.len(), &batch[0]), (100, &read(3)));
    }
}
