//! Message headers between JSON, which the rest of the program knows, and AMQP's field tables.

use lapin::types::{AMQPValue, FieldArray, FieldTable, ShortString};
use serde_json::{Map, Number, Value};

/// Publish time in milliseconds since 1970, set by the publisher (AMQP's own `timestamp` has
/// whole seconds only).
pub(super) const PUBLISHED_MS: &str = "x-published-ms";

/// How often a quorum queue has seen the message come back; absent at the first delivery.
pub(super) const DELIVERY_COUNT: &str = "x-delivery-count";

/// Asks the consumer to run the message alone, as one that came back often (design §3): the one
/// more try after the broker gave a message up.
pub(super) const ALONE: &str = "x-alone";

/// A JSON map as a field table. A name of more than 255 bytes cannot be sent and is left out.
pub(super) fn to_table(headers: &Map<String, Value>) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in headers {
        if let Ok(name) = ShortString::try_new(name.as_str()) {
            table.insert(name, to_amqp(value));
        }
    }
    table
}

/// A field table as a JSON map. Bytes that are no UTF-8 lose what cannot be shown.
pub(super) fn from_table(table: &FieldTable) -> Map<String, Value> {
    table
        .into_iter()
        .map(|(name, value)| (name.as_str().to_owned(), from_amqp(value)))
        .collect()
}

fn to_amqp(value: &Value) -> AMQPValue {
    match value {
        Value::Null => AMQPValue::Void,
        Value::Bool(flag) => AMQPValue::Boolean(*flag),
        Value::Number(number) => number.as_i64().map_or_else(
            || AMQPValue::Double(number.as_f64().unwrap_or_default()),
            AMQPValue::LongLongInt,
        ),
        Value::String(text) => AMQPValue::LongString(text.as_str().into()),
        Value::Array(items) => AMQPValue::FieldArray(FieldArray::from(
            items.iter().map(to_amqp).collect::<Vec<_>>(),
        )),
        Value::Object(map) => AMQPValue::FieldTable(to_table(map)),
    }
}

fn from_amqp(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::Boolean(flag) => Value::Bool(*flag),
        AMQPValue::ShortShortInt(n) => Value::from(*n),
        AMQPValue::ShortShortUInt(n) => Value::from(*n),
        AMQPValue::ShortInt(n) => Value::from(*n),
        AMQPValue::ShortUInt(n) => Value::from(*n),
        AMQPValue::LongInt(n) => Value::from(*n),
        AMQPValue::LongUInt(n) => Value::from(*n),
        AMQPValue::LongLongInt(n) => Value::from(*n),
        AMQPValue::Timestamp(n) => Value::from(*n),
        AMQPValue::Float(n) => float(f64::from(*n)),
        AMQPValue::Double(n) => float(*n),
        AMQPValue::DecimalValue(d) => float(f64::from(d.value) / 10f64.powi(i32::from(d.scale))),
        AMQPValue::ShortString(text) => Value::from(text.as_str()),
        AMQPValue::LongString(text) => Value::from(text.to_string()),
        AMQPValue::ByteArray(bytes) => {
            Value::from(String::from_utf8_lossy(bytes.as_slice()).into_owned())
        }
        AMQPValue::FieldArray(items) => items.as_slice().iter().map(from_amqp).collect(),
        AMQPValue::FieldTable(table) => Value::Object(from_table(table)),
        AMQPValue::Void => Value::Null,
    }
}

fn float(number: f64) -> Value {
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_the_way_to_amqp_and_back() {
        let headers = serde_json::json!({
            "x-letter-id": "018f", "x-attempts": 4, "x-ratio": 0.5, "x-flag": true, "x-none": null,
            "x-death": [{"queue": "hub.events.route", "count": 1}],
        });
        let headers = headers.as_object().unwrap();
        assert_eq!(&from_table(&to_table(headers)), headers);
    }

    #[test]
    fn a_name_too_long_for_amqp_is_left_out() {
        let headers = Map::from_iter([("x".repeat(256), Value::Null)]);
        assert!(from_table(&to_table(&headers)).is_empty());
    }
}
