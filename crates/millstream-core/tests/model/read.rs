//! The reads of asyncio, ported line by line from CPython 3.13's `StreamReader`; slow and plain on purpose.
//!
//! Where millstream differs by design the model follows millstream: a lost transport is told after the bytes that came
//! before it, and a cancelled read to the end loses nothing.

use arbitrary::Arbitrary;

use super::letters::{Letter, Seps, Size, Text};

/// One event in the life of a reader.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) enum ReadOp {
    /// Bytes come in one segment.
    Feed(Text),
    /// The same, through the room that the buffer lends, one byte at a time.
    Dribble(Text),
    /// Many equal bytes come at once.
    FeedRun { letter: Letter, len: u16 },
    /// A read begins; the one that waited, if any, is cancelled first.
    Ask(Ask),
    /// Another read begins.
    AskAgain(Ask),
    /// The waiting read is cancelled.
    Cancel,
    /// The peer ends the stream.
    Eof,
    /// The transport fails.
    Fail,
    /// A new connection with this limit (raised to 1 if it is zero).
    Reconnect { limit: Size },
}

/// A read.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) enum Ask {
    Some(Size),
    Exactly(Size),
    Until(Seps),
    Line,
    All,
}

/// What an event led to, for the read that waits or has just begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// No read is under way.
    Idle,
    Waits,
    Bytes(Vec<u8>),
    Incomplete {
        partial: Vec<u8>,
        expected: Option<usize>,
    },
    Overrun {
        consumed: usize,
    },
    /// `readline` beyond the limit: the line, or all there is of it, is dropped.
    LineTooLong,
    Failed,
    BadCall,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    Open,
    Ended,
    Failed,
}

/// asyncio's `StreamReader`.
#[derive(Debug)]
pub(crate) struct AsyncioReader {
    pub(crate) buffer: Vec<u8>,
    pub(crate) limit: usize,
    pub(crate) tail: Tail,
    pub(crate) paused: bool,
    pub(crate) pending: Option<Pending>,
}

/// A read that waits, with the local variable that asyncio keeps across waits.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) ask: Ask,
    offset: usize,
}

impl AsyncioReader {
    pub(crate) fn new(limit: usize) -> Self {
        Self { buffer: Vec::new(), limit, tail: Tail::Open, paused: false, pending: None }
    }

    pub(crate) fn step(&mut self, op: &ReadOp) -> Outcome {
        match op {
            ReadOp::Feed(text) | ReadOp::Dribble(text) => self.feed_data(&text.0),
            ReadOp::FeedRun { letter, len } => self.feed_data(&vec![letter.0; usize::from(*len)]),
            ReadOp::Ask(ask) | ReadOp::AskAgain(ask) => {
                self.pending = Some(Pending { ask: ask.clone(), offset: 0 });
            }
            ReadOp::Cancel => self.pending = None,
            ReadOp::Eof if self.tail == Tail::Open => self.tail = Tail::Ended,
            ReadOp::Fail if self.tail == Tail::Open => self.tail = Tail::Failed,
            ReadOp::Eof | ReadOp::Fail => {}
            ReadOp::Reconnect { limit } => *self = Self::new(limit.0.max(1)),
        }
        self.go_on()
    }

    fn feed_data(&mut self, data: &[u8]) {
        if self.tail != Tail::Open || data.is_empty() {
            return;
        }
        self.buffer.extend_from_slice(data);
        if !self.paused && self.buffer.len() > self.limit.saturating_mul(2) {
            self.paused = true;
        }
    }

    /// Runs the waiting coroutine until it waits again or is done.
    fn go_on(&mut self) -> Outcome {
        let Some(mut pending) = self.pending.take() else { return Outcome::Idle };
        let done = match &pending.ask {
            Ask::Some(n) => self.read(n.0),
            Ask::Exactly(n) => self.readexactly(n.0),
            Ask::Until(separators) => self.readuntil(&separators.0, &mut pending.offset),
            Ask::Line => self.readline(&mut pending.offset),
            Ask::All => self.read_all(),
        };
        match done {
            Some(outcome) => outcome,
            None if self.tail == Tail::Failed => Outcome::Failed,
            None => {
                self.paused = false;
                self.pending = Some(pending);
                Outcome::Waits
            }
        }
    }

    fn read(&mut self, n: usize) -> Option<Outcome> {
        if n > 0 && self.buffer.is_empty() && self.tail != Tail::Ended {
            return None;
        }
        Some(self.take(n.min(self.buffer.len())))
    }

    fn read_all(&mut self) -> Option<Outcome> {
        (self.tail == Tail::Ended).then(|| self.take(self.buffer.len()))
    }

    fn readexactly(&mut self, n: usize) -> Option<Outcome> {
        if self.buffer.len() >= n {
            return Some(self.take(n));
        }
        (self.tail == Tail::Ended).then(|| self.incomplete(Some(n)))
    }

    fn readline(&mut self, offset: &mut usize) -> Option<Outcome> {
        Some(match self.readuntil(&[b"\n".to_vec()], offset)? {
            Outcome::Incomplete { partial, .. } => Outcome::Bytes(partial),
            Outcome::Overrun { consumed } => {
                if self.buffer[consumed..].starts_with(b"\n") {
                    self.buffer.drain(..=consumed);
                } else {
                    self.buffer.clear();
                }
                self.maybe_resume();
                Outcome::LineTooLong
            }
            other => other,
        })
    }

    fn readuntil(&mut self, separators: &[Vec<u8>], offset: &mut usize) -> Option<Outcome> {
        let mut separators = separators.to_vec();
        separators.sort_by_key(Vec::len);
        let (Some(min), Some(max)) = (separators.first().map(Vec::len), separators.last().map(Vec::len))
        else {
            return Some(Outcome::BadCall);
        };
        if min == 0 {
            return Some(Outcome::BadCall);
        }
        let buflen = self.buffer.len();
        if buflen - *offset >= min {
            let mut matched: Option<(usize, usize)> = None;
            for separator in &separators {
                if let Some(at) = find(&self.buffer, separator, *offset) {
                    let end = at + separator.len();
                    if matched.is_none_or(|(_, best_end)| end < best_end) {
                        matched = Some((at, end));
                    }
                }
            }
            if let Some((start, end)) = matched {
                let too_long = start > self.limit;
                return Some(if too_long { Outcome::Overrun { consumed: start } } else { self.take(end) });
            }
            *offset = (buflen + 1).saturating_sub(max);
            if *offset > self.limit {
                return Some(Outcome::Overrun { consumed: *offset });
            }
        }
        (self.tail == Tail::Ended).then(|| self.incomplete(None))
    }

    fn incomplete(&mut self, expected: Option<usize>) -> Outcome {
        Outcome::Incomplete { partial: std::mem::take(&mut self.buffer), expected }
    }

    fn take(&mut self, n: usize) -> Outcome {
        let bytes = self.buffer.drain(..n).collect();
        self.maybe_resume();
        Outcome::Bytes(bytes)
    }

    fn maybe_resume(&mut self) {
        if self.buffer.len() <= self.limit {
            self.paused = false;
        }
    }
}

/// Python's `bytearray.find(needle, from)`.
fn find(haystack: &[u8], needle: &[u8], from: usize) -> Option<usize> {
    (from..haystack.len()).find(|&at| haystack[at..].starts_with(needle))
}
