//! How a connection ends: half-closed, closed, dropped, aborted, cancelled by its server, and those who wait for it.

use std::task::{Context, Poll};

use millstream_core::{CloseError, WriteError};

use super::{Connection, ReaderHalf, State};
use crate::sync::{Arc, Ordering};
use crate::waiters::Ticket;

impl Connection {
    pub(crate) fn write_eof(self: &Arc<Self>) -> Result<(), WriteError> {
        self.change(|state, wakes| {
            if state.tls.as_ref().is_some_and(|tls| !tls.can_half_close()) {
                state.life.check_write()?;
                return Err(WriteError::NoHalfClose);
            }
            state.life.write_eof()?;
            self.advance(state, None, wakes);
            Ok(())
        })
    }

    /// Half-closes; over TLS 1.2, which cannot, closes as if the writer were dropped. Calling it again does
    /// nothing.
    pub(crate) fn shut_down(self: &Arc<Self>) -> Result<(), WriteError> {
        if self.can_write_eof() {
            return self.write_eof();
        }
        if !self.is_closing() {
            self.writer_dropped();
        }
        Ok(())
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
            if !state.life.is_closing() {
                state.reader_keeps = true;
            }
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

    /// How it ended, in words.
    #[cfg(feature = "tracing")]
    pub(crate) fn end_text(&self) -> std::borrow::Cow<'static, str> {
        let state = self.state.lock();
        match state.life.outcome() {
            Some(Err(error)) => error.to_string().into(),
            Some(Ok(())) if state.life.is_aborted() => "aborted by this side".into(),
            _ => "closed".into(),
        }
    }

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

impl State {
    /// This side closes: a socket that has failed is not kept open any longer for what the reader might still find.
    fn abandon_reading(&mut self) {
        if self.life.failure().is_some() && self.reader == ReaderHalf::Reading {
            self.reader = ReaderHalf::Ended;
        }
    }
}
