//! What the reader and the writer half ask of their connection.

use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;
use millstream_core::{CloseError, ConfigError, DrainError, Failure, Urgency, Watermarks, WriteError};

use super::{Connection, Driver, ReaderHalf, State, TURN_LEN, Task};
use crate::sync::{Arc, Ordering};
use crate::turn::Turn;
use crate::waiters::{Ticket, Wakes};

/// Why a reader gets nothing more from the transport, though the transport did not say so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReadEnd {
    /// This side closed the connection.
    Closed,
    /// Sending failed, or this side aborted.
    Failed(Failure),
}

/// For the reader.
impl Connection {
    /// One receive into `spare`. `Ready(Ok(0))` is the peer's end.
    pub(crate) fn poll_receive(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
        spare: &mut [u8],
    ) -> Poll<Result<usize, ReadEnd>> {
        if self.reading_over.load(Ordering::Acquire)
            && let Some(end) = self.state.lock().read_end()
        {
            return Poll::Ready(Err(end));
        }
        let mut received = self.transport.poll_read(cx, spare);
        if received.is_pending() {
            let Some(end) = self.before_wait(cx) else { return Poll::Pending };
            // What arrived before a failure is delivered before it, even if the runtime has not heard of it yet.
            match self.transport.read_now(spare) {
                Ok(n) if !self.reading_over.load(Ordering::Acquire) => received = Poll::Ready(Ok(n)),
                _ => {
                    self.change(|state, _| state.reader = ReaderHalf::Ended);
                    return Poll::Ready(Err(end));
                }
            }
        }
        match received {
            Poll::Ready(Ok(n)) => {
                self.read_stats.record(n);
                if n > 0 {
                    return Poll::Ready(Ok(n));
                }
                Poll::Ready(self.change(|state, _| {
                    state.peer_ended = true;
                    state.reader = ReaderHalf::Ended;
                    state.failure_behind_end().map_or(Ok(0), |failure| Err(ReadEnd::Failed(failure)))
                }))
            }
            Poll::Ready(Err(error)) => {
                let failure = Failure::from(&error);
                self.change(|state, wakes| {
                    state.peer_ended = true;
                    state.reader = ReaderHalf::Ended;
                    self.fail(state, failure.clone(), wakes);
                });
                Poll::Ready(Err(ReadEnd::Failed(failure)))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// The reader is about to wait: what is queued leaves now. Says if there is nothing to wait for.
    pub(crate) fn before_wait(self: &Arc<Self>, cx: &Context<'_>) -> Option<ReadEnd> {
        self.change(|state, wakes| {
            state.turn_left = TURN_LEN;
            if !state.queue.is_empty() && !state.blocked && self.transport.sends_inline() {
                self.flush(state, None, wakes);
            }
            if let Some(end) = state.read_end() {
                // The transport keeps one waker for reading, and ours has just pushed out that of a lingering driver.
                if let Driver::Working { parked, .. } = &mut state.driver {
                    *parked = Task::Rest;
                }
                return Some(end);
            }
            if !state.reader_waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                wakes.drop_later(state.reader_waker.replace(cx.waker().clone()));
            }
            None
        })
    }

    pub(crate) fn reader_dropped(self: &Arc<Self>) {
        self.change(|state, wakes| {
            state.reader = ReaderHalf::Dropped;
            wakes.drop_later(state.reader_waker.take());
            if state.life.is_closing() {
                self.advance(state, None, wakes);
            }
        });
    }
}

/// For the writer.
impl Connection {
    /// Queues the whole message or fails; sends at once only if the cork is off or its threshold reached.
    pub(crate) fn write(self: &Arc<Self>, data: &[u8]) -> Result<(), WriteError> {
        let mut state = self.state.lock();
        state.life.check_write()?;
        let urgency = state.queue.admit(data.len())?;
        let joins_others = !state.queue.is_empty();
        if urgency == Urgency::Corked {
            state.queue.push(data);
            if !state.queue.is_paused() {
                // Whoever owes the flush of the bytes before owes that of these.
                if joins_others {
                    return Ok(());
                }
                // The task that this handler is a part of flushes when the handler has had its turn.
                if Turn::is_of(&**self) {
                    self.driver_due.store(true, Ordering::Relaxed);
                    return Ok(());
                }
            }
        }
        let mut wakes = Wakes::default();
        if urgency == Urgency::Now {
            self.send_through(&mut state, data, &mut wakes);
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
        self.change(|state, wakes| {
            state.life.check_write()?;
            let urgency = state.queue.admit(data.len())?;
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
            state.turn_left = TURN_LEN;
            if self.transport.sends_inline() {
                self.advance(state, None, wakes);
            }
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

    /// Waits for the low mark, if the high one was passed.
    pub(crate) fn poll_drain(
        self: &Arc<Self>,
        cx: &Context<'_>,
        ticket: &mut Ticket,
    ) -> Poll<Result<(), DrainError>> {
        if !self.needs_drain() && !ticket.is_waiting() {
            return Poll::Ready(Ok(()));
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

    pub(crate) fn write_eof(self: &Arc<Self>) -> Result<(), WriteError> {
        self.change(|state, wakes| {
            state.life.write_eof()?;
            self.advance(state, None, wakes);
            Ok(())
        })
    }

    pub(crate) fn close(self: &Arc<Self>) {
        self.change(|state, wakes| {
            state.reader_keeps = false;
            state.abandon_reading();
            state.life.close();
            self.advance(state, None, wakes);
            wakes.wake(state.reader_waker.take());
        });
    }

    /// The writer was dropped: as `close`, but a reader that is still there reads on.
    pub(crate) fn writer_dropped(self: &Arc<Self>) {
        self.change(|state, wakes| {
            state.reader_keeps = !state.life.is_closing();
            state.life.close();
            self.advance(state, None, wakes);
        });
    }

    pub(crate) fn abort(self: &Arc<Self>) {
        self.change(|state, wakes| {
            state.life.abort();
            state.abandon_reading();
            state.queue.clear();
            self.advance(state, None, wakes);
            state.wake_everyone(wakes);
        });
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.state.lock().life.is_closing()
    }

    pub(crate) fn poll_closed(
        self: &Arc<Self>,
        cx: &Context<'_>,
        ticket: &mut Ticket,
    ) -> Poll<Result<(), CloseError>> {
        self.change(|state, wakes| match state.life.outcome() {
            Some(outcome) => {
                state.closers.forget(ticket, wakes);
                Poll::Ready(outcome)
            }
            None => {
                state.closers.register(ticket, cx.waker(), wakes);
                Poll::Pending
            }
        })
    }

    pub(crate) fn forget_closer(self: &Arc<Self>, ticket: &mut Ticket) {
        if ticket.is_waiting() {
            self.change(|state, wakes| state.closers.forget(ticket, wakes));
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

/// For the server.
impl Connection {
    /// Aborts, and asks the server's task to drop the handler.
    pub(crate) fn cancel(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.handler_cancelled = true;
        let waker = state.handler_waker.take();
        drop(state);
        self.abort();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes the lock only if the connection is closed or its queue full: this is asked at every turn of a handler.
    pub(crate) fn handler_cancelled(&self) -> bool {
        self.attention.load(Ordering::Acquire) && self.state.lock().handler_cancelled
    }

    /// Waits until the handler is to go. For when the driver, whose task this was, is done.
    pub(crate) fn poll_cancelled(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.handler_cancelled {
            return Poll::Ready(());
        }
        let replaced = state.handler_waker.replace(cx.waker().clone());
        drop(state);
        drop(replaced);
        Poll::Pending
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

/// Pieces of one message that are collected on the stack.
const FEW_PIECES: usize = 16;

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
            Self::Empty => !state.queue.is_empty() || state.unflushed,
        }
    }
}

impl State {
    /// Whether the reader must not touch the transport any more. After a failure it has to: what arrived before the
    /// failure is delivered first.
    pub(super) fn reading_over(&self) -> bool {
        let delivers = self.life.failure().is_some() && self.reader == ReaderHalf::Reading;
        !delivers && self.read_end().is_some()
    }

    /// This side closes: a socket that has failed is not kept open any longer for what the reader might still find.
    fn abandon_reading(&mut self) {
        if self.life.failure().is_some() && self.reader == ReaderHalf::Reading {
            self.reader = ReaderHalf::Ended;
        }
    }

    /// The failure that a receive of nothing stands for. The system tells a reset once: if a send was told, receives
    /// only see an end. A broken pipe is the exception, because it follows an end that the peer did send. Of an abort
    /// that came while it looked, a reader sees only the closed transport.
    fn failure_behind_end(&self) -> Option<Failure> {
        if self.life.is_aborted() {
            return Some(Failure::aborted());
        }
        self.life.failure().filter(|failure| failure.kind() != io::ErrorKind::BrokenPipe).cloned()
    }

    /// Why a reader that found nothing has nothing to wait for, if so.
    pub(super) fn read_end(&self) -> Option<ReadEnd> {
        if !self.life.is_closing() {
            return None;
        }
        if let Some(failure) = self.life.failure() {
            return Some(ReadEnd::Failed(failure.clone()));
        }
        if self.life.is_aborted() {
            return Some(ReadEnd::Failed(Failure::aborted()));
        }
        (!self.reader_keeps).then_some(ReadEnd::Closed)
    }
}
