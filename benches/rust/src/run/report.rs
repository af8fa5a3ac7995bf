//! The result as Markdown: one table a scenario, then the bars.

use std::fmt::Write as _;

use super::bars::{Side, Verdict};
use super::scenarios::Unit;
use super::stats::{self, Spread};
use super::{Sample, Scenario, Settings};
use crate::peers::Peer;

/// Above this share of a window spent waiting for the core, something else was running on it.
const DISTURBED: f64 = 0.05;

/// Renders everything.
pub(super) fn render(settings: &Settings, samples: &[Sample], bars: &[Verdict]) -> String {
    let mut text = format!(
        "Medians of {} interleaved rounds [min..max]; ratios are formed within each round.\n\
         Servers on core {}, load on core {}. Ratios hold, absolutes do not.\n",
        settings.rounds, settings.server_core, settings.load_core
    );
    for scenario in &settings.scenarios {
        table(&mut text, settings, samples, scenario);
    }
    verdicts(&mut text, bars);
    disturbances(&mut text, samples);
    text
}

/// A median and its spread, scaled, with as many digits as the value deserves.
fn cell(spread: Option<Spread>, scale: f64) -> String {
    let Some(Spread { median, min, max }) = spread else { return "-".into() };
    let digits = match median * scale {
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => 0,
    };
    format!("{:.digits$} [{:.digits$}..{:.digits$}]", median * scale, min * scale, max * scale)
}

fn row(text: &mut String, cells: &[String]) {
    let _ = writeln!(text, "| {} |", cells.join(" | "));
}

fn table(text: &mut String, settings: &Settings, samples: &[Sample], scenario: &Scenario) {
    let peers: Vec<&Peer> =
        settings.peers.iter().copied().filter(|peer| peer.kind == scenario.kind).collect();
    if peers.is_empty() {
        return;
    }
    let _ = write!(text, "\n### {}", scenario.title);
    match (scenario.name, settings.rate) {
        ("open", Some(rate)) => _ = write!(text, ", {:.0} k/s", rate / 1000.0),
        ("bulk" | "tls-bulk", _) => _ = write!(text, ", {} MiB", settings.bulk_mib),
        _ => {}
    }
    text.push_str("\n\n");
    let (heads, rows) = match scenario.unit {
        Unit::Memory => memory(samples, scenario, &peers),
        _ => work(samples, scenario, &peers),
    };
    row(text, &heads);
    row(text, &heads.iter().map(|_| "---".to_owned()).collect::<Vec<_>>());
    rows.iter().for_each(|cells| row(text, cells));
}

/// The heads of a table, and its rows.
type Table = (Vec<String>, Vec<Vec<String>>);

fn work(samples: &[Sample], scenario: &Scenario, peers: &[&Peer]) -> Table {
    let Unit::Work { cpu, cpu_scale, rate, rate_scale, latency } = scenario.unit else {
        return (vec![], vec![]);
    };
    let mut heads =
        vec!["server".to_owned(), cpu.to_owned(), format!("/ {}", scenario.floor), rate.to_owned()];
    heads.extend(scenario.rate_against.iter().map(|base| format!("/ {base}")));
    if latency {
        heads.extend(["p50 us".to_owned(), "p99 us".to_owned()]);
    }
    heads.push("core busy %".to_owned());
    let line = |peer: &&Peer| {
        let of = |figure| stats::spread(samples, scenario, peer.name, figure);
        let against = |base, figure| stats::ratio(samples, scenario.name, peer.name, base, figure);
        let mut cells = vec![peer.name.to_owned(), cell(of(stats::cpu), cpu_scale)];
        cells.push(cell(against(scenario.floor, stats::cpu), 1.0));
        cells.push(cell(of(stats::rate), rate_scale));
        cells.extend(scenario.rate_against.iter().map(|base| cell(against(base, stats::rate), 1.0)));
        if latency {
            cells.push(cell(of(|outcome| outcome.p50_ns as f64), 1e-3));
            cells.push(cell(of(|outcome| outcome.p99_ns as f64), 1e-3));
        }
        cells.push(cell(of(stats::busy), 100.0));
        cells
    };
    (heads, peers.iter().map(line).collect())
}

fn memory(samples: &[Sample], scenario: &Scenario, peers: &[&Peer]) -> Table {
    let heads = ["server".to_owned(), "KiB a connection".to_owned(), format!("/ {}", scenario.floor)];
    let line = |peer: &&Peer| {
        let ratio = stats::ratio(samples, scenario.name, peer.name, scenario.floor, stats::memory);
        let absolute = stats::spread(samples, scenario, peer.name, stats::memory);
        vec![peer.name.to_owned(), cell(absolute, 1.0 / 1024.0), cell(ratio, 1.0)]
    };
    (heads.to_vec(), peers.iter().map(line).collect())
}

fn verdicts(text: &mut String, bars: &[Verdict]) {
    text.push_str("\n### Bars\n\n");
    let texts = |cells: [&str; 4]| cells.map(str::to_owned);
    row(text, &texts(["bar", "bound", "measured", "verdict"]));
    row(text, &texts(["---"; 4]));
    for Verdict { bar, ratio, reached } in bars {
        let sign = if bar.side == Side::AtLeast { ">=" } else { "<=" };
        let verdict = match reached {
            Some(true) => "reached",
            Some(false) => "NOT REACHED",
            None => "not measured",
        };
        let bound = format!("{sign} {:.2}", bar.bound);
        row(text, &[bar.title.to_owned(), bound, cell(*ratio, 1.0), verdict.to_owned()]);
    }
}

fn disturbances(text: &mut String, samples: &[Sample]) {
    let disturbed =
        |sample: &&Sample| sample.outcome.waited_ns as f64 > DISTURBED * sample.outcome.wall_ns as f64;
    let count = samples.iter().filter(disturbed).count();
    if count > 0 {
        let _ = writeln!(
            text,
            "\nIn {count} of {} measurements something else had one of the two cores for more than {:.0} % of \
             the window. If that is more than a few, run again on an idle machine.",
            samples.len(),
            DISTURBED * 100.0
        );
    }
}
