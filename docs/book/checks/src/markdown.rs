//! As much of Markdown as the checks need: links, headings, fenced code. Links in code are none.

use std::ops::Range;

/// A link, as `[text](target)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Where the whole of it stands.
    pub whole: Range<usize>,
    /// What is shown.
    pub text: String,
    /// Where it leads, without a title.
    pub target: String,
}

impl Link {
    /// Whether it leads out of the repository.
    pub fn is_external(&self) -> bool {
        self.target.contains("://") || self.target.starts_with("mailto:")
    }

    /// The path and the anchor.
    pub fn parts(&self) -> (&str, Option<&str>) {
        match self.target.split_once('#') {
            Some((path, anchor)) => (path, Some(anchor)),
            None => (&self.target, None),
        }
    }
}

/// The text with everything in code blanked out, byte for byte.
fn without_code(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut in_fence = false;
    for line in text.split_inclusive('\n') {
        let fence = line.trim_start().starts_with("```");
        if in_fence || fence {
            plain.extend(line.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
        } else {
            plain.push_str(line);
        }
        in_fence ^= fence;
    }
    // Backticks pair within what is left; a span may go over a line's end.
    let mut out = plain.clone().into_bytes();
    let mut rest = 0;
    while let Some(open) = plain[rest..].find('`').map(|at| rest + at) {
        let ticks = plain[open..].bytes().take_while(|byte| *byte == b'`').count();
        let close = plain[open + ticks..].find(&"`".repeat(ticks)).map(|at| open + ticks + at);
        let Some(close) = close else { break };
        out[open..close + ticks].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        rest = close + ticks;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The links of a page in their order.
pub fn links(text: &str) -> Vec<Link> {
    let plain = without_code(text);
    debug_assert_eq!(plain.len(), text.len(), "offsets hold in both");
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(middle) = plain[at..].find("](").map(|offset| at + offset) {
        at = middle + 2;
        let Some(end) = plain[at..].find(')').map(|offset| at + offset) else { break };
        let Some(start) = plain[..middle].rfind('[') else { continue };
        let target = text[at..end].split_whitespace().next().unwrap_or_default().to_owned();
        found.push(Link { whole: start..end + 1, text: text[start + 1..middle].to_owned(), target });
        at = end;
    }
    found
}

/// The anchors of a page's headings, made as mdBook makes them.
pub fn anchors(text: &str) -> Vec<String> {
    let mut in_fence = false;
    let mut found: Vec<String> = Vec::new();
    for line in text.lines() {
        in_fence ^= line.trim_start().starts_with("```");
        let heading = line.trim_start_matches('#');
        if in_fence || heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let slug: String = heading
            .trim()
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | ' '))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        let same = found.iter().filter(|other| **other == slug).count();
        found.push(if same == 0 { slug } else { format!("{slug}-{same}") });
    }
    found
}

/// The files that `{{#include file:anchor}}` lines name, with their anchors.
pub fn includes(text: &str) -> Vec<(String, Option<String>)> {
    let mut found = Vec::new();
    for line in text.lines() {
        let Some(rest) = line.trim().strip_prefix("{{#include ") else { continue };
        let argument = rest.trim_end_matches('}').trim();
        found.push(match argument.split_once(':') {
            Some((path, anchor)) => (path.to_owned(), Some(anchor.to_owned())),
            None => (argument.to_owned(), None),
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_with_their_places_and_not_in_code() {
        let text = "a [b `c`](d.md#e) and `[f](g)`\n```\n[h](i)\n```\n[j](k \"title\")";
        let found = links(text);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(
            (&text[found[0].whole.clone()], found[0].parts()),
            ("[b `c`](d.md#e)", ("d.md", Some("e")))
        );
        assert_eq!((found[1].text.as_str(), found[1].target.as_str()), ("j", "k"));
    }

    #[test]
    fn anchors_are_what_mdbook_makes_of_headings() {
        assert_eq!(anchors("# A `b`, c!\n```\n# no\n```\n## A b c\n#no\n"), ["a-b-c", "a-b-c-1"]);
    }
}
