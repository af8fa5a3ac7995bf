//! The memory that a thread keeps for its connections: bytes are received into it, and small messages gather in it.
//!
//! A connection needs such memory only while it holds bytes. One that waits with none gives it back, and whichever
//! connection of this thread is next takes it, while it is still in the processor's cache. So idle connections hold none,
//! and ten thousand that answer one line at a time share one stretch for receiving and one for sending.
//!
//! Nothing is cleared in between: who takes memory here must show of it only what it has filled itself.

use std::cell::{Cell, RefCell};

/// More than this is large. An item of 256 KiB fits, and a receive behind it.
pub(crate) const LARGE: usize = 320 * 1024 + LINE;

/// A cache line, in bytes.
pub(crate) const LINE: usize = 64;

thread_local! {
    // A request that is answered at once takes one stretch of each kind and gives it back: these two, and no others. They
    // have as little code around them as there can be, because a system call leaves none of it in the processor's cache.
    /// What was given back last of [`SMALL`] bytes, or nothing.
    static LAST_SMALL: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// The same of the empty ones for messages.
    static LAST_TAIL: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static KEPT: RefCell<Kept> = const {
        RefCell::new(Kept { small: Vec::new(), full: Vec::new(), middle: Vec::new(), large: Vec::new(), tails: Vec::new() })
    };
}

/// What the thread keeps, by size. What stands in the stretches is of no meaning, and their lengths only say how much of
/// them was ever cleared.
struct Kept {
    /// Of [`SMALL`] bytes, at most [`MOST_SMALL`].
    small: Vec<Vec<u8>>,
    /// Of [`FULL`] bytes, at most [`MOST_FULL`].
    full: Vec<Vec<u8>>,
    /// Of [`LARGE`] bytes, at most [`MOST_MIDDLE`].
    middle: Vec<Vec<u8>>,
    /// One of more than [`LARGE`] and at most [`MOST`] bytes, or without any.
    large: Vec<u8>,
    /// Empty ones for messages, at most [`MOST_TAILS`].
    tails: Vec<Vec<u8>>,
}

/// Memory of [`SMALL`] bytes. What is in it already may be overwritten and must not be shown.
#[inline]
pub(crate) fn take_small() -> Vec<u8> {
    match LAST_SMALL.try_with(Cell::take) {
        Ok(last) if last.capacity() > 0 => last,
        _ => take(SMALL),
    }
}

/// Memory for at least `len` bytes behind its [`base`]. What is in it already may be overwritten and must not be shown.
#[cold]
pub(crate) fn take(len: usize) -> Vec<u8> {
    take_kept(len).unwrap_or_else(|| allocate(len))
}

/// The same, for one who must not have what others have used.
pub(crate) fn allocate(len: usize) -> Vec<u8> {
    Vec::with_capacity(allocated_len(len))
}

/// Memory for an item of about `len` bytes, if there is some that needs no allocation.
pub(crate) fn take_kept(len: usize) -> Option<Vec<u8>> {
    KEPT.try_with(|kept| kept.borrow_mut().take(len)).ok().flatten()
}

/// Keeps this memory for whoever needs some next, or frees it.
#[inline]
pub(crate) fn give_back(memory: Vec<u8>) {
    if memory.capacity() != SMALL {
        return keep(memory);
    }
    // While its thread ends it is freed.
    if let Ok(before) = LAST_SMALL.try_with(|last| last.replace(memory))
        && before.capacity() > 0
    {
        keep(before);
    }
}

#[cold]
fn keep(memory: Vec<u8>) {
    if memory.capacity() >= SMALL {
        let _ = KEPT.try_with(|kept| kept.borrow_mut().keep(memory));
    }
}

/// Where memory begins to be used: the first cache line in it.
///
/// The memory that the system gives for a large item begins 16 bytes into a page, and what a socket holds often begins a
/// page of its own. At such a distance (1 to 63 bytes, modulo 4 KiB) some processors copy at a fraction of their speed: on
/// AMD's Zen 4, messages of 1 MiB took twice the time. Where a small item begins matters little.
pub(crate) fn base(memory: &Vec<u8>) -> usize {
    if memory.capacity() <= SMALL { 0 } else { memory.as_ptr().addr().wrapping_neg() % LINE }
}

/// Empty memory for messages that gather, of at least [`TAIL`] bytes.
#[inline]
pub(crate) fn take_tail() -> Vec<u8> {
    match LAST_TAIL.try_with(Cell::take) {
        Ok(last) if last.capacity() > 0 => last,
        _ => take_more_tail(),
    }
}

#[cold]
fn take_more_tail() -> Vec<u8> {
    let kept = KEPT.try_with(|kept| kept.borrow_mut().tails.pop()).ok().flatten();
    kept.unwrap_or_else(|| Vec::with_capacity(TAIL))
}

/// Keeps the memory of messages that have left, unless one long burst has made it larger than most need.
#[inline]
pub(crate) fn give_back_tail(mut tail: Vec<u8>) {
    if tail.capacity() > MOST_TAIL {
        return;
    }
    tail.clear();
    if let Ok(before) = LAST_TAIL.try_with(|last| last.replace(tail))
        && before.capacity() > 0
    {
        keep_tail(before);
    }
}

#[cold]
fn keep_tail(tail: Vec<u8>) {
    let _ = KEPT.try_with(|kept| push(&mut kept.borrow_mut().tails, tail, MOST_TAILS));
}

impl Kept {
    fn take(&mut self, len: usize) -> Option<Vec<u8>> {
        match allocated_len(len) {
            SMALL => self.small.pop(),
            FULL => self.full.pop(),
            LARGE => self.middle.pop(),
            len => self.take_large(len),
        }
    }

    fn keep(&mut self, memory: Vec<u8>) {
        match memory.capacity() {
            SMALL => push(&mut self.small, memory, MOST_SMALL),
            FULL => push(&mut self.full, memory, MOST_FULL),
            LARGE => push(&mut self.middle, memory, MOST_MIDDLE),
            len if len > LARGE && len <= MOST => self.keep_large(memory),
            _ => {}
        }
    }

    /// The larger one is kept, unless it is too large for items of this size.
    fn keep_large(&mut self, mut memory: Vec<u8>) {
        if !suits(memory.capacity(), self.large.capacity()) {
            // Cleared again piece by piece, just before the next receive finds it in the cache.
            memory.clear();
            self.large = memory;
        }
    }

    fn take_large(&mut self, least: usize) -> Option<Vec<u8>> {
        suits(least, self.large.capacity()).then(|| std::mem::take(&mut self.large))
    }
}

/// How much is allocated for `len` bytes: stretches of few sizes fit the next one as well.
fn allocated_len(len: usize) -> usize {
    match len {
        len if len <= SMALL => SMALL,
        len if len <= FULL_FILL => FULL,
        len if len <= MIDDLE => LARGE,
        len => len.saturating_add(LINE),
    }
}

/// Whether a stretch of `capacity` bytes is enough for `least` and not far too much: peers that stop in the midst of a small
/// item would hold large ones.
fn suits(least: usize, capacity: usize) -> bool {
    (least..=least.saturating_mul(4)).contains(&capacity)
}

fn push(stack: &mut Vec<Vec<u8>>, memory: Vec<u8>, most: usize) {
    if stack.len() < most {
        stack.push(memory);
    }
}

/// Most requests fit into as much.
pub(crate) const SMALL: usize = 8 * 1024;
/// The most that one receive is offered: as much as a hand-written loop uses.
pub(crate) const FULL_FILL: usize = 64 * 1024;
const FULL: usize = FULL_FILL + LINE;
/// The longest item that is not large.
pub(crate) const MIDDLE: usize = LARGE - LINE;
/// What gathers before the cork lets it go, and a message on top. See [`crate::DEFAULT_CORK_THRESHOLD`].
const TAIL: usize = 16 * 1024;
const MOST_TAIL: usize = 2 * TAIL;
/// Items of up to 2 MiB find memory here; what larger ones would gain is lost in what they cost.
const MOST: usize = 4 * 1024 * 1024 + LINE;
/// One of each is enough where a reader waits as soon as it has answered. More are for handlers that hold a request while they
/// wait for others: as many as are at work at once, up to about 4 MiB of each.
const MOST_SMALL: usize = 512;
const MOST_FULL: usize = 64;
const MOST_MIDDLE: usize = 4;
const MOST_TAILS: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_that_suits_is_kept_up_to_a_bound() {
        give_back(vec![1; LARGE + 2]);
        give_back(vec![2; LARGE + 1]);
        give_back(vec![3; MOST + 1]);
        let kept = |least| KEPT.with(|kept| kept.borrow_mut().take_large(least));
        assert!(kept(LARGE + 3).is_none());
        let memory = kept(LARGE + 2).unwrap();
        assert!(memory.is_empty() && memory.capacity() == LARGE + 2);
        assert!(kept(LARGE).is_none());
    }

    #[test]
    fn a_small_item_gets_no_memory_that_is_far_too_large_and_is_not_kept_out_by_it() {
        let kept = |least| KEPT.with(|kept| kept.borrow_mut().take_large(least));
        give_back(Vec::with_capacity(MOST));
        assert!(kept(LARGE + 1).is_none());
        assert!(kept(MOST / 4 + 1).is_some_and(|memory| memory.capacity() == MOST));
        give_back(Vec::with_capacity(MOST));
        give_back(Vec::with_capacity(2 * LARGE));
        assert!(kept(LARGE + 1).is_some_and(|memory| memory.capacity() == 2 * LARGE));
    }

    #[test]
    fn memory_begins_with_a_cache_line_and_holds_what_was_asked_for() {
        for len in [1, SMALL, SMALL + 1, FULL_FILL, 100_000, LARGE, 3_000_000] {
            for _ in 0..2 {
                let memory = take(len);
                let base = base(&memory);
                assert!(memory.capacity() - base >= len, "{len}: {} bytes from {base}", memory.capacity());
                assert!(len <= SMALL || memory.as_ptr().wrapping_add(base).addr().is_multiple_of(LINE));
                give_back(memory);
            }
        }
    }

    #[test]
    fn what_was_given_back_last_is_the_next_ones() {
        let takes: [fn() -> Vec<u8>; 3] = [take_small, || take(FULL_FILL), take_tail];
        for (take, give_back) in takes.into_iter().zip([give_back, give_back, give_back_tail]) {
            let memory = take();
            let address = memory.as_ptr();
            give_back(memory);
            let again = take();
            assert_eq!(again.as_ptr(), address);
            let other = take();
            assert_ne!(other.as_ptr(), address);
        }
    }

    #[test]
    fn of_many_that_are_given_back_few_are_kept() {
        for _ in 0..2 {
            for (take, give_back) in [
                (take_small as fn() -> Vec<u8>, give_back as fn(Vec<u8>)),
                (|| take(FULL_FILL), give_back),
                (take_tail, give_back_tail),
            ] {
                let many: Vec<_> = (0..1000).map(|_| take()).collect();
                many.into_iter().for_each(give_back);
            }
            KEPT.with_borrow(|kept| {
                let kept = [kept.small.len(), kept.full.len(), kept.tails.len()];
                assert_eq!(kept, [MOST_SMALL, MOST_FULL, MOST_TAILS]);
            });
        }
    }

    #[test]
    fn tails_are_kept_empty_and_not_those_of_a_long_burst() {
        let mut tail = take_tail();
        tail.extend_from_slice(b"a message");
        let address = tail.as_ptr();
        give_back_tail(tail);
        let tail = take_tail();
        assert_eq!((tail.as_ptr(), tail.len()), (address, 0));
        give_back_tail(Vec::with_capacity(MOST_TAIL + 1));
        assert!(take_tail().capacity() <= MOST_TAIL);
    }
}
