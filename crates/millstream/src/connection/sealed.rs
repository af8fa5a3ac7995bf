//! TLS on a connection: seals what is queued, opens what arrives. The pipe works under the connection's lock, one record
//! or one batch at a time; receives are made outside of it.

use std::cell::Cell;
use std::io;
use std::task::{Context, Poll, ready};

use millstream_core::tls::TlsFault;
use millstream_core::{Failure, ReadBuffer};

use super::flush::Progress;
use super::reading::ReadEnd;
use super::{Connection, ReaderHalf, State};
use crate::sync::Arc;
use crate::turn::Turn;
use crate::waiters::Wakes;

impl Connection {
    /// Sends what is sealed, then seals and sends what is queued followed by `data`, as much of it as this turn allows.
    /// Returns how much of `data` was taken.
    pub(super) fn flush_sealed(
        &self,
        state: &mut State,
        data: &[u8],
        mut cx: Option<&mut Context<'_>>,
        wakes: &mut Wakes,
    ) -> (Progress, usize) {
        let mut taken = 0;
        let queued = state.queue.len();
        let progress = self.send_plain(state, state.plain_left.min(queued), cx.as_deref_mut(), wakes);
        state.plain_left = state.plain_left.saturating_sub(queued - state.queue.len());
        if progress != Progress::Empty || state.life.is_closed() {
            return (progress, taken);
        }
        // What TLS has to say by itself, session tickets for one, leaves in one send with what is queued behind it.
        let mut seals_first = state.queue.sealed_len() == 0;
        while let Some(tls) = &mut state.tls {
            if tls.wants_send() && !seals_first {
                if state.turn_left == 0 {
                    return (Progress::TurnOver, taken);
                }
                let sent = tls.send(|slices| self.transport.try_write(cx.as_deref_mut(), slices, wakes));
                let is_lost = sent.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock);
                let reads_on =
                    state.reader == ReaderHalf::Reading && (!state.life.is_closing() || state.reader_keeps);
                if is_lost && tls.is_close_notify_queued() && !reads_on {
                    // A peer that is gone already cannot be told; all else was handed over, so that is no failure.
                    state.life.close();
                    state.life.end_sent();
                    state.life.lingered();
                    break;
                }
                match self.count_send(state, sent, wakes) {
                    Some(n) => state.turn_left = state.turn_left.saturating_sub(n),
                    None if state.life.is_closed() => break,
                    None => return (Progress::Blocked, taken),
                }
                continue;
            }
            seals_first = false;
            if state.queue.sealed_left() {
                state.drainers.wake_all(wakes);
            }
            match tls.seal(&mut state.queue, &data[taken..]) {
                Ok(n) => taken += n,
                Err(failure) => self.fail(state, failure, wakes),
            }
            if !state.tls.as_ref().is_some_and(|tls| tls.wants_send()) {
                break;
            }
        }
        if !self.transport.sends_inline() {
            state.unflushed = true;
        } else if state.queue.is_empty() {
            state.flushers.wake_all(wakes);
        }
        (Progress::Empty, taken)
    }

    /// As [`send_through`](Self::send_through), over TLS: `data` is encrypted from where it is.
    pub(super) fn seal_through(&self, state: &mut State, data: &[u8], wakes: &mut Wakes) {
        let mut taken = 0;
        if !state.blocked && self.transport.sends_inline() {
            state.counts.flushes += 1;
            taken = self.flush_sealed(state, data, None, wakes).1;
            if state.life.is_closed() {
                return;
            }
        }
        state.queue.push(&data[taken..]);
    }

    /// The last chance of an alert for a peer whose TLS failed: only the driver can send to an adopted stream.
    pub(super) fn send_alert(&self, state: &mut State, mut cx: Option<&mut Context<'_>>, wakes: &mut Wakes) {
        if let Some(tls) = &mut state.tls
            && tls.wants_send()
            && state.plain_left == 0
        {
            let _ = tls.send(|slices| self.transport.try_write(cx.as_deref_mut(), slices, wakes));
            // An adopted stream may keep it to itself otherwise.
            if let Some(cx) = cx {
                let _ = self.transport.poll_flush(cx);
            }
        }
    }

    /// As [`poll_fill`](Self::poll_fill), over TLS: the whole receive is opened at once, so no connection keeps
    /// ciphertext, and all that one thread serves share one buffer for it.
    pub(super) fn poll_fill_sealed(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuffer,
        between_items: bool,
    ) -> Poll<usize> {
        buffer.rest();
        lend_scratch(|scratch| {
            let end = match ready!(self.poll_receive(cx, between_items, scratch)) {
                Ok(0) => self.state.lock().sealed_end(),
                Ok(n) => {
                    self.open(&scratch[..n], buffer);
                    return Poll::Ready(n);
                }
                Err(ReadEnd::Closed | ReadEnd::Idle) => Ok(()),
                Err(ReadEnd::Failed(failure)) => Err(failure),
            };
            match end {
                Ok(()) => buffer.feed_eof(),
                Err(failure) => buffer.fail(failure),
            }
            Poll::Ready(0)
        })
    }

    /// Decrypts into the buffer, and answers what has to be answered.
    pub(crate) fn open(self: &Arc<Self>, mut ciphertext: &[u8], buffer: &mut ReadBuffer) {
        while !ciphertext.is_empty() {
            // One record or so for each time the lock is taken, so that writers need not wait for a whole receive.
            let taken = self.change(|state, wakes| {
                let Some(tls) = &mut state.tls else { return 0 };
                let held = buffer.len();
                let received = tls.receive(ciphertext, buffer);
                if let (Some(waits), Ok(_)) = (&mut state.waits, &received) {
                    waits.opened(buffer.len() - held);
                }
                let waits_for_more = !tls.is_handshaking() && Turn::is_of(self);
                let (wants_send, peer_closed) = (tls.wants_send() && !waits_for_more, tls.peer_closed());
                if received.is_ok() && wants_send && !state.blocked && self.transport.sends_inline() {
                    self.flush(state, None, wakes);
                }
                match received {
                    Ok(_) if peer_closed => {
                        state.peer_ended = true;
                        state.reader = ReaderHalf::Ended;
                        buffer.feed_eof();
                        0
                    }
                    Ok(taken) => taken,
                    Err(failure) => {
                        buffer.fail(failure.clone());
                        state.reader = ReaderHalf::Ended;
                        self.fail(state, failure, wakes);
                        self.send_alert(state, None, wakes);
                        0
                    }
                }
            });
            if taken == 0 {
                return;
            }
            ciphertext = &ciphertext[taken..];
        }
    }

    pub(crate) fn can_write_eof(&self) -> bool {
        self.state.lock().tls.as_ref().is_none_or(|tls| tls.can_half_close())
    }
}

impl State {
    /// What the transport's end means.
    pub(super) fn sealed_end(&self) -> Result<(), Failure> {
        self.tls.as_ref().map_or(Ok(()), |tls| tls.end())
    }

    /// Whether an alert waits for the peer of a TLS that failed.
    pub(super) fn owes_alert(&self) -> bool {
        self.plain_left == 0 && self.tls.as_ref().is_some_and(|tls| tls.wants_send())
    }

    /// Whether a handshake goes on: of what is written, nothing passes.
    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// A transport that fails during a handshake fails the handshake.
    pub(super) fn as_handshakes(&self, failure: Failure) -> Failure {
        match &self.tls {
            Some(tls) => tls.broken(failure),
            None => failure,
        }
    }

    /// Says the end inside the stream, if this is TLS and it was not said. Only a closing connection ends its transport
    /// as well: many take the end of the transport for that of both directions.
    pub(super) fn announce_end(&mut self, closing: bool) -> bool {
        let Some(tls) = &mut self.tls else { return false };
        if !tls.is_close_notify_queued() {
            tls.close_notify();
            return true;
        }
        if !closing {
            self.life.end_announced();
        }
        !closing
    }
}

/// What becomes of a handshake that this side did not wait for.
pub(super) fn closed_by_us() -> Failure {
    TlsFault::Cancelled.failure("this side closed the connection before the TLS handshake was over")
}

/// Lends this thread's buffer for ciphertext. A transport that itself reads over TLS gets another one.
fn lend_scratch<R>(f: impl FnOnce(&mut [u8]) -> R) -> R {
    std::thread_local! {
        static SCRATCH: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
    }
    let mut scratch = SCRATCH.take().unwrap_or_else(|| vec![0; SCRATCH_LEN].into_boxed_slice());
    let result = f(&mut scratch);
    SCRATCH.set(Some(scratch));
    result
}

/// What one receive takes: 64 KiB of data in full records with their overhead, which TLS 1.2 has most of.
const SCRATCH_LEN: usize = 64 * 1024 + 512;
