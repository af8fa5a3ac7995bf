//! The deadlines of a connection at work: what its reader leaves behind under the lock, the one timer, and what happens when a
//! deadline has passed. Between two looks nothing here runs.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Wake, Waker};

use millstream_core::{DeadlineKind, Deadlines, Failure, Sight, Waiting, Watchdog};
use tokio::time::{Instant, Sleep};

use super::{Connection, Driver, ReaderHalf, State};
use crate::stats::ReadStats;
use crate::sync::{Arc, Ordering};
use crate::waiters::Wakes;

/// What the reader leaves behind whenever it has to wait. Only connections with deadlines have it.
#[derive(Debug)]
pub(super) struct Waits {
    /// How often it has come by.
    rounds: u64,
    /// How much it held of what it wants, when it came last. `None`: it did not wait for the peer.
    held: Option<usize>,
    /// How many receives there had been by then. If there were more since, it waits no longer.
    receives: u64,
    /// Over TLS: how many bytes were decrypted.
    opened: u64,
}

impl Default for Waits {
    fn default() -> Self {
        Self { rounds: 0, held: None, receives: 0, opened: FIRST_OPENED }
    }
}

impl Waits {
    /// The reader is about to wait, or lets others go first.
    pub(super) fn come(&mut self, stats: &ReadStats) {
        self.rounds += 1;
        self.held = stats.held();
        self.receives = stats.calls();
    }

    /// So many bytes were decrypted.
    pub(super) fn opened(&mut self, plain_len: usize) {
        self.opened += plain_len as u64;
    }
}

/// The driver's part, asleep until the driver is polled for the first time: before that there may be no runtime.
#[derive(Debug)]
pub(super) struct Watch {
    deadlines: Deadlines,
    awake: Option<Awake>,
}

/// The timer, and what it saw last.
#[derive(Debug)]
struct Awake {
    dog: Watchdog,
    timer: Pin<Box<Sleep>>,
    /// Calls the driver, as anyone does who has something for it: the task that owns the driver need not ask the timer.
    call: Waker,
    /// How often the reader had come by at the last look.
    rounds: u64,
}

impl Watch {
    /// A watch for these deadlines, if they are any.
    pub(super) fn of(deadlines: Deadlines) -> Option<Box<Self>> {
        (!deadlines.is_none()).then(|| Box::new(Self { deadlines, awake: None }))
    }

    /// Looks, if it is time. Returns whether a deadline has passed: the connection has failed then.
    pub(super) fn poll(&mut self, connection: &Arc<Connection>, cx: &Context<'_>) -> bool {
        self.awake.get_or_insert_with(|| Awake::new(connection, self.deadlines)).poll(connection, cx)
    }
}

impl Awake {
    fn new(connection: &Arc<Connection>, deadlines: Deadlines) -> Self {
        let dog = Watchdog::new(deadlines, Instant::now().into_std());
        let first = Instant::from_std(dog.first_look());
        Self {
            dog,
            timer: Box::pin(tokio::time::sleep_until(first)),
            call: Waker::from(Arc::clone(connection)),
            rounds: 0,
        }
    }

    fn poll(&mut self, connection: &Arc<Connection>, cx: &Context<'_>) -> bool {
        while self.timer.as_mut().poll(&mut Context::from_waker(&self.call)) == Poll::Ready(()) {
            let now = Instant::now().into_std();
            let next = connection.change(|state, wakes| {
                let sight = connection.sight(state, &mut self.rounds, cx, wakes);
                let next = self.dog.look(now, &sight);
                if let Err(failure) = &next {
                    connection.give_up(state, failure.clone(), wakes);
                }
                next
            });
            match next {
                Ok(next) => self.timer.as_mut().reset(Instant::from_std(next)),
                Err(_) => return true,
            }
        }
        false
    }
}

/// As a waker, a connection calls its driver.
impl Wake for Connection {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut wakes = Wakes::default();
        let mut state = self.state.lock();
        if let Driver::Working { waker: Some(waker), called: called @ false, .. } = &mut state.driver {
            // Nobody takes the driver for not due until it has come.
            *called = true;
            self.driver_due.store(true, Ordering::Relaxed);
            wakes.wake([waker.clone()]);
        }
        drop(state);
        drop(wakes);
    }
}

impl Connection {
    /// The reader is about to let others go first; it does not wait for the peer.
    pub(crate) fn yields(&self) {
        if self.is_watched {
            self.read_stats.hold(usize::MAX);
        }
    }

    /// What there is to be seen, by the driver that was just polled with `cx`.
    fn sight(&self, state: &State, rounds: &mut u64, cx: &Context<'_>, wakes: &mut Wakes) -> Sight {
        let mut sight =
            Sight { received: self.read_stats.bytes(), sent: state.counts.bytes, ..Sight::default() };
        let Some(waits) = &state.waits else { return sight };
        let came_by = std::mem::replace(rounds, waits.rounds) != waits.rounds;
        if state.is_handshaking() {
            return sight;
        }
        let is_stuck = state.has_output() && (state.blocked || !self.transport.sends_inline());
        if is_stuck || state.unflushed {
            sight.stalled = Some(state.queue.len());
        }
        if state.reader != ReaderHalf::Reading || state.read_end().is_some() {
            return sight;
        }
        let Some(held) = waits.held.filter(|_| waits.receives == self.read_stats.calls()) else {
            return sight;
        };
        // Whether the read is still there only its task knows. It is woken to come by again until the next look, unless it
        // is the driver's own, which the timer wakes.
        wakes.wake(state.reader_waker.clone().filter(|waker| !waker.will_wake(cx.waker())));
        if came_by {
            let (position, begun) = match &state.tls {
                None => (sight.received.saturating_sub(held as u64), held > 0),
                Some(tls) => (waits.opened - held as u64, held > 0 || tls.is_inside_record()),
            };
            sight.waiting = Some(Waiting { position, held, begun });
        }
        sight
    }

    /// A deadline has passed. The peer of an idle connection sees an end, behind all that was sent to it. Any other sees a
    /// reset: it has not taken what is queued, or is in the middle of an item that nobody will read; and an end would keep
    /// the socket until it was acknowledged.
    fn give_up(&self, state: &mut State, failure: Failure, wakes: &mut Wakes) {
        if failure.deadline() == Some(DeadlineKind::Idle) && !state.has_output() && !state.unflushed {
            if let Some(tls) = &mut state.tls {
                tls.close_notify();
            }
            state.life.leave(failure);
            state.wake_everyone(wakes);
        } else {
            self.fail(state, failure, wakes);
        }
    }

    /// Which deadline has ended this connection, if one has.
    pub(crate) fn passed_deadline(&self) -> Option<DeadlineKind> {
        self.state.lock().life.failure()?.deadline()
    }
}

/// Positions in what was decrypted are none in what came before in plaintext.
const FIRST_OPENED: u64 = 1 << 63;
