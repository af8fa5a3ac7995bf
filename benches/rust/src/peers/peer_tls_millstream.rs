//! millstream over TLS: the loops of the plain peers, and messages of a known length, lent and owned.

use std::io;

use millstream::tls::TlsServer;
use millstream::{ServerOptions, StreamReader, StreamWriter};

use super::{MESSAGE, peer_millstream};
use crate::certificate::Certificate;

/// The plain loop with the borrowing read.
pub(super) fn serve() -> io::Result<()> {
    peer_millstream::run(&options()?, peer_millstream::lines)
}

/// The same with owned lines.
pub(super) fn serve_owned() -> io::Result<()> {
    peer_millstream::run(&options()?, peer_millstream::lines_owned)
}

/// Each message, lent.
pub(super) fn messages() -> io::Result<()> {
    peer_millstream::run(&options()?, async |mut reader: StreamReader, writer: StreamWriter| {
        loop {
            writer.write(reader.read_exactly_borrowed(MESSAGE).await?)?;
            writer.drain().await?;
        }
    })
}

/// Each message, owned.
pub(super) fn messages_owned() -> io::Result<()> {
    peer_millstream::run(&options()?, async |mut reader: StreamReader, writer: StreamWriter| {
        loop {
            writer.write(&reader.read_exactly(MESSAGE).await?)?;
            writer.drain().await?;
        }
    })
}

/// Messages behind their length.
pub(super) fn counted() -> io::Result<()> {
    peer_millstream::run(&options()?, peer_millstream::counted)
}

/// Blocks of up to 64 KiB.
pub(super) fn bulk() -> io::Result<()> {
    peer_millstream::run(&options()?, peer_millstream::blocks)
}

fn options() -> io::Result<ServerOptions> {
    let Certificate { chain, key } = Certificate::of_this_run()?;
    let tls = TlsServer::new(chain, key).map_err(io::Error::other)?;
    // The load ends its connections as it likes; that is no news.
    Ok(ServerOptions::new().tls(tls).on_failure(|_| {}))
}
