//! Lines as a stream, for `while let` loops and stream combinators.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use millstream_core::ReadLineError;

use crate::reader::StreamReader;

/// The lines of a reader, made by [`StreamReader::lines`]: asyncio's `async for line in reader`.
///
/// An error ends it. The bytes stay, and the reader is free once this is dropped: after a line beyond the limit, skip it
/// and call `lines` again. Dropping it loses nothing.
///
/// ```
/// use tokio_stream::StreamExt;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), millstream::Error> {
/// let ((mut reader, _w), (_r, peer)) = millstream::testing::pair();
/// peer.write(b"one\ntwo\n")?;
/// peer.write_eof()?;
/// let mut lines = reader.lines();
/// let mut seen = Vec::new();
/// while let Some(line) = lines.next().await {
///     seen.push(line?);
/// }
/// assert_eq!(seen, ["one\n", "two\n"]);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Lines<'a> {
    reader: &'a mut StreamReader,
    /// An error was handed out.
    failed: bool,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(reader: &'a mut StreamReader) -> Self {
        Self { reader, failed: false }
    }
}

impl Stream for Lines<'_> {
    type Item = Result<Bytes, ReadLineError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.failed {
            return Poll::Ready(None);
        }
        let limit = self.reader.limit();
        let len = std::task::ready!(self.reader.poll_line(cx, limit));
        self.failed = len.is_err();
        Poll::Ready(len.map(|len| len.map(|len| self.reader.buffer.take(len))).transpose())
    }
}
