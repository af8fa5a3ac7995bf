//! The memory that bytes are received into: where it begins, and what a large item leaves behind for the next one.
//!
//! A connection that has read a large item gives its memory back when it waits for the next, or thousands of idle ones
//! would hold it. The next large item of any connection on this thread finds it here, instead of growing step by step,
//! with the system's pages coming and going each time. One stretch a thread, none a connection.

use std::cell::Cell;

/// More than this is large.
pub(crate) const LARGE: usize = 256 * 1024 + LINE;

/// A cache line, in bytes.
pub(crate) const LINE: usize = 64;

thread_local! {
    /// Empty; its capacity is what is kept.
    static KEPT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Memory for at least `len` bytes behind what is in it already, which is less than a [`LINE`].
///
/// It begins with a cache line, for which those bytes are left unused: the memory that the system gives for a large item
/// begins 16 bytes into a page, and what a socket holds often begins a page of its own. At such a distance (1 to 63 bytes,
/// modulo 4 KiB) some processors copy at a fraction of their speed: on AMD's Zen 4, messages of 1 MiB took twice the time.
pub(crate) fn take(len: usize) -> Vec<u8> {
    if len <= SMALL {
        return Vec::with_capacity(len);
    }
    let len = len.saturating_add(LINE);
    let kept = if len > LARGE { take_kept(len) } else { None };
    let mut memory = kept.unwrap_or_else(|| Vec::with_capacity(len));
    memory.resize(memory.as_ptr().addr().wrapping_neg() % LINE, 0);
    memory
}

/// Keeps this memory for the next large item, or frees it. The larger one is kept, unless it is too large for items of
/// this size.
pub(crate) fn give_back(mut memory: Vec<u8>) {
    if memory.capacity() <= LARGE || memory.capacity() > MOST {
        return;
    }
    memory.clear();
    // While its thread ends it is freed.
    let _ = KEPT.try_with(|kept| {
        let before = kept.take();
        kept.set(if suits(memory.capacity(), before.capacity()) { before } else { memory });
    });
}

/// What is kept, if it suits an item of `least` bytes. While a thread ends there is nothing kept any more.
fn take_kept(least: usize) -> Option<Vec<u8>> {
    let kept = KEPT.try_with(Cell::take).ok()?;
    if suits(least, kept.capacity()) {
        return Some(kept);
    }
    give_back(kept);
    None
}

/// Whether a stretch of `capacity` bytes is enough for `least` and not far too much: peers that stop in the midst of a small
/// item would hold large ones.
fn suits(least: usize, capacity: usize) -> bool {
    (least..=least.saturating_mul(4)).contains(&capacity)
}

/// Where a buffer of this size begins matters little, and thousands of idle connections have one.
const SMALL: usize = 8 * 1024;
/// Items of up to 2 MiB find memory here; what larger ones would gain is lost in what they cost.
const MOST: usize = 4 * 1024 * 1024 + LINE;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_that_suits_is_kept_up_to_a_bound() {
        give_back(vec![1; LARGE + 2]);
        give_back(vec![2; LARGE + 1]);
        give_back(vec![3; MOST + 1]);
        assert!(take_kept(LARGE + 3).is_none());
        let memory = take_kept(LARGE + 2).unwrap();
        assert!(memory.is_empty() && memory.capacity() == LARGE + 2);
        assert!(take_kept(LARGE).is_none());
    }

    #[test]
    fn a_small_item_gets_no_memory_that_is_far_too_large_and_is_not_kept_out_by_it() {
        give_back(Vec::with_capacity(MOST));
        assert!(take_kept(LARGE + 1).is_none());
        assert!(take_kept(MOST / 4 + 1).is_some_and(|memory| memory.capacity() == MOST));
        give_back(Vec::with_capacity(MOST));
        give_back(Vec::with_capacity(2 * LARGE));
        assert!(take_kept(LARGE + 1).is_some_and(|memory| memory.capacity() == 2 * LARGE));
    }

    #[test]
    fn memory_begins_with_a_cache_line_and_holds_what_was_asked_for() {
        for len in [SMALL + 1, 100_000, LARGE, 3_000_000] {
            let memory = take(len);
            let room = memory.capacity() - memory.len();
            assert!(memory.len() < LINE && room >= len, "{len}: {room} behind {}", memory.len());
            assert_eq!(memory.as_ptr().wrapping_add(memory.len()).addr() % LINE, 0);
            give_back(memory);
        }
    }
}
