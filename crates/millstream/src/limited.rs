//! Reads up to a separator, under a limit given for the one call.

use std::future::poll_fn;

use bytes::Bytes;
use millstream_core::{Answer, ReadLineError, ReadUntilError, Request, Separators};

use crate::reader::StreamReader;

/// A reader with a limit of its own for one call; made by [`StreamReader::limited`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), millstream::Error> {
/// let ((mut reader, _w), (_r, peer)) = millstream::testing::pair();
/// peer.write(b"HELO example\r\n")?;
/// let command = reader.limited(510).read_until(b"\r\n").await?;
/// assert_eq!(command.as_deref(), Some(&b"HELO example\r\n"[..]));
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "a limited reader does nothing until one of its reads is awaited"]
pub struct Limited<'a> {
    reader: &'a mut StreamReader,
    limit: usize,
}

impl<'a> Limited<'a> {
    pub(crate) fn new(reader: &'a mut StreamReader, limit: usize) -> Self {
        Self { reader, limit }
    }

    /// As [`StreamReader::read_line`].
    ///
    /// # Errors
    /// As [`StreamReader::read_line`].
    pub async fn read_line(self) -> Result<Option<Bytes>, ReadLineError> {
        let len = poll_fn(|cx| self.reader.poll_line(cx, self.limit)).await?;
        Ok(len.map(|len| self.reader.buffer.take(len)))
    }

    /// As [`StreamReader::read_line_borrowed`].
    ///
    /// # Errors
    /// As [`StreamReader::read_line`].
    pub async fn read_line_borrowed(self) -> Result<Option<&'a [u8]>, ReadLineError> {
        let len = poll_fn(|cx| self.reader.poll_line(cx, self.limit)).await?;
        Ok(len.map(|len| self.reader.buffer.lend(len)))
    }

    /// As [`StreamReader::read_until`].
    ///
    /// # Errors
    /// As [`StreamReader::read_until`].
    pub async fn read_until(self, separator: &[u8]) -> Result<Option<Bytes>, ReadUntilError> {
        let len = self.reader.await_until(Separators::One(separator), self.limit).await?;
        Ok(len.map(|len| self.reader.buffer.take(len)))
    }

    /// As [`StreamReader::read_until_borrowed`].
    ///
    /// # Errors
    /// As [`StreamReader::read_until`].
    pub async fn read_until_borrowed(self, separator: &[u8]) -> Result<Option<&'a [u8]>, ReadUntilError> {
        let len = self.reader.await_until(Separators::One(separator), self.limit).await?;
        Ok(len.map(|len| self.reader.buffer.lend(len)))
    }

    /// As [`StreamReader::read_until_any`].
    ///
    /// # Errors
    /// As [`StreamReader::read_until`].
    pub async fn read_until_any(self, separators: &[&[u8]]) -> Result<Option<Bytes>, ReadUntilError> {
        let len = self.reader.await_until(Separators::Any(separators), self.limit).await?;
        Ok(len.map(|len| self.reader.buffer.take(len)))
    }

    /// As [`StreamReader::read_until_any_borrowed`].
    ///
    /// # Errors
    /// As [`StreamReader::read_until`].
    pub async fn read_until_any_borrowed(
        self,
        separators: &[&[u8]],
    ) -> Result<Option<&'a [u8]>, ReadUntilError> {
        let len = self.reader.await_until(Separators::Any(separators), self.limit).await?;
        Ok(len.map(|len| self.reader.buffer.lend(len)))
    }
}

impl StreamReader {
    /// The length of the next item; `None` at the end.
    async fn await_until(
        &mut self,
        separators: Separators<'_>,
        limit: usize,
    ) -> Result<Option<usize>, ReadUntilError> {
        if !separators.is_valid() {
            return Err(ReadUntilError::EmptySeparator);
        }
        match self.answer(&Request::Until { separators, limit }).await {
            Answer::Ready { len } => Ok(Some(len)),
            Answer::Overrun { consumed, found } => {
                Err(ReadUntilError::LimitOverrun { consumed, limit, found })
            }
            Answer::Incomplete { len } => Err(ReadUntilError::Incomplete { partial: self.buffer.take(len) }),
            Answer::Failed(failure) => Err(failure.into()),
            Answer::End | Answer::Need => Ok(None),
        }
    }
}
