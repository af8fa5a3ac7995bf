//! What carries the bytes: TCP, Unix, memory, or any adopted byte stream, behind one set of non-blocking calls.
//!
//! No call here waits. A send that takes less than it was offered has used up the transport's readiness, so the next
//! one answers `WouldBlock` without a system call; the same holds for receives.

mod io;
mod memory;
mod socket;

use std::io::{IoSlice, Result};
use std::os::fd::BorrowedFd;
use std::task::{Context, Poll};

use millstream_core::ReadBuffer;

pub(crate) use io::{AnyIo, IoTransport};
pub(crate) use memory::MemoryEnd;
pub(crate) use socket::Socket;

use crate::address::{Address, PeerCredentials};
use crate::waiters::Wakes;

/// Where a receive goes. A socket asks for it only when there is something to receive.
pub(crate) trait Room {
    /// At least one byte, and the same each time until some of it was filled.
    fn room(&mut self) -> &mut [u8];
}

impl Room for [u8] {
    fn room(&mut self) -> &mut [u8] {
        self
    }
}

impl Room for ReadBuffer {
    #[inline]
    fn room(&mut self) -> &mut [u8] {
        self.spare()
    }
}

#[derive(Debug)]
pub(crate) enum Transport {
    Tcp(Socket<tokio::net::TcpStream>),
    Unix(Socket<tokio::net::UnixStream>),
    Memory(MemoryEnd),
    Io(IoTransport),
}

impl Transport {
    /// Receives what is there; `Ok(0)` is the peer's end. Only one task at a time may wait here.
    #[inline]
    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        room: &mut (impl Room + ?Sized),
    ) -> Poll<Result<usize>> {
        match self {
            Self::Tcp(socket) => socket.poll_read(cx, room),
            Self::Unix(socket) => socket.poll_read(cx, room),
            Self::Memory(end) => end.poll_read(cx, room.room()),
            Self::Io(io) => io.poll_read(cx, room.room()),
        }
    }

    /// Receives what is there, without regard to what the runtime knows of the socket, and leaves no waker. An adopted
    /// byte stream, which cannot be asked so, always answers `WouldBlock`.
    pub(crate) fn read_now(&self, buf: &mut [u8]) -> Result<usize> {
        match self {
            Self::Tcp(socket) => socket.read_now(buf),
            Self::Unix(socket) => socket.read_now(buf),
            Self::Memory(end) => end.read_now(buf),
            Self::Io(_) => Err(std::io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Sends what fits. Without a context (outside the driver) an adopted byte stream always answers `WouldBlock`.
    #[inline]
    pub(crate) fn try_write(
        &self,
        cx: Option<&mut Context<'_>>,
        slices: &[IoSlice<'_>],
        wakes: &mut Wakes,
    ) -> Result<usize> {
        match self {
            Self::Tcp(socket) => socket.try_write(slices),
            Self::Unix(socket) => socket.try_write(slices),
            Self::Memory(end) => end.try_write(slices, wakes),
            Self::Io(io) => io.try_write(cx, slices),
        }
    }

    /// Waits until another send may take something. Only the driver may wait here.
    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match self {
            Self::Tcp(socket) => socket.poll_writable(cx),
            Self::Unix(socket) => socket.poll_writable(cx),
            Self::Memory(end) => end.poll_writable(cx),
            // Its own `poll_write` has taken the waker.
            Self::Io(_) => Poll::Pending,
        }
    }

    /// Waits until a byte stream that buffers by itself has let everything go.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match self {
            Self::Io(io) => io.poll_flush(cx),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Tells the peer that nothing more will come. Without a context an adopted byte stream always answers `Pending`.
    pub(crate) fn poll_shutdown(&self, cx: Option<&mut Context<'_>>, wakes: &mut Wakes) -> Poll<Result<()>> {
        match self {
            Self::Tcp(socket) => Poll::Ready(socket.shutdown_write()),
            Self::Unix(socket) => Poll::Ready(socket.shutdown_write()),
            Self::Memory(end) => {
                end.shutdown_write(wakes);
                Poll::Ready(Ok(()))
            }
            Self::Io(io) => io.poll_shutdown(cx),
        }
    }

    /// Closes; with `reset`, the peer sees a reset instead of an end, where the transport knows such a thing.
    pub(crate) fn close(&self, reset: bool, wakes: &mut Wakes) {
        match self {
            Self::Tcp(socket) => socket.close(reset),
            Self::Unix(socket) => socket.close(reset),
            Self::Memory(end) => end.close(reset, wakes),
            Self::Io(io) => io.close(wakes),
        }
    }

    /// Whether closing while the peer still sends could destroy our last bytes.
    pub(crate) fn needs_linger(&self) -> bool {
        matches!(self, Self::Tcp(_) | Self::Unix(_))
    }

    /// Whether sends may be tried from any task, not only from the driver.
    pub(crate) fn sends_inline(&self) -> bool {
        !matches!(self, Self::Io(_))
    }

    pub(crate) fn local_address(&self) -> Option<Address> {
        match self {
            Self::Tcp(socket) => socket.local_address(),
            Self::Unix(socket) => socket.local_address(),
            Self::Memory(_) | Self::Io(_) => Some(Address::Memory),
        }
    }

    pub(crate) fn peer_address(&self) -> Option<Address> {
        match self {
            Self::Tcp(socket) => socket.peer_address(),
            Self::Unix(socket) => socket.peer_address(),
            Self::Memory(_) | Self::Io(_) => Some(Address::Memory),
        }
    }

    pub(crate) fn peer_credentials(&self) -> Result<PeerCredentials> {
        match self {
            Self::Unix(socket) => socket.peer_credentials(),
            _ => Err(std::io::Error::new(
                std::io::ErrorKind::Unsupported,
                "peer_credentials: only a Unix socket knows the process behind it",
            )),
        }
    }

    pub(crate) fn with_fd<R>(&self, f: impl FnOnce(BorrowedFd<'_>) -> R) -> Option<R> {
        match self {
            Self::Tcp(socket) => socket.with_fd(f),
            Self::Unix(socket) => socket.with_fd(f),
            Self::Memory(_) | Self::Io(_) => None,
        }
    }
}
