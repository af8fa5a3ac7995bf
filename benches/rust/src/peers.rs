//! The table of servers under comparison, and what every server process does alike.
//!
//! A new peer is one file beside the others, one `mod` line and one row in [`PEERS`].

mod counted;
mod peer_compio;
mod peer_epoll;
mod peer_epoll_bulk;
mod peer_epoll_counted;
mod peer_millstream;
mod peer_monoio;
mod peer_smol;
mod peer_tls_millstream;
mod peer_tls_tokio;
mod peer_tokio;
mod reactor;

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};

use crate::Result;
use crate::args::Args;
use crate::process;
use counted::counted_len;

/// What a server answers, and so which scenarios it takes part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Sends back each complete line.
    Lines,
    /// Sends back every block of bytes as it comes.
    Bulk,
    /// Lines over TLS.
    TlsLines,
    /// Sends back each [`MESSAGE`], over TLS.
    TlsMessages,
    /// Blocks over TLS.
    TlsBulk,
    /// Sends back each message that follows its length.
    Counted,
    /// The same over TLS.
    TlsCounted,
}

impl Kind {
    /// Whether it is over TLS.
    pub(crate) fn is_tls(self) -> bool {
        matches!(self, Self::TlsLines | Self::TlsMessages | Self::TlsBulk | Self::TlsCounted)
    }
}

/// One server under comparison.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// Its name on the command line and in the tables.
    pub(crate) name: &'static str,
    /// What it answers.
    pub(crate) kind: Kind,
    /// Listens, says where with [`announce`], and serves until the process is ended.
    serve: fn() -> io::Result<()>,
}

/// Every server under comparison.
pub(crate) const PEERS: &[Peer] = &[
    Peer { name: "epoll", kind: Kind::Lines, serve: peer_epoll::serve },
    Peer { name: "tokio-naive", kind: Kind::Lines, serve: peer_tokio::serve_naive },
    Peer { name: "tokio-flush", kind: Kind::Lines, serve: peer_tokio::serve_flush },
    Peer { name: "framed", kind: Kind::Lines, serve: peer_tokio::serve_framed },
    Peer { name: "millstream", kind: Kind::Lines, serve: peer_millstream::serve },
    Peer { name: "millstream-owned", kind: Kind::Lines, serve: peer_millstream::serve_owned },
    Peer { name: "bulk-epoll", kind: Kind::Bulk, serve: peer_epoll_bulk::serve },
    Peer { name: "bulk-tokio", kind: Kind::Bulk, serve: peer_tokio::serve_bulk },
    Peer { name: "bulk-millstream", kind: Kind::Bulk, serve: peer_millstream::serve_bulk },
    Peer { name: "tls-tokio-naive", kind: Kind::TlsLines, serve: peer_tls_tokio::serve_naive },
    Peer { name: "tls-tokio-flush", kind: Kind::TlsLines, serve: peer_tls_tokio::serve_flush },
    Peer { name: "tls-millstream", kind: Kind::TlsLines, serve: peer_tls_millstream::serve },
    Peer { name: "tls-millstream-owned", kind: Kind::TlsLines, serve: peer_tls_millstream::serve_owned },
    Peer { name: "tls-messages-naive", kind: Kind::TlsMessages, serve: peer_tls_tokio::messages_naive },
    Peer { name: "tls-messages-flush", kind: Kind::TlsMessages, serve: peer_tls_tokio::messages_flush },
    Peer { name: "tls-messages-millstream", kind: Kind::TlsMessages, serve: peer_tls_millstream::messages },
    Peer { name: "tls-messages-owned", kind: Kind::TlsMessages, serve: peer_tls_millstream::messages_owned },
    Peer { name: "tls-bulk-tokio", kind: Kind::TlsBulk, serve: peer_tls_tokio::bulk },
    Peer { name: "tls-bulk-millstream", kind: Kind::TlsBulk, serve: peer_tls_millstream::bulk },
];

/// Further servers, which `compare` has beside those of `run`.
pub(crate) const MORE: &[Peer] = &[
    Peer { name: "smol", kind: Kind::Lines, serve: peer_smol::lines },
    Peer { name: "monoio", kind: Kind::Lines, serve: peer_monoio::lines },
    Peer { name: "monoio-epoll", kind: Kind::Lines, serve: peer_monoio::lines_epoll },
    Peer { name: "compio", kind: Kind::Lines, serve: peer_compio::lines },
    Peer { name: "counted-epoll", kind: Kind::Counted, serve: peer_epoll_counted::serve },
    Peer { name: "counted-tokio-naive", kind: Kind::Counted, serve: peer_tokio::counted_naive },
    Peer { name: "counted-tokio-flush", kind: Kind::Counted, serve: peer_tokio::counted_flush },
    Peer { name: "counted-framed", kind: Kind::Counted, serve: peer_tokio::counted_framed },
    Peer { name: "counted-smol", kind: Kind::Counted, serve: peer_smol::counted },
    Peer { name: "counted-monoio", kind: Kind::Counted, serve: peer_monoio::counted },
    Peer { name: "counted-monoio-epoll", kind: Kind::Counted, serve: peer_monoio::counted_epoll },
    Peer { name: "counted-compio", kind: Kind::Counted, serve: peer_compio::counted },
    Peer { name: "counted-millstream", kind: Kind::Counted, serve: peer_millstream::serve_counted },
    Peer { name: "bulk-smol", kind: Kind::Bulk, serve: peer_smol::bulk },
    Peer { name: "bulk-monoio", kind: Kind::Bulk, serve: peer_monoio::bulk },
    Peer { name: "bulk-monoio-epoll", kind: Kind::Bulk, serve: peer_monoio::bulk_epoll },
    Peer { name: "bulk-compio", kind: Kind::Bulk, serve: peer_compio::bulk },
    Peer { name: "tls-counted-tokio-naive", kind: Kind::TlsCounted, serve: peer_tls_tokio::counted_naive },
    Peer { name: "tls-counted-tokio-flush", kind: Kind::TlsCounted, serve: peer_tls_tokio::counted_flush },
    Peer { name: "tls-counted-millstream", kind: Kind::TlsCounted, serve: peer_tls_millstream::counted },
];

/// What every server reads into, and the longest line it takes.
const READ_BUFFER: usize = 64 * 1024;

/// The length of a message: the most that fits into one TLS record.
pub(crate) const MESSAGE: usize = 16 * 1024;

/// `millstream-bench serve PEER [--core N]`
pub(crate) fn main(mut args: Args) -> Result<()> {
    let name = args.word().unwrap_or_default();
    process::pin(args.value("--core")?)?;
    args.finish()?;
    let peer =
        PEERS.iter().chain(MORE).find(|peer| peer.name == name).ok_or_else(|| format!("no peer `{name}`"))?;
    end_with_parent()?;
    process::raise_descriptor_limit()?;
    Ok((peer.serve)()?)
}

/// Ends this process when its stdin does, which is when whoever started it has ended in any way.
pub(crate) fn end_with_parent() -> io::Result<()> {
    std::thread::Builder::new().name("parent-watch".into()).spawn(|| {
        let mut block = [0; 64];
        while matches!(io::stdin().read(&mut block), Ok(n) if n > 0) {}
        std::process::exit(0);
    })?;
    Ok(())
}

/// Tells the orchestrator where this server listens.
fn announce(address: SocketAddr) -> io::Result<()> {
    println!("{}", address.port());
    io::stdout().flush()
}

/// A non-blocking loopback listener, announced; its connections inherit `TCP_NODELAY` on Linux.
fn listen() -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(1024)?;
    socket.set_nonblocking(true)?;
    let listener = TcpListener::from(socket);
    announce(listener.local_addr()?)?;
    Ok(listener)
}

/// The runtime of every tokio peer: one thread.
pub(crate) fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
