//! The reading half: each read is a question to the core's buffer, and a receive while the answer is "not yet".

use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::Bytes;
use millstream_core::{
    Answer, ReadBuffer, ReadError, ReadExactlyError, ReadLineError, ReadToEndError, ReadUntilError, Request,
    Separators, SkipError,
};

use crate::connection::Connection;
use crate::limited::Limited;
use crate::sync::Arc;
use crate::turn::give_way;

/// The reading half of a connection.
///
/// Every read is bounded by the reader's [limit](Self::limit) or by a number in its call, and **every read is
/// cancel-safe**: a future that is dropped at any await has taken no byte, and the next read goes on where it was, its
/// search included. So reads can stand in a `select!` or under a timeout as they are.
///
/// Reads come in two forms. The plain ones return owned [`Bytes`]; the `_borrowed` ones lend the bytes from the buffer
/// until the next call, without allocating.
///
/// Before a read waits, everything that was written to the connection is sent. At the end of the stream, reads say so
/// as asyncio's do; see each one.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), millstream::Error> {
/// let ((mut reader, _w), (_r, peer)) = millstream::testing::pair();
/// peer.write(b"GET / HTTP/1.0\r\nHost: example\r\n\r\nbody")?;
/// let head = reader.read_until(b"\r\n\r\n").await?.expect("a request");
/// assert_eq!(head, "GET / HTTP/1.0\r\nHost: example\r\n\r\n");
/// assert_eq!(reader.read(100).await?, "body");
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct StreamReader {
    pub(crate) buffer: ReadBuffer,
    pub(crate) connection: Arc<Connection>,
    /// What this reader may still take before others get their turn.
    turn_left: usize,
    /// How many bytes of an item that is not whole a skip has dropped, be it one that was cancelled. For the deadlines, they
    /// are held.
    dropped: usize,
}

impl StreamReader {
    pub(crate) fn new(buffer: ReadBuffer, connection: Arc<Connection>) -> Self {
        Self { buffer, connection, turn_left: TURN_LEN, dropped: 0 }
    }

    /// The limit in force: how many bytes may stand before a separator. The buffer never holds more than twice this
    /// plus one receive, except for [`read_exactly`](Self::read_exactly) and [`read_to_end`](Self::read_to_end), which
    /// name their own size.
    pub fn limit(&self) -> usize {
        self.buffer.limit()
    }

    /// This reader with another limit, for one call: `reader.limited(1024).read_line().await`. A limit of zero accepts
    /// only empty items.
    pub fn limited(&mut self, limit: usize) -> Limited<'_> {
        Limited::new(self, limit)
    }

    /// Reads whatever is there: at least one byte and at most `max`. Empty at the end of the stream, and for a `max` of
    /// zero.
    ///
    /// **Cancel-safe.** As asyncio's `read(n)`; for `read(-1)` see [`read_to_end`](Self::read_to_end).
    ///
    /// # Errors
    /// [`ReadError::Failed`] if the transport failed and everything that arrived before was read.
    pub async fn read(&mut self, max: usize) -> Result<Bytes, ReadError> {
        match self.answer(&Request::Some { max }).await {
            Answer::Ready { len } => Ok(self.buffer.take(len)),
            Answer::Failed(failure) => Err(failure.into()),
            _ => Ok(Bytes::new()),
        }
    }

    /// As [`read`](Self::read), lending the bytes.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn read_borrowed(&mut self, max: usize) -> Result<&[u8], ReadError> {
        match self.answer(&Request::Some { max }).await {
            Answer::Ready { len } => Ok(self.buffer.lend(len)),
            Answer::Failed(failure) => Err(failure.into()),
            _ => Ok(&[]),
        }
    }

    /// Reads exactly `n` bytes.
    ///
    /// **Cancel-safe.** Not bounded by the limit, but memory grows only as bytes arrive. A large item that fills most of
    /// its memory, with nothing behind it, is handed out without a copy.
    ///
    /// # Errors
    /// [`ReadExactlyError::Incomplete`] with the bytes that did come if the stream ends first (none of them if it ended
    /// cleanly before: see [`is_clean_end`](ReadExactlyError::is_clean_end)); [`ReadExactlyError::TooLarge`] for an `n`
    /// that no memory can hold; [`ReadExactlyError::Failed`].
    pub async fn read_exactly(&mut self, n: usize) -> Result<Bytes, ReadExactlyError> {
        self.await_exactly(n).await?;
        Ok(self.buffer.take(n))
    }

    /// As [`read_exactly`](Self::read_exactly), lending the bytes.
    ///
    /// # Errors
    /// As [`read_exactly`](Self::read_exactly).
    pub async fn read_exactly_borrowed(&mut self, n: usize) -> Result<&[u8], ReadExactlyError> {
        self.await_exactly(n).await?;
        Ok(self.buffer.lend(n))
    }

    async fn await_exactly(&mut self, n: usize) -> Result<(), ReadExactlyError> {
        if isize::try_from(n).is_err() {
            return Err(ReadExactlyError::TooLarge { requested: n });
        }
        match self.answer(&Request::Exactly(n)).await {
            Answer::Failed(failure) => Err(failure.into()),
            Answer::Incomplete { len } => {
                Err(ReadExactlyError::Incomplete { partial: self.buffer.take(len), expected: n })
            }
            _ => Ok(()),
        }
    }

    /// Reads one line, its line feed included. The last line of a stream may lack it; `None` is the end.
    ///
    /// **Cancel-safe.** As asyncio's `readline`, except that a line beyond the limit stays where it is.
    ///
    /// # Errors
    /// [`ReadLineError::LimitOverrun`]: the bytes stay, and [`skip_until`](Self::skip_until) or a larger
    /// [`limited`](Self::limited) goes on; [`ReadLineError::Failed`].
    pub async fn read_line(&mut self) -> Result<Option<Bytes>, ReadLineError> {
        let limit = self.limit();
        if let Some(len) = self.ready_line(limit) {
            return Ok(Some(self.buffer.take(len)));
        }
        let len = poll_fn(|cx| self.poll_line(cx, limit)).await?;
        Ok(len.map(|len| self.buffer.take(len)))
    }

    /// As [`read_line`](Self::read_line), lending the line.
    ///
    /// # Errors
    /// As [`read_line`](Self::read_line).
    pub async fn read_line_borrowed(&mut self) -> Result<Option<&[u8]>, ReadLineError> {
        let limit = self.limit();
        if let Some(len) = self.ready_line(limit) {
            return Ok(Some(self.buffer.lend(len)));
        }
        let len = poll_fn(|cx| self.poll_line(cx, limit)).await?;
        Ok(len.map(|len| self.buffer.lend(len)))
    }

    /// Reads through the separator, which may have several bytes. `None` if the stream ended before the item began.
    ///
    /// **Cancel-safe**, and the search never starts over: not after a receive, not after a cancelled call.
    ///
    /// # Errors
    /// [`ReadUntilError::LimitOverrun`]: the bytes stay; [`ReadUntilError::Incomplete`] with the bytes if the stream
    /// ends inside the item, once; [`ReadUntilError::EmptySeparator`]; [`ReadUntilError::Failed`].
    pub async fn read_until(&mut self, separator: &[u8]) -> Result<Option<Bytes>, ReadUntilError> {
        let limit = self.limit();
        self.limited(limit).read_until(separator).await
    }

    /// As [`read_until`](Self::read_until), lending the item.
    ///
    /// # Errors
    /// As [`read_until`](Self::read_until).
    pub async fn read_until_borrowed(&mut self, separator: &[u8]) -> Result<Option<&[u8]>, ReadUntilError> {
        let limit = self.limit();
        self.limited(limit).read_until_borrowed(separator).await
    }

    /// Reads through whichever separator ends first; where two end at the same byte, the shortest counts (CPython 3.13).
    ///
    /// **Cancel-safe.**
    ///
    /// # Errors
    /// As [`read_until`](Self::read_until).
    pub async fn read_until_any(&mut self, separators: &[&[u8]]) -> Result<Option<Bytes>, ReadUntilError> {
        let limit = self.limit();
        self.limited(limit).read_until_any(separators).await
    }

    /// As [`read_until_any`](Self::read_until_any), lending the item.
    ///
    /// # Errors
    /// As [`read_until`](Self::read_until).
    pub async fn read_until_any_borrowed(
        &mut self,
        separators: &[&[u8]],
    ) -> Result<Option<&[u8]>, ReadUntilError> {
        let limit = self.limit();
        self.limited(limit).read_until_any_borrowed(separators).await
    }

    /// Reads everything up to the end of the stream, at most `max` bytes.
    ///
    /// **Cancel-safe**: the bytes gather in the buffer.
    ///
    /// # Errors
    /// [`ReadToEndError::LimitOverrun`] if more than `max` bytes come: they stay; [`ReadToEndError::Failed`].
    pub async fn read_to_end(&mut self, max: usize) -> Result<Bytes, ReadToEndError> {
        match self.answer(&Request::All { max }).await {
            Answer::Ready { len } => Ok(self.buffer.take(len)),
            Answer::Failed(failure) => Err(failure.into()),
            Answer::Overrun { .. } => Err(ReadToEndError::LimitOverrun { limit: max }),
            _ => Ok(Bytes::new()),
        }
    }

    /// Waits for at least one byte and lends all that is buffered, without consuming it. Empty at the end of the stream.
    ///
    /// **Cancel-safe.**
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn peek(&mut self) -> Result<&[u8], ReadError> {
        match self.answer(&Request::Some { max: usize::MAX }).await {
            Answer::Failed(failure) => Err(failure.into()),
            _ => Ok(self.buffer.unread()),
        }
    }

    /// The bytes that arrived and were not read yet.
    pub fn buffered(&self) -> &[u8] {
        self.buffer.unread()
    }

    /// The most bytes that were ever buffered at once.
    pub fn peak_buffered(&self) -> usize {
        self.buffer.peak_len()
    }

    /// What this connection did so far: the same as [`StreamWriter::stats`](crate::StreamWriter::stats).
    pub fn stats(&self) -> crate::Stats {
        self.connection.stats()
    }

    /// Whether the end of the stream was seen and everything was read.
    pub fn at_eof(&self) -> bool {
        self.buffer.at_eof()
    }

    /// Drops the next `n` bytes, however many they are; the buffer stays small. To the deadlines of the connection they are
    /// one item.
    ///
    /// **Cancelling** it leaves the rest undropped, and does not tell how much that is: where that matters, drop what
    /// [`peek`](Self::peek) shows piece by piece. What it has dropped counts for the deadlines of the item that is read next.
    ///
    /// # Errors
    /// [`SkipError::Incomplete`] if the stream ends first; [`SkipError::Failed`].
    pub async fn skip(&mut self, n: u64) -> Result<(), SkipError> {
        let mut left = n;
        let mut dropped = self.dropped;
        while left > 0 {
            let max = usize::try_from(left).unwrap_or(usize::MAX);
            match poll_fn(|cx| self.poll_answer_to(&Request::Some { max }, true, cx)).await {
                Answer::Ready { len } => {
                    self.buffer.consume(len);
                    left -= len as u64;
                    dropped = dropped.saturating_add(len);
                    self.dropped = if left > 0 { dropped } else { 0 };
                }
                Answer::Failed(failure) => return Err(failure.into()),
                _ => return Err(SkipError::Incomplete { skipped: n - left }),
            }
        }
        Ok(())
    }

    /// Drops everything through the separator, however far it is; the buffer stays small. Returns how many bytes this
    /// call dropped. This is how to go on after a limit error. To the deadlines of the connection it is all one item.
    ///
    /// **Cancelling** it leaves the rest undropped: call it again.
    ///
    /// # Errors
    /// [`SkipError::Incomplete`] if the stream ends first (everything is dropped then); [`SkipError::EmptySeparator`];
    /// [`SkipError::Failed`].
    pub async fn skip_until(&mut self, separator: &[u8]) -> Result<u64, SkipError> {
        let separators = Separators::One(separator);
        if !separators.is_valid() {
            return Err(SkipError::EmptySeparator);
        }
        let mut skipped = 0;
        loop {
            // With a limit of nothing, the answer to any bytes without a match is how many of them can be dropped.
            let request = Request::Until { separators, limit: 0 };
            let (drop_len, done) = match self.answer(&request).await {
                Answer::Ready { len } => (len, true),
                Answer::Overrun { consumed, found: true } => (consumed + separator.len(), true),
                Answer::Overrun { consumed, found: false } => (consumed, false),
                Answer::Failed(failure) => return Err(failure.into()),
                _ => {
                    skipped += self.buffer.len() as u64;
                    self.buffer.consume(self.buffer.len());
                    return Err(SkipError::Incomplete { skipped });
                }
            };
            self.buffer.consume(drop_len);
            self.connection.note_taken();
            skipped += drop_len as u64;
            self.dropped = if done { 0 } else { self.dropped.saturating_add(drop_len) };
            if done {
                return Ok(skipped);
            }
        }
    }

    /// The lines of this stream as a [`Stream`](futures_core::Stream) of owned lines, each with its line feed.
    pub fn lines(&mut self) -> crate::Lines<'_> {
        crate::Lines::new(self)
    }

    /// The length of the next line, if it is buffered and this reader's turn is not over: the hot path of line loops.
    #[inline]
    fn ready_line(&mut self, limit: usize) -> Option<usize> {
        let turn_left = self.turn_left.checked_sub(ITEM_COST)?;
        let len = self.buffer.ready_line(limit)?;
        self.turn_left = turn_left;
        self.dropped = 0;
        self.connection.note_taken();
        Some(len)
    }

    /// The length of the next line, line feed included; `None` at the end. As [`poll_answer`](Self::poll_answer), with
    /// shortcuts for the commonest cases: the line is there, or nothing is.
    #[inline]
    pub(crate) fn poll_line(
        &mut self,
        cx: &mut Context<'_>,
        limit: usize,
    ) -> Poll<Result<Option<usize>, ReadLineError>> {
        loop {
            if let Some(len) = self.ready_line(limit) {
                return Poll::Ready(Ok(Some(len)));
            }
            if !self.buffer.is_empty() || self.buffer.is_ended() || self.turn_left < ITEM_COST {
                return self.poll_line_answer(cx, limit);
            }
            std::task::ready!(self.poll_fill(cx));
        }
    }

    /// As [`poll_line`](Self::poll_line), without shortcuts.
    fn poll_line_answer(
        &mut self,
        cx: &mut Context<'_>,
        limit: usize,
    ) -> Poll<Result<Option<usize>, ReadLineError>> {
        self.poll_answer(cx, &Request::Line { limit }).map(|answer| match answer {
            Answer::Ready { len } => Ok(Some(len)),
            Answer::Overrun { consumed, found } => {
                Err(ReadLineError::LimitOverrun { consumed, limit, found })
            }
            Answer::Failed(failure) => Err(failure.into()),
            Answer::End | Answer::Incomplete { .. } | Answer::Need => Ok(None),
        })
    }

    pub(crate) async fn answer(&mut self, request: &Request<'_>) -> Answer {
        poll_fn(|cx| self.poll_answer(cx, request)).await
    }

    /// Asks the buffer, and receives while it needs more. Cancel-safe: no answer consumes anything.
    pub(crate) fn poll_answer(&mut self, cx: &mut Context<'_>, request: &Request<'_>) -> Poll<Answer> {
        self.poll_answer_to(request, false, cx)
    }

    /// The same, for a read or for a skip.
    fn poll_answer_to(&mut self, request: &Request<'_>, skips: bool, cx: &mut Context<'_>) -> Poll<Answer> {
        loop {
            match self.buffer.poll(request) {
                Answer::Need | Answer::Ready { .. } if self.turn_left < ITEM_COST => {
                    std::task::ready!(self.poll_yield(cx))
                }
                Answer::Need => {
                    // What is read is whole with its first byte: nothing of it has come, whatever a skip dropped before.
                    if !skips && matches!(request, Request::Some { .. }) {
                        self.dropped = 0;
                    }
                    std::task::ready!(self.poll_fill(cx));
                }
                Answer::Ready { len } => {
                    self.turn_left -= ITEM_COST;
                    self.dropped = 0;
                    self.connection.note_taken();
                    return Poll::Ready(Answer::Ready { len });
                }
                answer => return Poll::Ready(answer),
            }
        }
    }

    /// What comes from here on is another conversation.
    #[cfg(feature = "tls")]
    pub(crate) fn forget_dropped(&mut self) {
        self.dropped = 0;
    }

    /// One receive into the buffer. Ready when there is something new: bytes, the end, or a failure.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.connection.poll_fill(cx, &mut self.buffer, self.dropped) {
            Poll::Ready(n) => {
                self.turn_left = self.turn_left.saturating_sub(n);
                self.connection.note_peak_buffered(self.buffer.peak_len());
                Poll::Ready(())
            }
            Poll::Pending => {
                self.turn_left = TURN_LEN;
                Poll::Pending
            }
        }
    }

    /// This reader has had its share: others first. What was written meanwhile is sent, as before any wait.
    fn poll_yield(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.turn_left = TURN_LEN;
        self.connection.yields();
        if self.connection.before_wait(cx, false).is_some() {
            // There is nobody to be fair to on a connection that is over.
            return Poll::Ready(());
        }
        give_way(cx);
        Poll::Pending
    }
}

impl Drop for StreamReader {
    fn drop(&mut self) {
        self.connection.reader_dropped();
    }
}

/// What one reader takes, in bytes, before other tasks get their turn. Reads from the buffer touch no socket and so
/// spend none of tokio's budget: without this, a peer that pipelines without end would hold the thread.
const TURN_LEN: usize = 256 * 1024;
/// What an item costs beyond its bytes, so that a flood of tiny ones ends its turn too.
const ITEM_COST: usize = 64;
