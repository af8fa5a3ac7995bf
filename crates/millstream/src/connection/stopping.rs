//! What a server that stops asks of its connections: which of them are idle, and how each ended.
//!
//! A connection is idle when its reader waits with an empty buffer, nothing is left to send, and what was read from it
//! last has been answered: something was written since. The two marks that this takes are set by each read that hands
//! something out and by each write; everything else is only looked at while a server stops.

use std::sync::atomic::Ordering::Relaxed;

use millstream_core::Phase;

use super::{Connection, ReaderHalf, State};
use crate::stopping::{StopSignal, Stopping};
use crate::sync::Arc;
use crate::waiters::Wakes;

/// What the server's stop means to one connection.
#[derive(Debug, Default)]
pub(super) struct Stop {
    asked: Asked,
    /// The reader waits with an empty buffer, and for what it does not know.
    reader_waits: bool,
    /// The server's handshake with this peer goes on: no handler was called.
    opening: bool,
    /// Its handler has ended.
    handler_over: bool,
    end: Option<StopEnd>,
}

impl Stop {
    #[inline]
    pub(super) fn is_asked(&self) -> bool {
        self.asked != Asked::Nothing
    }
}

/// What the server has asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Asked {
    #[default]
    Nothing,
    /// Idle ones are to end. Who never sent anything has a moment left to do it: it may just have been accepted.
    EndIdle,
    /// Those as well.
    EndSilent,
}

/// How a connection ended while its server stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopEnd {
    Idle,
    Aborted,
}

/// Nothing was ever read from this connection.
pub(super) const SILENT: u8 = 0;
/// Something was read, and nothing written since.
const TAKEN: u8 = 1;
const ANSWERED: u8 = 2;

impl Connection {
    pub(crate) fn set_stop_signal(&self, signal: StopSignal) {
        let _ = self.stop_signal.set(signal);
    }

    pub(crate) fn stopping(&self) -> Stopping {
        Stopping::new(self.stop_signal.get().cloned())
    }

    /// The reader hands something out.
    #[inline]
    pub(crate) fn note_taken(&self) {
        if self.talk.load(Relaxed) != TAKEN {
            self.talk.store(TAKEN, Relaxed);
        }
    }

    /// Something is written, under the lock.
    #[inline]
    pub(super) fn note_answered(&self) {
        if self.talk.load(Relaxed) == TAKEN {
            self.talk.store(ANSWERED, Relaxed);
        }
    }

    /// The server's own handshake begins.
    pub(crate) fn set_opening(&self) {
        self.state.lock().stop.opening = true;
    }

    /// It is over, and the handler is called.
    pub(crate) fn set_open(&self) {
        self.state.lock().stop.opening = false;
    }

    /// The handler of this connection has ended, and all it owned is dropped.
    pub(crate) fn handler_ended(&self) {
        self.state.lock().stop.handler_over = true;
    }

    /// The server stops: ends this connection if it is idle, or else once it will be.
    pub(crate) fn end_when_idle(self: &Arc<Self>, asked: Asked) {
        let is_opening = self.change(|state, wakes| {
            state.stop.asked = asked.max(state.stop.asked);
            // The reader itself knows best whether it is idle.
            wakes.wake(state.reader_waker.take());
            let is_over = state.stop.opening && asked == Asked::EndSilent && !state.life.is_closing();
            if is_over {
                state.stop.end = Some(StopEnd::Idle);
            }
            is_over
        });
        if is_opening {
            self.close();
        }
    }

    /// The time for stopping is up. A connection that has sent its end and only lingers is closed without a reset.
    pub(crate) fn cut_off(self: &Arc<Self>) {
        self.change(|state, wakes| {
            let has_ended = matches!(state.life.phase(), Phase::Lingering | Phase::Closed);
            if !(has_ended && state.stop.handler_over) {
                state.stop.end = Some(StopEnd::Aborted);
            }
            state.life.lingered();
            self.advance(state, None, wakes);
        });
        self.cancel();
    }

    /// How the stop ended it; `None` if it ended by itself.
    pub(crate) fn stop_end(&self) -> Option<StopEnd> {
        self.state.lock().stop.end
    }

    /// Whether the reader, which is about to wait, waits in vain. Called when all that could be sent was.
    pub(super) fn is_idle(&self, state: &mut State, is_empty: bool) -> bool {
        if state.stop.asked == Asked::Nothing || state.stop.opening || state.is_handshaking() {
            return false;
        }
        let is_empty = is_empty && !state.tls.as_ref().is_some_and(|tls| tls.is_inside_record());
        state.stop.reader_waits = is_empty;
        is_empty && self.has_answered(state)
    }

    /// Wakes a reader that has become idle without its own doing, by what others wrote or sent.
    #[inline]
    pub(super) fn look_for_idle(&self, state: &mut State, wakes: &mut Wakes) {
        if state.stop.reader_waits && self.has_answered(state) {
            state.stop.reader_waits = false;
            wakes.wake(state.reader_waker.take());
        }
    }

    fn has_answered(&self, state: &State) -> bool {
        let has_answered = match self.talk.load(Relaxed) {
            SILENT => state.stop.asked == Asked::EndSilent,
            talk => talk == ANSWERED,
        };
        has_answered && !state.has_output()
    }
}

impl State {
    /// The reader is told the end because it was idle.
    pub(super) fn end_idle(&mut self) {
        self.reader = ReaderHalf::Ended;
        self.stop.reader_waits = false;
        self.stop.end.get_or_insert(StopEnd::Idle);
    }
}
