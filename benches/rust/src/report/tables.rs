//! The report as Markdown: the bars, where we lose, one table a row, the machine.

use std::fmt::Write as _;

use super::bars::{self, Verdict};
use super::figures::{self, Figure};
use crate::compare::record::{Record, RowRecord};
use crate::spread::Spread;

/// Renders everything; `charts` is the folder of the charts as the document names it.
pub(super) fn render(record: &Record, charts: Option<&str>) -> String {
    let mut text = String::new();
    machine(&mut text, record);
    verdicts(&mut text, &bars::judge(record));
    losses(&mut text, record);
    for row in &record.rows {
        table(&mut text, record, row, charts);
    }
    failures(&mut text, record);
    let (disturbed, all) = figures::disturbed(record);
    let _ = writeln!(
        text,
        "\nIn {disturbed} of {all} measurements something else had one of the two cores for more than 5 % of the window, beyond \
         what all servers have in that row (the kernel's own threads work for 10,000 sockets)."
    );
    text
}

/// Three digits that count.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        size if size < 9.995 => format!("{value:.2}"),
        size if size < 99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// A median and its spread, scaled.
fn cell(spread: Option<Spread>, scale: f64) -> String {
    let Some(Spread { median, min, max }) = spread else { return "-".into() };
    format!("{} [{}..{}]", number(median * scale), number(min * scale), number(max * scale))
}

fn line(text: &mut String, cells: &[String]) {
    let _ = writeln!(text, "| {} |", cells.join(" | "));
}

fn head(text: &mut String, cells: &[String]) {
    line(text, cells);
    let _ = writeln!(text, "|{}", "---|".repeat(cells.len()));
}

fn texts<const N: usize>(cells: [&str; N]) -> [String; N] {
    cells.map(str::to_owned)
}

fn machine(text: &mut String, record: &Record) {
    let (machine, effort) = (&record.machine, &record.effort);
    let governor = match machine.governor.as_str() {
        "" => "no frequency governor to be seen".to_owned(),
        governor => format!("governor {governor}"),
    };
    let versions: Vec<String> =
        machine.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let _ = writeln!(
        text,
        "{}, {} cores, {} MiB, {governor}; Linux {}; {}. {}.\n\n\
         Medians of {} rounds (bulk twice as many, memory three) of {} ms, [min..max]; ratios are formed within each round. Order within rounds shuffled, \
         seed {}. Servers on core {}, load on core {}.{}",
        machine.cpu,
        machine.cores,
        machine.memory_mib,
        machine.kernel,
        machine.rustc,
        versions.join(", "),
        effort.rounds,
        effort.window_ms,
        effort.seed,
        effort.server_core,
        effort.load_core,
        if effort.quick { " **A quick run, to see that it works: not figures to quote.**" } else { "" },
    );
}

fn verdicts(text: &mut String, verdicts: &[Verdict]) {
    if verdicts.is_empty() {
        return;
    }
    text.push_str("\n### Bars\n\n");
    head(text, &texts(["bar", "bound", "measured", "verdict"]));
    for Verdict { title, bound, ratio, reached } in verdicts {
        let verdict = match reached {
            Some(true) => "reached",
            Some(false) => "**not reached**",
            None => "not measured",
        };
        line(text, &[title.clone(), bound.clone(), cell(*ratio, 1.0), verdict.to_owned()]);
    }
}

/// A ratio closer to 1 than this is no difference.
const NOISE: f64 = 1.02;

fn losses(text: &mut String, record: &Record) {
    let mut rows = vec![];
    for row in &record.rows {
        for (ours, theirs) in crate::compare::rivals(&figures::servers(record, row)) {
            let ratio = figures::ratio(record, row, ours, theirs, figures::cost(row));
            if ratio.is_some_and(|ratio| ratio.median > NOISE) {
                let what = if row.memory { "memory" } else { "CPU" };
                let who = format!("{ours} / {theirs}");
                rows.push([format!("{}: {what} for each {}", row.name, row.unit), who, cell(ratio, 1.0)]);
            }
        }
    }
    text.push_str("\n### Where we lose\n\n");
    if rows.is_empty() {
        text.push_str("Nowhere in this run.\n");
        return;
    }
    let _ = writeln!(text, "Every case in which another server does the same for less, by more than 2 %.\n");
    head(text, &texts(["row", "who", "ours / theirs"]));
    rows.iter().for_each(|row| line(text, row));
}

fn table(text: &mut String, record: &Record, row: &RowRecord, charts: Option<&str>) {
    let servers = figures::servers(record, row);
    if servers.is_empty() {
        return;
    }
    let rate = row.rate.map_or_else(String::new, |rate| format!(", {} k/s", number(rate / 1e3)));
    let _ = writeln!(text, "\n### {}{rate}\n", row.title);
    if let Some(folder) = charts {
        let _ = writeln!(text, "![{}]({folder}/{}.svg)\n", row.title, row.name);
    }
    let base = format!("/ {}", row.base);
    if row.memory {
        head(text, &texts(["server", "KiB a connection", &base]));
        for server in servers {
            let ratio = figures::ratio(record, row, server, &row.base, figures::memory);
            let absolute = figures::spread(record, row, server, figures::memory);
            line(text, &[server.to_owned(), cell(absolute, 1.0 / 1024.0), cell(ratio, 1.0)]);
        }
        return;
    }
    let cpu = format!("CPU us a {}", row.unit);
    let (rate, rate_scale) =
        if row.unit == "MiB" { ("MiB/s".to_owned(), 1.0) } else { (format!("k {}s/s", row.unit), 1e-3) };
    head(
        text,
        &texts([
            "server",
            &cpu,
            &base,
            &rate,
            &base,
            "p50 us",
            "p99 us",
            "p99.9 us",
            "calls",
            "server busy %",
            "load busy %",
        ]),
    );
    let mut limited = false;
    for server in servers {
        let of = |figure: Figure| figures::spread(record, row, server, figure);
        let against = |figure: Figure| cell(figures::ratio(record, row, server, &row.base, figure), 1.0);
        let median = |spread: Option<Spread>, scale: f64| {
            spread.map_or_else(|| "-".to_owned(), |s| number(s.median * scale))
        };
        let calls = record.syscalls.iter().find(|calls| calls.row == row.name && calls.server == server);
        let limit = figures::load_was_the_limit(record, row, server);
        limited |= limit;
        let latency =
            |figure: Figure| if row.unit == "MiB" { "-".to_owned() } else { cell(of(figure), 1e-3) };
        line(
            text,
            &[
                server.to_owned(),
                cell(of(figures::cpu), 1e-3),
                against(figures::cpu),
                cell(of(figures::rate), rate_scale),
                against(figures::rate),
                latency(|_, sample| sample.p50_ns as f64),
                latency(|_, sample| sample.p99_ns as f64),
                latency(|_, sample| sample.p999_ns as f64),
                calls.map_or_else(|| "-".to_owned(), |calls| number(calls.per_request)),
                median(of(figures::server_busy), 100.0),
                format!("{}{}", median(of(figures::load_busy), 100.0), if limit { " (limit)" } else { "" }),
            ],
        );
    }
    if limited {
        text.push_str("\nWhere it says *limit*, the load set the rate: compare the CPU time.\n");
    }
}

fn failures(text: &mut String, record: &Record) {
    if record.failures.is_empty() {
        return;
    }
    text.push_str("\n### Left out\n\n");
    head(text, &texts(["row", "server", "why"]));
    for failure in &record.failures {
        let why = failure.why.replace('|', "/").replace('\n', " ");
        line(text, &[failure.row.clone(), failure.server.clone(), why]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figures::tests::record;

    #[test]
    fn a_loss_is_said_and_a_missed_bar_is_marked() {
        let text = render(&record(&[("epoll", &[100, 100]), ("millstream", &[110, 120])]), None);
        assert!(
            text.contains("| lines-100: CPU for each request | millstream / epoll | 1.15 [1.10..1.20] |"),
            "{text}"
        );
        assert!(text.contains("**not reached**"), "{text}");
    }

    #[test]
    fn a_win_is_no_loss() {
        let text = render(&record(&[("epoll", &[100, 100]), ("millstream", &[90, 101])]), None);
        assert!(text.contains("Nowhere in this run."), "{text}");
    }

    #[test]
    fn numbers_have_three_digits_that_count() {
        let numbers = [0.123, 9.996, 99.97, 1234.5].map(number);
        assert_eq!(numbers, ["0.12", "10.0", "100", "1234"]);
    }
}
