//! What a relay has moved, and what ended it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millstream_core::{ErrorClass, ReadError, WriteError};

/// How a relay went.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it says whether the relay ended because both sides did"]
#[non_exhaustive]
pub struct Relayed {
    /// Bytes that came from the first connection and were queued on the second.
    pub a_to_b: u64,
    /// Bytes that came from the second connection and were queued on the first.
    pub b_to_a: u64,
    /// What ended it.
    pub end: RelayEnd,
}

impl Relayed {
    /// Whether both sides ended their streams, and everything was handed to the system.
    pub fn is_complete(&self) -> bool {
        self.end == RelayEnd::Complete
    }
}

/// What ended a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RelayEnd {
    /// Both sides ended their streams, and everything was handed to the system.
    Complete,
    /// Nothing moved for the idle timeout.
    Idle {
        /// That time.
        limit: Duration,
    },
    /// Reading this side failed. What it had sent before was queued on the other and handed to the system, but no end.
    ReadFailed {
        /// Whose connection.
        side: RelaySide,
        /// How.
        error: ReadError,
    },
    /// Writing to this side failed. What it had sent before was relayed to the other side.
    WriteFailed {
        /// Whose connection.
        side: RelaySide,
        /// How.
        error: WriteError,
    },
}

impl RelayEnd {
    /// Whose doing it was; `None` for [`Complete`](Self::Complete).
    pub fn class(&self) -> Option<ErrorClass> {
        match self {
            Self::Complete => None,
            Self::Idle { .. } => Some(ErrorClass::Deadline),
            Self::ReadFailed { error, .. } => Some(error.class()),
            Self::WriteFailed { error, .. } => Some(error.class()),
        }
    }
}

impl fmt::Display for RelayEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Complete => write!(f, "relay: both sides ended"),
            Self::Idle { limit } => write!(f, "relay: nothing moved for {limit:?}"),
            Self::ReadFailed { side, error } => write!(f, "relay: side {side}: {error}"),
            Self::WriteFailed { side, error } => write!(f, "relay: side {side}: {error}"),
        }
    }
}

/// One of the two connections of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RelaySide {
    /// The first.
    A,
    /// The second.
    B,
}

impl fmt::Display for RelaySide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The bytes that a relay has moved so far; from [`Relay::counters`](super::Relay::counters).
#[derive(Clone, Debug, Default)]
pub struct RelayCounters(Arc<[AtomicU64; 2]>);

impl RelayCounters {
    /// Bytes that came from the first connection and were queued on the second.
    pub fn a_to_b(&self) -> u64 {
        self.0[0].load(Ordering::Relaxed)
    }

    /// Bytes that came from the second connection and were queued on the first.
    pub fn b_to_a(&self) -> u64 {
        self.0[1].load(Ordering::Relaxed)
    }

    pub(super) fn add_there(&self, n: usize) {
        add(&self.0[0], n);
    }

    pub(super) fn add_back(&self, n: usize) {
        add(&self.0[1], n);
    }
}

/// The relay alone adds, so a plain store is enough.
fn add(counter: &AtomicU64, n: usize) {
    counter.store(counter.load(Ordering::Relaxed) + n as u64, Ordering::Relaxed);
}
