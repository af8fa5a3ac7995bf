//! What follows a change of a connection's state: the flags that are read without the lock, the driver, and those who wait
//! learn of it.

use millstream_core::Phase;

use super::task::Task;
use super::{Connection, Drive, Driver, State};
use crate::sync::{Arc, MutexGuard, Ordering};
use crate::turn::Turn;
use crate::waiters::Wakes;

impl Connection {
    /// Runs one change of the state, then lets everyone know whom it concerns: the flags, the driver, the wakers.
    pub(super) fn change<R>(self: &Arc<Self>, f: impl FnOnce(&mut State, &mut Wakes) -> R) -> R {
        let mut wakes = Wakes::default();
        let mut state = self.state.lock();
        let result = f(&mut state, &mut wakes);
        self.finish(state, wakes);
        result
    }

    /// Ends a change that was made under the lock.
    #[inline]
    pub(super) fn finish(self: &Arc<Self>, state: MutexGuard<'_, State>, wakes: Wakes) {
        if state.is_calm() && !self.attention.load(Ordering::Relaxed) {
            if Turn::is_of(self) {
                self.driver_due.store(false, Ordering::Relaxed);
            }
            drop(state);
            drop(wakes);
        } else {
            self.let_know(state, wakes);
        }
    }

    /// Lets everyone know whom a change concerns.
    fn let_know(self: &Arc<Self>, mut state: MutexGuard<'_, State>, mut wakes: Wakes) {
        self.look_for_idle(&mut state, &mut wakes);
        self.publish(&state);
        let spawn = self.call_driver(&mut state, &mut wakes);
        let finished = state.queue.take_finished();
        drop(state);
        drop(finished);
        drop(wakes);
        if spawn {
            self.spawn_driver();
        }
    }

    /// Brings the flags in line with the state.
    pub(super) fn publish(&self, state: &State) {
        let attention = state.needs_attention();
        if self.attention.load(Ordering::Relaxed) != attention {
            self.attention.store(attention, Ordering::Release);
        }
        if state.life.is_closing() && !self.reading_over.load(Ordering::Relaxed) && state.reading_over() {
            self.reading_over.store(true, Ordering::Release);
        }
    }

    /// Wakes the driver if there is something for it that it does not know of. Returns whether it has to be spawned.
    fn call_driver(&self, state: &mut State, wakes: &mut Wakes) -> bool {
        let task = state.task();
        match &mut state.driver {
            Driver::Working { called: true, .. } | Driver::Gone => {}
            Driver::Working { parked, waker, .. } if Turn::is_of(self) => {
                let due = task.needs_driver() || *parked != Task::Rest || waker.is_none();
                self.driver_due.store(due, Ordering::Relaxed);
            }
            // Without a waker it was never polled, and will be without our doing.
            Driver::Working { waker: Some(waker), called, parked }
                if *parked != task && task.needs_driver() =>
            {
                wakes.wake([waker.clone()]);
                *called = true;
                state.counts.calls += 1;
                self.driver_due.store(true, Ordering::Relaxed);
            }
            Driver::Working { .. } => {}
            Driver::Absent if task.needs_driver() && task != Task::Done => {
                state.driver = Driver::Working { waker: None, called: true, parked: Task::Rest };
                state.counts.calls += 1;
                return true;
            }
            Driver::Absent => {}
        }
        false
    }

    /// Whether the driver has to be polled at the end of its owner's turn.
    pub(crate) fn is_driver_due(&self) -> bool {
        self.driver_due.load(Ordering::Relaxed)
    }

    fn spawn_driver(self: &Arc<Self>) {
        let drive = Drive::new(Arc::clone(self));
        match &self.runtime {
            // On a runtime that has shut down the task is dropped at once, and fails the connection by that.
            Some(runtime) => drop(runtime.spawn(drive)),
            None => drop(drive),
        }
    }
}

impl State {
    /// Whether no change could concern anyone: the commonest state by far, in which a request leaves its connection. What
    /// follows a change would find nothing to do.
    #[inline]
    fn is_calm(&self) -> bool {
        self.life.phase() == Phase::Open
            && !self.has_output()
            && !self.queue.has_finished()
            && !self.needs_attention()
            && !self.stop.is_asked()
            && matches!(self.driver, Driver::Working { waker: Some(_), called: false, parked: Task::Rest })
    }

    /// Whether `drain` has to look closer.
    fn needs_attention(&self) -> bool {
        self.queue.is_paused() || self.turn_left == 0 || self.life.is_closed()
    }
}
