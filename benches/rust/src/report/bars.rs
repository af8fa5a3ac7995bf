//! The bars that millstream has to clear, and whether it does.

use super::figures::{self, Figure};
use crate::compare::record::Record;
use crate::spread::Spread;

/// One bar: the median of a ratio against a bound.
#[derive(Debug)]
pub(super) struct Bar {
    row: &'static str,
    server: &'static str,
    against: &'static str,
    measure: Measure,
    side: Side,
    bound: f64,
}

/// What a bar is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    Cpu,
    Rate,
    Capacity,
    Memory,
    /// The lesser of rate and capacity.
    RateAndCapacity,
}

/// Which side of the bound is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    AtMost,
    AtLeast,
}

/// What became of a bar.
#[derive(Debug)]
pub(super) struct Verdict {
    /// In words: who, where, against whom.
    pub(super) title: String,
    pub(super) bound: String,
    /// When both were measured.
    pub(super) ratio: Option<Spread>,
    pub(super) reached: Option<bool>,
}

const BARS: &[Bar] = &[
    bar("lines-100", "millstream", "epoll", Measure::Cpu, Side::AtMost, 1.05),
    bar("lines-50x100", "millstream", "tokio-flush", Measure::Rate, Side::AtLeast, 0.9),
    bar("lines-50x100", "millstream", "tokio-naive", Measure::Rate, Side::AtLeast, 30.0),
    bar("bulk", "millstream", "epoll", Measure::Rate, Side::AtLeast, 0.95),
    bar("bulk", "millstream", "epoll", Measure::Cpu, Side::AtMost, 1.0 / 0.95),
    bar("tls-counted-16k", "millstream", "tokio-naive", Measure::Cpu, Side::AtMost, 0.83),
    bar("tls-counted-16k", "millstream", "tokio-flush", Measure::Cpu, Side::AtMost, 0.83),
    bar("tls-lines-50x100", "millstream", "tokio-naive", Measure::Capacity, Side::AtLeast, 20.0),
    bar("tls-idle", "millstream", "tokio-naive", Measure::Memory, Side::AtMost, 1.0),
    bar("tls-idle", "millstream", "tokio-flush", Measure::Memory, Side::AtMost, 1.0),
    python("py-lines-1", "millstream/asyncio", "asyncio", 1.0),
    python("py-lines-1", "millstream/uvloop", "uvloop", 1.0),
    python("py-lines-100", "millstream/asyncio", "asyncio", 2.0),
    python("py-lines-100", "millstream/uvloop", "uvloop", 1.5),
    python("py-lines-100-first", "millstream/asyncio", "asyncio", 2.0),
    python("py-lines-100-first", "millstream/uvloop", "uvloop", 1.5),
    python("py-lines-50x100", "millstream/asyncio", "asyncio", 12.0),
    python("py-lines-50x100", "millstream/uvloop", "uvloop", 12.0),
    python("py-counted-1k", "millstream/asyncio", "asyncio", 1.0),
    python("py-counted-1k", "millstream/uvloop", "uvloop", 1.0),
    python("py-counted-256k", "millstream/asyncio", "asyncio", 1.0),
    python("py-counted-256k", "millstream/uvloop", "uvloop", 1.0),
    python("py-bulk", "millstream/asyncio", "asyncio", 1.5),
    python("py-bulk", "millstream/uvloop", "uvloop", 1.5),
    python("py-tls-lines-100", "millstream/asyncio", "asyncio", 1.0),
    python("py-tls-lines-100", "millstream/uvloop", "uvloop", 1.0),
    python("py-tls-lines-50x100", "millstream/asyncio", "asyncio", 1.0),
    python("py-tls-lines-50x100", "millstream/uvloop", "uvloop", 1.0),
    python("py-tls-bulk", "millstream/asyncio", "asyncio", 1.0),
    python("py-tls-bulk", "millstream/uvloop", "uvloop", 1.0),
];

const fn bar(
    row: &'static str,
    server: &'static str,
    against: &'static str,
    measure: Measure,
    side: Side,
    bound: f64,
) -> Bar {
    Bar { row, server, against, measure, side, bound }
}

const fn python(row: &'static str, server: &'static str, against: &'static str, bound: f64) -> Bar {
    bar(row, server, against, Measure::RateAndCapacity, Side::AtLeast, bound)
}

/// Judges the bars of the rows that were run.
pub(super) fn judge(record: &Record) -> Vec<Verdict> {
    BARS.iter().filter_map(|bar| bar.judge(record)).collect()
}

impl Bar {
    /// `None` when its row was not run.
    fn judge(&self, record: &Record) -> Option<Verdict> {
        let row = record.rows.iter().find(|row| row.name == self.row)?;
        let ratio = |figure: Figure| figures::ratio(record, row, self.server, self.against, figure);
        let (what, ratio) = match self.measure {
            Measure::Cpu => ("CPU", ratio(figures::cpu)),
            Measure::Rate => ("rate", ratio(figures::rate)),
            Measure::Capacity => ("units a CPU second", ratio(figures::capacity)),
            Measure::Memory => ("memory", ratio(figures::memory)),
            Measure::RateAndCapacity => {
                let both = [ratio(figures::rate), ratio(figures::capacity)];
                let lesser = both.into_iter().flatten().min_by(|a, b| a.median.total_cmp(&b.median));
                ("rate and units a CPU second, the lesser", lesser)
            }
        };
        let (sign, reached) = match self.side {
            Side::AtMost => ("<=", ratio.map(|ratio| ratio.median <= self.bound)),
            Side::AtLeast => (">=", ratio.map(|ratio| ratio.median >= self.bound)),
        };
        Some(Verdict {
            title: format!("{}: {what}, {} against {}", self.row, self.server, self.against),
            bound: format!("{sign} {:.2}", self.bound),
            ratio,
            reached,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figures::tests::record;

    #[test]
    fn a_bar_is_judged_by_the_median_of_its_ratio() {
        let epoll: &[u64] = &[100, 100, 100];
        let verdict =
            |ours: &[u64]| judge(&record(&[("epoll", epoll), ("millstream", ours)])).remove(0).reached;
        assert_eq!(verdict(&[101, 104, 190]), Some(true));
        assert_eq!(verdict(&[90, 106, 107]), Some(false));
    }

    #[test]
    fn a_bar_without_measurements_is_neither_reached_nor_missed() {
        let verdicts = judge(&record(&[("epoll", &[100])]));
        assert_eq!((verdicts.len(), verdicts[0].reached), (1, None));
    }
}
