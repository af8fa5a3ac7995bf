//! What one server did so far and is doing now, in numbers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::admission::Refusal;
use crate::report::{Report, ServerFailure};
use crate::trace::Failures;

/// A snapshot of a server's counters, made by [`Server::stats`](crate::Server::stats). Each number is exact; numbers that
/// change while the snapshot is made may be from slightly different moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Connections that were let in: those that were refused at once are not among them, those that were refused for what
    /// their PROXY header said are.
    pub accepted: u64,
    /// Connections now: those whose handler or handshake runs, and those that are closing.
    pub connections: usize,
    /// The most connections that there were at once.
    pub peak_connections: usize,
    /// Connections refused because there were [`max_connections`](crate::ServerOptions::max_connections).
    pub refused_full: u64,
    /// Connections refused because of [`max_connections_per_peer`](crate::ServerOptions::max_connections_per_peer). Those
    /// whose client was named by a [PROXY header](crate::ServerOptions::proxy_protocol) are among those let in as well: the
    /// header could only be read after.
    pub refused_per_peer: u64,
    /// TLS handshakes that run now.
    pub handshakes: usize,
    /// TLS handshakes that were pushed out by newer ones.
    pub handshakes_pushed_out: u64,
    /// TLS handshakes that failed for whatever reason, those that were pushed out included. One that this server ended,
    /// because it closes, did not fail.
    pub handshakes_failed: u64,
    /// Connections refused for their [PROXY header](crate::ServerOptions::proxy_protocol), or for the lack of one.
    pub refused_headers: u64,
    /// Handlers that ended with an error.
    pub handler_errors: u64,
    /// Handlers that panicked.
    pub handler_panics: u64,
    /// Attempts to accept that failed, be it the peer's doing or for lack of descriptors or memory.
    pub accept_errors: u64,
    /// Pauses in accepting for lack of descriptors or memory.
    pub accept_pauses: u64,
}

impl ServerStats {
    /// The sum with those of another server.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            accepted: self.accepted + other.accepted,
            connections: self.connections + other.connections,
            peak_connections: self.peak_connections + other.peak_connections,
            refused_full: self.refused_full + other.refused_full,
            refused_per_peer: self.refused_per_peer + other.refused_per_peer,
            handshakes: self.handshakes + other.handshakes,
            handshakes_pushed_out: self.handshakes_pushed_out + other.handshakes_pushed_out,
            handshakes_failed: self.handshakes_failed + other.handshakes_failed,
            refused_headers: self.refused_headers + other.refused_headers,
            handler_errors: self.handler_errors + other.handler_errors,
            handler_panics: self.handler_panics + other.handler_panics,
            accept_errors: self.accept_errors + other.accept_errors,
            accept_pauses: self.accept_pauses + other.accept_pauses,
        }
    }
}

/// The counters behind it. Nobody waits for another: they order nothing.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    accepted: AtomicU64,
    peak_connections: AtomicUsize,
    refused_full: AtomicU64,
    refused_per_peer: AtomicU64,
    handshakes_failed: AtomicU64,
    refused_headers: AtomicU64,
    handler_errors: AtomicU64,
    handler_panics: AtomicU64,
    accept_errors: AtomicU64,
    accept_pauses: AtomicU64,
}

impl Counters {
    /// One more was let in; `connections` are there now.
    pub(crate) fn accepted(&self, connections: usize) {
        count(&self.accepted);
        self.peak_connections.fetch_max(connections, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self, cause: Refusal) {
        count(match cause {
            Refusal::Full => &self.refused_full,
            Refusal::PerPeer => &self.refused_per_peer,
        });
    }

    pub(crate) fn accept_failed(&self, pauses: bool) {
        count(&self.accept_errors);
        if pauses {
            count(&self.accept_pauses);
        }
    }

    /// Counts and traces what is reported before it is.
    pub(crate) fn counting(self: &Arc<Self>, report: Report) -> Report {
        let (counters, traced) = (Arc::clone(self), Failures::new());
        Arc::new(move |failure: ServerFailure| {
            if failure.is_panic() {
                count(&counters.handler_panics);
            } else if failure.tls_handshake().is_some() {
                count(&counters.handshakes_failed);
            } else if failure.proxy_header().is_some() {
                count(&counters.refused_headers);
            } else if !failure.is_accept() {
                count(&counters.handler_errors);
            }
            // A subscriber's panic is not to keep the report from who counts by it.
            let traced = catch_unwind(AssertUnwindSafe(|| traced.tell(&failure)));
            report(failure);
            drop(traced);
        })
    }

    /// The counters; what is not counted here is zero.
    pub(crate) fn snapshot(&self) -> ServerStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ServerStats {
            accepted: read(&self.accepted),
            peak_connections: self.peak_connections.load(Ordering::Relaxed),
            refused_full: read(&self.refused_full),
            refused_per_peer: read(&self.refused_per_peer),
            handshakes_failed: read(&self.handshakes_failed),
            refused_headers: read(&self.refused_headers),
            handler_errors: read(&self.handler_errors),
            handler_panics: read(&self.handler_panics),
            accept_errors: read(&self.accept_errors),
            accept_pauses: read(&self.accept_pauses),
            ..ServerStats::default()
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
