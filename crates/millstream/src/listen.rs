//! Sockets that listen: bound with their options first, listening only when the server starts to serve.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::task::{Context, Poll};

use millstream_core::Failure;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use crate::address::Address;
use crate::error::ServeError;
use crate::socket_options::SocketSettings;
use crate::transport::{self, Transport};
use crate::unix::BoundPath;

/// A socket that is bound and may not be listening yet.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) address: Address,
    /// Removed before the socket closes: only that keeps the file's inode number from being given to another.
    path: Option<BoundPath>,
    socket: Socket,
    /// An adopted socket was set up by someone else.
    adopted: bool,
}

/// The options of a TCP listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TcpOptions {
    pub(crate) reuse_address: bool,
    pub(crate) reuse_port: bool,
    pub(crate) nodelay: bool,
    pub(crate) socket: SocketSettings,
}

impl Bound {
    /// Binds to a TCP address.
    pub(crate) fn tcp(address: SocketAddr, options: TcpOptions) -> Result<Self, ServeError> {
        let bind = || -> io::Result<(Socket, Address)> {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
            socket.set_nonblocking(true)?;
            socket.set_reuse_address(options.reuse_address)?;
            if options.reuse_port {
                socket.set_reuse_port(true)?;
            }
            if address.is_ipv6() {
                // An IPv4 listener of its own stands beside it where both are wanted.
                socket.set_only_v6(true)?;
            }
            // Accepted sockets inherit it, which saves a system call for each.
            socket.set_tcp_nodelay(options.nodelay)?;
            options.socket.apply(&SockRef::from(&socket))?;
            socket.bind(&address.into())?;
            let bound = Address::from(&socket.local_addr()?);
            Ok((socket, bound))
        };
        let (socket, address) = bind().map_err(|error| listen_error(Address::Ip(address), &error))?;
        Ok(Self { address, socket, path: None, adopted: false })
    }

    /// Binds to a path.
    pub(crate) fn unix(path: PathBuf, mode: Option<u32>, unlink: bool) -> Result<Self, ServeError> {
        let (socket, bound) = crate::unix::bind(&path, mode, unlink)?;
        let address = socket.local_addr().map_or(Address::Path(path), |address| Address::from(&address));
        Ok(Self { address, socket, path: bound, adopted: false })
    }

    /// Adopts a socket that is bound and listening.
    pub(crate) fn adopt(socket: Socket, nodelay: bool, settings: SocketSettings) -> Result<Self, ServeError> {
        let adopt = || -> io::Result<Address> {
            socket.set_nonblocking(true)?;
            let address = Address::from(&socket.local_addr()?);
            if address.ip().is_some() {
                socket.set_tcp_nodelay(nodelay)?;
                settings.apply(&SockRef::from(&socket))?;
            }
            Ok(address)
        };
        let address = adopt().map_err(|error| listen_error(Address::Unnamed, &error))?;
        Ok(Self { address, socket, path: None, adopted: true })
    }

    /// Starts to listen.
    pub(crate) fn listen(self, backlog: u32) -> Result<Listener, ServeError> {
        let Self { address, socket, path, adopted } = self;
        let is_unix = !matches!(address, Address::Ip(_));
        // A path that nobody listens on yet looks stale to others, so one of them may have it now.
        if let Some(taken) = path.as_ref().filter(|path| !path.is_ours()) {
            return Err(ServeError::PathInUse { path: taken.path().to_owned() });
        }
        let listen = || -> io::Result<Accept> {
            if !adopted {
                socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
            }
            Ok(if is_unix {
                Accept::Unix(UnixListener::from_std(socket.into())?)
            } else {
                Accept::Tcp(TcpListener::from_std(socket.into())?)
            })
        };
        let accept = listen().map_err(|error| listen_error(address.clone(), &error))?;
        Ok(Listener { address, accept, path })
    }
}

/// A listening socket.
pub(crate) struct Listener {
    pub(crate) address: Address,
    /// Before the socket; see [`Bound`].
    path: Option<BoundPath>,
    accept: Accept,
}

enum Accept {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Listener({})", self.address)
    }
}

impl Listener {
    /// Another descriptor of this socket. Whoever has it may go on listening after this server, so a path stays from now
    /// on.
    pub(crate) fn duplicate(&self) -> io::Result<OwnedFd> {
        let socket = match &self.accept {
            Accept::Tcp(listener) => listener.as_fd(),
            Accept::Unix(listener) => listener.as_fd(),
        };
        let duplicate = socket.try_clone_to_owned()?;
        if let Some(path) = &self.path {
            path.keep();
        }
        Ok(duplicate)
    }

    /// The next connection, with the peer's address where that is worth knowing.
    pub(crate) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Transport, Address)>> {
        match &self.accept {
            Accept::Tcp(listener) => listener
                .poll_accept(cx)
                .map_ok(|(socket, peer)| (Transport::Tcp(transport::Socket::new(socket)), Address::Ip(peer))),
            Accept::Unix(listener) => listener.poll_accept(cx).map_ok(|(socket, peer)| {
                let peer = if let Some(path) = peer.as_pathname() {
                    Address::Path(path.to_owned())
                } else if let Some(name) = peer.as_abstract_name() {
                    Address::Abstract(name.to_owned())
                } else {
                    Address::Unnamed
                };
                (Transport::Unix(transport::Socket::new(socket)), peer)
            }),
        }
    }
}

fn listen_error(address: Address, error: &io::Error) -> ServeError {
    ServeError::Listen { address, failure: Failure::from(error) }
}
