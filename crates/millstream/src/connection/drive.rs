//! The driver of a connection: the one task that does whatever has to wait for the transport or for the clock.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use millstream_core::{Deadlines, ErrorClass, Failure};
use tokio::time::Sleep;

use super::watch::Watch;
use super::{Connection, Driver, State, TURN_LEN, Task};
use crate::sync::{Arc, Ordering};
use crate::turn::give_way;
use crate::waiters::Wakes;

/// Completes when the connection is closed. Dropped earlier, it fails the connection: nothing would flush it any more.
#[derive(Debug)]
pub(crate) struct Drive {
    connection: Arc<Connection>,
    /// Armed while closing: for the whole close, and for the silence that ends the lingering.
    closing: Option<Pin<Box<Sleep>>>,
    silence: Option<Pin<Box<Sleep>>>,
    /// How much of what the peer sends may still be read and dropped.
    linger_left: usize,
    /// If there are deadlines.
    watch: Option<Box<Watch>>,
}

impl Drive {
    pub(crate) fn new(connection: Arc<Connection>) -> Self {
        Self { connection, closing: None, silence: None, linger_left: LINGER_LEN, watch: None }
    }

    /// With a watch for these deadlines, if they are any.
    pub(crate) fn watching(mut self, deadlines: Deadlines) -> Self {
        self.watch = Watch::of(deadlines);
        self
    }

    /// Its close may take so long from now on, whatever the connection's own deadline is.
    pub(crate) fn closing_within(mut self, deadline: Duration) -> Self {
        self.closing = Some(Box::pin(tokio::time::sleep(deadline)));
        self
    }

    /// Does all that can be done now; returns what is left to wait for. Leaves the waker where it is needed.
    fn work(&self, cx: &mut Context<'_>) -> (Task, bool) {
        let connection = &self.connection;
        let mut wakes = Wakes::default();
        let mut state = connection.state.lock();
        state.driver_looks(cx, &mut wakes);
        let task = loop {
            if state.blocked {
                match connection.transport.poll_writable(cx) {
                    Poll::Ready(Ok(())) => state.blocked = false,
                    Poll::Ready(Err(error)) => connection.fail(&mut state, Failure::from(&error), &mut wakes),
                    Poll::Pending => {}
                }
            }
            let task = connection.advance(&mut state, Some(cx), &mut wakes);
            // A send that was just refused has yet to leave our waker with the transport.
            if !(state.blocked && matches!(task, Task::Flush { .. })) || state.waits_for_room(connection, cx)
            {
                break task;
            }
        };
        if let Driver::Working { parked, .. } = &mut state.driver {
            *parked = task;
            // An adopted stream may have kept our waker in its `flush`.
            let due = task != Task::Rest || !connection.transport.sends_inline();
            connection.driver_due.store(due, Ordering::Relaxed);
        }
        connection.look_for_idle(&mut state, &mut wakes);
        connection.publish(&state);
        let turn_over = matches!(task, Task::Flush { .. }) && state.turn_left == 0;
        let finished = state.queue.take_finished();
        drop(state);
        drop(finished);
        (task, turn_over)
    }

    /// Reads and drops what the peer sends. Ready when it ended, was silent for long enough, or has sent so much that what
    /// it sends now is not read any more, and our last bytes had as long to arrive.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0; 4096];
        for _ in 0..LINGER_READS {
            if self.linger_left == 0 {
                return self.poll_silence(cx);
            }
            match self.connection.transport.poll_read(cx, &mut scratch[..]) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(n)) => {
                    self.silence = None;
                    self.linger_left = self.linger_left.saturating_sub(n);
                }
                Poll::Pending => return self.poll_silence(cx),
            }
        }
        give_way(cx);
        Poll::Pending
    }

    /// Looks after the deadlines, if there are any. Returns whether one has passed, so that there is other work now.
    fn poll_watch(&mut self, task: Task, cx: &Context<'_>) -> bool {
        let over = matches!(task, Task::Done | Task::Close { .. });
        !over && self.watch.as_mut().is_some_and(|watch| watch.poll(&self.connection, cx))
    }

    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let silence = self.silence.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER_SILENCE)));
        silence.as_mut().poll(cx)
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.connection.close_deadline;
        let closing = self.closing.get_or_insert_with(|| Box::pin(tokio::time::sleep(deadline)));
        closing.as_mut().poll(cx)
    }
}

impl Future for Drive {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        loop {
            let (task, turn_over) = this.work(cx);
            if this.poll_watch(task, cx) {
                continue;
            }
            match task {
                Task::Done => return Poll::Ready(()),
                Task::Close { .. } => continue,
                Task::Rest => match this.connection.transport.poll_flush(cx) {
                    Poll::Ready(Err(error)) => this
                        .connection
                        .change(|state, wakes| this.connection.fail(state, Failure::from(&error), wakes)),
                    Poll::Ready(Ok(())) if !this.connection.transport.sends_inline() => {
                        this.connection.change(|state, wakes| {
                            state.unflushed = false;
                            state.flushers.wake_all(wakes);
                        });
                        return Poll::Pending;
                    }
                    _ => return Poll::Pending,
                },
                Task::WaitForReader => {
                    this.closing = None;
                    return Poll::Pending;
                }
                Task::Linger => {
                    if this.poll_linger(cx).is_ready() || this.poll_deadline(cx).is_ready() {
                        this.connection.change(|state, _| state.life.lingered());
                        continue;
                    }
                    return Poll::Pending;
                }
                Task::Flush { closing } | Task::SendEnd { closing } => {
                    if closing && this.poll_deadline(cx).is_ready() {
                        this.connection.change(|state, wakes| {
                            let unsent = state.queue.clear();
                            state.life.deadline(unsent);
                            state.wake_everyone(wakes);
                        });
                        continue;
                    }
                    if turn_over {
                        give_way(cx);
                    }
                    return Poll::Pending;
                }
            }
        }
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        self.connection.change(|state, wakes| {
            if let Driver::Working { waker, .. } = std::mem::replace(&mut state.driver, Driver::Gone) {
                wakes.drop_later(waker);
            }
            if !state.transport_closed {
                let failure = Failure::new(
                    std::io::ErrorKind::ConnectionAborted,
                    "the task behind this connection ended: its runtime shut down, or its adopted stream panicked",
                    ErrorClass::ClosedByUs,
                );
                self.connection.fail(state, failure, wakes);
                self.connection.transport.close(false, wakes);
                state.transport_closed = true;
            }
        });
    }
}

impl State {
    /// The driver has come: the next thing to do needs another call.
    fn driver_looks(&mut self, cx: &Context<'_>, wakes: &mut Wakes) {
        self.turn_left = TURN_LEN;
        if let Driver::Working { waker, called, .. } = &mut self.driver {
            *called = false;
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                wakes.drop_later(waker.replace(cx.waker().clone()));
            }
        }
    }

    /// Registers for room to send. False: there is some again already.
    fn waits_for_room(&mut self, connection: &Connection, cx: &mut Context<'_>) -> bool {
        match connection.transport.poll_writable(cx) {
            Poll::Pending => true,
            Poll::Ready(Ok(())) => {
                self.blocked = false;
                false
            }
            // The driver's next look fails the connection for it.
            Poll::Ready(Err(_)) => false,
        }
    }
}

/// A peer that neither sends nor closes for this long has taken our end, or never will.
const LINGER_SILENCE: Duration = Duration::from_secs(1);
/// What the peer may have sent before it could see our end: the buffers of both systems at the largest that Linux makes
/// them by itself (6 MiB to receive, 4 MiB to send), and what is on the way. Who sends more does not care for our end.
const LINGER_LEN: usize = 16 * 1024 * 1024;
/// Receives in one turn of lingering.
const LINGER_READS: usize = 16;
