//! Sends what is queued and takes every step that needs no waiting. Non-blocking; called under the lock.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use millstream_core::{Failure, WriteQueue};

use super::sealed::closed_by_us;
use super::{Connection, State, Task};
use crate::waiters::Wakes;

/// How far one flush came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing is queued any more.
    Empty,
    /// The transport takes no more for now.
    Blocked,
    /// This turn's share is used up.
    TurnOver,
}

impl Connection {
    /// Does everything that needs no waiting, and says what is left: nothing, or something that has to wait.
    pub(super) fn advance(
        &self,
        state: &mut State,
        mut cx: Option<&mut Context<'_>>,
        wakes: &mut Wakes,
    ) -> Task {
        loop {
            let task = state.task();
            if let Task::SendEnd { closing } = task {
                if state.is_handshaking() && !state.queue.is_empty() {
                    // What was written to be encrypted is lost with the handshake.
                    self.fail(state, closed_by_us(), wakes);
                    continue;
                }
                if state.announce_end(closing) {
                    continue;
                }
            }
            match task {
                Task::Flush { .. } if !state.blocked => {
                    if self.flush(state, cx.as_deref_mut(), wakes) != Progress::Empty {
                        return task;
                    }
                }
                Task::SendEnd { .. } => match self.transport.poll_shutdown(cx.as_deref_mut(), wakes) {
                    // An adopted stream may have kept bytes to itself that are lost now.
                    Poll::Ready(Err(error))
                        if !self.transport.sends_inline() && error.kind() != io::ErrorKind::NotConnected =>
                    {
                        self.fail(state, Failure::from(&error), wakes);
                    }
                    // A peer that is gone already cannot be told; all bytes were handed over, so that is no failure.
                    Poll::Ready(_) => state.life.end_sent(),
                    Poll::Pending => return task,
                },
                Task::Linger if state.peer_ended || !self.transport.needs_linger() => state.life.lingered(),
                Task::Close { reset: false }
                    if cx.is_none() && state.owes_alert() && !self.transport.sends_inline() =>
                {
                    return task;
                }
                Task::Close { reset } => {
                    if !reset {
                        self.send_alert(state, cx.as_deref_mut(), wakes);
                    }
                    self.transport.close(reset, wakes);
                    state.transport_closed = true;
                    state.wake_everyone(wakes);
                }
                Task::Flush { .. } | Task::Rest | Task::WaitForReader | Task::Linger | Task::Done => {
                    return task;
                }
            }
        }
    }

    /// Sends the queue, or as much of it as this turn allows.
    pub(super) fn flush(
        &self,
        state: &mut State,
        cx: Option<&mut Context<'_>>,
        wakes: &mut Wakes,
    ) -> Progress {
        state.counts.flushes += 1;
        if state.tls.is_some() {
            return self.flush_sealed(state, &[], cx, wakes).0;
        }
        // Nearly always there is one piece, and it leaves whole.
        if self.transport.sends_inline()
            && let Some(all) = state.queue.as_slice()
            && (1..=state.turn_left).contains(&all.len())
        {
            let len = all.len();
            let sent = self.transport.try_write(None, &[IoSlice::new(all)], wakes);
            match sent {
                Ok(n) if n == len => {
                    state.counts.sent(n);
                    state.turn_left -= n;
                    if state.queue.advance_all() {
                        state.drainers.wake_all(wakes);
                    }
                    state.flushers.wake_all(wakes);
                    return Progress::Empty;
                }
                sent => return self.flush_after(state, sent, cx, wakes),
            }
        }
        self.flush_pieces(state, cx, wakes)
    }

    /// A flush whose first send took less than all, or failed.
    #[cold]
    fn flush_after(
        &self,
        state: &mut State,
        sent: io::Result<usize>,
        cx: Option<&mut Context<'_>>,
        wakes: &mut Wakes,
    ) -> Progress {
        let Some(n) = self.count_send(state, sent, wakes) else { return state.after_send_stopped() };
        self.note_sent(state, n, wakes);
        self.flush_pieces(state, cx, wakes)
    }

    fn flush_pieces(&self, state: &mut State, cx: Option<&mut Context<'_>>, wakes: &mut Wakes) -> Progress {
        let progress = self.send_plain(state, state.queue.len(), cx, wakes);
        if progress != Progress::Empty || state.life.is_closed() {
            return progress;
        }
        if self.transport.sends_inline() {
            state.flushers.wake_all(wakes);
        } else {
            state.unflushed = true;
        }
        Progress::Empty
    }

    /// Sends the first `len` queued bytes as they are, or as much of them as this turn allows.
    pub(super) fn send_plain(
        &self,
        state: &mut State,
        mut len: usize,
        mut cx: Option<&mut Context<'_>>,
        wakes: &mut Wakes,
    ) -> Progress {
        while len > 0 {
            let most = state.turn_left.min(len);
            if most == 0 {
                return Progress::TurnOver;
            }
            let sent = self.send_some(&state.queue, most, cx.as_deref_mut(), wakes);
            let Some(n) = self.count_send(state, sent, wakes) else { return state.after_send_stopped() };
            len -= n;
            self.note_sent(state, n, wakes);
        }
        Progress::Empty
    }

    /// The first `n` queued bytes were sent.
    fn note_sent(&self, state: &mut State, n: usize, wakes: &mut Wakes) {
        state.turn_left -= n;
        if state.queue.advance(n) {
            state.drainers.wake_all(wakes);
        }
    }

    /// One gathered send of what is queued, at most `most` bytes.
    fn send_some(
        &self,
        queue: &WriteQueue,
        most: usize,
        cx: Option<&mut Context<'_>>,
        wakes: &mut Wakes,
    ) -> io::Result<usize> {
        if let Some(all) = queue.as_slice() {
            return self.transport.try_write(cx, &[IoSlice::new(&all[..all.len().min(most)])], wakes);
        }
        let mut slices = [IoSlice::new(&[]); MOST_SLICES];
        let (mut used, mut offered) = (0, 0);
        for (slot, slice) in slices.iter_mut().zip(queue.gather()) {
            let n = slice.len().min(most - offered);
            *slot = IoSlice::new(&slice[..n]);
            used += 1;
            offered += n;
            if offered == most {
                break;
            }
        }
        self.transport.try_write(cx, &slices[..used], wakes)
    }

    /// Sends the queue and `data` behind it in one go, without copying `data` unless it does not all leave. A turn that is
    /// not over yet takes the whole of it: to copy what it does not allow would cost the others as much as to send it.
    pub(super) fn send_through(&self, state: &mut State, data: &[u8], wakes: &mut Wakes) {
        if state.tls.is_some() {
            return self.seal_through(state, data, wakes);
        }
        let mut sent = 0;
        let has_turn = state.turn_left > state.queue.len();
        if has_turn && !state.blocked && self.transport.sends_inline() {
            state.counts.flushes += 1;
            let allowed = &data[..data.len().min(MOST_UNCOPIED)];
            // More than one chunk is a rare sight here: the threshold is far below a chunk's size.
            let mut chunks = state.queue.gather();
            let result = match (chunks.next(), chunks.next()) {
                (None, _) => Some(self.transport.try_write(None, &[IoSlice::new(allowed)], wakes)),
                (Some(queued), None) => Some(self.transport.try_write(
                    None,
                    &[IoSlice::new(queued), IoSlice::new(allowed)],
                    wakes,
                )),
                _ => None,
            };
            drop(chunks);
            match result.and_then(|result| self.count_send(state, result, wakes)) {
                Some(n) => {
                    sent = n;
                    state.turn_left = state.turn_left.saturating_sub(n);
                }
                None if state.life.is_closed() => return,
                None => {}
            }
        }
        if state.queue.advance_through(sent, data) {
            state.drainers.wake_all(wakes);
        }
        if state.queue.is_empty() {
            state.flushers.wake_all(wakes);
        }
    }

    /// Books the result of one send. `None`: it took nothing, because the transport is full or has failed.
    pub(super) fn count_send(
        &self,
        state: &mut State,
        result: io::Result<usize>,
        wakes: &mut Wakes,
    ) -> Option<usize> {
        match result {
            Ok(n) => {
                state.counts.sent(n);
                Some(n)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                state.counts.stalls += 1;
                // An adopted stream tells the driver alone when to go on, in its next send.
                state.blocked = self.transport.sends_inline();
                None
            }
            Err(error) => {
                self.fail(state, Failure::from(&error), wakes);
                None
            }
        }
    }
}

impl State {
    /// After a send that took nothing: a failure has emptied the queue, a full transport has not.
    fn after_send_stopped(&self) -> Progress {
        if self.queue.is_empty() { Progress::Empty } else { Progress::Blocked }
    }
}

/// The most that is sent for one connection before others get their turn: a bulk peer does not starve the rest.
pub(super) const TURN_LEN: usize = 256 * 1024;
/// The most of one message that is sent straight from the caller's memory: a few of the longest turns.
const MOST_UNCOPIED: usize = 4 * TURN_LEN;
/// Large messages are 4 KiB at least, so this many fill a turn, unless small ones stand between them.
const MOST_SLICES: usize = 64;
