//! What can go wrong, one enum per operation, and the class that says whose doing it was.
//!
//! Faces translate classes, not variants: the Python face turns them into the standard library's exceptions in one
//! place, the Rust face into [`std::io::Error`].

use std::io;

use bytes::Bytes;
use thiserror::Error;

use crate::failure::{ErrorClass, Failure};

/// `read`, `peek`: only the transport can fail.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The transport failed and everything that had arrived before was delivered. Sticky.
    #[error("read: {0}")]
    Failed(Failure),
}

/// `read_exactly`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReadExactlyError {
    /// The stream ended first. `partial` are the bytes that were there; they are consumed.
    #[error("read_exactly: the stream ended after {} of {expected} bytes", partial.len())]
    Incomplete {
        /// What had arrived.
        partial: Bytes,
        /// What was asked for, in bytes.
        expected: usize,
    },
    /// No buffer can ever be that long. Nothing was read.
    #[error("read_exactly: {requested} bytes were asked for, more than memory can address")]
    TooLarge {
        /// What was asked for, in bytes.
        requested: usize,
    },
    /// The transport failed before the bytes were complete; what arrived stays readable by `read`.
    #[error("read_exactly: {0}")]
    Failed(Failure),
}

impl ReadExactlyError {
    /// Whether the stream ended between two items: nothing at all had arrived.
    pub fn is_clean_end(&self) -> bool {
        matches!(self, Self::Incomplete { partial, .. } if partial.is_empty())
    }
}

/// `read_until`, `read_until_any`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReadUntilError {
    /// A separator was empty, or the list of separators was. Nothing was read.
    #[error("read_until: an empty separator can never be found")]
    EmptySeparator,
    /// The item is longer than the limit. Its bytes stay in the buffer: `skip(consumed)` or `skip_until` goes on.
    #[error("read_until: {}", overrun_text(*consumed, *limit, *found))]
    LimitOverrun {
        /// How many bytes may be skipped without cutting into a separator.
        consumed: usize,
        /// The limit in force, in bytes, separator not counted.
        limit: usize,
        /// Whether the separator was already in the buffer, at offset `consumed`.
        found: bool,
    },
    /// The stream ended inside an item. `partial` are the bytes that were there, never empty; they are consumed.
    #[error("read_until: the stream ended inside an item, after {} bytes without the separator", partial.len())]
    Incomplete {
        /// What had arrived.
        partial: Bytes,
    },
    /// The transport failed inside an item; what arrived stays readable by `read`.
    #[error("read_until: {0}")]
    Failed(Failure),
}

/// `read_line`, and the iteration over lines.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReadLineError {
    /// The line is longer than the limit. Its bytes stay in the buffer: `skip_until(b"\n")` drops just this line.
    #[error("read_line: {}", overrun_text(*consumed, *limit, *found))]
    LimitOverrun {
        /// How many bytes may be skipped without cutting into the line feed.
        consumed: usize,
        /// The limit in force, in bytes, the line feed not counted.
        limit: usize,
        /// Whether the line feed was already in the buffer, at offset `consumed`.
        found: bool,
    },
    /// The transport failed inside a line; what arrived stays readable by `read`.
    #[error("read_line: {0}")]
    Failed(Failure),
}

/// `read_to_end`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReadToEndError {
    /// The peer sent more than the caller allowed. The bytes stay in the buffer.
    #[error("read_to_end: the peer sent more than the {limit} bytes that the caller allowed")]
    LimitOverrun {
        /// The bound that was passed, in bytes.
        limit: usize,
    },
    /// The transport failed before the end; what arrived stays readable by `read`.
    #[error("read_to_end: {0}")]
    Failed(Failure),
}

/// `skip`, `skip_until`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SkipError {
    /// The separator was empty. Nothing was skipped.
    #[error("skip_until: an empty separator can never be found")]
    EmptySeparator,
    /// The stream ended before the separator, or before the count was reached.
    #[error("skip: the stream ended after {skipped} skipped bytes")]
    Incomplete {
        /// How many bytes this call dropped.
        skipped: u64,
    },
    /// The transport failed.
    #[error("skip: {0}")]
    Failed(Failure),
}

/// `write`, `write_lines`, `write_eof`: nothing of a refused message is queued.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// This side has closed or aborted the connection.
    #[error("write: the connection was closed by this side before")]
    Closed,
    /// This side has called `write_eof`.
    #[error("write: write_eof() was called before, so nothing may follow")]
    AfterEof,
    /// The hard cap would be passed.
    #[error("write: {len} more bytes on top of {queued} queued ones would pass the hard cap of {hard_cap}")]
    Full {
        /// The size of the refused message, in bytes.
        len: usize,
        /// What is queued already, in bytes.
        queued: usize,
        /// The cap that was configured, in bytes.
        hard_cap: usize,
    },
    /// `write_eof` over TLS 1.2, whose close_notify ends both directions. `close` ends the connection.
    #[error("write_eof: TLS 1.2 cannot end one direction alone (RFC 5246, section 7.2.1)")]
    NoHalfClose,
    /// The transport failed before.
    #[error("write: {0}")]
    Failed(Failure),
}

/// `drain`, `flush`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DrainError {
    /// This side closed or aborted the connection, and nothing more will be sent.
    #[error("drain or flush: the connection was closed by this side")]
    Closed,
    /// The transport failed; what was queued is lost.
    #[error("drain or flush: {0}")]
    Failed(Failure),
}

/// `wait_closed`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CloseError {
    /// The transport failed before everything was handed to it.
    #[error("wait_closed: {0}")]
    Failed(Failure),
    /// The deadline for closing ended first, so the rest was thrown away and the connection reset.
    #[error("wait_closed: {unsent} bytes were still queued when the close deadline ended")]
    Deadline {
        /// What was never sent, in bytes.
        unsent: usize,
    },
}

/// A limit or a pair of watermarks that can never work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A reader that may hold nothing cannot read.
    #[error("limit: the limit of a reader must be at least 1 byte")]
    ZeroLimit,
    /// Below the hard cap there must be room for more than the high mark, or writes would fail before `drain` waits.
    #[error("hard cap: a cap of {hard_cap} bytes is not above the high watermark ({high})")]
    CapWithinWatermarks {
        /// The cap that was asked for, in bytes.
        hard_cap: usize,
        /// The high mark in force or asked for, in bytes.
        high: usize,
    },
    /// The low mark must not be above the high mark.
    #[error("watermarks: the low mark ({low}) is above the high mark ({high})")]
    LowAboveHigh {
        /// The high mark that was asked for, in bytes.
        high: usize,
        /// The low mark that was asked for, in bytes.
        low: usize,
    },
    /// Timers are not fine enough for it.
    #[error("deadlines: {deadline:?} is too short; 4 ms is the shortest")]
    ShortDeadline {
        /// The shortest of those that were asked for.
        deadline: std::time::Duration,
    },
}

fn overrun_text(consumed: usize, limit: usize, found: bool) -> String {
    if found {
        format!(
            "the separator stands after {consumed} bytes, beyond the limit of {limit}; raise the limit or skip"
        )
    } else {
        format!(
            "no separator within the limit of {limit} bytes ({consumed} may be skipped); raise the limit or skip"
        )
    }
}

/// Gives each enum its class, its failure, and the way into [`io::Error`].
macro_rules! classify {
    ($($name:ident { $($pattern:pat => $class:expr),* $(,)? } => $kind:expr;)*) => {$(
        impl $name {
            /// Whose doing it was.
            pub fn class(&self) -> ErrorClass {
                match self {
                    $($pattern => $class,)*
                    Self::Failed(failure) => failure.class(),
                }
            }
        }

        impl From<Failure> for $name {
            fn from(failure: Failure) -> Self {
                Self::Failed(failure)
            }
        }

        impl From<$name> for io::Error {
            fn from(error: $name) -> Self {
                #[allow(unreachable_patterns, reason = "`ReadError` has no other variant yet")]
                match error {
                    $name::Failed(failure) => failure.into(),
                    other => {
                        let kind = kind_of(other.class(), $kind);
                        io::Error::new(kind, other)
                    }
                }
            }
        }
    )*};
}

classify! {
    ReadError {} => io::ErrorKind::Other;
    ReadExactlyError {
        Self::Incomplete { .. } => ErrorClass::BrokenByPeer,
        Self::TooLarge { .. } => ErrorClass::BadCall,
    } => io::ErrorKind::UnexpectedEof;
    ReadUntilError {
        Self::EmptySeparator => ErrorClass::BadCall,
        Self::LimitOverrun { .. } => ErrorClass::Limit,
        Self::Incomplete { .. } => ErrorClass::BrokenByPeer,
    } => io::ErrorKind::UnexpectedEof;
    ReadLineError { Self::LimitOverrun { .. } => ErrorClass::Limit } => io::ErrorKind::UnexpectedEof;
    ReadToEndError { Self::LimitOverrun { .. } => ErrorClass::Limit } => io::ErrorKind::UnexpectedEof;
    SkipError {
        Self::EmptySeparator => ErrorClass::BadCall,
        Self::Incomplete { .. } => ErrorClass::BrokenByPeer,
    } => io::ErrorKind::UnexpectedEof;
    WriteError {
        Self::Closed | Self::AfterEof => ErrorClass::ClosedByUs,
        Self::Full { .. } => ErrorClass::Limit,
        Self::NoHalfClose => ErrorClass::BadCall,
    } => io::ErrorKind::BrokenPipe;
    DrainError { Self::Closed => ErrorClass::ClosedByUs } => io::ErrorKind::BrokenPipe;
    CloseError { Self::Deadline { .. } => ErrorClass::Deadline } => io::ErrorKind::TimedOut;
}

/// The kind an error has as [`io::Error`]: `by_peer` is what "the peer did it" means for the operation.
fn kind_of(class: ErrorClass, by_peer: io::ErrorKind) -> io::ErrorKind {
    match class {
        ErrorClass::BadCall => io::ErrorKind::InvalidInput,
        ErrorClass::ClosedByUs => io::ErrorKind::BrokenPipe,
        ErrorClass::BrokenByPeer => by_peer,
        ErrorClass::Limit => io::ErrorKind::InvalidData,
        ErrorClass::Deadline => io::ErrorKind::TimedOut,
    }
}

impl ConfigError {
    /// Whose doing it was: always the caller's.
    pub fn class(&self) -> ErrorClass {
        ErrorClass::BadCall
    }
}

impl From<ConfigError> for io::Error {
    fn from(error: ConfigError) -> Self {
        io::Error::new(io::ErrorKind::InvalidInput, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_operation_and_the_numbers() {
        let error = WriteError::Full { len: 10, queued: 95, hard_cap: 100 };
        assert_eq!(error.class(), ErrorClass::Limit);
        let text = error.to_string();
        for part in ["write", "10", "95", "100"] {
            assert!(text.contains(part), "{text:?} lacks {part:?}");
        }
    }
}
