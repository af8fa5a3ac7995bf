//! The peer's end of a connection: a plain blocking socket, or TLS by bare rustls over one.

use std::io::{Read, Result, Write};
use std::net::{Shutdown, TcpStream};

#[cfg(feature = "tls")]
use rustls::{ClientConnection, StreamOwned};

#[derive(Debug)]
pub(crate) enum Wire {
    Plain(TcpStream),
    #[cfg(feature = "tls")]
    Sealed(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Wire {
    /// Does the handshake, and takes the byte with which the other side says that it is over there as well.
    #[cfg(feature = "tls")]
    pub(crate) fn sealed(tls: ClientConnection, socket: TcpStream) -> Result<Self> {
        let mut wire = Self::Sealed(Box::new(StreamOwned::new(tls, socket)));
        wire.read_exact(&mut [0])?;
        Ok(wire)
    }

    /// Ends the direction that goes to the handler.
    pub(crate) fn end(&mut self) -> Result<()> {
        match self {
            Self::Plain(socket) => socket.shutdown(Shutdown::Write),
            #[cfg(feature = "tls")]
            Self::Sealed(stream) => {
                stream.conn.send_close_notify();
                stream.flush()
            }
        }
    }
}

impl Read for Wire {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buf),
            #[cfg(feature = "tls")]
            Self::Sealed(stream) => stream.read(buf),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, buf: &[u8]) -> Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(buf),
            #[cfg(feature = "tls")]
            Self::Sealed(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            #[cfg(feature = "tls")]
            Self::Sealed(stream) => stream.flush(),
        }
    }
}
