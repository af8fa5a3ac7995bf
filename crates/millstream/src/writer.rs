//! The writing half: synchronous writes, flow control by watermarks, half-close, close and abort.

use std::future::poll_fn;
use std::io;
use std::os::fd::BorrowedFd;

use bytes::Bytes;
use millstream_core::{CloseError, ConfigError, DrainError, Watermarks, WriteError};

use crate::address::{Address, PeerCredentials};
use crate::connection::Connection;
use crate::stats::Stats;
use crate::sync::Arc;
use crate::waiters::Ticket;

/// The writing half of a connection. All its methods take `&self`, so tasks can share it in an `Arc`.
///
/// **Writes are corked.** [`write`](Self::write) never waits: it queues the whole message, or fails and queues nothing.
/// Queued bytes leave together, in as few system calls as possible, no later than the first of these: the connection's
/// reader is about to wait; the task that wrote gives control back to the runtime; 16 KiB are queued;
/// [`flush`](Self::flush), [`close`](Self::close) or [`write_eof`](Self::write_eof) is called. There is no timer and no
/// flush to forget. [`cork(false)`](Self::cork) sends each message at once. A handler that blocks its thread, be it by
/// `block_in_place`, does not give control back: it calls `flush` before.
///
/// **Dropping** the writer closes the connection in the background: what is queued is sent, then the end. A reader that
/// is still there may read on until it is dropped as well. To be sure that everything left, call
/// [`close`](Self::close) and await [`wait_closed`](Self::wait_closed).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), millstream::Error> {
/// let ((_r, writer), (mut peer, _w)) = millstream::testing::pair();
/// writer.write(b"status: ")?;
/// writer.write(b"fine\n")?;
/// writer.drain().await?;
/// assert_eq!(peer.read_line().await?.as_deref(), Some(&b"status: fine\n"[..]));
/// assert_eq!(writer.stats().writes, 1);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct StreamWriter {
    pub(crate) connection: Arc<Connection>,
    /// The places of this writer's own `AsyncWrite` calls among those who wait for the low mark and for empty.
    pub(crate) drain_ticket: Ticket,
    pub(crate) flush_ticket: Ticket,
}

impl StreamWriter {
    pub(crate) fn new(connection: Arc<Connection>) -> Self {
        Self { connection, drain_ticket: Ticket::default(), flush_ticket: Ticket::default() }
    }

    /// Queues the message, whole. Never waits; call [`drain`](Self::drain) now and then to let the peer keep up.
    ///
    /// # Errors
    /// [`WriteError::Closed`] after `close` or `abort`, [`WriteError::AfterEof`] after `write_eof`,
    /// [`WriteError::Full`] beyond the hard cap, [`WriteError::Failed`] if the transport failed before. Nothing of the
    /// message is queued then.
    pub fn write(&self, data: &[u8]) -> Result<(), WriteError> {
        self.connection.write(data)
    }

    /// As [`write`](Self::write), for bytes that are given away: large ones are sent from where they are, never copied.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_bytes(&self, data: impl Into<Bytes>) -> Result<(), WriteError> {
        self.connection.write_bytes(data.into())
    }

    /// As [`write`](Self::write), for several pieces that make one message: all are queued or none. No line ends are
    /// added, as in asyncio's `writelines`.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_lines<T: AsRef<[u8]>>(&self, pieces: &[T]) -> Result<(), WriteError> {
        self.connection.write_pieces(pieces.iter().map(AsRef::as_ref))
    }

    /// Waits while more is queued than the high watermark allows, until the low one is reached. Returns at once, without
    /// yielding, below the high mark. Any number of tasks may wait.
    ///
    /// **Cancel-safe**: a message is never cut, whoever stops waiting.
    ///
    /// # Errors
    /// [`DrainError::Failed`] if the transport failed, [`DrainError::Closed`] once the connection is closed.
    pub async fn drain(&self) -> Result<(), DrainError> {
        if !self.connection.needs_drain() {
            return Ok(());
        }
        let mut waiting = Waiting::new(&self.connection, Connection::forget_drainer);
        poll_fn(|cx| self.connection.poll_drain(cx, &mut waiting.ticket)).await
    }

    /// Starts sending what is queued, now, and does not wait for it.
    ///
    /// # Errors
    /// As [`drain`](Self::drain).
    pub fn flush(&self) -> Result<(), DrainError> {
        self.connection.flush_now()
    }

    /// Corks (the default) or uncorks: uncorked, each message is sent at once, as asyncio does.
    pub fn cork(&self, corked: bool) {
        self.connection.set_corked(corked);
    }

    /// Whether [`write_eof`](Self::write_eof) is possible: always, except over TLS 1.2.
    pub fn can_write_eof(&self) -> bool {
        self.connection.can_write_eof()
    }

    /// Half-closes: the peer sees the end after everything that was written; reading goes on. Idempotent. Over TLS this is
    /// a close_notify, and the socket itself stays open both ways until [`close`](Self::close).
    ///
    /// # Errors
    /// As [`write`](Self::write), except that a second call is no error; [`WriteError::NoHalfClose`] over TLS 1.2.
    pub fn write_eof(&self) -> Result<(), WriteError> {
        self.connection.write_eof()
    }

    /// Begins to close: sends what is queued, then the end, then reads and drops what the peer still sends for a short
    /// while (so that our last bytes are not lost to a reset), then closes. The reader gets what is in its buffer, then
    /// the end. Bounded by the close deadline. Idempotent.
    pub fn close(&self) {
        self.connection.close();
    }

    /// Whether the connection is closing or closed, by whomever.
    pub fn is_closing(&self) -> bool {
        self.connection.is_closing()
    }

    /// Waits until the connection is closed. Does not close it.
    ///
    /// **Cancel-safe**; any number of tasks may wait, and none affects another.
    ///
    /// # Errors
    /// [`CloseError::Failed`] if the transport failed, [`CloseError::Deadline`] if the peer did not take what was queued
    /// in time. After an `abort` of our own it is `Ok`.
    pub async fn wait_closed(&self) -> Result<(), CloseError> {
        let mut waiting = Waiting::new(&self.connection, Connection::forget_closer);
        poll_fn(|cx| self.connection.poll_closed(cx, &mut waiting.ticket)).await
    }

    /// Ends the connection at once: what is queued is dropped, and the peer sees a reset (over TCP).
    pub fn abort(&self) {
        self.connection.abort();
    }

    /// The watermarks in force.
    pub fn watermarks(&self) -> Watermarks {
        self.connection.watermarks()
    }

    /// Sets the watermarks, in bytes. `(0, 0)` makes `drain` wait until everything was handed to the system.
    ///
    /// # Errors
    /// [`ConfigError::LowAboveHigh`]; [`ConfigError::CapWithinWatermarks`] if there is a hard cap that is not above them.
    pub fn set_watermarks(&self, high: usize, low: usize) -> Result<(), ConfigError> {
        self.connection.set_watermarks(Watermarks::new(high, low)?)
    }

    /// Sets how many bytes may be queued at all; a write beyond fails with [`WriteError::Full`]. `None`, the default,
    /// lets the queue grow as long as nobody drains.
    ///
    /// # Errors
    /// [`ConfigError::CapWithinWatermarks`] for a cap that is not above the high watermark.
    pub fn set_hard_cap(&self, hard_cap: Option<usize>) -> Result<(), ConfigError> {
        self.connection.set_hard_cap(hard_cap)
    }

    /// The peer's address. `None` if the connection was closed before it was first asked for.
    pub fn peer_address(&self) -> Option<Address> {
        self.connection.peer_address()
    }

    /// This side's address. `None` if the connection was closed before it was first asked for.
    pub fn local_address(&self) -> Option<Address> {
        self.connection.local_address()
    }

    /// Who is at the other end of a Unix socket, as the kernel vouches for it.
    ///
    /// # Errors
    /// `Unsupported` if this is no Unix socket; what the system says otherwise.
    pub fn peer_credentials(&self) -> io::Result<PeerCredentials> {
        self.connection.transport().peer_credentials()
    }

    /// Lends the socket, to read or set its options. `None` if there is none or it is closed. It must not be closed,
    /// read or written by the borrower.
    pub fn with_socket<R>(&self, f: impl FnOnce(BorrowedFd<'_>) -> R) -> Option<R> {
        self.connection.transport().with_fd(f)
    }

    /// What this connection did so far.
    pub fn stats(&self) -> Stats {
        self.connection.stats()
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        self.connection.forget_drainer(&mut self.drain_ticket);
        self.connection.forget_flusher(&mut self.flush_ticket);
        self.connection.writer_dropped();
    }
}

/// A task's place in a queue of waiters, given back when the task stops waiting for whatever reason.
#[derive(Debug)]
struct Waiting<'a> {
    connection: &'a Arc<Connection>,
    ticket: Ticket,
    forget: fn(&Arc<Connection>, &mut Ticket),
}

impl<'a> Waiting<'a> {
    fn new(connection: &'a Arc<Connection>, forget: fn(&Arc<Connection>, &mut Ticket)) -> Self {
        Self { connection, ticket: Ticket::default(), forget }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        (self.forget)(self.connection, &mut self.ticket);
    }
}
