//! A TCP or Unix socket that both halves use and that can be closed while they still hold it.

use std::io::{self, IoSlice, Read, Result};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

use super::Room;
use crate::address::{Address, PeerCredentials};

/// The lock is taken for reading by each call and for writing only to close, so calls never wait for each other.
#[derive(Debug)]
pub(crate) struct Socket<S> {
    socket: RwLock<Option<Arc<S>>>,
    /// The kernel has taken every send in full so far. Until it does not, tokio is not asked whether there is room: of a
    /// new socket it hears that only when its driver was polled, and what is flushed before has to leave as well.
    never_full: AtomicBool,
}

/// What tokio's two stream sockets have in common.
pub(crate) trait StreamSocket: AsFd {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<Result<()>>;
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<Result<()>>;
    fn try_io<R>(&self, interest: Interest, f: impl FnOnce() -> Result<R>) -> Result<R>;
}

macro_rules! stream_socket {
    ($($socket:ty),*) => {$(
        impl StreamSocket for $socket {
            fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<Result<()>> {
                self.poll_read_ready(cx)
            }
            fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<Result<()>> {
                self.poll_write_ready(cx)
            }
            fn try_io<R>(&self, interest: Interest, f: impl FnOnce() -> Result<R>) -> Result<R> {
                self.try_io(interest, f)
            }
        }
    )*};
}

stream_socket!(TcpStream, UnixStream);

impl<S: StreamSocket> Socket<S> {
    pub(crate) fn new(socket: S) -> Self {
        Self { socket: RwLock::new(Some(Arc::new(socket))), never_full: AtomicBool::new(true) }
    }

    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        room: &mut (impl Room + ?Sized),
    ) -> Poll<Result<usize>> {
        let guard = self.open();
        let Some(socket) = guard.as_deref() else { return Poll::Ready(Ok(0)) };
        loop {
            std::task::ready!(socket.poll_read_ready(cx))?;
            let buf = room.room();
            let result = short_clears_readiness(socket, Interest::READABLE, buf.len(), || {
                (&*SockRef::from(socket)).read(buf)
            });
            match result {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return Poll::Ready(other),
            }
        }
    }

    /// One receive, whatever tokio knows: its readiness lags behind, and a task's budget may be spent.
    pub(crate) fn read_now(&self, buf: &mut [u8]) -> Result<usize> {
        let guard = self.open();
        let Some(socket) = guard.as_deref() else { return Ok(0) };
        loop {
            match (&*SockRef::from(socket)).read(buf) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    pub(crate) fn try_write(&self, slices: &[IoSlice<'_>]) -> Result<usize> {
        let guard = self.open();
        let Some(socket) = guard.as_deref() else { return Err(io::ErrorKind::NotConnected.into()) };
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        let send = || {
            let socket = SockRef::from(socket);
            match slices {
                [one] => socket.send_with_flags(one, NO_SIGNAL),
                several => socket.send_vectored_with_flags(several, NO_SIGNAL),
            }
        };
        let never_full = self.never_full.load(Ordering::Relaxed);
        loop {
            let result = if never_full {
                send()
            } else {
                short_clears_readiness(socket, Interest::WRITABLE, offered, send)
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => {
                    if never_full && !other.as_ref().is_ok_and(|&n| n == offered) {
                        self.never_full.store(false, Ordering::Relaxed);
                    }
                    return other;
                }
            }
        }
    }

    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match self.open().as_deref() {
            Some(socket) => socket.poll_write_ready(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    pub(crate) fn shutdown_write(&self) -> Result<()> {
        match self.open().as_deref() {
            Some(socket) => SockRef::from(socket).shutdown(std::net::Shutdown::Write),
            None => Ok(()),
        }
    }

    pub(crate) fn close(&self, reset: bool) {
        let socket = self.socket.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(socket) = socket
            && reset
        {
            // A linger time of zero makes close() send a reset and never block. A socket that cannot (a Unix one) just
            // closes, which its peer sees as a reset if bytes were unread.
            let _ = SockRef::from(&*socket).set_linger(Some(Duration::ZERO));
        }
    }

    pub(crate) fn local_address(&self) -> Option<Address> {
        self.with_sock(|sock| sock.local_addr().ok().map(|address| Address::from(&address)))?
    }

    pub(crate) fn peer_address(&self) -> Option<Address> {
        self.with_sock(|sock| sock.peer_addr().ok().map(|address| Address::from(&address)))?
    }

    pub(crate) fn with_fd<R>(&self, f: impl FnOnce(BorrowedFd<'_>) -> R) -> Option<R> {
        // The caller's function runs without the lock: it may close the connection, which closes the socket after it.
        let socket = self.open().clone()?;
        Some(f(socket.as_fd()))
    }

    fn with_sock<R>(&self, f: impl FnOnce(SockRef<'_>) -> R) -> Option<R> {
        self.open().as_deref().map(|socket| f(SockRef::from(socket)))
    }

    fn open(&self) -> RwLockReadGuard<'_, Option<Arc<S>>> {
        self.socket.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Socket<UnixStream> {
    pub(crate) fn peer_credentials(&self) -> Result<PeerCredentials> {
        let guard = self.open();
        let Some(socket) = guard.as_deref() else { return Err(io::ErrorKind::NotConnected.into()) };
        let credentials = socket.peer_cred()?;
        Ok(PeerCredentials { pid: credentials.pid(), uid: credentials.uid(), gid: credentials.gid() })
    }
}

/// Does one transfer, and lets tokio forget the readiness if it moved less than `room`: the kernel had no more, so the
/// next call would only bring `EAGAIN`. This holds where readiness comes in edges (epoll, kqueue), as everywhere here, and
/// as in tokio's own reads; a peer that sends urgent data or descriptors only delays what it sends behind them.
fn short_clears_readiness<S: StreamSocket>(
    socket: &S,
    interest: Interest,
    room: usize,
    transfer: impl FnOnce() -> Result<usize>,
) -> Result<usize> {
    let mut moved = None;
    let result = socket.try_io(interest, || {
        let n = transfer()?;
        moved = Some(n);
        if 0 < n && n < room { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(n) }
    });
    match moved {
        Some(n) => Ok(n),
        None => result,
    }
}

/// A send to a peer that is gone is an error here, never a signal.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
const NO_SIGNAL: i32 = libc::MSG_NOSIGNAL;
/// Elsewhere std sets `SO_NOSIGPIPE` on every socket it makes.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
const NO_SIGNAL: i32 = 0;
