//! Messages behind their length, on tokio, in the clear and over TLS: as first written, with care, and by a codec.

use std::io;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader, BufWriter};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::READ_BUFFER;

/// The longest message that a server takes.
const LONGEST: usize = 8 * 1024 * 1024;

/// The length of a message with its four bytes of length before it.
pub(super) fn counted_len(length: [u8; 4]) -> io::Result<usize> {
    match usize::try_from(u32::from_be_bytes(length)) {
        Ok(n) if n <= LONGEST => Ok(n + 4),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the message is longer than 8 MiB")),
    }
}

/// Straight from and to the stream, one `write_all` a message.
pub(super) async fn naive<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut message = Vec::new();
    loop {
        read(&mut stream, &mut message).await?;
        stream.write_all(&message).await?;
        stream.flush().await?;
    }
}

/// Buffered both ways, flushed when no whole message is left in the input.
pub(super) async fn flush<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> io::Result<()> {
    let mut stream = BufReader::with_capacity(READ_BUFFER, BufWriter::with_capacity(READ_BUFFER, stream));
    let mut message = Vec::new();
    loop {
        read(&mut stream, &mut message).await?;
        stream.write_all(&message).await?;
        let whole = match stream.buffer().first_chunk::<4>() {
            Some(length) => stream.buffer().len() >= counted_len(*length)?,
            None => false,
        };
        if !whole {
            stream.flush().await?;
        }
    }
}

/// `Framed` with `LengthDelimitedCodec`, each message sent when it is ready.
pub(super) async fn framed<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> io::Result<()> {
    let mut codec = LengthDelimitedCodec::new();
    codec.set_max_frame_length(LONGEST);
    let mut messages = Framed::with_capacity(stream, codec, READ_BUFFER);
    while let Some(message) = messages.next().await {
        messages.send(message?.freeze()).await?;
    }
    Ok(())
}

/// Reads one message, its length included.
async fn read<S: AsyncRead + Unpin>(stream: &mut S, message: &mut Vec<u8>) -> io::Result<()> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    message.clear();
    message.extend_from_slice(&length);
    message.resize(counted_len(length)?, 0);
    stream.read_exact(&mut message[4..]).await?;
    Ok(())
}
