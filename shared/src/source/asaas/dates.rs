//! The times and days that Asaas writes, in three forms: `2026-02-03 03:10:00` for moments,
//! `2026-02-02` for days of charges, `16/10/2024` for days of subscriptions (conventions §B2).

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, TimeZone, Utc};
use serde_json::Value;

use crate::source::time;

/// Asaas names no zone; it means Brasília, three hours behind UTC all year round since summer time
/// was given up (Decreto 9.772/2019).
const BEHIND_UTC_S: i32 = 3 * 3600;

/// A moment; `None` for what is no believable one, and for a day alone: whoever orders events by
/// it is better served by the time of reception.
pub(super) fn moment(value: &Value, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let text = value.as_str()?.trim();
    let local = ["%Y-%m-%d %H:%M:%S", "%d/%m/%Y %H:%M:%S"]
        .iter()
        .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    match local {
        Some(local) => FixedOffset::west_opt(BEHIND_UTC_S)?
            .from_local_datetime(&local)
            .single()
            .map(|at| at.to_utc())
            .filter(|at| time::is_believable(*at, now)),
        None => time::parse_lenient(value, now),
    }
}

/// A day, also at the beginning of a moment.
pub(super) fn day(value: &Value) -> Option<NaiveDate> {
    let text = value.as_str()?.trim();
    let text = text.get(..10)?;
    ["%Y-%m-%d", "%d/%m/%Y"]
        .iter()
        .find_map(|form| NaiveDate::parse_from_str(text, form).ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_moment_is_brasilias_and_a_day_is_read_in_either_form() {
        let now = DateTime::from_timestamp(1_770_300_000, 0).unwrap();
        for (value, wanted) in [
            (json!("2026-02-03 03:10:00"), Some("2026-02-03T06:10:00Z")),
            (json!("03/02/2026 03:10:00"), Some("2026-02-03T06:10:00Z")),
            (
                json!("2026-02-03T03:10:00-03:00"),
                Some("2026-02-03T06:10:00Z"),
            ),
            (json!(" 2025-12-31 23:30:00 "), Some("2026-01-01T02:30:00Z")),
            (json!("2026-02-03"), None),
            (json!("2026-02-30 03:10:00"), None),
            (json!("1999-12-31 00:00:00"), None),
            (json!("2031-01-01 00:00:00"), None),
            (json!("ontem"), None),
            (json!(null), None),
        ] {
            let wanted = wanted.map(|text| text.parse::<DateTime<Utc>>().unwrap());
            assert_eq!(moment(&value, now), wanted, "{value}");
        }
        let february = NaiveDate::from_ymd_opt(2026, 2, 2);
        for (value, wanted) in [
            (json!("2026-02-02"), february),
            (json!("02/02/2026"), february),
            (json!("2026-02-02 12:54:56"), february),
            (json!("2026-02-30"), None),
            (json!("2/2/2026"), None),
            (json!("dez/2026-ã"), None),
            (json!(20_260_202), None),
        ] {
            assert_eq!(day(&value), wanted, "{value}");
        }
    }
}
