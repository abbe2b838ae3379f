//! Percentiles of what was measured, every value kept.

use serde::{Deserialize, Serialize};

/// Percentiles in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Half are faster.
    pub p50: f64,
    /// One of ten is slower.
    pub p90: f64,
    /// One of a hundred is slower.
    pub p99: f64,
    /// One of a thousand is slower.
    pub p999: f64,
    /// The slowest.
    pub max: f64,
}

impl Latency {
    /// The percentiles of times in microseconds; `None` where there are none.
    #[must_use]
    pub fn of(mut micros: Vec<i64>) -> Option<Self> {
        micros.sort_unstable();
        let last = micros.len().checked_sub(1)?;
        // The nearest rank: the least value that so many per mille are not above.
        let at = |per_mille: usize| {
            let rank = (micros.len() * per_mille).div_ceil(1000).max(1) - 1;
            #[expect(
                clippy::cast_precision_loss,
                reason = "times of a run are far below 2^52 µs"
            )]
            let ms = micros[rank.min(last)] as f64 / 1000.0;
            ms
        };
        Some(Self {
            p50: at(500),
            p90: at(900),
            p99: at(990),
            p999: at(999),
            max: at(1000),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let thousand = Latency::of((1..=1000).rev().map(|n| n * 1000).collect()).unwrap();
        let expected = Latency {
            p50: 500.0,
            p90: 900.0,
            p99: 990.0,
            p999: 999.0,
            max: 1000.0,
        };
        assert_eq!(thousand, expected);
        assert_eq!(Latency::of(vec![7000]).unwrap().p99, 7.0);
        assert_eq!(Latency::of(Vec::new()), None);
    }
}
