//! How TLS comes onto a connection: whom to verify, the switch from plaintext, the handshake's steps, and its failure.

use std::task::{Context, Poll, ready};

use millstream_core::tls::{TlsInfo, TlsPipe};
use millstream_core::{Failure, ReadBuffer, WriteError};

use super::reading::ReadEnd;
use super::sealed::closed_by_us;
use super::{Connection, ReaderHalf};
use crate::sync::{Arc, Ordering};
use crate::turn::Turn;

impl Connection {
    /// Notes the name this connection was opened by.
    pub(crate) fn set_host(&self, host: &str) {
        let _ = self.host.set(host.into());
    }

    pub(crate) fn host(&self) -> Option<&str> {
        self.host.get().map(AsRef::as_ref)
    }

    /// Puts TLS between the queue and the transport: what arrives from now on is ciphertext, and so is what is written,
    /// behind what is queued already. A connection that is over stays as it is.
    pub(crate) fn begin_tls(self: &Arc<Self>, pipe: TlsPipe) {
        self.change(|state, _| {
            if !state.life.is_closing() {
                state.plain_left = state.queue.len();
                state.tls = Some(Box::new(pipe));
                self.is_sealed.store(true, Ordering::Relaxed);
            }
        });
    }

    /// Goes on with the handshake. What the peer sends behind it is in the buffer then. What a served connection still has
    /// to send at its end, session tickets for one, leaves with what its handler writes, by the end of this turn.
    pub(crate) fn poll_handshake(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuffer,
    ) -> Poll<Result<(), Failure>> {
        loop {
            let (over, end) = self.change(|state, wakes| {
                let over = state.tls.as_ref().is_some_and(|tls| !tls.is_handshaking());
                if self.transport.sends_inline() && !(over && Turn::is_of(self)) {
                    self.advance(state, None, wakes);
                }
                let end = match state.read_end() {
                    Some(ReadEnd::Failed(failure)) => failure,
                    Some(ReadEnd::Closed | ReadEnd::Idle) => closed_by_us(),
                    None => state.sealed_end().err().unwrap_or_else(Failure::aborted),
                };
                (over, end)
            });
            if over {
                return Poll::Ready(Ok(()));
            }
            if buffer.is_ended() {
                return Poll::Ready(Err(buffer.failure().cloned().unwrap_or(end)));
            }
            ready!(self.poll_fill(cx, buffer, 0));
        }
    }

    /// The handshake has failed: nothing is read or written any more, least of all in plaintext.
    pub(crate) fn end_handshake(self: &Arc<Self>, failure: Failure) {
        self.change(|state, wakes| {
            state.reader = ReaderHalf::Ended;
            self.fail(state, failure, wakes);
            if self.transport.sends_inline() {
                self.advance(state, None, wakes);
            }
        });
    }

    /// Whether TLS was begun, whatever came of it.
    pub(crate) fn is_sealed(&self) -> bool {
        self.is_sealed.load(Ordering::Relaxed)
    }

    /// Whether this side has half-closed.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state.lock().life.check_write(), Err(WriteError::AfterEof))
    }

    pub(crate) fn tls_info(&self) -> Option<TlsInfo> {
        self.state.lock().tls.as_ref()?.info()
    }
}
