//! From samples to figures: units a second, CPU time a unit, memory; medians, and ratios formed within rounds.

use crate::compare::record::{Record, RowRecord, Sample};
use crate::spread::Spread;

/// A figure that one measurement gives.
pub(super) type Figure = fn(&RowRecord, &Sample) -> f64;

/// Above this share of a window spent waiting for a core, something else was running on it.
const DISTURBED: f64 = 0.05;
/// From this share of a window on, a process was busy all the time.
const SATURATED: f64 = 0.95;

/// What was counted: requests, connections or MiB.
fn units(row: &RowRecord, sample: &Sample) -> f64 {
    let scale = if row.unit == "MiB" { f64::from(1 << 20) } else { 1.0 };
    sample.units as f64 / scale
}

/// Nanoseconds of the server's CPU time a unit.
pub(super) fn cpu(row: &RowRecord, sample: &Sample) -> f64 {
    sample.cpu_ns as f64 / units(row, sample)
}

/// Units a second.
pub(super) fn rate(row: &RowRecord, sample: &Sample) -> f64 {
    units(row, sample) / sample.wall_ns as f64 * 1e9
}

/// Units for each second of the server's CPU time.
pub(super) fn capacity(row: &RowRecord, sample: &Sample) -> f64 {
    1e9 / cpu(row, sample)
}

/// Bytes a connection.
pub(super) fn memory(row: &RowRecord, sample: &Sample) -> f64 {
    sample.memory as f64 / units(row, sample)
}

/// Share of the window in which the server was on its core.
pub(super) fn server_busy(_: &RowRecord, sample: &Sample) -> f64 {
    sample.cpu_ns as f64 / sample.wall_ns as f64
}

/// Share of the window in which the load was busy.
pub(super) fn load_busy(_: &RowRecord, sample: &Sample) -> f64 {
    sample.load_ns as f64 / sample.wall_ns as f64
}

/// What a row compares: the less, the better.
pub(super) fn cost(row: &RowRecord) -> Figure {
    if row.memory { memory } else { cpu }
}

fn samples<'a>(record: &'a Record, row: &'a RowRecord, server: &'a str) -> impl Iterator<Item = &'a Sample> {
    record.samples.iter().filter(move |sample| sample.row == row.name && sample.server == server)
}

/// Who was measured in a row, in the order of the field.
pub(super) fn servers<'a>(record: &'a Record, row: &RowRecord) -> Vec<&'a str> {
    let mut names: Vec<&str> = vec![];
    for sample in record.samples.iter().filter(|sample| sample.row == row.name) {
        if !names.contains(&sample.server.as_str()) {
            names.push(&sample.server);
        }
    }
    names.sort_by_key(|name| crate::compare::place(name));
    names
}

/// A figure of `server` over all rounds.
pub(super) fn spread(record: &Record, row: &RowRecord, server: &str, figure: Figure) -> Option<Spread> {
    Spread::of(samples(record, row, server).map(|sample| figure(row, sample)).collect())
}

/// A figure of `server` divided by the same figure of `base`, round by round.
pub(super) fn ratio(
    record: &Record,
    row: &RowRecord,
    server: &str,
    base: &str,
    figure: Figure,
) -> Option<Spread> {
    let pair = |sample: &Sample| {
        let other = samples(record, row, base).find(|other| other.round == sample.round)?;
        Some(figure(row, sample) / figure(row, other)).filter(|ratio| ratio.is_finite())
    };
    Spread::of(samples(record, row, server).filter_map(pair).collect())
}

/// Whether the load, not the server, set the rate.
pub(super) fn load_was_the_limit(record: &Record, row: &RowRecord, server: &str) -> bool {
    let median = |figure| spread(record, row, server, figure).map_or(0.0, |spread| spread.median);
    !row.memory && median(load_busy) >= SATURATED && median(server_busy) < SATURATED
}

/// How many measurements were disturbed, and of how many.
///
/// In some rows every server waits for its core by the row's nature: the kernel's own threads work for 10,000 sockets. What a
/// row has beyond the whole run is therefore allowed to each of its measurements; a machine that is busy all the time
/// is none the better for it.
pub(super) fn disturbed(record: &Record) -> (usize, usize) {
    let share = |sample: &Sample| sample.waited_ns as f64 / sample.wall_ns as f64;
    let median = |shares| Spread::of(shares).map_or(0.0, |spread| spread.median);
    let usual = median(record.samples.iter().map(share).collect());
    let disturbed = |row: &RowRecord| {
        let shares: Vec<f64> =
            record.samples.iter().filter(|sample| sample.row == row.name).map(share).collect();
        let allowed = (median(shares.clone()) - usual).max(0.0) + DISTURBED;
        shares.into_iter().filter(|&share| share > allowed).count()
    };
    (record.rows.iter().map(disturbed).sum(), record.samples.len())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::compare::record::Effort;

    /// A record of one row, with the CPU nanoseconds a request of each server in each round.
    pub(in crate::report) fn record(servers: &[(&str, &[u64])]) -> Record {
        let effort = Effort { quick: false, rounds: 3, window_ms: 1, seed: 1, server_core: 0, load_core: 1 };
        let row = RowRecord {
            name: "lines-100".to_owned(),
            title: "100 connections".to_owned(),
            face: "rust".to_owned(),
            unit: "request".to_owned(),
            base: "epoll".to_owned(),
            rate: None,
            memory: false,
        };
        let sample = |server: &str, round: usize, cpu: u64| Sample {
            row: "lines-100".to_owned(),
            server: server.to_owned(),
            round,
            units: 1_000,
            wall_ns: cpu * 1_000,
            cpu_ns: cpu * 1_000,
            waited_ns: 0,
            load_ns: cpu * 400,
            p50_ns: 1_000,
            p99_ns: 2_000,
            p999_ns: 3_000,
            memory: 0,
        };
        let of = |(server, cpus): &(&str, &[u64])| -> Vec<Sample> {
            cpus.iter().enumerate().map(|(round, cpu)| sample(server, round, *cpu)).collect()
        };
        Record {
            machine: crate::compare::Machine::default(),
            effort,
            rows: vec![row],
            samples: servers.iter().flat_map(of).collect(),
            syscalls: vec![],
            failures: vec![],
        }
    }

    #[test]
    fn ratios_are_formed_within_rounds_so_a_slow_spell_of_the_machine_divides_out() {
        // The machine is three times as slow in the second round.
        let record = record(&[("epoll", &[100, 300, 100]), ("millstream", &[110, 330, 120])]);
        let ratio = ratio(&record, &record.rows[0], "millstream", "epoll", cpu).expect("both were measured");
        assert!((ratio.median - 1.1).abs() < 1e-9 && (ratio.max - 1.2).abs() < 1e-9, "{ratio:?}");
    }

    #[test]
    fn a_round_that_only_one_of_them_finished_counts_for_neither() {
        let record = record(&[("epoll", &[100]), ("millstream", &[200, 900, 900])]);
        let ratio = ratio(&record, &record.rows[0], "millstream", "epoll", cpu).expect("one round has both");
        assert_eq!((ratio.min, ratio.max), (2.0, 2.0));
    }

    #[test]
    fn the_load_is_the_limit_when_it_is_busy_and_the_server_is_not() {
        let mut record = record(&[("epoll", &[100, 100, 100])]);
        assert!(!load_was_the_limit(&record, &record.rows[0], "epoll"));
        for sample in &mut record.samples {
            (sample.load_ns, sample.cpu_ns) = (sample.wall_ns, sample.wall_ns / 2);
        }
        assert!(load_was_the_limit(&record, &record.rows[0], "epoll"));
    }

    #[test]
    fn a_measurement_is_disturbed_when_something_else_had_the_core() {
        let mut record = record(&[("epoll", &[100, 100])]);
        record.samples[1].waited_ns = record.samples[1].wall_ns / 10;
        assert_eq!(disturbed(&record), (1, 2));
    }

    #[test]
    fn what_a_row_always_has_disturbs_nothing_and_a_busy_machine_disturbs_all() {
        let mut record = record(&[("epoll", &[100; 9])]);
        let mut crowd = record.rows[0].clone();
        crowd.name = "lines-10000".to_owned();
        record.rows.push(crowd);
        for sample in &mut record.samples[6..] {
            sample.row = "lines-10000".to_owned();
            sample.waited_ns = sample.wall_ns / 10;
        }
        assert_eq!(disturbed(&record), (0, 9));
        record.samples[8].waited_ns = record.samples[8].wall_ns / 5;
        assert_eq!(disturbed(&record), (1, 9));
        for sample in &mut record.samples {
            sample.waited_ns = sample.wall_ns / 10;
        }
        assert_eq!(disturbed(&record), (9, 9));
    }
}
