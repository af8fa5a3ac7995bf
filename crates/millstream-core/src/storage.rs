//! One stretch of memory that is filled at its back and consumed at its front.
//!
//! It grows with what came, never with what somebody asked for, and costs linear time whatever the segments.

use bytes::{Buf as _, Bytes};

use crate::thread_memory::{self, FULL_FILL, LARGE, LINE, MIDDLE, SMALL};

/// The unread bytes of one reader, and room for more behind them.
pub(crate) struct Storage {
    /// `start..end` are the unread bytes, `end..` is room for the next fill: as much as the capacity holds, cleared piece
    /// by piece just before it is handed out, while the next receive still finds it in the cache. Without capacity while
    /// nothing is unread and nobody looks for more: the thread keeps memory for all of its connections.
    memory: Vec<u8>,
    /// Takes no memory in which there may be what others received.
    apart: bool,
    /// Never above `end`; both at `base` when nothing is unread.
    start: usize,
    end: usize,
    /// Where the memory begins to be used: less than a cache line behind its first byte.
    base: usize,
    /// How much room the next fill is offered; doubles when a fill used all of it.
    fill_len: usize,
    /// How much of its memory was used when it last gave back more than a little: what the next item may take as well.
    used_len: usize,
    /// How much of it was handed out and not filled yet.
    offered: usize,
    /// The most unread bytes ever held.
    peak_len: usize,
}

impl Drop for Storage {
    /// A connection that ends with its large item leaves its memory to the next one as well.
    fn drop(&mut self) {
        thread_memory::give_back(self.part_with_memory());
    }
}

impl Storage {
    /// No memory is taken before the first byte.
    pub(crate) fn new() -> Self {
        Self {
            memory: Vec::new(),
            apart: false,
            start: 0,
            end: 0,
            base: 0,
            fill_len: SMALL,
            used_len: 0,
            offered: 0,
            peak_len: 0,
        }
    }

    /// Takes no memory from now on in which there may be what others received.
    pub(crate) fn keep_apart(&mut self) {
        self.apart = true;
    }

    #[inline]
    pub(crate) fn unread(&self) -> &[u8] {
        &self.memory[self.start..self.end]
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(crate) fn peak_len(&self) -> usize {
        self.peak_len
    }

    /// Room for the next fill, at least one byte and never more than [`FULL_FILL`].
    #[inline]
    pub(crate) fn spare(&mut self) -> &mut [u8] {
        self.offered = self.ensure_room();
        let until = self.end + self.offered;
        if self.memory.len() < until {
            self.clear_until(until);
        }
        &mut self.memory[self.end..until]
    }

    #[cold]
    fn clear_until(&mut self, until: usize) {
        self.memory.resize(until, 0);
    }

    /// The first `n` bytes of the room were filled. Panics if that is more than was handed out.
    #[inline]
    pub(crate) fn commit(&mut self, n: usize) {
        let offered = std::mem::take(&mut self.offered);
        assert!(n <= offered, "commit({n}) of {offered} spare bytes");
        if n == offered && self.fill_len < FULL_FILL {
            self.fill_len *= 2;
        }
        self.end += n;
        self.peak_len = self.peak_len.max(self.len());
    }

    /// Appends bytes that came some other way.
    pub(crate) fn feed(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            self.offered = self.ensure_room();
            let (now, later) = data.split_at(self.offered.min(data.len()));
            put(&mut self.memory, self.end, now);
            self.commit(now.len());
            data = later;
        }
    }

    /// Drops the first `n` unread bytes. Panics if fewer are unread.
    #[inline]
    pub(crate) fn consume(&mut self, n: usize) {
        assert!(n <= self.len(), "consume({n}) of {} unread bytes", self.len());
        self.start += n;
    }

    /// Consumes the first `n` unread bytes and lends them.
    #[inline]
    pub(crate) fn lend(&mut self, n: usize) -> &[u8] {
        let from = self.start;
        self.consume(n);
        &self.memory[from..from + n]
    }

    /// Consumes the first `n` unread bytes and gives them away; large ones without a copy where that wastes no memory.
    pub(crate) fn take(&mut self, n: usize) -> Bytes {
        let gives_all = self.start == self.base && n == self.len();
        if gives_all && n >= GIVE_LEN && n >= self.memory.capacity().saturating_sub(LINE) / 2 {
            self.memory.truncate(self.end);
            let base = self.base;
            let mut given = Bytes::from(self.part_with_memory());
            given.advance(base);
            return given;
        }
        Bytes::copy_from_slice(self.lend(n))
    }

    /// Gives the memory back to its thread, if nothing is unread.
    #[inline]
    pub(crate) fn rest(&mut self) {
        if self.is_empty() && self.memory.capacity() != 0 {
            let used = self.end - self.base;
            if used > SMALL || self.fill_len > SMALL || self.apart {
                return self.rest_of_more(used);
            }
            thread_memory::give_back(self.part_with_memory());
        }
    }

    /// The next item is taken to be of the last one's size: one that was large shall not have small ones take much memory.
    #[cold]
    fn rest_of_more(&mut self, used: usize) {
        self.used_len = used;
        self.fill_len = used.next_power_of_two().clamp(SMALL, FULL_FILL);
        // Memory of one's own is allocated anew each time, so a little is kept.
        if !self.apart || self.memory.capacity() > FULL_FILL + LINE {
            thread_memory::give_back(self.part_with_memory());
        }
    }

    /// Leaves nothing unread and no memory.
    fn part_with_memory(&mut self) -> Vec<u8> {
        (self.start, self.end, self.base) = (0, 0, 0);
        std::mem::take(&mut self.memory)
    }

    /// Makes room for the next fill, and returns how much there is.
    #[inline]
    fn ensure_room(&mut self) -> usize {
        if self.memory.capacity() == 0 && self.fill_len == SMALL && !self.apart {
            // Its base is its first byte, as without memory.
            self.memory = thread_memory::take_small();
        } else {
            self.ensure_more_room();
        }
        (self.memory.capacity() - self.end).min(self.fill_len)
    }

    fn ensure_more_room(&mut self) {
        if self.memory.capacity() == 0 && self.used_len > FULL_FILL && !self.apart {
            // Large items follow large ones. Where there is memory for one, it is not copied as often while it grows.
            if let Some(kept) = thread_memory::take_kept(self.used_len.min(MIDDLE)) {
                self.move_to(kept);
            }
        }
        if self.start == self.end {
            self.start = self.base;
            self.end = self.base;
        }
        // `LARGE` is more than twice what `make_room` takes for a little, so that the two do not chase each other.
        let outgrown = self.memory.capacity() > LARGE && self.len() <= FULL_FILL;
        if outgrown || self.memory.capacity() - self.end < self.fill_len / 4 {
            self.make_room(outgrown);
        }
    }

    /// Moves the unread bytes to the front if that costs no more than was consumed since, else takes more memory. Both
    /// are paid for by the bytes that came or went, so a stream costs linear time whatever its segments. Memory that one
    /// large read has left behind is `outgrown`, and given back: to its thread, for the next large one.
    fn make_room(&mut self, outgrown: bool) {
        let len = self.len();
        let usable = self.memory.capacity() - self.base;
        if !outgrown && self.start - self.base >= len && usable - len >= self.fill_len / 4 {
            self.memory.copy_within(self.start..self.end, self.base);
            (self.start, self.end) = (self.base, self.base + len);
        } else {
            let wanted = len.saturating_mul(2).max(len.saturating_add(self.fill_len));
            let take = if self.apart { thread_memory::allocate } else { thread_memory::take };
            self.move_to(take(wanted));
        }
    }

    /// Takes the unread bytes into other memory, and gives back what they were in.
    fn move_to(&mut self, mut other: Vec<u8>) {
        let base = thread_memory::base(&other);
        put(&mut other, base, self.unread());
        (self.start, self.end, self.base) = (base, base + self.len(), base);
        thread_memory::give_back(std::mem::replace(&mut self.memory, other));
    }
}

/// Puts `data` at that place of the memory. What is cleared already stays cleared.
fn put(memory: &mut Vec<u8>, at: usize, data: &[u8]) {
    if memory.len() < at {
        memory.resize(at, 0);
    }
    let (over, behind) = data.split_at(data.len().min(memory.len() - at));
    memory[at..at + over.len()].copy_from_slice(over);
    memory.extend_from_slice(behind);
}

/// Items of this size are worth giving away whole instead of copying: below, new memory for the next ones costs more.
const GIVE_LEN: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_that_fills_the_buffer_is_given_away_without_a_copy() {
        let mut storage = Storage::new();
        storage.feed(&vec![7; 300_000]);
        let address = storage.unread().as_ptr();
        let taken = storage.take(300_000);
        assert_eq!((taken.len(), taken.as_ptr()), (300_000, address));
        storage.feed(b"next");
        assert_eq!(storage.unread(), b"next");
    }

    #[test]
    fn one_large_read_neither_widens_later_fills_nor_keeps_its_memory() {
        let mut storage = Storage::new();
        storage.feed(&vec![7; 10_000_000]);
        storage.feed(b"an item begun");
        storage.consume(10_000_000);
        for _ in 0..100 {
            let room = storage.spare().len();
            assert!(room <= FULL_FILL, "{room} bytes of room");
            storage.commit(1);
        }
        assert!(storage.memory.capacity() <= LARGE, "{} bytes kept", storage.memory.capacity());
        assert_eq!(storage.unread()[..13], *b"an item begun");
    }

    #[test]
    fn memory_is_cleared_only_as_far_as_it_is_offered() {
        let mut storage = Storage::new();
        storage.feed(&vec![7; 3_000_000]);
        assert!(storage.memory.capacity() >= 3_500_000, "{}", storage.memory.capacity());
        let room = storage.spare().len();
        assert_eq!(storage.memory.len(), storage.end + room);
        assert_eq!(room, FULL_FILL);
    }

    #[test]
    #[should_panic(expected = "commit(2) of 0 spare bytes")]
    fn what_was_offered_once_cannot_be_committed_twice() {
        let mut storage = Storage::new();
        assert!(storage.spare().len() > 3);
        storage.commit(1);
        storage.commit(2);
    }

    #[test]
    fn bytes_fed_between_receives_clear_nothing_twice() {
        let mut storage = Storage::new();
        storage.feed(&vec![7; 100_000]);
        let _ = storage.spare();
        let cleared = storage.memory.len();
        storage.feed(b"x");
        assert_eq!((storage.memory.len(), storage.len()), (cleared, 100_001));
        assert_eq!(storage.unread().last(), Some(&b'x'));
    }

    #[test]
    fn an_item_of_half_the_memory_is_given_away_without_a_copy() {
        let mut storage = Storage::new();
        storage.feed(&vec![7; 64 * 1024]);
        storage.feed(&vec![7; 64 * 1024]);
        storage.consume(128 * 1024);
        storage.memory.shrink_to(128 * 1024 + LINE);
        assert_eq!(storage.memory.capacity(), 128 * 1024 + LINE);
        storage.feed(&vec![8; 64 * 1024]);
        let address = storage.unread().as_ptr();
        assert_eq!(storage.take(64 * 1024).as_ptr(), address);
    }

    #[test]
    fn a_reader_that_rests_holds_no_memory_unless_it_holds_bytes() {
        let mut storage = Storage::new();
        for len in [4, 10_000, 1_000_000] {
            storage.feed(&vec![7; len]);
            storage.rest();
            assert_eq!(storage.unread(), vec![7; len]);
            storage.consume(len);
            storage.rest();
            assert_eq!(storage.memory.capacity(), 0);
        }
    }

    #[test]
    fn what_one_connection_received_never_shows_in_the_memory_of_one_that_is_kept_apart() {
        let mut open = Storage::new();
        open.feed(&[7; 8000]);
        open.consume(8000);
        open.rest();
        let mut apart = Storage::new();
        apart.keep_apart();
        assert!(apart.spare().iter().all(|&byte| byte == 0));
        // That there was something to be seen.
        assert!(open.spare().contains(&7));
    }

    #[test]
    fn what_is_received_begins_with_a_cache_line_and_a_large_item_finds_the_memory_of_the_last() {
        let mut storage = Storage::new();
        let item: Vec<u8> = (0..=255_u8).cycle().take(1_000_000).collect();
        let mut places = Vec::new();
        for _ in 0..3 {
            let mut rest = &item[..];
            while !rest.is_empty() {
                let spare = storage.spare();
                let n = spare.len().min(rest.len());
                spare[..n].copy_from_slice(&rest[..n]);
                storage.commit(n);
                rest = &rest[n..];
            }
            assert!(storage.unread() == item);
            assert_eq!(storage.unread().as_ptr().addr() % LINE, 0);
            places.push(storage.unread().as_ptr());
            storage.consume(item.len());
            // It waits for the second as readers do, and begins the third at once.
            if places.len() == 1 {
                storage.rest();
                assert_eq!(storage.memory.capacity(), 0);
            }
        }
        assert_eq!((places[1], places[2]), (places[0], places[0]));
        assert!(
            storage.spare().as_ptr() != places[0],
            "an idle buffer keeps {} bytes",
            storage.memory.capacity()
        );
    }
}
