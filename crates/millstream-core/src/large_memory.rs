//! The memory that a large item has left behind, kept for the next one: two stretches a thread, none a connection.
//!
//! A connection that has read or sent a large item gives its memory back at once, or thousands of idle ones would hold it.
//! The next large item of any connection on this thread finds it here, instead of growing, copying and clearing from
//! nothing each time. What another item has left in it is never seen: a reader sees only what its own fills wrote.

use std::cell::Cell;
use std::thread::LocalKey;

thread_local! {
    /// Full of bytes without meaning, to be filled again by receives.
    static RECEIVED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// Emptied, to be appended to.
    static SENT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Initialised memory of at least `len` bytes to receive into.
pub(crate) fn to_receive(len: usize) -> Vec<u8> {
    let mut memory = take(&RECEIVED, len).unwrap_or_else(|| vec![0; len]);
    // Nothing to do but for memory that the allocator has rounded up.
    memory.resize(memory.len().max(len), 0);
    memory
}

/// Keeps what was received into.
pub(crate) fn received(memory: Vec<u8>) {
    keep(&RECEIVED, memory);
}

/// Empty memory for at least `len` bytes to be sent.
pub(crate) fn to_send(len: usize) -> Vec<u8> {
    take(&SENT, len).unwrap_or_else(|| Vec::with_capacity(len))
}

/// Keeps what was sent from.
pub(crate) fn sent(mut memory: Vec<u8>) {
    memory.clear();
    keep(&SENT, memory);
}

/// What is kept, if it is large enough. While a thread ends there is nothing kept any more.
fn take(kept: &'static LocalKey<Cell<Vec<u8>>>, least: usize) -> Option<Vec<u8>> {
    let left = kept.try_with(Cell::take).ok()?;
    if left.capacity() >= least {
        return Some(left);
    }
    keep(kept, left);
    None
}

/// Keeps the memory, if it is larger than what is kept, and not too large.
fn keep(kept: &'static LocalKey<Cell<Vec<u8>>>, memory: Vec<u8>) {
    if memory.capacity() > MOST {
        return;
    }
    // While its thread ends it is freed.
    let _ = kept.try_with(|kept| {
        let before = kept.take();
        kept.set(if memory.capacity() > before.capacity() { memory } else { before });
    });
}

/// Messages of up to 2 MiB are served by this; what larger ones gain is lost in what they cost.
const MOST: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_is_kept_for_who_needs_no_more_up_to_a_bound() {
        received(vec![1; 3_000]);
        received(vec![2; 2_000]);
        received(vec![3; MOST + 1]);
        assert_eq!(to_receive(3_001), vec![0; 3_001]);
        assert_eq!(to_receive(2_500), vec![1; 3_000]);
        assert_eq!(to_receive(1), vec![0; 1]);
    }

    #[test]
    fn what_was_sent_from_comes_back_empty_and_is_never_received_into() {
        sent(vec![1; 3_000]);
        assert_eq!(to_receive(10), vec![0; 10]);
        let memory = to_send(2_000);
        assert!(memory.is_empty() && memory.capacity() >= 3_000);
        assert!(to_send(2_000).capacity() < 3_000);
    }
}
