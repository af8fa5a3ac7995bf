//! What is queued before the small messages of now: large messages where they are, and the small ones before those.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

/// Chunks in the order of sending, and which of them are done with.
#[derive(Default)]
pub(super) struct Earlier {
    /// No chunk is empty.
    chunks: VecDeque<Chunk>,
    /// Messages that were given away and are done with. Dropping one may run code of strangers (`Bytes::from_owner`), so
    /// the driver does it.
    finished: Vec<Bytes>,
}

struct Chunk {
    bytes: Bytes,
    /// Whether the caller gave it away, rather than our having copied it.
    given: bool,
}

impl Earlier {
    /// Appends a message that the caller gave away.
    pub(super) fn push_given(&mut self, bytes: Bytes) {
        self.chunks.push_back(Chunk { bytes, given: true });
    }

    /// Appends messages that were copied.
    pub(super) fn push_copied(&mut self, bytes: Bytes) {
        self.chunks.push_back(Chunk { bytes, given: false });
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub(super) fn gather(&self) -> impl Iterator<Item = &[u8]> {
        self.chunks.iter().map(|chunk| &chunk.bytes[..])
    }

    /// Frees the first `n` bytes, and returns how many of them are not here.
    pub(super) fn forget(&mut self, n: usize) -> usize {
        let mut left = n;
        while let Some(chunk) = self.chunks.front_mut() {
            if left < chunk.bytes.len() {
                chunk.bytes.advance(left);
                return 0;
            }
            left -= chunk.bytes.len();
            self.finished.extend(self.chunks.pop_front().and_then(Chunk::given));
        }
        left
    }

    /// Everything is done with.
    pub(super) fn clear(&mut self) {
        self.finished.extend(self.chunks.drain(..).filter_map(Chunk::given));
    }

    #[inline]
    pub(super) fn has_finished(&self) -> bool {
        !self.finished.is_empty()
    }

    pub(super) fn take_finished(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.finished)
    }
}

impl Chunk {
    fn given(self) -> Option<Bytes> {
        self.given.then_some(self.bytes)
    }
}
