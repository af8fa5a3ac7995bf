//! Bytes in, answers out: the buffer of one reader with its limit, its end and its failure.
//!
//! Storage is one stretch of memory that is filled at its back and consumed at its front. Nothing here reads a socket:
//! a driver asks for spare room, fills it, and says how much came.

use std::fmt;

use bytes::{Buf as _, Bytes};

use crate::error::ConfigError;
use crate::failure::Failure;
use crate::read_request::{Answer, Request, Tail};
use crate::receive_memory::{self, LARGE};
use crate::search::SearchMemo;

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
    /// `start..end` are the unread bytes, `end..` is room for the next fill: as much as the capacity holds, cleared piece
    /// by piece just before it is handed out, while the next receive still finds it in the cache.
    storage: Vec<u8>,
    /// Never above `end`; both at `base` when nothing is unread.
    start: usize,
    end: usize,
    /// Where the storage begins to be used: less than a cache line behind its first byte.
    base: usize,
    /// At least 1.
    limit: usize,
    /// How much room the next fill is offered; doubles when a fill used all of it.
    fill_len: usize,
    memo: SearchMemo,
    tail: Tail,
    /// Whether a driver that pushes was told to stop.
    paused: bool,
    /// The most unread bytes ever held.
    peak_len: usize,
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
            storage: Vec::new(),
            start: 0,
            end: 0,
            base: 0,
            limit,
            fill_len: FIRST_FILL,
            memo: SearchMemo::default(),
            tail: Tail::Open,
            paused: false,
            peak_len: 0,
        })
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
        &self.storage[self.start..self.end]
    }

    /// How many bytes are unread.
    #[inline]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether nothing is unread.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
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
        self.peak_len
    }

    /// Room for the next fill, at least one byte and never more than 64 KiB.
    ///
    /// The room never depends on what a read asks for or a peer announced: it grows only after fills that used all of it.
    #[inline]
    pub fn spare(&mut self) -> &mut [u8] {
        let room = self.ensure_room();
        let until = self.end + room;
        if self.storage.len() < until {
            self.storage.resize(until, 0);
        }
        &mut self.storage[self.end..until]
    }

    /// The first `n` bytes of the room from [`spare`](Self::spare) were filled.
    ///
    /// # Panics
    /// If `n` is more than the room that was handed out.
    #[inline]
    pub fn commit(&mut self, n: usize) {
        let room = self.room();
        let offered = room.min(self.storage.len() - self.end);
        assert!(n <= offered, "commit({n}) of {offered} spare bytes");
        if n == room && self.fill_len < FULL_FILL {
            self.fill_len *= 2;
        }
        self.end += n;
        self.peak_len = self.peak_len.max(self.len());
    }

    /// Appends bytes that came some other way.
    pub fn feed(&mut self, mut data: &[u8]) {
        // How much there is is known here, so the first bytes need no room for a whole receive: over TLS, an idle
        // connection keeps this and nothing else.
        if self.storage.capacity() == 0 && self.fill_len == FIRST_FILL {
            self.fill_len = FIRST_FEED;
        }
        while !data.is_empty() {
            let n = self.ensure_room().min(data.len());
            self.storage.truncate(self.end);
            self.storage.extend_from_slice(&data[..n]);
            self.commit(n);
            data = &data[n..];
        }
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
        request.judge(&self.storage[self.start..self.end], &self.tail, &mut self.memo)
    }

    /// The length of the next line, line feed included, if one poll for [`Request::Line`] would find it with a single
    /// search. `None` says nothing: ask [`poll`](Self::poll).
    #[inline]
    pub fn ready_line(&self, limit: usize) -> Option<usize> {
        if self.memo.is_set() {
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
        assert!(n <= self.len(), "consume({n}) of {} unread bytes", self.len());
        self.start += n;
        self.memo.consumed(n);
    }

    /// Consumes the first `n` unread bytes and lends them: the hot path, without a copy or an allocation.
    ///
    /// # Panics
    /// If fewer are unread.
    #[inline]
    pub fn lend(&mut self, n: usize) -> &[u8] {
        let from = self.start;
        self.consume(n);
        &self.storage[from..from + n]
    }

    /// Consumes the first `n` unread bytes and gives them away; large ones are given without a copy where that wastes
    /// no memory.
    ///
    /// # Panics
    /// If fewer are unread.
    pub fn take(&mut self, n: usize) -> Bytes {
        let gives_all = self.start == self.base && n == self.len();
        if gives_all && n >= GIVE_LEN && n >= self.storage.capacity() / 2 {
            let mut storage = std::mem::take(&mut self.storage);
            storage.truncate(self.end);
            let mut given = Bytes::from(storage);
            given.advance(self.base);
            (self.start, self.end, self.base) = (0, 0, 0);
            self.memo.consumed(n);
            return given;
        }
        Bytes::copy_from_slice(self.lend(n))
    }

    /// For a driver that pushes: what to do to the transport now. `waits` says that a read could not be answered, which
    /// always resumes (`read_exactly` of more than twice the limit would otherwise wait for ever).
    pub fn flow(&mut self, waits: bool) -> Option<Flow> {
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

    /// Makes room for the next fill, and returns how much there is.
    #[inline]
    fn ensure_room(&mut self) -> usize {
        if self.start == self.end {
            self.start = self.base;
            self.end = self.base;
        }
        // `LARGE` is more than twice what `make_room` takes for a little, so that the two do not chase each other.
        let outgrown = self.storage.capacity() > LARGE && self.len() <= FULL_FILL;
        if outgrown || self.storage.capacity() - self.end < self.fill_len / 4 {
            self.make_room(outgrown);
        }
        self.room()
    }

    /// How much room there is for the next fill.
    #[inline]
    fn room(&self) -> usize {
        (self.storage.capacity() - self.end).min(self.fill_len)
    }

    /// Moves the unread bytes to the front if that costs no more than was consumed since, else takes more memory. Both
    /// are paid for by the bytes that came or went, so a stream costs linear time whatever its segments. Memory that one
    /// large read has left behind is `outgrown`, and given back: to its thread, for the next large one.
    fn make_room(&mut self, outgrown: bool) {
        let len = self.len();
        let usable = self.storage.capacity() - self.base;
        if !outgrown && self.start - self.base >= len && usable - len >= self.fill_len / 4 {
            self.storage.copy_within(self.start..self.end, self.base);
        } else {
            let wanted = len.saturating_mul(2).max(len.saturating_add(self.fill_len));
            let mut other = receive_memory::take(wanted);
            self.base = other.len();
            other.extend_from_slice(self.unread());
            receive_memory::give_back(std::mem::replace(&mut self.storage, other));
        }
        self.start = self.base;
        self.end = self.base + len;
    }
}

/// The room of the first fill: most requests fit, and an idle connection that spoke once keeps no more.
const FIRST_FILL: usize = 8 * 1024;
/// The same for bytes that are fed.
const FIRST_FEED: usize = 1024;
/// The most room a fill is offered beyond doubling: as much as a hand-written loop uses.
const FULL_FILL: usize = 64 * 1024;
/// Items of this size are worth giving away whole instead of copying: below, new memory for the next ones costs more.
const GIVE_LEN: usize = 64 * 1024;

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
        assert!(buffer.spare().len() <= FIRST_FILL);
    }

    #[test]
    fn an_item_that_fills_the_buffer_is_given_away_without_a_copy() {
        let mut buffer = ReadBuffer::new(DEFAULT_LIMIT).unwrap();
        buffer.feed(&vec![7; 100_000]);
        let address = buffer.unread().as_ptr();
        let taken = buffer.take(100_000);
        assert_eq!((taken.len(), taken.as_ptr()), (100_000, address));
        buffer.feed(b"next");
        assert_eq!(buffer.unread(), b"next");
    }

    #[test]
    fn one_large_read_neither_widens_later_fills_nor_keeps_its_memory() {
        let mut buffer = ReadBuffer::new(1024).unwrap();
        buffer.feed(&vec![7; 10_000_000]);
        buffer.feed(b"an item begun");
        buffer.consume(10_000_000);
        for _ in 0..100 {
            let room = buffer.spare().len();
            assert!(room <= FULL_FILL, "{room} bytes of room");
            buffer.commit(1);
        }
        assert!(buffer.storage.capacity() <= LARGE, "{} bytes kept", buffer.storage.capacity());
        assert_eq!(buffer.unread()[..13], *b"an item begun");
    }

    #[test]
    fn memory_is_cleared_only_as_far_as_it_is_offered() {
        let mut buffer = ReadBuffer::new(DEFAULT_LIMIT).unwrap();
        buffer.feed(&vec![7; 3_000_000]);
        assert!(buffer.storage.capacity() >= 4_000_000);
        let room = buffer.spare().len();
        assert_eq!(buffer.storage.len(), buffer.end + room);
        assert_eq!(room, FULL_FILL);
    }

    #[test]
    #[should_panic(expected = "commit(2) of 1 spare bytes")]
    fn more_than_was_offered_cannot_be_committed() {
        let mut buffer = ReadBuffer::new(DEFAULT_LIMIT).unwrap();
        buffer.feed(&[7; 1_000]);
        buffer.storage.resize(1_001, 0);
        buffer.commit(2);
    }

    #[test]
    fn what_is_received_begins_with_a_cache_line_and_a_large_item_finds_the_memory_of_the_last() {
        let mut buffer = ReadBuffer::new(DEFAULT_LIMIT).unwrap();
        let item: Vec<u8> = (0..=255_u8).cycle().take(1_000_000).collect();
        let mut places = Vec::new();
        for _ in 0..3 {
            let mut rest = &item[..];
            while !rest.is_empty() {
                let spare = buffer.spare();
                let n = spare.len().min(rest.len());
                spare[..n].copy_from_slice(&rest[..n]);
                buffer.commit(n);
                rest = &rest[n..];
            }
            assert!(buffer.unread() == item);
            assert_eq!(buffer.unread().as_ptr().addr() % receive_memory::LINE, 0);
            places.push(buffer.unread().as_ptr());
            buffer.consume(item.len());
        }
        assert_eq!((places[1], places[2]), (places[0], places[0]));
        assert!(
            buffer.spare().as_ptr() != places[0],
            "an idle buffer keeps {} bytes",
            buffer.storage.capacity()
        );
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
