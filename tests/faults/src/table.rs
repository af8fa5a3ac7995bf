//! The table of outcomes: as it is printed, as JSON, and within `docs/faults.md`.

use crate::Result;
use crate::context::Size;
use crate::row::{Outcome, Row};

/// The first two lines.
pub(crate) fn head() -> String {
    let names =
        ["row", "what", "runs", "failures", "millstream", "Python face", "stock asyncio", "plain tokio"];
    format!("| {} |\n|{}", names.join(" | "), "---|".repeat(names.len()))
}

/// One row's line.
pub(crate) fn line(row: &Row, outcome: &Outcome) -> String {
    let clean = |text: &str| text.replace('|', "/");
    if let Some(reason) = &outcome.not_run {
        return format!("| {} | {} | | | not run: {} | | | |", row.id, row.title, clean(reason));
    }
    let mut ours = clean(&outcome.ours);
    if outcome.tally.failures > 0 {
        ours = format!("{ours} **FAILED**: {}", clean(&outcome.tally.trouble.join("; ")));
    }
    let strangers = [&outcome.python, &outcome.asyncio, &outcome.tokio];
    let strangers = strangers.map(|text| if text.is_empty() { "-".to_owned() } else { clean(text) });
    let (runs, failures) = (outcome.tally.runs, outcome.tally.failures);
    format!(
        "| {} | {} | {} | {failures} | {ours} | {} |",
        row.id,
        row.title,
        crate::figures::grouped(runs),
        strangers.join(" | ")
    )
}

/// How many rows came to what.
pub(crate) fn summary(done: &[(&Row, Outcome)]) -> String {
    let count = |is: fn(&Outcome) -> bool| done.iter().filter(|(_, outcome)| is(outcome)).count();
    format!(
        "{} rows: {} passed, {} failed, {} not run",
        done.len(),
        count(|outcome| outcome.not_run.is_none() && outcome.tally.failures == 0),
        count(|outcome| outcome.tally.failures > 0),
        count(|outcome| outcome.not_run.is_some()),
    )
}

/// All of it for a program.
pub(crate) fn json(done: &[(&Row, Outcome)], seed: u64, size: Size) -> String {
    let rows: Vec<String> = done.iter().map(|(row, outcome)| object(row, outcome)).collect();
    format!("{{\"seed\": {seed}, \"size\": \"{size:?}\", \"rows\": [\n{}\n]}}\n", rows.join(",\n"))
}

fn object(row: &Row, outcome: &Outcome) -> String {
    let mut fields = vec![
        format!("\"row\": {}", quoted(row.id)),
        format!("\"what\": {}", quoted(row.title)),
        format!("\"runs\": {}", outcome.tally.runs),
        format!("\"failures\": {}", outcome.tally.failures),
    ];
    let texts = [
        ("millstream", outcome.ours.as_str()),
        ("python", &outcome.python),
        ("asyncio", &outcome.asyncio),
        ("tokio", &outcome.tokio),
        ("not_run", outcome.not_run.as_deref().unwrap_or_default()),
        ("trouble", &outcome.tally.trouble.join("; ")),
    ];
    fields.extend(texts.map(|(name, text)| format!("\"{name}\": {}", quoted(text))));
    format!("  {{{}}}", fields.join(", "))
}

fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            letter if letter.is_control() => out.push(' '),
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}

/// The document with these rows in the place of their old ones; the others stay. Rows that it does not have come at the
/// end of its table.
pub(crate) fn replaced(document: &str, done: &[(&Row, Outcome)]) -> Result<String> {
    let (before, rest) = document.split_once(BEGIN).ok_or("the document has no place for the table")?;
    let (old, after) = rest.split_once(END).ok_or("the document's table has no end")?;
    let mut lines: Vec<String> = old.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if lines.is_empty() {
        lines.extend(head().lines().map(str::to_owned));
    }
    for (row, outcome) in done {
        let (start, new) = (format!("| {} |", row.id), line(row, outcome));
        match lines.iter_mut().find(|line| line.starts_with(&start)) {
            Some(old) => *old = new,
            None => lines.push(new),
        }
    }
    Ok(format!("{before}{BEGIN}\n{}\n{END}{after}", lines.join("\n")))
}

const BEGIN: &str = "<!-- table: written by `make faults WRITE=1` -->";
const END: &str = "<!-- end of table -->";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Context;
    use crate::row::{Place, Tally};

    fn row(id: &'static str) -> Row {
        let run = |_: &Context| Ok(Outcome::default());
        Row { id, title: "what", place: Place::Here, run }
    }

    #[test]
    fn a_row_that_is_run_again_replaces_its_line_and_leaves_the_others() {
        let (one, two) = (row("R1"), row("R11"));
        let empty = format!("before\n{BEGIN}\n{END}\nafter\n");
        let outcome = |figure: &str| Outcome::ours(Tally { runs: 1, ..Tally::default() }, figure);
        let both = replaced(&empty, &[(&one, outcome("old")), (&two, outcome("kept"))]).unwrap();
        let again = replaced(&both, &[(&one, outcome("new | divided"))]).unwrap();
        assert!(again.starts_with("before\n") && again.ends_with("\nafter\n"), "{again}");
        assert!(
            again.contains("new / divided") && again.contains("kept") && !again.contains("old"),
            "{again}"
        );
        assert_eq!(again.matches("| row |").count(), 1);
        assert!(replaced("no table", &[]).is_err());
    }

    #[test]
    fn an_outcome_survives_its_line_and_json_is_quoted() {
        let mut outcome = Outcome::ours(Tally::default(), "a \"b\"\\").tokio("c\td");
        outcome.tally.check(false, || "why\nnot".to_owned());
        let again = Outcome::of_line(&outcome.to_line()).unwrap();
        assert_eq!((again.ours.as_str(), again.tokio.as_str()), ("a \"b\"\\", "c d"));
        assert_eq!(
            (again.tally.runs, again.tally.failures, again.tally.trouble),
            (1, 1, vec!["why not".to_owned()])
        );
        assert!(json(&[(&row("R1"), outcome)], 7, Size::Full).contains(r#""millstream": "a \"b\"\\""#));
        assert!(Outcome::of_line("something else").is_none());
    }
}
