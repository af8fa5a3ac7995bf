//! What the reader asks of its connection: receives, the flush before it waits, and why there is nothing more.

use std::io;
use std::task::{Context, Poll};

use millstream_core::{DeadlineKind, Failure, ReadBuffer};

use super::{Connection, Driver, ReaderHalf, State, TURN_LEN, Task};
use crate::sync::{Arc, Ordering};
use crate::transport::Room;

/// Why a reader gets nothing more from the transport, though the transport did not say so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReadEnd {
    /// This side closed the connection.
    Closed,
    /// The connection is idle, and its server stops.
    Idle,
    /// Sending failed, or this side aborted.
    Failed(Failure),
}

impl Connection {
    /// One receive into the buffer. Ready when there is something new: bytes, the end, a failure. Over TLS it may also be
    /// nothing that a reader could see. Returns how many bytes came from the transport. `dropped`: how many bytes of the
    /// item that is read are not in the buffer any more.
    pub(crate) fn poll_fill(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuffer,
        dropped: usize,
    ) -> Poll<usize> {
        if self.is_watched {
            self.read_stats.hold(buffer.len().saturating_add(dropped).min(usize::MAX - 1));
        }
        let between_items = buffer.is_empty() && dropped == 0;
        if self.is_sealed.load(Ordering::Relaxed) {
            return self.poll_fill_sealed(cx, buffer, between_items);
        }
        let Poll::Ready(received) = self.poll_receive(cx, between_items, buffer) else {
            buffer.rest();
            return Poll::Pending;
        };
        match received {
            Ok(0) | Err(ReadEnd::Closed | ReadEnd::Idle) => buffer.feed_eof(),
            Ok(n) => {
                buffer.commit(n);
                return Poll::Ready(n);
            }
            Err(ReadEnd::Failed(failure)) => buffer.fail(failure),
        }
        Poll::Ready(0)
    }

    /// One receive. `Ready(Ok(0))` is the peer's end. `is_empty`: nothing is left to be read from before.
    #[inline]
    pub(super) fn poll_receive(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
        is_empty: bool,
        room: &mut (impl Room + ?Sized),
    ) -> Poll<Result<usize, ReadEnd>> {
        if self.reading_over.load(Ordering::Acquire)
            && let Some(end) = self.state.lock().read_end()
        {
            return Poll::Ready(Err(end));
        }
        match self.transport.poll_read(cx, room) {
            Poll::Ready(received) => Poll::Ready(self.note_received(received)),
            Poll::Pending => match self.before_wait(cx, is_empty) {
                None => Poll::Pending,
                Some(end) => Poll::Ready(self.receive_before(end, room.room())),
            },
        }
    }

    /// Books what the transport has answered.
    #[inline]
    fn note_received(self: &Arc<Self>, received: io::Result<usize>) -> Result<usize, ReadEnd> {
        match received {
            Ok(n) if n > 0 => {
                self.read_stats.record(n);
                Ok(n)
            }
            last => self.receive_last(last),
        }
    }

    /// There is nothing to wait for. What arrived before a failure is delivered before it, even if the runtime has not heard
    /// of it yet.
    #[cold]
    fn receive_before(self: &Arc<Self>, end: ReadEnd, spare: &mut [u8]) -> Result<usize, ReadEnd> {
        match self.transport.read_now(spare) {
            received @ Ok(_) if !self.reading_over.load(Ordering::Acquire) => self.note_received(received),
            _ => {
                self.change(|state, _| match end {
                    ReadEnd::Idle => state.end_idle(),
                    _ => state.reader = ReaderHalf::Ended,
                });
                Err(end)
            }
        }
    }

    /// The transport's last word: the peer's end, or a failure.
    #[cold]
    fn receive_last(self: &Arc<Self>, last: io::Result<usize>) -> Result<usize, ReadEnd> {
        self.change(|state, wakes| {
            state.peer_ended = true;
            state.reader = ReaderHalf::Ended;
            match last {
                Ok(n) => {
                    self.read_stats.record(n);
                    state.failure_behind_end().map_or(Ok(n), |failure| Err(ReadEnd::Failed(failure)))
                }
                Err(error) => {
                    let failure = state.as_handshakes(Failure::from(&error));
                    self.fail(state, failure.clone(), wakes);
                    Err(ReadEnd::Failed(failure))
                }
            }
        })
    }

    /// The reader is about to wait, with an empty buffer or with part of an item: what is queued leaves now. Says if there
    /// is nothing to wait for.
    pub(crate) fn before_wait(self: &Arc<Self>, cx: &Context<'_>, is_empty: bool) -> Option<ReadEnd> {
        self.change(|state, wakes| {
            state.turn_left = TURN_LEN;
            if state.has_output() && !state.blocked && self.transport.sends_inline() {
                self.flush(state, None, wakes);
            }
            if let Some(end) = state.read_end() {
                // The transport keeps one waker for reading, and ours has just pushed out that of a lingering driver.
                if let Driver::Working { parked, .. } = &mut state.driver {
                    *parked = Task::Rest;
                }
                return Some(end);
            }
            if self.is_idle(state, is_empty) {
                return Some(ReadEnd::Idle);
            }
            if let Some(waits) = &mut state.waits {
                waits.come(&self.read_stats);
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

impl State {
    /// Whether the reader must not touch the transport any more. After a failure it has to: what arrived before the
    /// failure is delivered first.
    pub(super) fn reading_over(&self) -> bool {
        !self.delivers() && self.read_end().is_some()
    }

    /// Whether the transport has failed and may hold what arrived before. One that was given up because nothing came does
    /// not: whatever comes now comes too late.
    pub(super) fn delivers(&self) -> bool {
        let gave_up = |failure: &Failure| failure.deadline().is_some_and(DeadlineKind::is_of_reading);
        self.reader == ReaderHalf::Reading && self.life.failure().is_some_and(|failure| !gave_up(failure))
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
