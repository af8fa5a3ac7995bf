//! The sources of the book, without mdBook: links, includes, the list of pages, and that no error is missing.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use millstream_book::{TESTED_PAGES, markdown, reference};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..").canonicalize().expect("this is in the repository")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The chapters, as paths below the book's sources.
fn chapters() -> Vec<PathBuf> {
    let summary = read(&repository().join(reference::BOOK).join("SUMMARY.md"));
    markdown::links(&summary).into_iter().map(|link| link.target.into()).collect()
}

/// Every Markdown page that a reader is meant to see, in the book or not.
fn pages() -> Vec<PathBuf> {
    let root = repository();
    let mut pages: Vec<PathBuf> =
        chapters().iter().map(|chapter| root.join(reference::BOOK).join(chapter)).collect();
    for folder in [root.clone(), root.join("docs")] {
        let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
        pages.extend(entries.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    pages
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let mut count = 0;
    for page in pages() {
        for link in markdown::links(&read(&page)) {
            if link.is_external() {
                continue;
            }
            let (path, anchor) = link.parts();
            let target = match path {
                "" => page.clone(),
                path => reference::normal(&page.parent().expect("a folder").join(path)),
            };
            assert!(target.exists(), "{}: {} leads nowhere", page.display(), link.target);
            if let Some(anchor) = anchor {
                let mut text = read(&target);
                if let Some(included) = reference::included_page(&text) {
                    text = read(&target.parent().expect("a folder").join(included));
                }
                let anchors = markdown::anchors(&text);
                assert!(
                    anchors.iter().any(|there| there == anchor),
                    "{}: {} has no such heading",
                    page.display(),
                    link.target
                );
            }
            count += 1;
        }
    }
    assert!(count > 60, "only {count} links were looked at");
}

#[test]
fn everything_that_is_included_is_there() {
    let mut count = 0;
    for chapter in chapters() {
        let page = repository().join(reference::BOOK).join(chapter);
        for (path, anchor) in markdown::includes(&read(&page)) {
            let text = read(&page.parent().expect("a folder").join(&path));
            if let Some(anchor) = anchor {
                for mark in [format!("ANCHOR: {anchor}"), format!("ANCHOR_END: {anchor}")] {
                    assert!(text.lines().any(|line| line.ends_with(&mark)), "{path} has no {mark}");
                }
            }
            count += 1;
        }
    }
    assert!(count > 15, "only {count} includes were looked at");
}

#[test]
fn every_page_is_a_chapter_and_every_page_with_rust_is_tested() {
    fn below(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { below(&path, found) } else { found.push(path) }
        }
    }
    let book = repository().join(reference::BOOK);
    let mut files = Vec::new();
    below(&book, &mut files);
    let chapters: HashSet<PathBuf> = chapters().into_iter().collect();
    for file in files {
        let chapter = file.strip_prefix(&book).expect("it is below");
        if chapter == Path::new("SUMMARY.md") {
            continue;
        }
        assert!(chapters.contains(chapter), "{} is in no list", chapter.display());
        let tested = TESTED_PAGES.iter().any(|page| Path::new(page) == chapter);
        assert!(tested || !read(&file).contains("```rust"), "{} is not tested", chapter.display());
    }
}

/// What is not tested here says so, and is included from a file that is tested elsewhere.
#[test]
fn snippets_that_are_not_run_are_included_from_files() {
    for page in TESTED_PAGES {
        let text = read(&repository().join(reference::BOOK).join(page));
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(attributes) = line.strip_prefix("```rust,") {
                assert_eq!(attributes, "ignore", "{page}: {line}");
                let next = lines.next().unwrap_or_default();
                assert!(
                    next.starts_with("{{#include "),
                    "{page}: what is not run is not from a file: {next}"
                );
            }
        }
    }
}

/// The values of the public enums in a source whose names end as one of these.
fn values(source: &str, endings: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut inside: Option<String> = None;
    for line in source.lines() {
        if let Some(rest) = line.strip_prefix("pub enum ") {
            let name = rest.trim_end_matches([' ', '{']).to_owned();
            inside = endings.iter().any(|ending| name.ends_with(ending)).then_some(name);
        } else if line == "}" {
            inside = None;
        } else if let (Some(name), Some(rest)) = (&inside, line.strip_prefix("    "))
            && rest.starts_with(|c: char| c.is_ascii_uppercase())
        {
            let value: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric()).collect();
            found.push((name.clone(), value));
        }
    }
    found
}

#[test]
fn the_page_on_errors_names_every_error() {
    let page = read(&repository().join(reference::BOOK).join("rust/errors.md"));
    let sources = [
        "crates/millstream-core/src/error.rs",
        "crates/millstream-core/src/failure.rs",
        "crates/millstream-core/src/deadlines.rs",
        "crates/millstream-core/src/tls/fault.rs",
        "crates/millstream/src/error.rs",
        "crates/millstream/src/tls/error.rs",
        "crates/millstream/src/proxy/refusal.rs",
        "crates/millstream/src/relay/outcome.rs",
    ];
    let endings = ["Error", "Class", "Kind", "Fault", "Refusal", "End"];
    let mut count = 0;
    for source in sources {
        let found = values(&read(&repository().join(source)), &endings);
        assert!(!found.is_empty(), "{source} has no error");
        for (name, value) in found {
            let named = |word: &str| page.contains(&format!("`{word}`"));
            let whole = named(&format!("{name}::{value}"));
            assert!(whole || named(&value), "the page on errors lacks {name}::{value}");
            count += 1;
        }
    }
    assert!(count > 80, "only {count} values were looked at");
}

#[test]
fn the_page_on_faults_names_every_row_of_the_fault_table() {
    let page = read(&repository().join(reference::BOOK).join("rust/limits.md"));
    let table = read(&repository().join("docs/faults.md"));
    let mut count = 0;
    for row in table.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next()) {
        let (letter, number) = row.split_at_checked(1).unwrap_or_default();
        if letter.chars().all(|c| c.is_ascii_uppercase()) && number.parse::<u8>().is_ok() {
            assert!(page.contains(&format!("({row})")), "the page on faults lacks {row}");
            count += 1;
        }
    }
    assert!(count > 40, "only {count} rows were looked at");
}

/// The numbers with a point in a text, where no code is.
fn figures(text: &str) -> Vec<&str> {
    let mut in_fence = false;
    let mut found = Vec::new();
    for line in text.lines() {
        in_fence ^= line.starts_with("```");
        if !in_fence {
            let words =
                line.split(|c: char| !c.is_ascii_digit() && c != '.').map(|word| word.trim_matches('.'));
            found.extend(words.filter(|word| word.contains('.')));
        }
    }
    found
}

#[test]
fn figures_of_speed_are_those_of_the_benchmarks() {
    let benchmarks = read(&repository().join("docs/benchmarks.md"));
    for page in ["python/tuning.md", "rust/from-tokio.md"] {
        let text = read(&repository().join(reference::BOOK).join(page));
        let quoted = figures(&text);
        assert!(quoted.len() > 2, "{page} quotes {quoted:?}");
        for figure in quoted {
            assert!(
                benchmarks.contains(figure),
                "{page} quotes {figure}, which docs/benchmarks.md does not have"
            );
        }
    }
}
