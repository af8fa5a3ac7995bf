//! What a connection knows from its header: whom it is from.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use millstream_core::proxy::{ProxyEndpoints, ProxyHeader, ProxyUnixAddress};

use crate::address::Address;
use crate::writer::StreamWriter;

/// A header that was taken, and the peer that it names.
#[derive(Debug)]
pub(crate) struct Proxied {
    pub(crate) header: ProxyHeader,
    /// `None` if the proxy speaks for itself or for someone unknown: then the socket's own peer counts.
    pub(crate) peer: Option<Address>,
}

impl Proxied {
    pub(super) fn new(header: ProxyHeader) -> Self {
        let peer = match header.endpoints() {
            ProxyEndpoints::Ip { source, .. } => Some(Address::Ip(*source)),
            ProxyEndpoints::Unix { source, .. } => Some(unix(source)),
            _ => None,
        };
        Self { header, peer }
    }
}

fn unix(address: &ProxyUnixAddress) -> Address {
    match address.as_bytes() {
        [] => Address::Unnamed,
        [0, name @ ..] => Address::Abstract(name.to_owned()),
        path => Address::Path(PathBuf::from(OsStr::from_bytes(path))),
    }
}

impl StreamWriter {
    /// The PROXY header that this connection of a server began with. `None` if none was asked for or none came.
    ///
    /// It has what [`peer_address`](Self::peer_address) leaves out: the address that the client connected to, the host name
    /// it asked for, what the proxy knows of its TLS.
    pub fn proxy_header(&self) -> Option<&ProxyHeader> {
        self.connection.proxied().map(|proxied| &proxied.header)
    }

    /// The address at the other end of the socket: behind a proxy the proxy's, else as
    /// [`peer_address`](Self::peer_address).
    pub fn socket_peer_address(&self) -> Option<Address> {
        self.connection.socket_peer_address()
    }
}
