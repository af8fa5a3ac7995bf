//! Tools for testing what is built on streams, without sockets and without waiting: an in-memory pair, and a scripted
//! peer that misbehaves on command.
//!
//! Both work under tokio's paused clock, so delays in a script cost no time.

mod script;

use crate::reader::StreamReader;
use crate::streams::default_pair;
use crate::transport::{MemoryEnd, Transport};
use crate::writer::StreamWriter;

pub use script::{ScriptError, ScriptedPeer, scripted_peer};

/// Two connected pairs in memory, with the manners of a socket pair: bounded, with half-close and reset.
///
/// Each direction holds 64 KiB.
///
/// # Panics
/// Outside a tokio runtime.
pub fn pair() -> ((StreamReader, StreamWriter), (StreamReader, StreamWriter)) {
    pair_with_capacity(DEFAULT_CAPACITY)
}

/// As [`pair`], with another capacity in bytes for each direction.
///
/// # Panics
/// Outside a tokio runtime.
pub fn pair_with_capacity(capacity: usize) -> ((StreamReader, StreamWriter), (StreamReader, StreamWriter)) {
    let (one, other) = MemoryEnd::pair(capacity);
    (default_pair(Transport::Memory(one)), default_pair(Transport::Memory(other)))
}

/// Like the buffers of a socket.
const DEFAULT_CAPACITY: usize = 64 * 1024;
