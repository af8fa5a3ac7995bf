//! Checks the links of the built site: each leads to a file of it, and to an anchor that is there.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::reference::normal;

/// The links that lead nowhere, as texts, and how many there are in all.
///
/// # Errors
/// What the system says of a file that cannot be read.
pub fn check(site: &Path) -> io::Result<(Vec<String>, usize)> {
    let mut pages = HashMap::new();
    for path in files(site)? {
        if path.extension().is_some_and(|extension| extension == "html") {
            let text = fs::read_to_string(&path)?;
            pages.insert(path, text);
        }
    }
    let ids: HashMap<&PathBuf, HashSet<&str>> =
        pages.iter().map(|(path, text)| (path, values(text, "id").collect())).collect();
    let (mut broken, mut count) = (Vec::new(), 0);
    for (path, text) in &pages {
        for target in values(text, "href").chain(values(text, "src")) {
            if target.contains("://") || target.starts_with("mailto:") || target.starts_with("data:") {
                continue;
            }
            count += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = match file {
                "" => path.clone(),
                file => normal(&path.parent().unwrap_or(site).join(file)),
            };
            let found = match ids.get(&file) {
                Some(ids) => anchor.is_empty() || ids.contains(anchor),
                None => file.is_file(),
            };
            // The page that stands for any missing one has links from the root.
            if !found && !path.ends_with("404.html") {
                broken.push(format!("{}: {target}", path.strip_prefix(site).unwrap_or(path).display()));
            }
        }
    }
    broken.sort();
    Ok((broken, count))
}

/// The values of an attribute. mdBook writes them in double quotes.
fn values<'a>(html: &'a str, attribute: &str) -> impl Iterator<Item = &'a str> {
    let opening = format!(" {attribute}=\"");
    html.match_indices(&opening)
        .map(|(at, opening)| at + opening.len())
        .collect::<Vec<_>>()
        .into_iter()
        .filter_map(move |start| html[start..].split('"').next())
}

fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_missing_files_and_anchors_are_found() {
        let site = tempfile::tempdir().expect("a folder");
        let page = r##"<a id="there" href="#there"></a> <a href="b.css"></a> <a href="https://x.org/y"></a>
            <a href="#nowhere"></a> <img src="missing.png"> <a href="sub/../a.html#there"></a>"##;
        fs::write(site.path().join("a.html"), page).expect("written");
        fs::write(site.path().join("b.css"), "").expect("written");
        let (broken, count) = check(site.path()).expect("readable");
        assert_eq!((broken, count), (vec!["a.html: #nowhere".into(), "a.html: missing.png".into()], 5));
    }
}
