//! Times as sources write them: seconds, milliseconds, RFC 3339; always UTC (facts §8, incident 20).

use chrono::{DateTime, Duration, Utc};
use serde_json::Value;

/// The text or number is no time.
pub(super) struct NoTime;

/// Reads an epoch time in seconds or milliseconds (above 10^10, facts §1.4), or an RFC 3339 time
/// with its zone.
pub(super) fn parse(value: &Value) -> Result<DateTime<Utc>, NoTime> {
    match value {
        Value::Number(number) => number.as_i64().ok_or(NoTime).and_then(epoch),
        Value::String(text) => DateTime::parse_from_rfc3339(text.trim())
            .map(|time| time.to_utc())
            .map_err(|_| NoTime),
        _ => Err(NoTime),
    }
}

/// As [`parse`], also of an epoch time in a text or with a fraction, as gateways send it; `None`
/// for whatever is no believable time.
pub(super) fn parse_lenient(value: &Value, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let time = match value {
        Value::String(text) => match text.trim().parse::<i64>() {
            Ok(number) => epoch(number),
            Err(_) => parse(value),
        },
        Value::Number(number) if number.is_f64() => {
            // Finite and far below the bounds of i64 or refused by `epoch`; `as` saturates.
            #[allow(clippy::cast_possible_truncation)]
            number.as_f64().ok_or(NoTime).and_then(|n| epoch(n as i64))
        }
        _ => parse(value),
    };
    time.ok().filter(|time| is_believable(*time, now))
}

/// From 2000 to a day ahead of now: clocks differ, but not more.
pub(super) fn is_believable(time: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    const YEAR_2000: i64 = 946_684_800;
    time.timestamp() >= YEAR_2000 && time <= now + Duration::hours(24)
}

fn epoch(number: i64) -> Result<DateTime<Utc>, NoTime> {
    const SECONDS_END: i64 = 10_000_000_000;
    let time = if number.unsigned_abs() > SECONDS_END.unsigned_abs() {
        DateTime::from_timestamp_millis(number)
    } else {
        DateTime::from_timestamp(number, 0)
    };
    time.ok_or(NoTime)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn seconds_milliseconds_and_rfc_3339_name_the_same_moment() {
        let now = DateTime::from_timestamp(1_770_300_000, 0).unwrap();
        for value in [
            json!(1_770_300_001),
            json!(1_770_300_001_000_i64),
            json!("2026-02-05T14:00:01Z"),
            json!("2026-02-05T11:00:01-03:00"),
            json!("1770300001"),
            json!(1_770_300_001.25),
        ] {
            let time = parse_lenient(&value, now).unwrap();
            assert_eq!(time.timestamp(), 1_770_300_001, "{value}");
        }
    }

    #[test]
    fn what_is_no_believable_time_is_none() {
        let now = DateTime::from_timestamp(1_770_300_000, 0).unwrap();
        for value in [
            json!(null),
            json!(0),
            json!(-1),
            json!(946_684_799),
            json!(1_770_300_000 + 86_401),
            json!(i64::MAX),
            json!(u64::MAX),
            json!(1e300),
            json!("2026-02-05"),
            json!("2026-02-05T14:00:01"),
            json!("amanhã"),
            json!({}),
        ] {
            assert_eq!(parse_lenient(&value, now), None, "{value}");
        }
    }
}
