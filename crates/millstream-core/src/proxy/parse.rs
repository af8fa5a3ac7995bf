//! The one question a receiver asks: what are these first bytes?

use super::error::ProxyHeaderError;
use super::header::ProxyHeader;
use super::v1::{self, V1_LIMIT};
use super::v2::{self, V2_LIMIT, V2_SIGNATURE};

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyParse {
    /// They may still become a header. All of it will be at most `limit` bytes, those that are there included.
    NeedMore {
        /// In bytes, at most [`V2_LIMIT`].
        limit: usize,
    },
    /// They begin with a header.
    Header {
        /// What it says.
        header: ProxyHeader,
        /// How many bytes it has. What comes behind it is the connection's own.
        len: usize,
    },
    /// They begin as no header does.
    NotAHeader,
}

/// Judges the first bytes of a connection. Ask again with more of them while the answer is [`ProxyParse::NeedMore`]; every
/// other answer is final, however many bytes come behind.
///
/// # Errors
/// [`ProxyHeaderError`] for bytes that begin as a header does, and are none.
pub fn parse_proxy_header(bytes: &[u8]) -> Result<ProxyParse, ProxyHeaderError> {
    if begins(bytes, v1::NAME) {
        return if bytes.len() < v1::NAME.len() {
            Ok(ProxyParse::NeedMore { limit: if bytes.is_empty() { V2_LIMIT } else { V1_LIMIT } })
        } else {
            v1::parse(bytes)
        };
    }
    if begins(bytes, &V2_SIGNATURE) { v2::parse(bytes) } else { Ok(ProxyParse::NotAHeader) }
}

/// Whether the bytes begin with the mark, as far as they go.
fn begins(bytes: &[u8], mark: &[u8]) -> bool {
    bytes.iter().zip(mark).all(|(byte, of_mark)| byte == of_mark)
}
