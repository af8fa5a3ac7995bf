//! Why bytes that begin as a header are none, and why a header cannot be written.

use std::fmt;
use std::io;

use thiserror::Error;

use super::v1::V1_LIMIT;
use super::v2::V2_LIMIT;
use crate::failure::ErrorClass;

/// Bytes that begin as a PROXY header does, and are none. The connection must be refused: nobody can know where its own
/// bytes begin, or whom it is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum ProxyHeaderError {
    /// Version 1: a part of the line is not as the specification has it.
    #[error("PROXY v1: {part} at byte {at} is not as the specification has it")]
    V1Malformed {
        /// Which part.
        part: ProxyV1Part,
        /// Where it begins, or where a byte stands that cannot be in it: an offset in bytes.
        at: usize,
    },
    /// Version 1: the line does not end where every line has to.
    #[error("PROXY v1: no CRLF within {V1_LIMIT} bytes")]
    V1TooLong,
    /// Version 2: the signature is followed by another version.
    #[error("PROXY v2: the version behind the signature is {found}, not 2")]
    V2Version {
        /// Its number.
        found: u8,
    },
    /// Version 2: a command that is none.
    #[error("PROXY v2: the command {found:#x} is neither LOCAL nor PROXY")]
    V2Command {
        /// Its number.
        found: u8,
    },
    /// Version 2: an address family that is none.
    #[error("PROXY v2: the address family {found:#x} is unassigned")]
    V2Family {
        /// Its number.
        found: u8,
    },
    /// Version 2: a transport protocol that is none.
    #[error("PROXY v2: the transport protocol {found:#x} is unassigned")]
    V2Transport {
        /// Its number.
        found: u8,
    },
    /// Version 2: longer than this side accepts. Told as soon as the length is known; nothing of it is waited for.
    #[error("PROXY v2: the header announces {len} bytes in all, more than the limit of {V2_LIMIT}")]
    V2TooLong {
        /// The whole header, in bytes.
        len: usize,
    },
    /// Version 2: the addresses of the family do not fit into the announced length.
    #[error("PROXY v2: {len} bytes were announced, and the addresses alone have {needed}")]
    V2ShortAddresses {
        /// What was announced behind the first 16 bytes.
        len: usize,
        /// What the addresses of this family have, in bytes.
        needed: usize,
    },
    /// Version 2: a TLV that is cut, or one of a known type that cannot be.
    #[error("PROXY v2: the TLV at byte {at} is cut short or has a length that its type does not allow")]
    V2Tlv {
        /// Where it begins: an offset in bytes.
        at: usize,
    },
    /// Version 2: the checksum is wrong.
    #[error("PROXY v2: the checksum is {computed:#010x}, and the header says {found:#010x}")]
    V2Checksum {
        /// What the header says.
        found: u32,
        /// What its bytes give.
        computed: u32,
    },
}

impl ProxyHeaderError {
    /// Whose doing it was: the sender's, but for a header that is only too long for us.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::V1TooLong | Self::V2TooLong { .. } => ErrorClass::Limit,
            _ => ErrorClass::BrokenByPeer,
        }
    }
}

impl From<ProxyHeaderError> for io::Error {
    fn from(error: ProxyHeaderError) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

/// A part of a line of version 1, in the order in which they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProxyV1Part {
    /// The one space between two parts.
    Space,
    /// `TCP4`, `TCP6` or `UNKNOWN`.
    Protocol,
    /// The client's address.
    SourceAddress,
    /// The address that the client connected to.
    DestinationAddress,
    /// The client's port.
    SourcePort,
    /// The port that the client connected to.
    DestinationPort,
    /// The CRLF.
    LineEnd,
}

impl fmt::Display for ProxyV1Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Space => "the space",
            Self::Protocol => "the protocol",
            Self::SourceAddress => "the source address",
            Self::DestinationAddress => "the destination address",
            Self::SourcePort => "the source port",
            Self::DestinationPort => "the destination port",
            Self::LineEnd => "the end of the line",
        })
    }
}

/// A header that cannot be written as it was asked for. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum ProxyEncodeError {
    /// Version 1 has no words for it.
    #[error("PROXY v1 cannot say {what}: write version 2")]
    V1CannotSay {
        /// What it lacks.
        what: &'static str,
    },
    /// A TLV of a known type has a length that its type does not allow: a checksum has 4 bytes, a unique id at most 128.
    #[error("PROXY v2: the TLV of type {kind:#04x} has a length that its type does not allow")]
    BadTlv {
        /// Its type.
        kind: u8,
    },
    /// Version 2 would be longer than this library accepts.
    #[error("PROXY v2: the header would have {len} bytes, more than the limit of {V2_LIMIT}")]
    TooLong {
        /// The whole header, in bytes.
        len: usize,
    },
}

impl ProxyEncodeError {
    /// Whose doing it was: always the caller's.
    pub fn class(&self) -> ErrorClass {
        ErrorClass::BadCall
    }
}

impl From<ProxyEncodeError> for io::Error {
    fn from(error: ProxyEncodeError) -> Self {
        io::Error::new(io::ErrorKind::InvalidInput, error)
    }
}
