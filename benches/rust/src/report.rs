//! The report of a comparison, from its JSON: Markdown tables into a document, charts into a folder.

mod bars;
mod chart;
mod figures;
mod tables;

use std::fs;
use std::path::{Path, PathBuf};

use crate::Result;
use crate::args::Args;
use crate::compare::record::Record;

/// Above this share of disturbed measurements a run is not one to quote.
const MOST_DISTURBED: f64 = 0.10;

/// What stands around the part of the document that is written here.
const BEGIN: &str = "<!-- begin: written by `make bench` -->";
const END: &str = "<!-- end: written by `make bench` -->";

/// `millstream-bench report JSON [--write FILE] [--charts DIR]`
pub(crate) fn main(mut args: Args) -> Result<()> {
    let json = args.word().ok_or("report needs the JSON file of a comparison")?;
    let document = args.value::<PathBuf>("--write")?;
    let charts = args.value::<PathBuf>("--charts")?;
    args.finish()?;
    let record: Record = serde_json::from_str(&fs::read_to_string(&json)?)?;
    if document.is_some() {
        quotable(&record)?;
    }
    let folder = charts.as_deref().map(|folder| name_from(document.as_deref(), folder));
    let text = tables::render(&record, folder.as_deref());
    if let Some(charts) = &charts {
        fs::create_dir_all(charts)?;
        for row in &record.rows {
            if let Some(svg) = chart::render(&record, row) {
                fs::write(charts.join(format!("{}.svg", row.name)), svg)?;
            }
        }
    }
    match document {
        Some(document) => fs::write(&document, put(&fs::read_to_string(&document)?, &text)?)?,
        None => println!("{text}"),
    }
    Ok(())
}

/// The report without charts.
pub(crate) fn render(record: &Record) -> String {
    tables::render(record, None)
}

/// Refuses a run whose figures would mislead.
fn quotable(record: &Record) -> Result<()> {
    let (disturbed, all) = figures::disturbed(record);
    if record.effort.quick {
        return Err("a quick run shows that it works; its figures are not written anywhere".into());
    }
    if let Some(ours) = record.failures.iter().find(|failure| failure.server.starts_with("millstream")) {
        return Err(format!("{} failed in {}: {}", ours.server, ours.row, ours.why).into());
    }
    if all == 0 || disturbed as f64 > MOST_DISTURBED * all as f64 {
        return Err(format!(
            "{disturbed} of {all} measurements were disturbed, more than {:.0} %: run again on an idle machine",
            MOST_DISTURBED * 100.0
        )
        .into());
    }
    Ok(())
}

/// How the document names the folder of the charts: from where it stands itself, if the folder is below that.
fn name_from(document: Option<&Path>, folder: &Path) -> String {
    let near = document.and_then(Path::parent).and_then(|parent| folder.strip_prefix(parent).ok());
    near.unwrap_or(folder).display().to_string()
}

/// Puts `text` between the two marks of `document`, or behind it with new ones.
fn put(document: &str, text: &str) -> Result<String> {
    let text = text.trim_end();
    match (document.find(BEGIN), document.find(END)) {
        (Some(begin), Some(end)) if begin < end => {
            Ok(format!("{}{BEGIN}\n\n{text}\n\n{}", &document[..begin], &document[end..]))
        }
        (None, None) => {
            Ok(format!("{}\n\n## The whole comparison\n\n{BEGIN}\n\n{text}\n\n{END}\n", document.trim_end()))
        }
        _ => Err("the document has only one of the two marks, or they are the wrong way round".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::record::Failure;
    use figures::tests::record;

    #[test]
    fn a_report_replaces_the_one_before_and_nothing_else() {
        let first = put("# Benchmarks\n\nWords.\n", "one").expect("there are no marks yet");
        let words = first.replace("written by `make bench` -->\n\none", "written by `make bench` -->\n\ntwo");
        assert_eq!(put(&first, "two").expect("both marks are there"), words);
        assert!(first.starts_with("# Benchmarks\n\nWords.\n"));
    }

    #[test]
    fn a_document_with_one_mark_is_left_alone() {
        assert!(put(BEGIN, "text").is_err());
        assert!(put(&format!("{END}\n{BEGIN}"), "text").is_err());
    }

    #[test]
    fn quick_and_disturbed_runs_and_those_in_which_we_failed_are_not_written() {
        let mut record = record(&[("epoll", &[100, 100, 100])]);
        assert!(quotable(&record).is_ok());
        record.effort.quick = true;
        assert!(quotable(&record).is_err());
        record.effort.quick = false;
        record.samples[0].waited_ns = record.samples[0].wall_ns;
        assert!(quotable(&record).is_err());
        record.samples[0].waited_ns = 0;
        assert!(quotable(&record).is_ok());
        let (row, server, why) = ("lines-100".to_owned(), "millstream".to_owned(), "silent".to_owned());
        record.failures.push(Failure { row, server, why });
        assert!(quotable(&record).is_err());
    }

    #[test]
    fn charts_are_named_from_where_the_document_stands() {
        let name = |document, folder| name_from(Some(Path::new(document)), Path::new(folder));
        assert_eq!(name("docs/benchmarks.md", "docs/benchmarks"), "benchmarks");
        assert_eq!(name("docs/benchmarks.md", "target/charts"), "target/charts");
    }
}
