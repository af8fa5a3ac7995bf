//! Tools for testing what is built on streams, without sockets and without waiting: an in-memory pair, and a scripted
//! peer that misbehaves on command.
//!
//! Both work under tokio's paused clock, so delays in a script cost no time.

mod script;

use millstream_core::ConfigError;

use crate::connect::ConnectOptions;
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
pub fn pair() -> (Pair, Pair) {
    pair_with_capacity(DEFAULT_CAPACITY)
}

/// As [`pair`], with another capacity in bytes for each direction.
///
/// # Panics
/// Outside a tokio runtime.
pub fn pair_with_capacity(capacity: usize) -> (Pair, Pair) {
    let (one, other) = MemoryEnd::pair(capacity);
    (default_pair(Transport::Memory(one)), default_pair(Transport::Memory(other)))
}

/// As [`pair`], with the options of a connection: limit, watermarks, hard cap, close deadline.
///
/// # Errors
/// [`ConfigError`] for options that can never work.
///
/// # Panics
/// Outside a tokio runtime.
pub fn pair_with(options: &ConnectOptions) -> Result<(Pair, Pair), ConfigError> {
    pair_between(options, options)
}

/// As [`pair_with`], with options of its own for each end.
///
/// # Errors
/// [`ConfigError`] for options that can never work.
///
/// # Panics
/// Outside a tokio runtime.
pub fn pair_between(one: &ConnectOptions, other: &ConnectOptions) -> Result<(Pair, Pair), ConfigError> {
    let ends = MemoryEnd::pair(DEFAULT_CAPACITY);
    one.streams.check()?;
    other.streams.check()?;
    let make = |options: &ConnectOptions, end| options.streams.pair(Transport::Memory(end), None);
    Ok((make(one, ends.0)?, make(other, ends.1)?))
}

/// The two halves of one end.
pub type Pair = (StreamReader, StreamWriter);

/// Like the buffers of a socket.
const DEFAULT_CAPACITY: usize = 64 * 1024;
