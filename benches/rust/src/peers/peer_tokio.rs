//! Plain tokio, four ways: as first written, flushed with care, through a codec, and block by block.

use std::future::Future;
use std::io;

use futures_util::{SinkExt as _, StreamExt as _};
use memchr::memchr;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, BufWriter};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::{Framed, LinesCodec};

use super::{READ_BUFFER, counted};

/// The loop of the tutorial: one `write_all`, and so one `send`, a line.
pub(super) fn serve_naive() -> io::Result<()> {
    serve(async |mut stream| {
        let (read, mut write) = stream.split();
        let mut reader = BufReader::with_capacity(READ_BUFFER, read);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).await? > 0 {
            write.write_all(&line).await?;
            line.clear();
        }
        Ok(())
    })
}

/// The loop of someone who knows: buffered both ways, flushed when no whole line is left to answer.
pub(super) fn serve_flush() -> io::Result<()> {
    serve(async |mut stream| {
        let (read, write) = stream.split();
        let mut reader = BufReader::with_capacity(READ_BUFFER, read);
        let mut writer = BufWriter::with_capacity(READ_BUFFER, write);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).await? > 0 {
            writer.write_all(&line).await?;
            line.clear();
            if memchr(b'\n', reader.buffer()).is_none() {
                writer.flush().await?;
            }
        }
        Ok(())
    })
}

/// `Framed` with `LinesCodec`, each line sent when it is ready.
pub(super) fn serve_framed() -> io::Result<()> {
    serve(async |stream| {
        let codec = LinesCodec::new_with_max_length(READ_BUFFER);
        let mut lines = Framed::with_capacity(stream, codec, READ_BUFFER);
        while let Some(line) = lines.next().await {
            lines.send(line.map_err(io::Error::other)?).await.map_err(io::Error::other)?;
        }
        Ok(())
    })
}

/// Blocks of 64 KiB, each read, then written whole.
pub(super) fn serve_bulk() -> io::Result<()> {
    serve(async |mut stream| {
        let mut block = vec![0; READ_BUFFER];
        loop {
            let n = stream.read(&mut block).await?;
            if n == 0 {
                return Ok(());
            }
            stream.write_all(&block[..n]).await?;
        }
    })
}

/// Messages behind their length, as first written.
pub(super) fn counted_naive() -> io::Result<()> {
    serve(counted::naive)
}

/// Messages, buffered both ways.
pub(super) fn counted_flush() -> io::Result<()> {
    serve(counted::flush)
}

/// Messages, by `LengthDelimitedCodec`.
pub(super) fn counted_framed() -> io::Result<()> {
    serve(counted::framed)
}

/// Accepts on one thread and gives each connection a task of its own.
fn serve<F>(handler: impl Fn(TcpStream) -> F) -> io::Result<()>
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let listener = super::listen()?;
    super::runtime()?.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            // A peer that reset is no news for an echo server.
            let connection = handler(stream);
            tokio::spawn(async move { drop(connection.await) });
        }
    })
}
