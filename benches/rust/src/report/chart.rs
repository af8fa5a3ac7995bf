//! One row as a chart: horizontal bars with the spread as whiskers, as SVG that follows light and dark.

use std::fmt::Write as _;

use super::figures;
use super::tables::number;
use crate::compare::record::{Record, RowRecord};
use crate::spread::Spread;

/// Colours in the light and, where asked for, in the dark. Plain rules, no variables: not every renderer knows them.
const STYLE: &str = "
  text { font: 13px system-ui, -apple-system, 'Segoe UI', sans-serif; fill: #1f2328 }
  .title { font-size: 15px; font-weight: 600 }
  .note { font-size: 12px; fill: #59636e }
  .page { fill: #ffffff }
  .bar { fill: #9aa4b0 }
  .ours { fill: #2563b8 }
  .own { font-weight: 600 }
  .whisker { stroke: #1f2328; stroke-width: 1.5 }
  .base { stroke: #59636e; stroke-width: 1; stroke-dasharray: 3 3 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .note { fill: #9198a1 }
    .page { fill: #0d1117 }
    .bar { fill: #59636e }
    .ours { fill: #4f94ef }
    .whisker { stroke: #e6edf3 }
    .base { stroke: #9198a1 }
  }
";

const WIDTH: f64 = 720.0;
/// Left of the bars are names, right of them figures.
const LEFT: f64 = 160.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 62.0;
const STEP: f64 = 26.0;
const THICK: f64 = 16.0;

/// The chart of a row; `None` when nothing was measured that can be drawn.
pub(super) fn render(record: &Record, row: &RowRecord) -> Option<String> {
    let value = |server: &str| {
        if row.memory {
            let bytes = figures::spread(record, row, server, figures::memory)?;
            let kib = |bytes| bytes / 1024.0;
            Some(Spread { median: kib(bytes.median), min: kib(bytes.min), max: kib(bytes.max) })
        } else {
            figures::ratio(record, row, server, &row.base, figures::capacity)
        }
    };
    let servers = figures::servers(record, row);
    let bars: Vec<(&str, Spread)> = servers.iter().filter_map(|&name| Some((name, value(name)?))).collect();
    // The whisker of a disturbed round must not squeeze all bars.
    let longest =
        bars.iter().map(|(_, spread)| spread.median).reduce(f64::max).filter(|most| *most > 0.0)? * 1.15;
    let scale = |value: f64| LEFT + (value.clamp(0.0, longest) / longest) * (WIDTH - LEFT - RIGHT);
    let height = TOP + STEP * bars.len() as f64 + 14.0;
    let note = if row.memory {
        "KiB of the server's memory for each connection: shorter is better".to_owned()
    } else {
        format!("{}s for each second of the server's CPU, {} = 1: longer is better", row.unit, row.base)
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
         <rect class=\"page\" width=\"100%\" height=\"100%\" rx=\"6\"/>\n\
         <text class=\"title\" x=\"16\" y=\"26\">{title}</text>\n<text class=\"note\" x=\"16\" y=\"46\">{note}</text>\n",
        title = escape(&row.title),
        note = escape(&note),
    );
    if !row.memory && longest >= 1.0 {
        let (x, end) = (scale(1.0), height - 10.0);
        let _ = writeln!(svg, "<line class=\"base\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{end}\"/>");
    }
    for (at, (name, spread)) in bars.iter().enumerate() {
        bar(&mut svg, TOP + STEP * at as f64, name, spread, &scale);
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

fn bar(svg: &mut String, top: f64, name: &str, spread: &Spread, scale: &impl Fn(f64) -> f64) {
    let middle = top + STEP / 2.0;
    let (fill, weight) =
        if name.starts_with("millstream") { ("ours", " class=\"own\"") } else { ("bar", "") };
    let (end, low, high) = (scale(spread.median), scale(spread.min), scale(spread.max));
    let _ = writeln!(
        svg,
        "<text{weight} x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n\
         <rect class=\"{fill}\" x=\"{LEFT}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{THICK}\" rx=\"2\"/>\n\
         <path class=\"whisker\" fill=\"none\" d=\"M{low:.1} {y0:.1}v8M{low:.1} {middle:.1}H{high:.1}M{high:.1} {y0:.1}v8\"/>\n\
         <text class=\"note\" x=\"{:.1}\" y=\"{:.1}\">{} [{}..{}]</text>",
        LEFT - 10.0,
        middle + 4.5,
        escape(name),
        middle - THICK / 2.0,
        end - LEFT,
        WIDTH - RIGHT + 12.0,
        middle + 4.0,
        number(spread.median),
        number(spread.min),
        number(spread.max),
        y0 = middle - 4.0,
    );
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figures::tests::record;

    #[test]
    fn a_server_that_needs_twice_the_cpu_has_half_the_bar() {
        let record = record(&[("epoll", &[100, 100]), ("millstream", &[200, 200])]);
        let svg = render(&record, &record.rows[0]).expect("both were measured");
        let widths: Vec<f64> = svg
            .lines()
            .filter(|line| line.contains("class=\"bar\"") || line.contains("class=\"ours\""))
            .filter_map(|line| line.split("width=\"").nth(1)?.split('"').next()?.parse().ok())
            .collect();
        assert_eq!(widths.len(), 2);
        assert!((widths[0] / widths[1] - 2.0).abs() < 0.01, "{widths:?}");
    }

    #[test]
    fn nothing_measured_is_no_chart() {
        let record = record(&[]);
        assert!(render(&record, &record.rows[0]).is_none());
    }

    #[test]
    fn names_cannot_break_the_markup() {
        assert_eq!(escape("a<b>&c"), "a&lt;b&gt;&amp;c");
    }
}
