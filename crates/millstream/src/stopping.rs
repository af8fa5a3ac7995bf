//! The token by which a handler learns that its server is being stopped.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::reader::StreamReader;
use crate::writer::StreamWriter;

/// A server's word to its handlers: `None` until it is being stopped, then the deadline.
pub(crate) type StopSignal = Arc<watch::Sender<Option<Instant>>>;

/// Whether the server of a connection is being stopped; made by [`StreamReader::stopping`] and
/// [`StreamWriter::stopping`]. It borrows nothing, and outlives its connection.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), millstream::Error> {
/// use millstream::{Error, StreamReader, StreamWriter};
/// use std::time::Duration;
///
/// async fn tick(_reader: StreamReader, writer: StreamWriter) -> Result<(), Error> {
///     let stopping = writer.stopping();
///     while !stopping.is_requested() {
///         writer.write(b"tick\n")?;
///         writer.drain().await?;
///         let pause = tokio::time::sleep(Duration::from_secs(60));
///         tokio::select! {
///             () = pause => {}
///             () = stopping.requested() => {}
///         }
///     }
///     Ok(writer.write(b"goodbye\n")?)
/// }
/// let server = millstream::start_server("127.0.0.1", 0, tick).await?;
/// let port = server.sockets()[0].port().expect("TCP");
/// let (mut reader, _writer) = millstream::open_connection("127.0.0.1", port).await?;
/// assert_eq!(reader.read_line().await?.as_deref(), Some(&b"tick\n"[..]));
///
/// let stop = tokio::spawn(async move { server.stop(Duration::from_secs(5)).await });
/// assert_eq!(reader.read_line().await?.as_deref(), Some(&b"goodbye\n"[..]));
/// drop(reader);
/// assert_eq!(stop.await.expect("no panic").finished, 1);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Stopping {
    signal: Option<StopSignal>,
}

impl Stopping {
    pub(crate) fn new(signal: Option<StopSignal>) -> Self {
        Self { signal }
    }

    /// Waits until [`Server::stop`](crate::Server::stop) is called. Never ends for a connection that no server accepted.
    ///
    /// **Cancel-safe.**
    pub async fn requested(&self) {
        if let Some(signal) = &self.signal {
            // Its sender is held right here, so it cannot go away meanwhile.
            let _ = signal.subscribe().wait_for(Option::is_some).await;
        } else {
            std::future::pending().await
        }
    }

    /// Whether [`Server::stop`](crate::Server::stop) was called.
    pub fn is_requested(&self) -> bool {
        self.deadline().is_some()
    }

    /// How long this connection has until it is aborted, if its server is being stopped.
    pub fn time_left(&self) -> Option<Duration> {
        self.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    fn deadline(&self) -> Option<Instant> {
        self.signal.as_ref().and_then(|signal| *signal.borrow())
    }
}

impl StreamReader {
    /// A token that tells when the server which accepted this connection is being stopped: for handlers with something
    /// to finish, or that never become idle. See [`Server::stop`](crate::Server::stop).
    pub fn stopping(&self) -> Stopping {
        self.connection.stopping()
    }
}

impl StreamWriter {
    /// As [`StreamReader::stopping`].
    pub fn stopping(&self) -> Stopping {
        self.connection.stopping()
    }
}
