//! Pages that the book includes from elsewhere in the repository: their links are translated to where they stand in the
//! book. A link to a file that is not in the book becomes its text, for the site holds pages and drawings, and no sources.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::markdown;

/// The whole page of the repository that a chapter consists of, if it consists of one.
pub fn included_page(chapter: &str) -> Option<&str> {
    chapter.trim().strip_prefix("{{#include ")?.strip_suffix("}}").filter(|path| path.ends_with(".md"))
}

/// Where the pages of the repository stand in the book: from a path below the repository to one below the book's sources.
///
/// # Errors
/// What the system says of a file that cannot be read.
pub fn places(book: &Path, chapters: &[PathBuf]) -> io::Result<HashMap<PathBuf, PathBuf>> {
    let mut places = HashMap::new();
    for chapter in chapters {
        let text = fs::read_to_string(book.join(chapter))?;
        if let Some(page) = included_page(&text) {
            let chapter_folder = chapter.parent().unwrap_or(Path::new(""));
            places.insert(normal(&Path::new(BOOK).join(chapter_folder).join(page)), chapter.clone());
        }
    }
    Ok(places)
}

/// The text of a page of the repository with its links as they have to be in `chapter`.
pub fn translate(text: &str, page: &Path, chapter: &Path, places: &HashMap<PathBuf, PathBuf>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for link in markdown::links(text) {
        let (path, anchor) = link.parts();
        if link.is_external() || path.is_empty() {
            continue;
        }
        out.push_str(&text[done..link.whole.start]);
        done = link.whole.end;
        let target = normal(&page.parent().unwrap_or(Path::new("")).join(path));
        match places.get(&target) {
            Some(place) => {
                let anchor = anchor.map(|anchor| format!("#{anchor}")).unwrap_or_default();
                out.push_str(&format!("[{}]({}{anchor})", link.text, relative(place, chapter)));
            }
            // Drawings stand beside their pages, there as here.
            None if target.extension().is_some_and(|extension| extension == "svg") => {
                out.push_str(&text[link.whole.clone()]);
            }
            None => out.push_str(&link.text),
        }
    }
    out.push_str(&text[done..]);
    out
}

/// The book's sources below the repository.
pub const BOOK: &str = "docs/book/src";

/// The path without `.` and `..`.
pub fn normal(path: &Path) -> PathBuf {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(parts.pop()),
            Component::CurDir => {}
            other => parts.push(other),
        }
    }
    parts.iter().collect()
}

/// The way from one chapter to another.
fn relative(to: &Path, from: &Path) -> String {
    let up = from.parent().map_or(0, |folder| folder.components().count());
    format!("{}{}", "../".repeat(up), to.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_chapters_or_become_their_text() {
        let places = [("docs/a.md", "reference/a.md"), ("docs/b.md", "python/b.md")];
        let places = places.map(|(page, chapter)| (page.into(), chapter.into())).into();
        let text = "[x](b.md#y), [`z`](../src/z.rs), [own](#own), [w](https://w.org), ![c](a/c.svg)";
        assert_eq!(
            translate(text, Path::new("docs/a.md"), Path::new("reference/a.md"), &places),
            "[x](../python/b.md#y), `z`, [own](#own), [w](https://w.org), ![c](a/c.svg)"
        );
        let text = "[a](docs/a.md)";
        assert_eq!(
            translate(text, Path::new("SECURITY.md"), Path::new("s.md"), &places),
            "[a](reference/a.md)"
        );
    }
}
