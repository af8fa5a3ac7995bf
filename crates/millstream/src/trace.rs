//! What a server tells `tracing`: a span for each connection, and events for what happens to it. None of it is on the way of
//! a read or a write.

use tracing::field::{Empty, display};
use tracing::{Level, Span, debug, enabled, error, info_span, warn};

use crate::connection::Connection;
use crate::report::ServerFailure;
use crate::report_limit::ReportLimit;
use crate::sync::Arc;

/// One served connection, from its accept until its task ends.
pub(crate) struct Watched {
    span: Span,
    connection: Arc<Connection>,
}

impl Watched {
    pub(crate) fn accepted(connection: &Arc<Connection>) -> Self {
        let peer = || connection.peer_address().map(display);
        let local = || connection.local_address().map(display);
        // No parent: a connection belongs to nobody's span but its own.
        let span = info_span!(
            target: TARGET,
            parent: None,
            "connection",
            peer = peer(),
            local = local(),
            client = Empty,
        );
        debug!(target: TARGET, parent: &span, "accepted");
        Self { span, connection: Arc::clone(connection) }
    }

    /// The peer is a proxy, and has said who its client is.
    pub(crate) fn header_over(&self) {
        if let Some(client) = self.connection.peer_address() {
            self.span.record("client", display(client));
        }
        debug!(target: TARGET, parent: &self.span, "PROXY header over");
    }

    /// What happens in the name of this connection.
    #[inline]
    pub(crate) fn in_scope<R>(&self, f: impl FnOnce() -> R) -> R {
        self.span.in_scope(f)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if !enabled!(target: TARGET, Level::DEBUG) {
            return;
        }
        let stats = self.connection.stats();
        debug!(
            target: TARGET,
            parent: &self.span,
            cause = %self.connection.end_text(),
            bytes_read = stats.bytes_read,
            reads = stats.reads,
            bytes_written = stats.bytes_written,
            writes = stats.writes,
            flushes = stats.flushes,
            stalls = stats.stalls,
            peak_queued = stats.peak_queued,
            peak_buffered = stats.peak_buffered,
            "closed",
        );
    }
}

/// To be called in the connection's scope.
pub(crate) fn handshake_over() {
    debug!(target: TARGET, "TLS handshake over");
}

/// To be called in the connection's scope.
pub(crate) fn refused() {
    debug!(target: TARGET, "refused: its client has as many connections as one peer may have");
}

/// The failures of one server. What peers can cause is a warning, the rest an error, at a bounded rate; above it, a server that
/// is debugged is told all the same.
pub(crate) struct Failures(ReportLimit);

impl Failures {
    pub(crate) fn new() -> Self {
        Self(ReportLimit::new())
    }

    /// Tells whatever is reported to the user's `on_failure`.
    pub(crate) fn tell(&self, failure: &ServerFailure) {
        let address = || failure.address().map(display);
        let Some(held_back) = self.0.admit(failure) else {
            debug!(target: TARGET, address = address(), "{failure}");
            return;
        };
        let held_back = Some(held_back).filter(|&number| number > 0);
        if failure.tls_handshake().is_some() || failure.proxy_header().is_some() {
            warn!(target: TARGET, address = address(), held_back, "{failure}");
        } else {
            error!(target: TARGET, address = address(), held_back, "{failure}");
        }
    }
}

/// The target of every span and event of this crate.
const TARGET: &str = "millstream";
