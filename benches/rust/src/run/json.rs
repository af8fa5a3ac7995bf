//! The result as JSON: the settings, every sample as measured, and the verdicts.

use std::fmt::Write as _;

use super::bars::{Side, Verdict};
use super::stats::Spread;
use super::{Sample, Settings};

/// Renders everything. All text in it is from our own tables, without quotes or backslashes.
pub(super) fn render(settings: &Settings, samples: &[Sample], bars: &[Verdict]) -> String {
    let mut text = format!(
        "{{\n  \"rounds\": {},\n  \"window_ms\": {},\n  \"bulk_mib\": {},\n  \"open_rate\": {},\n",
        settings.rounds,
        settings.window_ms,
        settings.bulk_mib,
        settings.rate.map_or_else(|| "null".to_owned(), |rate| rate.to_string()),
    );
    list(&mut text, "samples", samples.iter().map(sample));
    text.push_str(",\n");
    list(&mut text, "bars", bars.iter().map(verdict));
    text.push_str("\n}\n");
    text
}

fn list(text: &mut String, name: &str, rows: impl Iterator<Item = String>) {
    let rows: Vec<String> = rows.map(|row| format!("    {{{row}}}")).collect();
    let _ = write!(text, "  \"{name}\": [\n{}\n  ]", rows.join(",\n"));
}

fn sample(sample: &Sample) -> String {
    let Sample { round, scenario, peer, outcome } = sample;
    format!(
        "\"round\": {round}, \"scenario\": \"{}\", \"peer\": \"{peer}\", \"units\": {}, \"wall_ns\": {}, \
         \"cpu_ns\": {}, \"waited_ns\": {}, \"p50_ns\": {}, \"p99_ns\": {}, \"memory\": {}",
        scenario.name,
        outcome.units,
        outcome.wall_ns,
        outcome.cpu_ns,
        outcome.waited_ns,
        outcome.p50_ns,
        outcome.p99_ns,
        outcome.memory
    )
}

fn verdict(verdict: &Verdict) -> String {
    let Verdict { bar, ratio, reached } = verdict;
    let side = if bar.side == Side::AtLeast { ">=" } else { "<=" };
    let ratio = ratio.map_or_else(
        || "null".to_owned(),
        |Spread { median, min, max }| {
            format!("{{\"median\": {median:.4}, \"min\": {min:.4}, \"max\": {max:.4}}}")
        },
    );
    let reached = reached.map_or("null", |reached| if reached { "true" } else { "false" });
    format!(
        "\"bar\": \"{}\", \"side\": \"{side}\", \"bound\": {:.4}, \"ratio\": {ratio}, \"reached\": {reached}",
        bar.title, bar.bound
    )
}
