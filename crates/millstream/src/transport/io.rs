//! Any byte stream of tokio's kind, adopted: only the driver can send, because such a stream keeps one waker.

use std::fmt;
use std::io::{self, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::sync::Mutex;
use crate::waiters::Wakes;

/// A byte stream in both directions.
pub(crate) trait AnyIo: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> AnyIo for T {}

/// Reading and writing take turns at the stream, each for one non-blocking call; `None` once closed.
pub(crate) struct IoTransport(Mutex<Option<Pin<Box<dyn AnyIo>>>>);

impl fmt::Debug for IoTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IoTransport")
    }
}

impl IoTransport {
    pub(crate) fn new(io: impl AnyIo + 'static) -> Self {
        Self(Mutex::new(Some(Box::pin(io))))
    }

    pub(crate) fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<Result<usize>> {
        let mut io = self.0.lock();
        let Some(io) = io.as_mut() else { return Poll::Ready(Ok(0)) };
        let mut buf = ReadBuf::new(buf);
        std::task::ready!(io.as_mut().poll_read(cx, &mut buf))?;
        Poll::Ready(Ok(buf.filled().len()))
    }

    pub(crate) fn try_write(&self, cx: Option<&mut Context<'_>>, slices: &[IoSlice<'_>]) -> Result<usize> {
        let Some(cx) = cx else { return Err(io::ErrorKind::WouldBlock.into()) };
        let mut io = self.0.lock();
        let Some(io) = io.as_mut() else { return Err(io::ErrorKind::NotConnected.into()) };
        match io.as_mut().poll_write_vectored(cx, slices) {
            Poll::Ready(Ok(0)) => Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match self.0.lock().as_mut() {
            Some(io) => io.as_mut().poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    pub(crate) fn poll_shutdown(&self, cx: Option<&mut Context<'_>>) -> Poll<Result<()>> {
        let Some(cx) = cx else { return Poll::Pending };
        match self.0.lock().as_mut() {
            Some(io) => io.as_mut().poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    pub(crate) fn close(&self, wakes: &mut Wakes) {
        let io = self.0.lock().take();
        wakes.drop_io_later(io);
    }
}
