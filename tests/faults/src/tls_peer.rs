//! A TLS peer that does only what a row tells it: rustls over a blocking socket.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use rustls::{ClientConnection, StreamOwned};

use crate::Result;
use crate::context::Context;
use crate::papers::HOST;

/// A client whose handshake is done by its first read or write.
pub(crate) type TlsClientPeer = StreamOwned<ClientConnection, TcpStream>;

/// The engine of a client that trusts the row's certificate.
pub(crate) fn client(context: &Context) -> Result<ClientConnection> {
    Ok(ClientConnection::new(context.papers.client()?, HOST.try_into()?)?)
}

/// A client on this socket.
pub(crate) fn on(context: &Context, socket: TcpStream) -> Result<TlsClientPeer> {
    Ok(StreamOwned::new(client(context)?, socket))
}

/// The first flight of a handshake, as bytes.
pub(crate) fn hello(client: &mut ClientConnection) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes)?;
    }
    Ok(bytes)
}

/// Says a close_notify and the end of its direction.
pub(crate) fn say_end<S: Read + Write>(stream: &mut StreamOwned<ClientConnection, S>) -> io::Result<()> {
    stream.conn.send_close_notify();
    stream.conn.complete_io(&mut stream.sock).map(drop)
}
