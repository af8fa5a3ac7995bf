//! The halves as tokio's `AsyncRead`, `AsyncBufRead` and `AsyncWrite`, and any such byte stream as a pair.
//!
//! `tokio::io::join(reader, writer)` makes the pair one byte stream again, for hyper, `tokio_util::codec` or anyone.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use millstream_core::{Answer, DrainError, Request};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

use crate::reader::StreamReader;
use crate::waiters::Ticket;
use crate::writer::StreamWriter;

impl AsyncRead for StreamReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match ready!(self.poll_answer(cx, &Request::Some { max: buf.remaining() })) {
            Answer::Ready { len } => buf.put_slice(self.buffer.lend(len)),
            Answer::Failed(failure) => return Poll::Ready(Err(failure.into())),
            _ => {}
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncBufRead for StreamReader {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        match ready!(this.poll_answer(cx, &Request::Some { max: usize::MAX })) {
            Answer::Failed(failure) => Poll::Ready(Err(failure.into())),
            _ => Poll::Ready(Ok(this.buffer.unread())),
        }
    }

    fn consume(mut self: Pin<&mut Self>, amount: usize) {
        self.buffer.consume(amount);
        self.connection.note_taken();
    }
}

/// Writing takes what fits below the high watermark, and waits above it; `flush` waits until everything was
/// handed to the system; `shutdown` is [`write_eof`](StreamWriter::write_eof). TLS 1.2 cannot end one
/// direction, so there it closes; what the peer has sent by then can still be read.
///
/// With tokio's `AsyncWriteExt` in scope, `write` and `flush` on a `&mut StreamWriter` are that trait's: async, and in
/// part. On a `StreamWriter` or a `&StreamWriter` they are the inherent ones.
impl AsyncWrite for StreamWriter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(this.connection.poll_drain(cx, &mut this.drain_ticket))?;
        let data = &data[..data.len().min(this.connection.room_to_write())];
        this.connection.write(data)?;
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.connection.poll_flushed(cx, &mut this.flush_ticket))?;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.connection.shut_down()?;
        match ready!(this.connection.poll_flushed(cx, &mut this.flush_ticket)) {
            // The whole connection is over, and knows how it ended.
            Err(DrainError::Closed) => {
                this.connection.poll_closed(cx, &mut Ticket::default()).map_err(io::Error::from)
            }
            flushed => Poll::Ready(flushed.map_err(io::Error::from)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(this.connection.poll_drain(cx, &mut this.drain_ticket))?;
        let room = this.connection.room_to_write();
        let mut taken = 0;
        let pieces = slices.iter().map_while(|slice| {
            let piece = &slice[..slice.len().min(room - taken)];
            taken += piece.len();
            (taken < room || !piece.is_empty()).then_some(piece)
        });
        this.connection.write_pieces(pieces)?;
        Poll::Ready(Ok(taken))
    }
}
