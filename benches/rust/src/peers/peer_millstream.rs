//! millstream: the plain loop `read_line -> write -> drain`, borrowing and owning, and block by block.

use std::future::Future;
use std::io;

use millstream::{Error, ServerOptions, StreamReader, StreamWriter};

use super::READ_BUFFER;

/// The plain loop with the borrowing read.
pub(super) fn serve() -> io::Result<()> {
    run(async |mut reader, writer| {
        while let Some(line) = reader.read_line_borrowed().await? {
            writer.write(line)?;
            writer.drain().await?;
        }
        Ok(())
    })
}

/// The same with owned lines.
pub(super) fn serve_owned() -> io::Result<()> {
    run(async |mut reader, writer| {
        while let Some(line) = reader.read_line().await? {
            writer.write(&line)?;
            writer.drain().await?;
        }
        Ok(())
    })
}

/// Blocks of up to 64 KiB.
pub(super) fn serve_bulk() -> io::Result<()> {
    run(async |mut reader, writer| {
        loop {
            let block = reader.read_borrowed(READ_BUFFER).await?;
            if block.is_empty() {
                return Ok(());
            }
            writer.write(block)?;
            writer.drain().await?;
        }
    })
}

fn run<F>(handler: impl Fn(StreamReader, StreamWriter) -> F + Send + Sync + 'static) -> io::Result<()>
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    super::runtime()?.block_on(async {
        let server = ServerOptions::new().backlog(1024).start("127.0.0.1", 0, handler).await?;
        let address = server.sockets().first().and_then(millstream::Address::ip);
        super::announce(address.ok_or(io::ErrorKind::AddrNotAvailable)?)?;
        server.serve_forever().await?;
        Ok(())
    })
}
