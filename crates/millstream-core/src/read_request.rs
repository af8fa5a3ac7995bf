//! What a read asks for, and when the buffered bytes meet it. Decides; moves no byte.

use crate::failure::Failure;
use crate::search::{SearchMemo, Separators};

/// What a read asks for. A request is only a question: it may be asked, dropped and asked again at any time.
#[derive(Clone, Copy, Debug)]
pub enum Request<'a> {
    /// Whatever is there, at least one byte and at most `max`.
    Some {
        /// The most to hand out, in bytes. Zero is answered at once with nothing.
        max: usize,
    },
    /// Exactly this many bytes.
    Exactly(usize),
    /// Everything through the first separator.
    Until {
        /// What ends the item.
        separators: Separators<'a>,
        /// How many bytes may stand before the separator.
        limit: usize,
    },
    /// Everything through the next line feed, or the rest of the stream if it ends without one.
    Line {
        /// How many bytes may stand before the line feed.
        limit: usize,
    },
    /// Everything up to the end of the stream.
    All {
        /// The most that may come, in bytes.
        max: usize,
    },
}

/// The answer to a [`Request`]. No answer consumes anything: the driver does, by taking the bytes it returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The item is the first `len` unread bytes.
    Ready {
        /// Its length in bytes, separator included.
        len: usize,
    },
    /// Not yet: read more from the transport, then ask again.
    Need,
    /// The stream ended before the item began.
    End,
    /// The stream ended inside the item, of which the `len` unread bytes are the first part.
    Incomplete {
        /// How many bytes of it there are.
        len: usize,
    },
    /// The item is longer than its limit. The bytes stay.
    Overrun {
        /// How many of the unread bytes may be skipped without cutting into a separator.
        consumed: usize,
        /// Whether a separator stands at `consumed`.
        found: bool,
    },
    /// The transport failed, and what it delivered before does not meet the request.
    Failed(Failure),
}

/// How the stream stands behind the buffered bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// More bytes may come.
    Open,
    /// The peer ended the stream.
    Ended,
    /// The transport failed.
    Failed(Failure),
}

impl Request<'_> {
    /// Judges the unread bytes.
    #[inline]
    pub(crate) fn judge(&self, unread: &[u8], tail: &Tail, memo: &mut SearchMemo) -> Answer {
        match *self {
            Self::Some { max } => {
                if max == 0 || !unread.is_empty() {
                    return Answer::Ready { len: unread.len().min(max) };
                }
                tail.unmet(0)
            }
            Self::Exactly(n) => match n.checked_sub(unread.len()) {
                None | Some(0) => Answer::Ready { len: n },
                Some(_) if *tail == Tail::Ended => Answer::Incomplete { len: unread.len() },
                Some(_) => tail.unmet(unread.len()),
            },
            Self::Until { separators, limit } => judge_until(unread, tail, memo, separators, limit),
            Self::Line { limit } => match judge_until(unread, tail, memo, Separators::One(b"\n"), limit) {
                Answer::Incomplete { len } => Answer::Ready { len },
                answer => answer,
            },
            Self::All { max } => {
                if unread.len() > max {
                    return Answer::Overrun { consumed: unread.len(), found: false };
                }
                match tail {
                    Tail::Ended => Answer::Ready { len: unread.len() },
                    _ => tail.unmet(unread.len()),
                }
            }
        }
    }
}

impl Tail {
    /// The answer to a request that `len` unread bytes do not meet.
    #[inline]
    fn unmet(&self, len: usize) -> Answer {
        match self {
            Self::Open => Answer::Need,
            Self::Failed(failure) => Answer::Failed(failure.clone()),
            Self::Ended if len == 0 => Answer::End,
            Self::Ended => Answer::Incomplete { len },
        }
    }
}

/// asyncio's rule: an item may have `limit` bytes before its separator. A separator that starts later is an overrun, and
/// so are so many bytes without one that it could only start later.
#[inline]
fn judge_until(
    unread: &[u8],
    tail: &Tail,
    memo: &mut SearchMemo,
    separators: Separators<'_>,
    limit: usize,
) -> Answer {
    if unread.is_empty() {
        return tail.unmet(0);
    }
    let from = memo.start_for(separators).min(unread.len());
    if let Some(found) = separators.find(unread, from) {
        if found.start > limit {
            return Answer::Overrun { consumed: found.start, found: true };
        }
        return Answer::Ready { len: found.end };
    }
    let resume_at = separators.resume_offset(unread.len());
    if resume_at > 0 {
        memo.store(separators, resume_at);
    }
    if resume_at > limit {
        return Answer::Overrun { consumed: resume_at, found: false };
    }
    tail.unmet(unread.len())
}
