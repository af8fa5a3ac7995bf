//! Between whom a proxied connection is.

use std::net::SocketAddr;

/// What a header says about the two ends of the connection that the proxy accepted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProxyEndpoints {
    /// The proxy made this connection for itself, to check the server's health say (`LOCAL`, version 2). The socket's own
    /// addresses count.
    Local,
    /// The proxy speaks for someone it cannot name (`UNKNOWN` in version 1, an unspecified family or protocol in version
    /// 2). The socket's own addresses count.
    Unknown,
    /// Over IP.
    Ip {
        /// The client.
        source: SocketAddr,
        /// What the client connected to.
        destination: SocketAddr,
        /// TCP or UDP.
        transport: ProxyTransport,
    },
    /// Over Unix sockets (version 2 only).
    Unix {
        /// The client.
        source: ProxyUnixAddress,
        /// What the client connected to.
        destination: ProxyUnixAddress,
        /// Stream or datagram.
        transport: ProxyTransport,
    },
}

/// The kind of the proxied socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProxyTransport {
    /// `SOCK_STREAM`: TCP over IP.
    Stream,
    /// `SOCK_DGRAM`: UDP over IP.
    Datagram,
}

/// The address of a Unix socket as the header has it: at most [`LEN`](Self::LEN) bytes.
///
/// Empty for a socket that was never bound, a zero byte and a name in Linux's abstract name space, else a path. A path ends
/// at its first zero byte; zero bytes at the end of an abstract name are padding, for the header does not tell its length.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ProxyUnixAddress(Box<[u8]>);

impl ProxyUnixAddress {
    /// The bytes of each address in a header.
    pub const LEN: usize = 108;

    /// From a path, or a zero byte and an abstract name. `None` if it is too long.
    pub fn new(bytes: impl AsRef<[u8]>) -> Option<Self> {
        let bytes = bytes.as_ref();
        (bytes.len() <= Self::LEN).then(|| Self::from_padded(bytes))
    }

    /// From a block of the header.
    pub(super) fn from_padded(block: &[u8]) -> Self {
        let len = match block.first() {
            Some(0) => block.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1),
            _ => memchr::memchr(0, block).unwrap_or(block.len()),
        };
        Self(block[..len].into())
    }

    /// Without padding.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_not_part_of_an_address() {
        let table: [(&[u8], &[u8]); 6] = [
            (b"", b""),
            (b"\0\0\0", b""),
            (b"/run/a\0\0", b"/run/a"),
            (b"/run/a\0left over", b"/run/a"),
            (b"\0abstract\0name\0\0", b"\0abstract\0name"),
            (b"/run/a", b"/run/a"),
        ];
        for (block, expected) in table {
            assert_eq!(ProxyUnixAddress::new(block).unwrap().as_bytes(), expected, "{block:?}");
        }
        assert_eq!(ProxyUnixAddress::new([b'x'; 108]).unwrap().as_bytes().len(), 108);
        assert_eq!(ProxyUnixAddress::new([b'x'; 109]), None);
    }
}
