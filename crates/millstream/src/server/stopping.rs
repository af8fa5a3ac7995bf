//! The graceful stop: stop accepting, tell the handlers, end idle connections, abort the rest at the deadline.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::{Server, Shared};
use crate::admission::Admission;
use crate::connection::{Asked, Connection, StopEnd};
use crate::error::Error;
use crate::signals::{Signal, Signals};

/// What became of the connections that a server had when it was stopped; made by [`Server::stop`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stopped {
    /// Ended by themselves: their handler was done, or their peer went.
    pub finished: usize,
    /// Were ended because they were idle, or had not got through their TLS handshake.
    pub idle: usize,
    /// Were cut off at the deadline: reset, or their handler dropped.
    pub aborted: usize,
}

impl Stopped {
    /// The sum with what became of another server's.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            finished: self.finished + other.finished,
            idle: self.idle + other.idle,
            aborted: self.aborted + other.aborted,
        }
    }
}

/// How far a server's stop is. Under the lock of the server.
#[derive(Debug, Default)]
pub(super) struct Stop {
    stage: Stage,
    stopped: Stopped,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    NotAsked,
    /// What the connections are asked.
    Ending(Asked),
    /// The time is up.
    CuttingOff,
}

impl Server {
    /// Stops gracefully, within this time, in this order: accepting ends; handlers are told, by
    /// [`stopping`](crate::StreamReader::stopping); idle connections end at once, and others as soon as they are idle;
    /// what is left at the deadline is reset, and its handler dropped. Returns when no connection and no handler is left,
    /// and [`wait_closed`](Self::wait_closed) returns then as well.
    ///
    /// A connection is **idle** when its reader waits with an empty buffer, nothing is left to send, and something was
    /// written since the last read. So a request of which only a part was read is not idle, nor is one whose answer is
    /// not written or not sent, nor one whose handler does not read. The waiting read of an idle connection ends as if
    /// the peer had ended its side: `read_line` returns `None`, and so on. The handler may still write, as to any
    /// half-closed peer; when it returns, the connection closes with everything sent. A handler that reads *while* it
    /// works on an answer looks idle: see [`end_idle_on_stop`](crate::ServerOptions::end_idle_on_stop). One that never
    /// answers what it reads never does, and should look at `stopping`.
    ///
    /// A connection from which nothing was read so far may just have been accepted with its request on the way. It
    /// counts as idle when a quarter of a second has passed since the stop began, and so does a TLS handshake that is
    /// not over by then.
    ///
    /// Connections that still wait in the kernel's backlog are reset by the system when the last descriptor of their
    /// listening socket is closed. A restart that refuses no one hands the sockets over: see
    /// [`listeners`](Self::listeners).
    ///
    /// **Calling it again**, from any task, before or after [`close`](Self::close): the earliest deadline counts, and
    /// every call returns the same numbers, which are about the connections there were when the first began. With zero,
    /// everyone is cut off at once.
    ///
    /// **Cancel-safe**: nothing happens before it is polled; once it was, dropping it leaves the stop going on, deadline
    /// included, and so does dropping the `Server`. A handler that blocks its thread can neither be told nor dropped,
    /// and delays this until it gives control back.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), millstream::Error> {
    /// use millstream::{Error, StreamReader, StreamWriter};
    /// async fn echo(mut reader: StreamReader, writer: StreamWriter) -> Result<(), Error> {
    ///     while let Some(line) = reader.read_line().await? {
    ///         writer.write(&line)?;
    ///         writer.drain().await?;
    ///     }
    ///     Ok(())
    /// }
    /// let server = millstream::start_server("127.0.0.1", 0, echo).await?;
    /// let port = server.sockets()[0].port().expect("TCP");
    /// let (mut reader, writer) = millstream::open_connection("127.0.0.1", port).await?;
    /// writer.write(b"ping\n")?;
    /// reader.read_line().await?;
    ///
    /// let client = tokio::spawn(async move { (reader.read_line().await, drop(writer)).0 });
    /// let stopped = server.stop(std::time::Duration::from_secs(10)).await;
    /// assert_eq!((stopped.idle, stopped.aborted), (1, 0));
    /// assert_eq!(client.await.expect("no panic")?, None);
    /// # Ok(()) }
    /// ```
    pub async fn stop(&self, within: Duration) -> Stopped {
        self.shared.begin_stop(self, within);
        self.wait_closed().await;
        self.shared.state.lock().stop.stopped
    }

    /// Serves until this process is asked to end, by SIGTERM or SIGINT (Ctrl-C), then [stops](Self::stop) within this
    /// time. A second such signal cuts the rest off at once. Returns which signal it was, and what became of the
    /// connections.
    ///
    /// A signal that comes before this is called ends the process as ever. A server made with
    /// [`start_serving(false)`](crate::ServerOptions::start_serving) begins to serve here, when signals are caught.
    ///
    /// If the server is closed by someone else, it is stopped as well, and the signal is `None`.
    ///
    /// **Cancel-safe**: dropped before the signal, it leaves the server running; after it, as [`stop`](Self::stop). Signals
    /// keep being caught; see [`signals::terminated`](crate::signals::terminated).
    ///
    /// # Errors
    /// As [`start_serving`](Self::start_serving); [`Error::Io`] if the system refuses to deliver signals.
    ///
    /// ```no_run
    /// # async fn serve(server: millstream::Server) -> Result<(), millstream::Error> {
    /// let (signal, stopped) = server.serve_until_terminated(std::time::Duration::from_secs(30)).await?;
    /// println!("stopped by {signal:?}: {stopped:?}");
    /// # Ok(()) }
    /// ```
    pub async fn serve_until_terminated(&self, within: Duration) -> Result<(Option<Signal>, Stopped), Error> {
        let mut signals = Signals::listen()?;
        self.start_serving()?;
        let signal = {
            let mut closed = self.shared.status.subscribe();
            let mut closed = pin!(closed.wait_for(|status| status.closed));
            poll_fn(|cx| match signals.poll_next(cx) {
                Poll::Ready(signal) => Poll::Ready(Some(signal)),
                Poll::Pending => closed.as_mut().poll(cx).map(|_| None),
            })
            .await
        };
        let mut stop = pin!(self.stop(within));
        let stopped = poll_fn(|cx| {
            if let Poll::Ready(stopped) = stop.as_mut().poll(cx) {
                return Poll::Ready(stopped);
            }
            while signals.poll_next(cx).is_ready() {
                self.shared.begin_stop(self, Duration::ZERO);
            }
            Poll::Pending
        });
        Ok((signal, stopped.await))
    }
}

impl Shared {
    /// Everything of a stop that happens at once; the rest is left to a task.
    fn begin_stop(self: &Arc<Self>, server: &Server, within: Duration) {
        let now = Instant::now();
        let deadline = now.checked_add(within).unwrap_or_else(|| now + FAR_FUTURE);
        let is_first = {
            let mut state = self.state.lock();
            let is_first = state.stop.stage == Stage::NotAsked;
            if is_first {
                state.stop.stage = Stage::Ending(Asked::EndIdle);
            }
            is_first
        };
        // In this order: a connection that is accepted meanwhile finds out that the server stops, and is not dropped.
        server.close();
        self.stop_signal.send_if_modified(|known| {
            let is_earlier = known.is_none_or(|known| deadline < known);
            if is_earlier {
                *known = Some(deadline);
            }
            is_earlier
        });
        if within.is_zero() {
            return self.cut_off();
        }
        if is_first {
            self.end_idle(Asked::EndIdle);
            tokio::spawn(Arc::clone(self).finish_stop(now));
        }
    }

    /// Ends what has to end later.
    async fn finish_stop(self: Arc<Self>, began: Instant) {
        let moment = began + MOMENT_FOR_THE_SILENT;
        if self.is_over_by(|deadline| deadline.min(moment)).await {
            return;
        }
        self.end_idle(Asked::EndSilent);
        if !self.is_over_by(|deadline| deadline).await {
            self.cut_off();
        }
    }

    /// Waits until that time, or until no connection is left. The deadline may come nearer meanwhile.
    async fn is_over_by(&self, time: impl Fn(Instant) -> Instant) -> bool {
        let mut status = self.status.subscribe();
        let mut over = pin!(status.wait_for(|status| status.listeners == 0 && status.connections == 0));
        let mut signal = self.stop_signal.subscribe();
        loop {
            let deadline = (*signal.borrow_and_update()).unwrap_or_else(Instant::now);
            let mut sleep = pin!(tokio::time::sleep_until(time(deadline)));
            let mut nearer = pin!(signal.changed());
            let is_over = poll_fn(|cx| {
                if over.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Some(true));
                }
                if sleep.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Some(false));
                }
                nearer.as_mut().poll(cx).map(|_| None)
            });
            if let Some(is_over) = is_over.await {
                return is_over;
            }
        }
    }

    fn end_idle(&self, asked: Asked) {
        let connections = {
            let mut state = self.state.lock();
            if state.stop.stage == Stage::CuttingOff {
                return;
            }
            state.stop.stage = Stage::Ending(asked);
            state.connections.values().cloned().collect::<Vec<_>>()
        };
        if !self.admission.keeps_idle() {
            for connection in connections {
                connection.end_when_idle(asked);
            }
        }
    }

    fn cut_off(&self) {
        self.state.lock().stop.stage = Stage::CuttingOff;
        for connection in self.connections() {
            connection.cut_off();
        }
        self.refused.close();
    }
}

impl Stop {
    /// Whether a connection that was accepted while the server closed is served all the same.
    pub(super) fn goes_on(&self) -> bool {
        matches!(self.stage, Stage::Ending(_))
    }

    /// What a connection is asked that was accepted while the server stops.
    pub(super) fn asked(&self, admission: &Admission) -> Option<Asked> {
        match self.stage {
            Stage::Ending(asked) if !admission.keeps_idle() => Some(asked),
            _ => None,
        }
    }

    /// A connection has ended.
    pub(super) fn count(&mut self, connection: &Connection) {
        if self.stage == Stage::NotAsked {
            return;
        }
        match connection.stop_end() {
            None => self.stopped.finished += 1,
            Some(StopEnd::Idle) => self.stopped.idle += 1,
            Some(StopEnd::Aborted) => self.stopped.aborted += 1,
        }
    }
}

/// How long a peer that has not said anything yet may take to: the time of a round trip around the world. It may have
/// been accepted just before the stop.
const MOMENT_FOR_THE_SILENT: Duration = Duration::from_millis(250);
/// Stands for a deadline that the clock cannot hold.
const FAR_FUTURE: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

#[cfg(all(test, not(millstream_loom)))]
mod tests {
    use std::task::{Context, Waker};

    use super::*;
    use crate::address::Address;
    use crate::reader::StreamReader;
    use crate::transport::{MemoryEnd, Transport};
    use crate::writer::StreamWriter;

    /// On several threads an accept loop may have a connection in its hands in the moment in which the stop begins.
    #[tokio::test]
    async fn what_was_accepted_while_the_stop_began_is_served_and_after_the_deadline_dropped() {
        async fn echo(mut reader: StreamReader, writer: StreamWriter) -> Result<(), Error> {
            while let Some(line) = reader.read_line().await? {
                writer.write(&line)?;
            }
            Ok(())
        }
        let server = crate::start_server("127.0.0.1", 0, echo).await.unwrap();
        let accept = || {
            let Poll::Ready(permit) =
                server.shared.admission.entrance().poll_permit(&Context::from_waker(Waker::noop()))
            else {
                panic!("there is no cap")
            };
            let (ours, theirs) = MemoryEnd::pair(1024);
            server.shared.serve(Transport::Memory(ours), Address::Memory, permit);
            crate::streams::default_pair(Transport::Memory(theirs))
        };
        server.shared.begin_stop(&server, Duration::from_secs(10));
        let (mut reader, writer) = accept();
        writer.write(b"ping\n").unwrap();
        assert_eq!(reader.read_line().await.unwrap().as_deref(), Some(&b"ping\n"[..]));
        assert_eq!(reader.read_line().await.unwrap(), None);
        drop((reader, writer));
        let stopped = server.stop(Duration::ZERO).await;
        assert_eq!((stopped.finished, stopped.idle, stopped.aborted), (0, 1, 0));
        let (mut reader, _writer) = accept();
        assert!(reader.read_line().await.is_ok_and(|line| line.is_none()));
        assert_eq!((server.connections(), server.stats().accepted), (0, 1));
    }
}
