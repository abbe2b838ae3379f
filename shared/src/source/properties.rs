//! What holds for every source of the registry, also for the next one: it is met here without a
//! line being added. And for what stands beside the sources: no bytes of a stranger make a parser
//! panic, what it makes of them is bounded by them, and so is the time.

use std::fs;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use chrono::{DateTime, Utc};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::cloud_events::{self, Mode};
use super::problem::holds_nul;
use super::standard_webhooks::{self, Signed};
use super::{DoorSecrets, REGISTRY, Reading, Source, StoredEvent, generic, time};
use crate::domain::address::{Jid, MessageKey, Phone};
use crate::domain::event::{Body, Key, canonical_sha256};
use crate::domain::ids::TraceId;
use crate::domain::mask;
use crate::domain::network::Network;

/// Nothing below takes a tenth of it; what takes the square of its input takes all of it.
const WATCHDOG: Duration = Duration::from_secs(120);
/// One event's own labels: a hundred characters here and there, of four bytes at most.
const LABELS: usize = 16 << 10;
/// So many times longer may a value be written than it came: `1e15` has fifteen digits.
const GROWTH: usize = 8;

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_770_301_000, 0).unwrap()
}

/// Every sample there is, of any source: each source is shown those of the others too.
fn samples() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/source/fixtures");
    let folders = fs::read_dir(folder).unwrap().flatten();
    let files = folders.flat_map(|folder| fs::read_dir(folder.path()).unwrap().flatten());
    let mut found: Vec<_> = files.map(|file| file.path()).collect();
    found.sort();
    assert!(found.len() > 50, "the samples are there");
    found
        .into_iter()
        .map(|path| fs::read(path).unwrap())
        .collect()
}

/// Reads a body as a door does, and what came of it as the router does.
fn read_with(source: &dyn Source, body: &[u8]) {
    let events = match source.read(body, now()) {
        Ok(Reading::Events(events)) => events,
        Ok(Reading::Drop(_)) => return,
        Err(problems) => {
            assert!(!problems.is_empty(), "a refusal tells why");
            let told: usize = problems
                .iter()
                .map(|problem| problem.pointer.len() + problem.detail.len())
                .sum();
            assert!(told <= 64 * body.len() + LABELS, "{told} bytes of problems");
            return;
        }
    };
    let name = source.name();
    assert!(events.len() <= body.len().max(1), "{name}: more than came");
    let mut kept = 0;
    for event in &events {
        let texts = [
            event.source_event_id.as_deref(),
            event.correlation_id.as_deref(),
            event.causation_id.as_deref(),
            event.provider_message_id.as_deref(),
            event.channel_account.as_deref(),
            event.contact_key.as_deref(),
            event.invoice_key.as_deref(),
            event.key.as_ref().map(Key::expose),
        ];
        for text in texts.into_iter().flatten() {
            assert!(!text.contains('\0'), "{name}: U+0000 is in no column");
            kept += text.len();
        }
        let key = event.key.as_ref().expect("because a door needs one");
        assert!(key.expose().chars().count() <= Key::LONGEST, "{name}");
        assert!(event.event_type.len() <= 200, "{name}");
        assert!(!event.payload.as_ref().is_some_and(holds_nul), "{name}");
        assert!(!holds_nul(&event.metadata), "{name}");
        kept += event.payload.as_ref().map_or(0, |v| v.to_string().len());
        kept += event.metadata.to_string().len();
        let own = match &event.body {
            Body::AsReceived => body,
            Body::Redacted(bytes) => {
                kept += bytes.len();
                bytes
            }
            Body::Lightened { body: left, media } => {
                kept += left.len();
                kept += media.iter().map(|file| file.bytes.len()).sum::<usize>();
                left
            }
        };
        let read = source.normalise(&StoredEvent {
            source_system: &event.source_system,
            event_type: &event.event_type,
            tenant_id: event.tenant_id,
            payload: event.payload.as_ref(),
            body: own,
            occurred_at: event.occurred_at,
            received_at: now(),
        });
        if let Ok(read) = read {
            let words = read.text.as_ref().map_or("", |text| text.expose());
            assert!(!words.contains('\0') && words.len() <= GROWTH * body.len());
            let _ = format!("{event:?} {read:?}");
        }
    }
    let most = 2 * GROWTH * body.len() + LABELS * events.len().max(1);
    assert!(kept <= most, "{name}: {kept} bytes of {}", body.len());
}

/// One leaf of a value replaced, removed or doubled, by the number of the leaf.
fn with_another_leaf(value: &mut Value, place: &mut usize, leaf: &Value) -> bool {
    let inner: Vec<&mut Value> = match value {
        Value::Object(members) => members.values_mut().collect(),
        Value::Array(items) => items.iter_mut().collect(),
        _ => Vec::new(),
    };
    for member in inner {
        if with_another_leaf(member, place, leaf) {
            return true;
        }
    }
    if *place == 0 {
        *value = leaf.clone();
        return true;
    }
    *place -= 1;
    false
}

fn hostile() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!({})),
        Just(json!([])),
        Just(json!([[[[[[]]]]]])),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[0-9]{1,40}(@c.us|@lid|@g.us|@s.whatsapp.net)?".prop_map(Value::from),
        "(true|false)_[0-9]{0,20}@[a-z.]{0,8}_[0-9A-F]{0,32}".prop_map(Value::from),
        "[0-9]{1,4}[-/][0-9]{1,4}[-/][0-9]{1,4}([T ][0-9:.]{0,20}(Z|[+-][0-9:]{0,6})?)?"
            .prop_map(Value::from),
        Just(Value::from("\u{0}")),
        Just(Value::from("a".repeat(5_000))),
        Just(Value::from("ã".repeat(300))),
    ]
}

fn headers_of(pairs: &[(&'static str, Vec<u8>)]) -> HeaderMap {
    let read = pairs.iter().filter_map(|(name, value)| {
        let value = HeaderValue::from_bytes(value).ok()?;
        Some((HeaderName::from_static(name), value))
    });
    let mut headers = HeaderMap::new();
    for (name, value) in read {
        headers.append(name, value);
    }
    headers
}

/// A header's value, often one of those that mean something.
fn header() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..80),
        "v1,[A-Za-z0-9+/=]{0,50}( v1,[A-Za-z0-9+/=]{0,50}){0,3}".prop_map(String::into_bytes),
        "-?[0-9]{0,25}".prop_map(String::into_bytes),
        "[0-9a-f]{2}-[0-9a-f]{30,34}-[0-9a-f]{16}-[0-9a-f]{2}".prop_map(String::into_bytes),
        "(Bearer )?[!-~]{0,40}".prop_map(String::into_bytes),
        Just(b"1.0".to_vec()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_harm_any_source(body in prop::collection::vec(any::<u8>(), 0..2_000)) {
        for source in REGISTRY {
            read_with(*source, &body);
        }
    }

    #[test]
    fn no_sample_with_one_thing_changed_harms_any_source(
        sample in any::<prop::sample::Index>(), place in any::<prop::sample::Index>(), leaf in hostile(),
    ) {
        let samples = samples();
        let Ok(mut value) = serde_json::from_slice::<Value>(&samples[sample.index(samples.len())]) else {
            return Ok(());
        };
        with_another_leaf(&mut value, &mut place.index(60), &leaf);
        let body = value.to_string();
        for source in REGISTRY {
            read_with(*source, body.as_bytes());
        }
    }

    #[test]
    fn no_sample_cut_or_with_a_byte_flipped_harms_any_source(
        sample in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>(),
    ) {
        let samples = samples();
        let mut body = samples[sample.index(samples.len())].clone();
        let at = at.index(body.len());
        if cut {
            body.truncate(at);
        } else {
            body[at] ^= byte;
        }
        for source in REGISTRY {
            read_with(*source, &body);
        }
    }

    #[test]
    fn no_headers_harm_whoever_reads_them(
        values in prop::collection::vec(header(), 12), body in prop::collection::vec(any::<u8>(), 0..64), secret in any::<Vec<u8>>(),
    ) {
        const NAMES: [&str; 12] = [
            "webhook-id", "webhook-timestamp", "webhook-signature", "authorization", "x-event-secret", "ce-specversion",
            "ce-id", "ce-source", "ce-type", "ce-time", "ce-traceparent", "asaas-access-token",
        ];
        let pairs: Vec<_> = NAMES.into_iter().zip(values).collect();
        let headers = headers_of(&pairs);
        let doors = DoorSecrets::new(Some("a secret of sixteen".into()), None);
        for source in REGISTRY {
            prop_assert!(source.authenticate(&headers, &doors).is_err());
        }
        if standard_webhooks::is_signed(&headers) && let Ok(signed) = Signed::of(&headers, now()) {
            prop_assert!(signed.verify(&secret, &body).is_err(), "nobody guesses a signature");
        }
        if cloud_events::is_binary(&headers) && let Ok(event) = cloud_events::of_headers(&headers, json!({"a": 1})) {
            let _ = cloud_events::trace_of(&event);
            let _ = cloud_events::native(event, "billing", Mode::Binary);
        }
    }

    #[test]
    fn no_value_harms_the_readers_of_the_standards(
        mut values in prop::collection::vec(hostile(), 9), data in hostile(),
    ) {
        let names = ["specversion", "id", "source", "type", "time", "subject", "datacontenttype", "traceparent", "tenantid"];
        let mut event: serde_json::Map<String, Value> = names.map(str::to_owned).into_iter().zip(values.drain(..)).collect();
        event.insert("data".to_owned(), data.clone());
        let event = Value::Object(event);
        for mode in [Mode::Structured, Mode::Binary] {
            match cloud_events::native(event.clone(), "billing", mode) {
                Ok(native) => if let Err(problems) = generic::read_item(native.item, now()) {
                    prop_assert!(!cloud_events::in_its_words(problems, mode).is_empty());
                },
                Err(problems) => prop_assert!(!problems.is_empty()),
            }
        }
        let proposed = json!({"type": event["type"], "timestamp": event["time"], "data": data});
        if standard_webhooks::is_proposed_form(&proposed)
            && let Err(problems) = generic::read_item(standard_webhooks::native(proposed, "billing"), now()) {
            prop_assert!(!standard_webhooks::in_its_words(problems).is_empty());
        }
    }

    #[test]
    fn no_text_harms_the_readers_of_small_things(
        text in any::<String>(), near in "[0-9+() .:@_/TZa-f-]{0,60}", value in hostile(),
    ) {
        for text in [text.as_str(), near.as_str()] {
            let _ = (Jid::parse(text), MessageKey::parse(text), Phone::parse_brazil(text));
            let _ = (text.parse::<TraceId>(), text.parse::<Network>(), cloud_events::trace_of_parent(text));
            let masked = mask::mask_text(text);
            prop_assert!(masked.len() <= 2 * text.len() + 16, "{} of {}", masked.len(), text.len());
        }
        if let Some(at) = time::parse_lenient(&value, now()) {
            prop_assert!(time::is_believable(at, now()));
        }
        prop_assert_eq!(canonical_sha256(&value), canonical_sha256(&value.clone()));
        prop_assert!(mask::mask_json(&value).to_string().len() <= 2 * value.to_string().len() + 64);
    }
}

/// Bodies of a quarter of a megabyte, each of them the worst that somebody could think of for some reader.
fn large() -> Vec<Vec<u8>> {
    const SIZE: usize = 1 << 18;
    let filled = |open: &str, part: &str, close: &str| {
        let mut body = open.to_owned();
        while body.len() + part.len() + close.len() < SIZE {
            body.push_str(part);
        }
        (body + close).into_bytes()
    };
    let members: String = (0..15_000).map(|n| format!("\"m{n}\":{n},")).collect();
    vec![
        filled("", "[", ""),
        filled("", "{\"a\":", ""),
        filled("\"", "\\ud83d", "\""),
        filled("{\"event\":\"message\",\"text\":\"", "\\ud83d\\\\", "\"}"),
        filled(
            "{\"payload\":{\"text\":\"",
            "47 99999-0000 a@b.c 123.456.789-09 ",
            "\"}}",
        ),
        filled("{\"payload\":{\"text\":\"", "1", "\"}}"),
        filled("{\"payload\":{\"text\":\"", "a@", "\"}}"),
        filled("{\"messages\":[{}", ",{}", "]}"),
        filled("{\"messages\":[{\"id\":\"1\",\"qrcode\":[0", ",0", "]}]}"),
        filled("{\"payload\":[\"", "\",\"", "\"]}"),
        filled("{\"payload\":[1", ",9007199254740993", "]}"),
        filled("\u{0}", "\u{0}", "\u{0}"),
        vec![0xFF; SIZE],
        format!("{{{members}\"event\":\"PAYMENT_CREATED\"}}").into_bytes(),
    ]
}

#[test]
fn a_long_body_of_anything_is_read_and_masked_in_bounded_time() {
    let (done, finished) = mpsc::channel();
    let worker = std::thread::spawn(move || {
        for body in large() {
            for source in REGISTRY {
                read_with(*source, &body);
            }
            let text = String::from_utf8_lossy(&body);
            let _ = mask::mask_text(&text);
            let _ = (
                Jid::parse(&text),
                MessageKey::parse(&text),
                Phone::parse_brazil(&text),
            );
            if let Ok(value) = serde_json::from_slice::<Value>(&body) {
                let _ = (mask::mask_json(&value), canonical_sha256(&value));
                let _ = cloud_events::native(value, "billing", Mode::Structured);
            }
        }
        let _ = done.send(());
    });
    let ended = finished.recv_timeout(WATCHDOG);
    assert_ne!(ended, Err(mpsc::RecvTimeoutError::Timeout), "it goes on");
    worker.join().expect("because no reader panics");
}
