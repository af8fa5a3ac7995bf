//! Waiting for the signals that ask a process to end.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use tokio::signal::unix::{self, SignalKind};

/// A signal that asks a process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Signal {
    /// SIGTERM: from an init system, a container runtime, `kill`.
    Terminate,
    /// SIGINT: Ctrl-C.
    Interrupt,
}

/// Waits for the next SIGTERM or SIGINT, and says which it was.
///
/// **Cancel-safe**, with one thing to know: once this was polled, these signals no longer end the process by
/// themselves, even after it has returned or was dropped. So after the first signal the program decides what a second
/// one does; call this again to wait for it. A signal that comes while nobody waits is lost.
/// [`Server::serve_until_terminated`](crate::Server::serve_until_terminated) does all of that.
///
/// # Errors
/// What the system says if it refuses to deliver signals.
///
/// ```no_run
/// # async fn serve(server: millstream::Server) -> Result<(), millstream::Error> {
/// let signal = millstream::signals::terminated().await?;
/// eprintln!("{signal:?}: stopping");
/// server.stop(std::time::Duration::from_secs(30)).await;
/// # Ok(()) }
/// ```
pub async fn terminated() -> io::Result<Signal> {
    let mut signals = Signals::listen()?;
    Ok(poll_fn(|cx| signals.poll_next(cx)).await)
}

/// Both signals, from when this was made on.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
}

impl Signals {
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: unix::signal(SignalKind::terminate())?,
            interrupt: unix::signal(SignalKind::interrupt())?,
        })
    }

    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Signal> {
        if let Poll::Ready(Some(())) = self.terminate.poll_recv(cx) {
            return Poll::Ready(Signal::Terminate);
        }
        if let Poll::Ready(Some(())) = self.interrupt.poll_recv(cx) {
            return Poll::Ready(Signal::Interrupt);
        }
        Poll::Pending
    }
}
