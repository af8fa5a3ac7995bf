//! Latencies of one measurement: an HDR histogram, so that millions of them take some kilobytes and no time.

use hdrhistogram::Histogram;

/// The slowest answer that is told from a slower one: a minute, beyond every deadline of the load.
const MOST_NS: u64 = 60_000_000_000;
/// Three digits: a percentile is right within 0.1 %.
const DIGITS: u8 = 3;

/// Latencies in nanoseconds.
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self(Histogram::new_with_bounds(1, MOST_NS, DIGITS).expect("the bounds are in order"))
    }

    /// Adds one.
    pub(crate) fn push(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    /// The latency that `share` of all do not exceed, in nanoseconds; 0 when there are none.
    pub(crate) fn at(&self, share: f64) -> u64 {
        if self.0.is_empty() { 0 } else { self.0.value_at_quantile(share) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_within_a_thousandth() {
        let mut latencies = Latencies::new();
        (1..=100_000).for_each(|ns| latencies.push(ns * 100));
        for (share, expected) in [(0.5, 5_000_000.0), (0.99, 9_900_000.0), (0.999, 9_990_000.0)] {
            let error = latencies.at(share) as f64 / expected - 1.0;
            assert!(error.abs() < 0.002, "{share}: off by {error}");
        }
    }

    #[test]
    fn one_stall_shows_in_the_last_thousandth_only() {
        let mut latencies = Latencies::new();
        (0..998).for_each(|_| latencies.push(1_000));
        (0..2).for_each(|_| latencies.push(1_000_000_000));
        assert!(latencies.at(0.99) < 1_100);
        assert!(latencies.at(0.999) > 990_000_000);
    }

    #[test]
    fn nothing_measured_and_more_than_a_minute_do_no_harm() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.at(0.5), 0);
        latencies.push(u64::MAX);
        assert!(latencies.at(0.5) >= MOST_NS - MOST_NS / 1000);
    }
}
