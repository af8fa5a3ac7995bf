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

/// The document with these outcomes in its table. Of rows that were not run, the old lines stay; those that never were say
/// so.
pub(crate) fn replaced(document: &str, rows: &[Row], done: &[(&Row, Outcome)]) -> Result<String> {
    let (before, rest) = document.split_once(BEGIN).ok_or("the document has no place for the table")?;
    let (old, after) = rest.split_once(END).ok_or("the document's table has no end")?;
    let lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let start = format!("| {} |", row.id);
            let new =
                done.iter().find(|(done, _)| done.id == row.id).map(|(row, outcome)| line(row, outcome));
            let old = || old.lines().find(|line| line.starts_with(&start)).map(str::to_owned);
            new.or_else(old).unwrap_or_else(|| line(row, &Outcome::not_run("nobody has run it yet")))
        })
        .collect();
    Ok(format!("{before}{BEGIN}\n{}\n{}\n{END}{after}", head(), lines.join("\n")))
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
    fn a_row_that_is_run_again_replaces_its_line_and_the_others_stay_in_order() {
        let rows = [row("R1"), row("R11"), row("R2")];
        let empty = format!("before\n{BEGIN}\n{END}\nafter\n");
        let outcome = |figure: &str| Outcome::ours(Tally { runs: 1, ..Tally::default() }, figure);
        let both = [(&rows[1], outcome("kept")), (&rows[0], outcome("old"))];
        let both = replaced(&empty, &rows, &both).unwrap();
        let again = replaced(&both, &rows, &[(&rows[0], outcome("new | divided"))]).unwrap();
        assert!(again.starts_with("before\n") && again.ends_with("\nafter\n"), "{again}");
        assert!(
            again.contains("new / divided") && again.contains("kept") && !again.contains("old"),
            "{again}"
        );
        let order: Vec<_> =
            ["| row |", "| R1 |", "| R11 |", "| R2 | what | | | not run"].map(|text| again.find(text)).into();
        assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{again}");
        assert!(replaced("no table", &rows, &[]).is_err());
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
