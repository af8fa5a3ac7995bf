//! Bytes in, answers out: the buffer of one reader with its limit, its end and its failure.
//!
//! Nothing here reads a socket: a driver asks for spare room, fills it, and says how much came.

use std::fmt;

use bytes::Bytes;

use crate::error::ConfigError;
use crate::failure::Failure;
use crate::read_request::{Answer, Request, Tail};
use crate::search::SearchMemo;
use crate::storage::Storage;

/// asyncio's default limit: 64 KiB before a separator.
pub const DEFAULT_LIMIT: usize = 64 * 1024;

/// The buffer of one reader.
///
/// ```
/// use millstream_core::{Answer, ReadBuffer, Request};
/// let mut buffer = ReadBuffer::new(1024)?;
/// buffer.feed(b"first\nsec");
/// assert_eq!(buffer.poll(&Request::Line { limit: 1024 }), Answer::Ready { len: 6 });
/// assert_eq!(buffer.take(6), "first\n");
/// assert_eq!(buffer.poll(&Request::Line { limit: 1024 }), Answer::Need);
/// buffer.feed_eof();
/// assert_eq!(buffer.poll(&Request::Line { limit: 1024 }), Answer::Ready { len: 3 });
/// # Ok::<(), millstream_core::ConfigError>(())
/// ```
pub struct ReadBuffer {
    storage: Storage,
    /// At least 1.
    limit: usize,
    memo: SearchMemo,
    tail: Tail,
    /// Whether a driver that pushes was told to stop.
    paused: bool,
}

impl fmt::Debug for ReadBuffer {
    /// Without the bytes: what goes through may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadBuffer")
            .field("len", &self.len())
            .field("limit", &self.limit)
            .field("tail", &self.tail)
            .finish_non_exhaustive()
    }
}

/// What a driver that pushes bytes (rather than pulling them) has to do to its transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// More than twice the limit is unread: stop reading the transport.
    Pause,
    /// Read the transport again.
    Resume,
}

impl ReadBuffer {
    /// An empty buffer. No memory is taken before the first byte.
    ///
    /// # Errors
    /// [`ConfigError::ZeroLimit`] for a limit of zero.
    pub fn new(limit: usize) -> Result<Self, ConfigError> {
        if limit == 0 {
            return Err(ConfigError::ZeroLimit);
        }
        Ok(Self {
            storage: Storage::new(),
            limit,
            memo: SearchMemo::default(),
            tail: Tail::Open,
            paused: false,
        })
    }

    /// Takes no memory of its thread's, in which there may be what other connections received. For a transport that fills
    /// it by code of strangers, which might claim bytes that it never wrote.
    pub fn keep_apart(&mut self) {
        self.storage.keep_apart();
    }

    /// The limit, in bytes.
    #[inline]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Sets another limit, in bytes; zero counts as one. What is buffered stays.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit.max(1);
    }

    /// The unread bytes.
    #[inline]
    pub fn unread(&self) -> &[u8] {
        self.storage.unread()
    }

    /// How many bytes are unread.
    #[inline]
    pub fn len(&self) -> usize {
        self.storage.len()
    }

    /// Whether nothing is unread.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.storage.is_empty()
    }

    /// Whether the stream ended and everything was read.
    pub fn at_eof(&self) -> bool {
        self.is_empty() && self.tail == Tail::Ended
    }

    /// Whether the stream ended, be it by the peer or by a failure: no fill will bring more.
    #[inline]
    pub fn is_ended(&self) -> bool {
        self.tail != Tail::Open
    }

    /// The failure that ended the stream.
    pub fn failure(&self) -> Option<&Failure> {
        match &self.tail {
            Tail::Failed(failure) => Some(failure),
            _ => None,
        }
    }

    /// The most bytes that were ever unread at once.
    pub fn peak_len(&self) -> usize {
        self.storage.peak_len()
    }

    /// Room for the next fill, at least one byte and never more than 64 KiB.
    ///
    /// The room never depends on what a read asks for or a peer announced: it grows only after fills that used all of it.
    #[inline]
    pub fn spare(&mut self) -> &mut [u8] {
        self.storage.spare()
    }

    /// The first `n` bytes of the room from [`spare`](Self::spare) were filled.
    ///
    /// # Panics
    /// If `n` is more than the room that was handed out.
    #[inline]
    pub fn commit(&mut self, n: usize) {
        self.storage.commit(n);
    }

    /// Appends bytes that came some other way.
    pub fn feed(&mut self, data: &[u8]) {
        self.storage.feed(data);
    }

    /// The reader is about to wait: if nothing is unread, the thread gets the memory back for whichever of its connections
    /// has something to receive next.
    #[inline]
    pub fn rest(&mut self) {
        self.storage.rest();
    }

    /// The peer ended the stream. Later failures change nothing.
    pub fn feed_eof(&mut self) {
        if self.tail == Tail::Open {
            self.tail = Tail::Ended;
        }
    }

    /// The transport failed: what arrived stays readable, then the failure is the answer, for ever.
    pub fn fail(&mut self, failure: Failure) {
        if self.tail == Tail::Open {
            self.tail = Tail::Failed(failure);
        }
    }

    /// Judges what is buffered; consumes nothing.
    #[inline]
    pub fn poll(&mut self, request: &Request<'_>) -> Answer {
        request.judge(self.storage.unread(), &self.tail, &mut self.memo)
    }

    /// The length of the next line, line feed included, if one poll for [`Request::Line`] would find it with a single
    /// search. `None` says nothing: ask [`poll`](Self::poll).
    #[inline]
    pub fn ready_line(&self, limit: usize) -> Option<usize> {
        if self.is_empty() || self.memo.is_set() {
            return None;
        }
        let at = memchr::memchr(b'\n', self.unread())?;
        (at <= limit).then_some(at + 1)
    }

    /// Drops the first `n` unread bytes.
    ///
    /// # Panics
    /// If fewer are unread.
    #[inline]
    pub fn consume(&mut self, n: usize) {
        self.storage.consume(n);
        self.memo.consumed(n);
    }

    /// Consumes the first `n` unread bytes and lends them: the hot path, without a copy or an allocation.
    ///
    /// # Panics
    /// If fewer are unread.
    #[inline]
    pub fn lend(&mut self, n: usize) -> &[u8] {
        let lent = self.storage.lend(n);
        self.memo.consumed(n);
        lent
    }

    /// Consumes the first `n` unread bytes and gives them away; large ones are given without a copy where that wastes
    /// no memory.
    ///
    /// # Panics
    /// If fewer are unread.
    pub fn take(&mut self, n: usize) -> Bytes {
        let taken = self.storage.take(n);
        self.memo.consumed(n);
        taken
    }

    /// For a driver that pushes: what to do to the transport now. `waits` says that a read could not be answered, which
    /// always resumes (`read_exactly` of more than twice the limit would otherwise wait for ever).
    pub fn flow(&mut self, waits: bool) -> Option<Flow> {
        if waits {
            self.rest();
        }
        if !self.paused && !waits && self.len() > self.limit.saturating_mul(2) {
            self.paused = true;
            return Some(Flow::Pause);
        }
        if self.paused && (waits || self.len() <= self.limit) {
            self.paused = false;
            return Some(Flow::Resume);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pushing_driver_is_paused_above_twice_the_limit_and_resumed_at_the_limit() {
        let mut buffer = ReadBuffer::new(10).unwrap();
        buffer.feed(&[b'x'; 20]);
        assert_eq!(buffer.flow(false), None);
        buffer.feed(b"y");
        assert_eq!(buffer.flow(false), Some(Flow::Pause));
        assert_eq!(buffer.flow(false), None);
        buffer.consume(10);
        assert_eq!(buffer.flow(false), None);
        buffer.consume(1);
        assert_eq!(buffer.flow(false), Some(Flow::Resume));
    }

    #[test]
    fn a_read_that_must_wait_resumes_the_transport() {
        let mut buffer = ReadBuffer::new(10).unwrap();
        buffer.feed(&[b'x'; 25]);
        assert_eq!(buffer.flow(false), Some(Flow::Pause));
        assert_eq!(buffer.poll(&Request::Exactly(30)), Answer::Need);
        assert_eq!(buffer.flow(true), Some(Flow::Resume));
    }

    #[test]
    fn a_huge_exact_read_takes_no_memory_in_advance() {
        let mut buffer = ReadBuffer::new(DEFAULT_LIMIT).unwrap();
        assert!(buffer.poll(&Request::Exactly(1 << 62)) == Answer::Need);
        assert!(buffer.spare().len() <= 8 * 1024);
    }

    #[test]
    fn the_first_cause_of_the_end_stays() {
        let mut buffer = ReadBuffer::new(1).unwrap();
        buffer.feed_eof();
        buffer.fail(Failure::aborted());
        assert!(buffer.failure().is_none());
        assert!(buffer.at_eof());
    }
}
