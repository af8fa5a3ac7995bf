//! From samples to figures: units a second, CPU time a unit, medians with their spread, paired ratios.

use super::{Sample, Scenario};
use crate::load::Outcome;
pub(super) use crate::spread::Spread;

/// A figure that one measurement gives.
pub(super) type Figure = fn(&Outcome) -> f64;

/// Lines or bytes a second.
pub(super) fn rate(outcome: &Outcome) -> f64 {
    outcome.units as f64 / outcome.wall_ns as f64 * 1e9
}

/// Nanoseconds of the server's CPU time for each line or byte.
pub(super) fn cpu(outcome: &Outcome) -> f64 {
    outcome.cpu_ns as f64 / outcome.units as f64
}

/// Lines or bytes that the server would answer in a second if it had its core all the time.
pub(super) fn capacity(outcome: &Outcome) -> f64 {
    outcome.units as f64 / outcome.cpu_ns as f64 * 1e9
}

/// Share of the window in which the server was on its core.
pub(super) fn busy(outcome: &Outcome) -> f64 {
    outcome.cpu_ns as f64 / outcome.wall_ns as f64
}

/// Bytes of the server's memory for each connection that was kept.
pub(super) fn memory(outcome: &Outcome) -> f64 {
    outcome.memory as f64 / outcome.units as f64
}

/// The outcomes of `peer` in `scenario`, with their rounds.
fn outcomes<'a>(
    samples: &'a [Sample],
    scenario: &'a str,
    peer: &'a str,
) -> impl Iterator<Item = (usize, &'a Outcome)> {
    let wanted = move |sample: &&Sample| sample.scenario.name == scenario && sample.peer == peer;
    samples.iter().filter(wanted).map(|sample| (sample.round, &sample.outcome))
}

/// A figure of `peer` over all rounds.
pub(super) fn spread(samples: &[Sample], scenario: &Scenario, peer: &str, figure: Figure) -> Option<Spread> {
    Spread::of(outcomes(samples, scenario.name, peer).map(|(_, outcome)| figure(outcome)).collect())
}

/// A figure of `peer` divided by the same figure of `base`, round by round.
///
/// Both were measured within a second or two of each other, so what the machine did at that time divides out.
pub(super) fn ratio(
    samples: &[Sample],
    scenario: &str,
    peer: &str,
    base: &str,
    figure: Figure,
) -> Option<Spread> {
    let pair = |(round, outcome)| {
        let (_, other) = outcomes(samples, scenario, base).find(|(at, _)| *at == round)?;
        Some(figure(outcome) / figure(other))
    };
    Spread::of(outcomes(samples, scenario, peer).filter_map(pair).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcome_survives_the_pipe() {
        let outcome = Outcome {
            units: 1,
            wall_ns: 2,
            cpu_ns: 3,
            waited_ns: 4,
            p50_ns: 5,
            p99_ns: 6,
            memory: 7,
            p999_ns: 8,
            load_ns: 9,
        };
        assert_eq!(outcome.to_string().parse(), Ok(outcome));
        assert!("1 2 3".parse::<Outcome>().is_err());
    }
}
