//! compio, on io_uring: its `Framed` with its own line and length framers, and blocks lent to the driver.

use std::future::Future;
use std::io;

use compio::bytes::Bytes;
use compio::io::framed::Framed;
use compio::io::framed::codec::bytes::BytesCodec;
use compio::io::framed::frame::{Framer, LengthDelimited, LineDelimited};
use compio::io::{AsyncRead as _, AsyncWriteExt as _};
use compio::net::{TcpListener, TcpStream};
use compio::runtime::Runtime;
use futures_util::{SinkExt as _, StreamExt as _};

use super::READ_BUFFER;

/// Each line back.
pub(super) fn lines() -> io::Result<()> {
    serve(|stream| echo_frames(stream, LineDelimited::new()))
}

/// Each message back, behind its length.
pub(super) fn counted() -> io::Result<()> {
    serve(|stream| echo_frames(stream, LengthDelimited::new()))
}

/// Each block back.
pub(super) fn bulk() -> io::Result<()> {
    serve(async |mut stream: TcpStream| {
        let mut block = Vec::with_capacity(READ_BUFFER);
        loop {
            let (n, mut back) = stream.read(block).await.into();
            if n? == 0 {
                return Ok(());
            }
            let written;
            (written, back) = stream.write_all(back).await.into();
            written?;
            block = back;
            block.clear();
        }
    })
}

async fn echo_frames<F: Framer<Vec<u8>> + Unpin + 'static>(stream: TcpStream, framer: F) -> io::Result<()> {
    let buffer = || Vec::with_capacity(READ_BUFFER);
    let mut frames = Framed::symmetric::<Bytes>(BytesCodec::new(), framer)
        .with_buffer(buffer(), buffer())
        .with_duplex(stream);
    while let Some(frame) = frames.next().await {
        frames.send(frame?).await?;
    }
    Ok(())
}

/// Accepts on one thread and gives each connection a task of its own.
fn serve<F>(handler: impl Fn(TcpStream) -> F) -> io::Result<()>
where
    F: Future<Output = io::Result<()>> + 'static,
{
    Runtime::new()?.block_on(async {
        let listener = TcpListener::from_std(super::listen()?)?;
        loop {
            let (stream, _) = listener.accept().await?;
            // A peer that reset is no news for an echo server.
            let connection = handler(stream);
            compio::runtime::spawn(async move { drop(connection.await) }).detach();
        }
    })
}
