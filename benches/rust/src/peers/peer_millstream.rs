//! millstream: the plain loop `read_line -> write -> drain`, borrowing and owning, and block by block.

use std::future::Future;
use std::io;

use millstream::{Error, ServerOptions, StreamReader, StreamWriter};

use super::{READ_BUFFER, counted_len};

/// The plain loop with the borrowing read.
pub(super) fn serve() -> io::Result<()> {
    run(&ServerOptions::new(), lines)
}

/// The same with owned lines.
pub(super) fn serve_owned() -> io::Result<()> {
    run(&ServerOptions::new(), lines_owned)
}

/// Blocks of up to 64 KiB.
pub(super) fn serve_bulk() -> io::Result<()> {
    run(&ServerOptions::new(), blocks)
}

/// Messages behind their length.
pub(super) fn serve_counted() -> io::Result<()> {
    run(&ServerOptions::new().on_failure(|_| {}), counted)
}

/// Sends back each message, lent. A client that ends between two messages ends the handler with an error, which
/// is no news here.
pub(super) async fn counted(mut reader: StreamReader, writer: StreamWriter) -> Result<(), Error> {
    loop {
        let mut length = [0; 4];
        length.copy_from_slice(reader.read_exactly_borrowed(4).await?);
        let body = reader.read_exactly_borrowed(counted_len(length)? - 4).await?;
        // Only now: a reader that has to wait sends what was written before.
        writer.write(&length)?;
        writer.write(body)?;
        writer.drain().await?;
    }
}

/// Sends back each line, lent. The handlers are the same in the clear and over TLS.
pub(super) async fn lines(mut reader: StreamReader, writer: StreamWriter) -> Result<(), Error> {
    while let Some(line) = reader.read_line_borrowed().await? {
        writer.write(line)?;
        writer.drain().await?;
    }
    Ok(())
}

/// Sends back each line, owned.
pub(super) async fn lines_owned(mut reader: StreamReader, writer: StreamWriter) -> Result<(), Error> {
    while let Some(line) = reader.read_line().await? {
        writer.write(&line)?;
        writer.drain().await?;
    }
    Ok(())
}

/// Sends back what came.
pub(super) async fn blocks(mut reader: StreamReader, writer: StreamWriter) -> Result<(), Error> {
    loop {
        let block = reader.read_borrowed(READ_BUFFER).await?;
        if block.is_empty() {
            return Ok(());
        }
        writer.write(block)?;
        writer.drain().await?;
    }
}

/// Serves until the process is ended.
pub(super) fn run<F>(
    options: &ServerOptions,
    handler: impl Fn(StreamReader, StreamWriter) -> F + Send + Sync + 'static,
) -> io::Result<()>
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    super::runtime()?.block_on(async {
        let server = options.clone().backlog(1024).start("127.0.0.1", 0, handler).await?;
        let address = server.sockets().first().and_then(millstream::Address::ip);
        super::announce(address.ok_or(io::ErrorKind::AddrNotAvailable)?)?;
        server.serve_forever().await?;
        Ok(())
    })
}
