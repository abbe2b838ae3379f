//! `Retry-After` (RFC 9110 §10.2.3): seconds, or an HTTP date.

use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Utc};

/// The longest wait that is taken from a header. What asks for more gets this much, so that one
/// absurd header cannot silence an account for days; the caller's policy may be stricter.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(60 * 60);

/// RFC 9110 §5.6.7, IMF-fixdate, without its day name: a wrong one says nothing about the time.
/// The two obsolete formats are not read, no gateway of this century writes them.
const IMF_FIXDATE: &str = "%d %b %Y %H:%M:%S GMT";

/// How long the header asks to wait, counted from `now` and never above [`MAX_RETRY_AFTER`].
///
/// A date in the past is a wait of zero. What is neither seconds nor a date is `None`: the caller
/// then waits as it would have without the header.
#[must_use]
pub fn parse_retry_after(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    let value = value.trim();
    if value.is_empty() {
        return None;
    }
    if value.bytes().all(|byte| byte.is_ascii_digit()) {
        // Digits that overflow are still a number, a very long wait.
        let seconds = value.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER));
    }
    let wait = (parse_http_date(value)? - now).to_std();
    Some(wait.unwrap_or_default().min(MAX_RETRY_AFTER))
}

/// Reads an IMF-fixdate, like the ones in `Retry-After` and `Date`.
pub(super) fn parse_http_date(value: &str) -> Option<DateTime<Utc>> {
    let (_day_name, rest) = value.trim().split_once(", ")?;
    let date = NaiveDateTime::parse_from_str(rest, IMF_FIXDATE).ok()?;
    Some(date.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, seconds: Option<u64>) {
        let now = parse_http_date("Mon, 23 Nov 2026 12:00:00 GMT").expect("a date");
        assert_eq!(
            parse_retry_after(value, now),
            seconds.map(Duration::from_secs),
            "{value:?}"
        );
    }

    #[test]
    fn seconds_are_read_and_bounded() {
        check("0", Some(0));
        check("120", Some(120));
        check("  7 ", Some(7));
        check("86400", Some(3600));
        check("99999999999999999999999", Some(3600));
    }

    #[test]
    fn dates_are_read_from_now_and_bounded() {
        check("Mon, 23 Nov 2026 12:00:30 GMT", Some(30));
        check("Tue, 24 Nov 2026 12:00:00 GMT", Some(3600));
        // The day name is wrong, the time is not.
        check("Fri, 23 Nov 2026 12:01:00 GMT", Some(60));
    }

    #[test]
    fn a_date_in_the_past_is_no_wait() {
        check("Sun, 06 Nov 1994 08:49:37 GMT", Some(0));
    }

    #[test]
    fn nonsense_is_nothing() {
        for value in [
            "",
            " ",
            "-5",
            "1.5",
            "soon",
            "12 s",
            "0x10",
            "2026-11-23T12:00:30Z",
            "Mon, 23 Nov 2026 12:00:30 BRT",
            "Mon, 32 Nov 2026 12:00:30 GMT",
            "Mon, ",
        ] {
            check(value, None);
        }
    }
}
