//! A server: its listeners, its connections, and how both end.

mod clients;
mod listeners;
mod stopping;

pub use listeners::ListeningSocket;
pub use stopping::Stopped;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};

use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::accept::accept_until;
use crate::address::Address;
use crate::admission::{Admission, Permit};
use crate::connection::Connection;
use crate::deadline_counts::DeadlineCounts;
use crate::error::ServeError;
use crate::listen::{Bound, Listener};
use crate::proxy::{AwaitHeader, ProxyProtocol};
use crate::refusal::Refused;
use crate::report::{Report, ServerFailure, tell};
use crate::serve::{Before, Handler, Serve};
use crate::server_stats::{Counters, ServerStats};
use crate::stopping::StopSignal;
use crate::streams::StreamSettings;
use crate::sync::{self, Mutex};
use crate::tls::Secure;
use crate::transport::Transport;

/// A running server, as asyncio's `Server` with the rules of CPython 3.13.
///
/// Each connection's handler runs in a task of its own. A handler that returns drops its halves, which closes the
/// connection in the background. One that fails or panics closes its connection, is reported once, and hurts nobody
/// else.
///
/// Dropping the `Server` closes it: it stops listening, and the connections there are go on.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), millstream::Error> {
/// use millstream::{StreamReader, StreamWriter};
/// async fn shout(mut reader: StreamReader, writer: StreamWriter) -> Result<(), millstream::Error> {
///     while let Some(line) = reader.read_line().await? {
///         writer.write(&line.to_ascii_uppercase())?;
///         writer.drain().await?;
///     }
///     Ok(())
/// }
/// let server = millstream::start_server("127.0.0.1", 0, shout).await?;
/// let port = server.sockets()[0].port().expect("TCP");
///
/// let (mut reader, writer) = millstream::open_connection("127.0.0.1", port).await?;
/// writer.write(b"quiet\n")?;
/// assert_eq!(reader.read_line().await?.as_deref(), Some(&b"QUIET\n"[..]));
///
/// server.close();
/// server.close_clients();
/// server.wait_closed().await;
/// # Ok(()) }
/// ```
#[must_use = "a server that is dropped stops listening"]
pub struct Server {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    handler: Arc<Handler>,
    streams: StreamSettings,
    backlog: u32,
    report: Report,
    /// TLS, and how many handshakes run at once.
    secure: Option<Arc<Secure>>,
    /// Which peers are asked for a PROXY header, before TLS.
    proxy: ProxyProtocol,
    admission: Arc<Admission>,
    refused: Refused,
    counters: Arc<Counters>,
    /// Tells handlers, and the task that stops this server, by when it has to be over.
    stop_signal: StopSignal,
    deadline_counts: DeadlineCounts,
    state: Mutex<State>,
    /// What others wait for.
    status: watch::Sender<Status>,
}

#[derive(Debug, Default)]
struct State {
    /// Bound, not listening yet.
    waiting: Vec<Bound>,
    /// What the server listens on or will; empty once it is closed.
    addresses: Vec<Address>,
    listeners: Vec<Weak<Listener>>,
    stop: stopping::Stop,
    connections: HashMap<u64, sync::Arc<Connection>>,
    next_connection: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Status {
    closed: bool,
    /// Accept loops that have not ended.
    listeners: usize,
    /// Connections whose task has not ended.
    connections: usize,
}

impl Server {
    pub(crate) fn new(
        bound: Vec<Bound>,
        handler: Arc<Handler>,
        streams: StreamSettings,
        backlog: u32,
        report: Report,
        (proxy, secure): (ProxyProtocol, Option<Secure>),
        admission: Arc<Admission>,
    ) -> Self {
        let counters = Arc::<Counters>::default();
        let report = counters.counting(report);
        let addresses = bound.iter().map(|bound| bound.address.clone()).collect();
        let state = State { waiting: bound, addresses, ..State::default() };
        let status = watch::Sender::new(Status::default());
        Self {
            shared: Arc::new(Shared {
                handler,
                streams,
                backlog,
                report,
                secure: secure.map(Arc::new),
                proxy,
                admission,
                refused: Refused::new(),
                counters,
                stop_signal: StopSignal::new(watch::Sender::new(None)),
                deadline_counts: DeadlineCounts::default(),
                state: Mutex::new(state),
                status,
            }),
        }
    }

    /// The addresses this server listens on, or will once it is started; empty once it is closed.
    pub fn sockets(&self) -> Vec<Address> {
        self.shared.state.lock().addresses.clone()
    }

    pub(crate) fn deadline_counts(&self) -> &DeadlineCounts {
        &self.shared.deadline_counts
    }

    /// Whether it accepts connections.
    pub fn is_serving(&self) -> bool {
        let status = *self.shared.status.borrow();
        status.listeners > 0 && !status.closed
    }

    /// How many connections there are now.
    pub fn connections(&self) -> usize {
        self.shared.status.borrow().connections
    }

    /// What it did so far and is doing now: connections, refusals, failures.
    pub fn stats(&self) -> ServerStats {
        let shared = &self.shared;
        let (handshakes, pushed_out) = shared.secure.as_deref().map_or((0, 0), Secure::counts);
        ServerStats {
            connections: self.connections(),
            handshakes,
            handshakes_pushed_out: pushed_out,
            ..shared.counters.snapshot()
        }
    }

    /// Starts accepting, if [`start_serving(false)`](crate::ServerOptions::start_serving) left that for later.
    /// Idempotent. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// [`ServeError::Listen`] if the system refuses, which closes the server; [`ServeError::Closed`] after `close`.
    pub fn start_serving(&self) -> Result<(), ServeError> {
        let runtime = Handle::try_current().map_err(|_| ServeError::NoRuntime)?;
        let mut state = self.shared.state.lock();
        if self.shared.status.borrow().closed {
            return Err(ServeError::Closed);
        }
        let waiting = std::mem::take(&mut state.waiting);
        let listeners = waiting.into_iter().map(|bound| bound.listen(self.shared.backlog));
        let listeners = listeners.collect::<Result<Vec<_>, _>>();
        let listeners = match listeners {
            Ok(listeners) => listeners.into_iter().map(Arc::new).collect::<Vec<_>>(),
            Err(error) => {
                drop(state);
                self.close();
                return Err(error);
            }
        };
        state.listeners.extend(listeners.iter().map(Arc::downgrade));
        for listener in listeners {
            let shared = Arc::clone(&self.shared);
            shared.status.send_modify(|status| status.listeners += 1);
            let guard = ListenerGuard(Arc::clone(&shared));
            let mut closed = shared.status.subscribe();
            runtime.spawn(async move {
                let stop = async move {
                    let _ = closed.wait_for(|status| status.closed).await;
                };
                let report = Arc::clone(&shared.report);
                let entrance = shared.admission.entrance();
                accept_until(
                    stop,
                    &listener,
                    entrance,
                    report,
                    &shared.counters,
                    |transport, peer, permit| {
                        shared.serve(transport, peer, permit);
                    },
                )
                .await;
                drop(listener);
                drop(guard);
            });
        }
        Ok(())
    }

    /// Starts accepting if need be, and waits until the server is closed.
    ///
    /// **Cancel-safe**: dropping it leaves the server running.
    ///
    /// # Errors
    /// As [`start_serving`](Self::start_serving).
    pub async fn serve_forever(&self) -> Result<(), ServeError> {
        self.start_serving()?;
        let _ = self.shared.status.subscribe().wait_for(|status| status.closed).await;
        Ok(())
    }

    /// Stops listening. Connections go on; see [`close_clients`](Self::close_clients). Idempotent.
    pub fn close(&self) {
        let mut state = self.shared.state.lock();
        let unused = std::mem::take(&mut state.waiting);
        state.addresses.clear();
        drop(state);
        drop(unused);
        self.shared.status.send_modify(|status| status.closed = true);
        self.shared.refused.close();
    }

    /// Waits until the server is closed and no connection is left, handlers included. Does not close anything.
    ///
    /// **Cancel-safe.**
    pub async fn wait_closed(&self) {
        self.closed().await;
    }

    /// As [`wait_closed`](Self::wait_closed), without keeping the server.
    pub(crate) fn closed(&self) -> impl Future<Output = ()> + Send + 'static {
        let over = |status: &Status| status.closed && status.listeners == 0 && status.connections == 0;
        let mut status = self.shared.status.subscribe();
        async move {
            let _ = status.wait_for(over).await;
        }
    }

    /// Closes every connection as [`StreamWriter::close`](crate::StreamWriter::close) does: handlers see the end of
    /// their stream, and what they had written is sent. Call [`close`](Self::close) first.
    pub fn close_clients(&self) {
        for connection in self.shared.connections() {
            connection.close();
        }
    }

    /// Resets every connection and drops its handler, wherever it is. Call [`close`](Self::close) first.
    pub fn abort_clients(&self) {
        for connection in self.shared.connections() {
            connection.cancel();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("sockets", &self.sockets())
            .field("status", &*self.shared.status.borrow())
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Gives an accepted connection its task.
    fn serve(self: &Arc<Self>, transport: Transport, peer: Address, permit: Permit) {
        let asks = match self.proxy.asks(&peer) {
            Ok(asks) => asks,
            Err(refusal) => {
                return tell(&self.report, ServerFailure::proxy_header_refused(Some(peer), refusal));
            }
        };
        let permit = match permit.admit(Some(&peer).filter(|_| !asks)) {
            Ok(permit) => permit,
            Err(cause) => {
                self.counters.refused(cause);
                let farewell = if self.secure.is_none() { &self.admission.farewell()[..] } else { &[] };
                return self.refused.refuse(transport, self.streams, farewell);
            }
        };
        let pair = self.streams.driven_pair(transport, Some(peer));
        let (mut reader, writer, connection, drive) =
            pair.expect("the settings were checked when the server was made");
        if asks || self.secure.is_some() {
            connection.set_opening();
        }
        let number = {
            let mut state = self.state.lock();
            if self.status.borrow().closed && !state.stop.goes_on() {
                // It came in while the server closed, so whoever closes the clients has not seen it.
                return;
            }
            connection.set_stop_signal(StopSignal::clone(&self.stop_signal));
            if let Some(asked) = state.stop.asked(&self.admission) {
                connection.end_when_idle(asked);
            }
            let number = state.next_connection;
            state.next_connection += 1;
            state.connections.insert(number, sync::Arc::clone(&connection));
            number
        };
        self.status.send_modify(|status| {
            status.connections += 1;
            self.counters.accepted(status.connections);
        });
        let guard = ConnectionGuard { shared: Arc::clone(self), number, permit };
        let (handler, report) = (Arc::clone(&self.handler), Arc::clone(&self.report));
        let before = match &self.secure {
            secure if asks => Ok(Before::Header(
                AwaitHeader::new(&connection, &self.proxy),
                secure.as_ref().map(Arc::clone),
            )),
            Some(secure) => secure.handshake(&connection, &mut reader.buffer).map(Before::Handshake),
            None => Ok(Before::Nothing),
        };
        match before {
            Ok(before) => {
                let halves = (reader, writer);
                tokio::spawn(Serve::new(handler, halves, before, connection, drive, report, guard));
            }
            Err(failure) => tell(&report, ServerFailure::handshake(connection.peer_address(), failure)),
        }
    }

    pub(crate) fn connections(&self) -> Vec<sync::Arc<Connection>> {
        self.state.lock().connections.values().cloned().collect()
    }
}

/// An accept loop that has not ended, however it ends.
struct ListenerGuard(Arc<Shared>);

impl Drop for ListenerGuard {
    fn drop(&mut self) {
        self.0.status.send_modify(|status| status.listeners -= 1);
    }
}

/// A connection whose task has not ended, however it ends.
struct ConnectionGuard {
    shared: Arc<Shared>,
    number: u64,
    /// Given back when the server knows that this connection is gone.
    permit: Permit,
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        let connection = state.connections.remove(&self.number);
        if let Some(connection) = &connection {
            state.stop.count(connection);
        }
        drop(state);
        if let Some(connection) = connection {
            self.shared.deadline_counts.count(&connection);
        }
        self.shared.status.send_modify(|status| status.connections -= 1);
    }
}
