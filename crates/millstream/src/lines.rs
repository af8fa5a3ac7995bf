//! Lines as a stream, for `while let` loops and stream combinators.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use millstream_core::ReadLineError;

use crate::reader::StreamReader;

/// The lines of a reader, made by [`StreamReader::lines`]: asyncio's `async for line in reader`.
///
/// A line beyond the limit is one error; as its bytes stay, the same error comes again until the reader, which is free
/// once the stream is dropped, has skipped it. Dropping the stream loses nothing.
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
}

impl<'a> Lines<'a> {
    pub(crate) fn new(reader: &'a mut StreamReader) -> Self {
        Self { reader }
    }
}

impl Stream for Lines<'_> {
    type Item = Result<Bytes, ReadLineError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let limit = self.reader.limit();
        let len = std::task::ready!(self.reader.poll_line(cx, limit));
        Poll::Ready(len.map(|len| len.map(|len| self.reader.buffer.take(len))).transpose())
    }
}
