//! Latencies, in histograms, and what is said about them.

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest latency told apart from longer ones: an hour, in nanoseconds.
const LONGEST_NS: u64 = 3_600_000_000_000;

/// Latencies with three significant digits, from a nanosecond to an hour.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(Histogram<u64>);

/// Some latencies in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// How many were measured.
    pub count: u64,
    /// The smallest.
    pub min_us: f64,
    /// Their mean.
    pub mean_us: f64,
    /// Half are at most this.
    pub p50_us: f64,
    /// 90 of 100 are at most this.
    pub p90_us: f64,
    /// 99 of 100 are at most this.
    pub p99_us: f64,
    /// 999 of 1,000 are at most this.
    pub p999_us: f64,
    /// The largest.
    pub max_us: f64,
}

impl Latencies {
    pub(crate) fn new() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("invariant: these bounds are valid"))
    }

    /// Notes one latency in nanoseconds.
    pub(crate) fn note(&mut self, ns: u64) {
        self.0.saturating_record(ns.max(1));
    }

    /// Notes `count` operations that were due `first_ns` ago and, evenly, until `last_ns` ago.
    ///
    /// In at most a thousand steps, whatever the count.
    pub(crate) fn note_evenly(&mut self, first_ns: u64, last_ns: u64, count: u64) {
        let steps = count.min(1_000);
        for step in 0..steps {
            let part = if steps > 1 { step as f64 / (steps - 1) as f64 } else { 0.0 };
            let ns = first_ns as f64 + (last_ns as f64 - first_ns as f64) * part;
            // Integer shares that add up to `count`.
            let share = count * (step + 1) / steps - count * step / steps;
            self.0.saturating_record_n((ns as u64).max(1), share);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.0.reset();
    }

    pub(crate) fn summary(&self) -> Summary {
        if self.0.is_empty() {
            return Summary::default();
        }
        let us = |ns: u64| ns as f64 / 1_000.0;
        let at = |quantile| us(self.0.value_at_quantile(quantile));
        Summary {
            count: self.0.len(),
            min_us: us(self.0.min()),
            mean_us: self.0.mean() / 1_000.0,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: us(self.0.max()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_in_microseconds_and_within_a_thousandth() {
        let mut latencies = Latencies::new();
        for us in 1..=1_000 {
            latencies.note(us * 1_000);
        }
        let summary = latencies.summary();
        assert_eq!(summary.count, 1_000);
        for (name, value, expected) in [
            ("min", summary.min_us, 1.0),
            ("p50", summary.p50_us, 500.0),
            ("p99", summary.p99_us, 990.0),
            ("p999", summary.p999_us, 999.0),
            ("max", summary.max_us, 1_000.0),
            ("mean", summary.mean_us, 500.5),
        ] {
            assert!((value / expected - 1.0).abs() < 0.001, "{name}: {value}");
        }
        latencies.clear();
        assert_eq!(latencies.summary(), Summary::default());
    }

    #[test]
    fn a_backlog_counts_in_full_and_evenly() {
        for count in [1, 999, 1_000, 1_001, 123_457] {
            let mut latencies = Latencies::new();
            latencies.note_evenly(2_000_000, 1_000_000, count);
            let summary = latencies.summary();
            assert_eq!(summary.count, count);
            assert!(summary.max_us < 2_001.0 && summary.min_us >= 999.0, "{summary:?}");
        }
        let mut latencies = Latencies::new();
        latencies.note_evenly(2_000_000, 1_000_000, 0);
        assert_eq!(latencies.summary().count, 0);
    }

    #[test]
    fn a_latency_beyond_the_bounds_is_counted_at_the_bound() {
        let mut latencies = Latencies::new();
        latencies.note(u64::MAX);
        latencies.note(0);
        assert_eq!(latencies.summary().count, 2);
    }
}
