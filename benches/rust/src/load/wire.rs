//! What a load sends and receives through: the bare socket, or TLS on it.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use socket2::{Domain, Socket, Type};

use crate::Result;

/// One connection to the server, ready to be used. It never blocks.
pub(super) trait Wire: Sized {
    /// Opens the one with this number.
    fn connect(port: u16, number: usize) -> Result<Self>;

    /// Its socket.
    fn socket(&self) -> &TcpStream;

    /// Takes as many of these bytes as there is room for.
    fn send(&mut self, bytes: &[u8]) -> Result<usize>;

    /// Whether something that `send` took has not left: call it again, if need be with nothing.
    fn holds_back(&self) -> bool;

    /// Receives once, hands what came to `take` and says how many bytes that were on the socket; `None` when
    /// nothing is there. The end of the stream is an error: nobody asked for it.
    fn receive(&mut self, scratch: &mut [u8], take: impl FnMut(&[u8]) -> Result<()>)
    -> Result<Option<usize>>;
}

/// The bare socket.
#[derive(Debug)]
pub(super) struct Plain(TcpStream);

impl Wire for Plain {
    fn connect(port: u16, number: usize) -> Result<Self> {
        let stream = dial(port, number)?;
        stream.set_nonblocking(true)?;
        Ok(Self(stream))
    }

    fn socket(&self) -> &TcpStream {
        &self.0
    }

    fn send(&mut self, bytes: &[u8]) -> Result<usize> {
        match rustix::net::send(&self.0, bytes, SendFlags::NOSIGNAL) {
            Err(Errno::AGAIN) => Ok(0),
            sent => Ok(sent?),
        }
    }

    fn holds_back(&self) -> bool {
        false
    }

    fn receive(
        &mut self,
        scratch: &mut [u8],
        mut take: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<Option<usize>> {
        let Some(n) = receive(&self.0, scratch)? else { return Ok(None) };
        if n == 0 {
            return Err("the server closed the connection".into());
        }
        take(&scratch[..n])?;
        Ok(Some(n))
    }
}

/// Connects to the server; `number` says which connection of this process it is.
///
/// A load process leaves its ports behind for a minute, so each has sixteen addresses of its own (as far as the lower
/// bits of process ids differ), which its connections take in turns.
pub(super) fn dial(port: u16, number: usize) -> Result<TcpStream> {
    let own = std::process::id() << 4 | u32::try_from(number % 16)?;
    let [_, a, b, c] = own.to_be_bytes();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 64 | a & 63, b, c), 0)).into())?;
    socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}

/// Receives what is there; `None` when nothing is, 0 at the end of the stream.
pub(super) fn receive(stream: &TcpStream, into: &mut [u8]) -> Result<Option<usize>> {
    match rustix::net::recv(stream, into, RecvFlags::empty()) {
        Ok((_, n)) => Ok(Some(n)),
        Err(Errno::AGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
