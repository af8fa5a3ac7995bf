//! What the writer asks of its connection: messages, waiting for room, and the settings of the queue.

use std::task::{Context, Poll};

use bytes::Bytes;
use millstream_core::{ConfigError, DrainError, Urgency, Watermarks, WriteError};

use super::{Connection, State, TURN_LEN};
use crate::sync::{Arc, MutexGuard, Ordering};
use crate::turn::{Turn, give_way};
use crate::waiters::{Ticket, Wakes};

impl Connection {
    /// Queues the whole message or fails; sends at once only if the cork is off or its threshold reached.
    pub(crate) fn write(self: &Arc<Self>, data: &[u8]) -> Result<(), WriteError> {
        let mut state = self.state.lock();
        state.life.check_write()?;
        let joins_others = !state.queue.is_empty();
        if !state.queue.push_easily(data) {
            return self.write_with_care(state, data);
        }
        self.note_answered();
        // Whoever owes the flush of the bytes before owes that of these.
        if !joins_others {
            // The task that this handler is a part of flushes when the handler has had its turn.
            if Turn::is_of(self) {
                self.driver_due.store(true, Ordering::Relaxed);
            } else {
                self.finish(state, Wakes::default());
            }
        }
        Ok(())
    }

    /// The same for a message that may be refused, sent at once, or above a mark.
    fn write_with_care(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        data: &[u8],
    ) -> Result<(), WriteError> {
        let urgency = state.queue.admit(data.len())?;
        self.note_answered();
        let mut wakes = Wakes::default();
        match urgency {
            Urgency::Now => self.send_through(&mut state, data, &mut wakes),
            Urgency::Corked => state.queue.push(data),
        }
        self.finish(state, wakes);
        Ok(())
    }

    /// As [`write`](Self::write), for several pieces that are one message: all or none of them.
    pub(crate) fn write_pieces<'p>(
        self: &Arc<Self>,
        pieces: impl Iterator<Item = &'p [u8]>,
    ) -> Result<(), WriteError> {
        // All of the caller's code runs before the lock is taken. A few pieces are collected without an allocation.
        let mut few: [&[u8]; FEW_PIECES] = [&[]; FEW_PIECES];
        let mut many = Vec::new();
        let mut count = 0;
        for piece in pieces {
            match few.get_mut(count) {
                Some(slot) => *slot = piece,
                None => many.push(piece),
            }
            count += 1;
        }
        let pieces = few.into_iter().take(count).chain(many);
        let len = pieces.clone().fold(0_usize, |sum, piece| sum.saturating_add(piece.len()));
        self.change(|state, wakes| {
            state.life.check_write()?;
            let urgency = state.queue.admit(len)?;
            self.note_answered();
            for piece in pieces {
                state.queue.push(piece);
            }
            if urgency == Urgency::Now && self.transport.sends_inline() {
                self.advance(state, None, wakes);
            }
            Ok(())
        })
    }

    /// As [`write`](Self::write), for a message that the caller gives away: a large one is never copied.
    pub(crate) fn write_bytes(self: &Arc<Self>, data: Bytes) -> Result<(), WriteError> {
        // Bytes that are refused, or copied because they are few, must not be dropped under the lock: their owner may be
        // anyone's.
        let _outlives_the_lock = data.clone();
        self.change(|state, wakes| {
            state.life.check_write()?;
            let urgency = state.queue.admit(data.len())?;
            self.note_answered();
            state.queue.push_shared(data);
            if urgency == Urgency::Now && self.transport.sends_inline() {
                self.advance(state, None, wakes);
            }
            Ok(())
        })
    }

    /// Starts sending now what is queued.
    pub(crate) fn flush_now(self: &Arc<Self>) -> Result<(), DrainError> {
        self.change(|state, wakes| {
            state.life.check_drain()?;
            // A handler that is about to block its thread needs this whatever it has sent before; `drain` gives way for it.
            let left = std::mem::replace(&mut state.turn_left, TURN_LEN);
            if self.transport.sends_inline() {
                self.advance(state, None, wakes);
            }
            state.turn_left = left.saturating_sub(TURN_LEN - state.turn_left);
            state.life.failure().cloned().map_or(Ok(()), |failure| Err(failure.into()))
        })
    }

    /// How much a write that may be taken in part takes now: what fits below the high watermark, and something always.
    pub(crate) fn room_to_write(&self) -> usize {
        let state = self.state.lock();
        state.queue.watermarks().high().saturating_sub(state.queue.len()).max(1)
    }

    /// Whether `drain` has anything to wait for or to report.
    #[inline]
    pub(crate) fn needs_drain(&self) -> bool {
        self.attention.load(Ordering::Acquire)
    }

    /// Waits for the low mark, if the high one was passed. Who has sent a turn's share lets others run first, once.
    pub(crate) fn poll_drain(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
        ticket: &mut Ticket,
    ) -> Poll<Result<(), DrainError>> {
        if !self.needs_drain() && !ticket.is_waiting() {
            return Poll::Ready(Ok(()));
        }
        if self.change(|state, _| state.ends_turn()) {
            give_way(cx);
            return Poll::Pending;
        }
        self.poll_sent(cx, ticket, Until::LowMark)
    }

    /// Waits until everything was handed to the transport.
    pub(crate) fn poll_flushed(
        self: &Arc<Self>,
        cx: &Context<'_>,
        ticket: &mut Ticket,
    ) -> Poll<Result<(), DrainError>> {
        self.poll_sent(cx, ticket, Until::Empty)
    }

    fn poll_sent(
        self: &Arc<Self>,
        cx: &Context<'_>,
        ticket: &mut Ticket,
        until: Until,
    ) -> Poll<Result<(), DrainError>> {
        self.change(|state, wakes| {
            if until.waits(state) && self.transport.sends_inline() {
                self.advance(state, None, wakes);
            }
            let verdict = match state.life.check_drain() {
                Err(error) => Some(Err(error)),
                Ok(()) if until.waits(state) => None,
                Ok(()) => Some(Ok(())),
            };
            let waiters = match until {
                Until::LowMark => &mut state.drainers,
                Until::Empty => &mut state.flushers,
            };
            match verdict {
                None => {
                    waiters.register(ticket, cx.waker(), wakes);
                    Poll::Pending
                }
                Some(result) => {
                    waiters.forget(ticket, wakes);
                    Poll::Ready(result)
                }
            }
        })
    }

    /// A task that waited for the low mark goes away.
    pub(crate) fn forget_drainer(self: &Arc<Self>, ticket: &mut Ticket) {
        if ticket.is_waiting() {
            self.change(|state, wakes| state.drainers.forget(ticket, wakes));
        }
    }

    /// A task that waited for an empty queue goes away.
    pub(crate) fn forget_flusher(self: &Arc<Self>, ticket: &mut Ticket) {
        if ticket.is_waiting() {
            self.change(|state, wakes| state.flushers.forget(ticket, wakes));
        }
    }

    pub(crate) fn set_corked(self: &Arc<Self>, corked: bool) {
        self.change(|state, wakes| {
            state.queue.set_corked(corked);
            if !corked && self.transport.sends_inline() {
                self.advance(state, None, wakes);
            }
        });
    }

    pub(crate) fn set_watermarks(self: &Arc<Self>, marks: Watermarks) -> Result<(), ConfigError> {
        self.change(|state, wakes| {
            check_cap(state.queue.hard_cap(), marks)?;
            if state.queue.set_watermarks(marks) {
                state.drainers.wake_all(wakes);
            }
            Ok(())
        })
    }

    pub(crate) fn watermarks(&self) -> Watermarks {
        self.state.lock().queue.watermarks()
    }

    pub(crate) fn set_hard_cap(&self, hard_cap: Option<usize>) -> Result<(), ConfigError> {
        let mut state = self.state.lock();
        check_cap(hard_cap, state.queue.watermarks())?;
        state.queue.set_hard_cap(hard_cap);
        Ok(())
    }
}

impl State {
    /// Whether this turn's share has left and there is nothing else to wait for. The next turn begins.
    fn ends_turn(&mut self) -> bool {
        let ends = self.turn_left == 0 && !self.queue.is_paused() && !self.life.is_closed();
        if ends {
            self.turn_left = TURN_LEN;
        }
        ends
    }
}

/// A cap within the watermarks would fail writes that `drain` was meant to hold back.
pub(crate) fn check_cap(hard_cap: Option<usize>, marks: Watermarks) -> Result<(), ConfigError> {
    match hard_cap {
        Some(hard_cap) if hard_cap <= marks.high() => {
            Err(ConfigError::CapWithinWatermarks { hard_cap, high: marks.high() })
        }
        _ => Ok(()),
    }
}

/// What a task waits for.
#[derive(Clone, Copy, Debug)]
enum Until {
    LowMark,
    Empty,
}

impl Until {
    fn waits(self, state: &State) -> bool {
        match self {
            Self::LowMark => state.queue.is_paused(),
            Self::Empty => {
                !state.queue.is_empty()
                    || state.unflushed
                    || state.tls.as_ref().is_some_and(|tls| tls.wants_send())
            }
        }
    }
}

/// Pieces of one message that are collected on the stack.
const FEW_PIECES: usize = 16;
