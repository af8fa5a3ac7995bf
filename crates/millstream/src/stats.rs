//! What one connection did so far, in numbers that a test can assert.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// A snapshot of a connection's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Bytes that arrived.
    pub bytes_read: u64,
    /// Receive calls that reached the transport: one system call each, for a socket.
    pub reads: u64,
    /// Bytes that were handed to the transport.
    pub bytes_written: u64,
    /// Send calls that reached the transport: one system call each, for a socket.
    pub writes: u64,
    /// Turns in which queued bytes were flushed; each makes one send, or more if there is much to send.
    pub flushes: u64,
    /// How often the connection had to wait for its peer to take more.
    pub stalls: u64,
    /// Wake-ups of the background flusher that were asked for.
    pub flusher_calls: u64,
    /// Bytes queued now.
    pub queued: usize,
    /// The most bytes that were queued at once.
    pub peak_queued: usize,
    /// The most bytes that the reader had buffered at once.
    pub peak_buffered: usize,
}

/// The reader's own counters: written by the reader alone, read by anyone.
#[derive(Debug, Default)]
pub(crate) struct ReadStats {
    bytes: AtomicU64,
    calls: AtomicU64,
    /// How much it holds of what it wants, for the deadlines.
    held: AtomicUsize,
    peak: AtomicUsize,
}

impl ReadStats {
    /// One receive call brought `n` bytes. Only the one reader calls this, so a plain store is enough.
    pub(crate) fn record(&self, n: usize) {
        self.calls.store(self.calls.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.bytes.store(self.bytes.load(Ordering::Relaxed) + n as u64, Ordering::Relaxed);
    }

    /// The reader has so much of what it wants and looks for more; `usize::MAX`: it does not.
    pub(crate) fn hold(&self, held: usize) {
        self.held.store(held, Ordering::Relaxed);
    }

    pub(crate) fn held(&self) -> Option<usize> {
        Some(self.held.load(Ordering::Relaxed)).filter(|&held| held != usize::MAX)
    }

    /// The buffer's peak is this after a receive.
    #[inline]
    pub(crate) fn note_peak(&self, peak: usize) {
        if self.peak.load(Ordering::Relaxed) != peak {
            self.peak.store(peak, Ordering::Relaxed);
        }
    }

    pub(crate) fn peak(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}
