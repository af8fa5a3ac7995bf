//! Separator search that never rescans: finds the earliest end of a match, and says where to go on when there is none.
//!
//! It knows nothing of limits or of the end of input; [`crate::ReadBuffer`] does.

use memchr::{memchr, memmem};

/// What ends an item: one separator or any of several, each of at least one byte.
#[derive(Clone, Copy, Debug)]
pub enum Separators<'a> {
    /// Exactly this sequence.
    One(&'a [u8]),
    /// Whichever of these ends first; where two end at the same byte, the shortest one counts (CPython 3.13).
    Any(&'a [&'a [u8]]),
}

impl Separators<'_> {
    /// Whether a search can ever succeed: there is a separator and none is empty.
    pub fn is_valid(&self) -> bool {
        match self {
            Self::One(separator) => !separator.is_empty(),
            Self::Any(list) => !list.is_empty() && list.iter().all(|s| !s.is_empty()),
        }
    }

    /// The length of the longest separator, in bytes.
    #[inline]
    fn longest_len(&self) -> usize {
        match self {
            Self::One(separator) => separator.len(),
            Self::Any(list) => list.iter().map(|s| s.len()).max().unwrap_or(0),
        }
    }

    /// The first offset of `len` searched bytes at which a separator could still begin.
    #[inline]
    pub(crate) fn resume_offset(&self, len: usize) -> usize {
        (len + 1).saturating_sub(self.longest_len())
    }

    /// The match that ends first among those that begin at `from` or later.
    #[inline]
    pub(crate) fn find(&self, haystack: &[u8], from: usize) -> Option<Match> {
        match *self {
            Self::One(separator) => find_one(&haystack[from..], separator)
                .map(|at| Match { start: from + at, end: from + at + separator.len() }),
            Self::Any(list) => find_any(haystack, from, list, self.longest_len()),
        }
    }
}

/// A separator found: it occupies `start..end` of the searched bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Match {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// Remembers how far a search came, so that the next call for the same separators goes on from there.
#[derive(Debug, Default)]
pub(crate) struct SearchMemo {
    /// Unread bytes before this offset hold no start of a match. Zero: nothing is known.
    resume_at: usize,
    /// The separators searched for, each preceded by its length; meaningless while `resume_at` is zero.
    key: Vec<u8>,
}

impl SearchMemo {
    /// Whether it knows anything.
    #[inline]
    pub(crate) fn is_set(&self) -> bool {
        self.resume_at != 0
    }

    /// Where a search for these separators may begin.
    #[inline]
    pub(crate) fn start_for(&self, separators: Separators<'_>) -> usize {
        if self.resume_at == 0 || !self.is_for(separators) { 0 } else { self.resume_at }
    }

    /// Notes that no match begins before `resume_at`.
    pub(crate) fn store(&mut self, separators: Separators<'_>, resume_at: usize) {
        if self.resume_at == 0 || !self.is_for(separators) {
            self.key.clear();
            for separator in list_of(&separators) {
                self.key.extend_from_slice(&separator.len().to_le_bytes());
                self.key.extend_from_slice(separator);
            }
        }
        self.resume_at = resume_at;
    }

    /// `n` bytes left the front of the buffer.
    #[inline]
    pub(crate) fn consumed(&mut self, n: usize) {
        self.resume_at = self.resume_at.saturating_sub(n);
    }

    fn is_for(&self, separators: Separators<'_>) -> bool {
        let mut rest = self.key.as_slice();
        for separator in list_of(&separators) {
            let Some(after_len) = rest.strip_prefix(&separator.len().to_le_bytes()[..]) else { return false };
            let Some(after) = after_len.strip_prefix(*separator) else { return false };
            rest = after;
        }
        rest.is_empty()
    }
}

fn list_of<'s, 'a>(separators: &'s Separators<'a>) -> &'s [&'a [u8]] {
    match separators {
        Separators::One(separator) => std::slice::from_ref(separator),
        Separators::Any(list) => list,
    }
}

#[inline]
fn find_one(haystack: &[u8], separator: &[u8]) -> Option<usize> {
    match separator {
        [byte] => memchr(*byte, haystack),
        _ => memmem::find(haystack, separator),
    }
}

/// Searches in windows that double, so that a separator which is absent does not cost a scan of the whole buffer for
/// every item that another one ends.
fn find_any(haystack: &[u8], from: usize, list: &[&[u8]], longest_len: usize) -> Option<Match> {
    let mut window_start = from;
    let mut window_len = FIRST_WINDOW.max(2 * longest_len);
    loop {
        let window_end = haystack.len().min(window_start.saturating_add(window_len));
        let mut best: Option<Match> = None;
        for separator in list {
            // A better match must end before the best one, or at the same byte and start later.
            let end = best.map_or(window_end, |found| found.end);
            let Some(at) = find_one(&haystack[window_start..end], separator) else { continue };
            let found = Match { start: window_start + at, end: window_start + at + separator.len() };
            if best.is_none_or(|best| (found.end, best.start) < (best.end, found.start)) {
                best = Some(found);
            }
        }
        if best.is_some() || window_end == haystack.len() {
            return best;
        }
        window_start = window_end + 1 - longest_len;
        window_len *= 2;
    }
}

/// Long enough for a header line, short enough that looking for an absent separator costs little.
const FIRST_WINDOW: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_end_wins_and_ties_go_to_the_shortest() {
        let any: &[&[u8]] = &[b"ab", b"b", b"xxxxc"];
        let found = Separators::Any(any).find(b"..ab..", 0);
        assert_eq!(found, Some(Match { start: 3, end: 4 }));
    }

    #[test]
    fn a_window_border_does_not_hide_a_match() {
        for pad in 0..(4 * FIRST_WINDOW) {
            let mut text = vec![b'.'; pad];
            text.extend_from_slice(b"\r\n\r\n...");
            let any: &[&[u8]] = &[b"\r\n\r\n", b"\0"];
            assert_eq!(Separators::Any(any).find(&text, 0), Some(Match { start: pad, end: pad + 4 }));
        }
    }

    #[test]
    fn a_memo_for_other_separators_is_not_used() {
        let mut memo = SearchMemo::default();
        memo.store(Separators::One(b"\r\n"), 9);
        assert_eq!(memo.start_for(Separators::One(b"\r\n")), 9);
        assert_eq!(memo.start_for(Separators::Any(&[b"\r\n"])), 9);
        assert_eq!(memo.start_for(Separators::One(b"\n")), 0);
        assert_eq!(memo.start_for(Separators::Any(&[b"\r", b"\n"])), 0);
        memo.consumed(4);
        assert_eq!(memo.start_for(Separators::One(b"\r\n")), 5);
    }
}
