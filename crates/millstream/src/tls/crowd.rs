//! The handshakes that run at once on one server. When there are too many, the oldest gives way: peers that never finish
//! push out each other, and never delay one that does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Waker};

use crate::sync::Mutex;

/// All the handshakes of one server.
#[derive(Debug)]
pub(crate) struct Crowd {
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    pushed_out: u64,
    /// By age, the oldest first. Who is missing here has been pushed out.
    running: BTreeMap<u64, Option<Waker>>,
}

/// One handshake's place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    crowd: Arc<Crowd>,
    number: u64,
}

impl Crowd {
    /// At most this many at once, and at least one.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most: most.max(1), state: Mutex::new(State::default()) })
    }

    /// Joins, at the cost of the oldest if there are too many.
    pub(crate) fn join(self: &Arc<Self>) -> Place {
        let mut state = self.state.lock();
        let oldest = if state.running.len() >= self.most { state.running.pop_first() } else { None };
        state.pushed_out += u64::from(oldest.is_some());
        let number = state.next;
        state.next += 1;
        state.running.insert(number, None);
        drop(state);
        if let Some((_, Some(waker))) = oldest {
            waker.wake();
        }
        Place { crowd: Arc::clone(self), number }
    }

    /// How many run now, and how many were pushed out so far.
    pub(crate) fn counts(&self) -> (usize, u64) {
        let state = self.state.lock();
        (state.running.len(), state.pushed_out)
    }

    pub(crate) fn most(&self) -> usize {
        self.most
    }
}

impl Place {
    /// How many are allowed, if this one was pushed out; it is woken when that happens.
    pub(crate) fn pushed_out_of(&self, cx: &Context<'_>) -> Option<usize> {
        let mut state = self.crowd.state.lock();
        let Some(waker) = state.running.get_mut(&self.number) else { return Some(self.crowd.most()) };
        let replaced = match waker {
            Some(waker) if waker.will_wake(cx.waker()) => None,
            _ => waker.replace(cx.waker().clone()),
        };
        drop(state);
        drop(replaced);
        None
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let waker = self.crowd.state.lock().running.remove(&self.number);
        drop(waker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_gives_way_and_a_place_given_back_is_free() {
        let cx = Context::from_waker(Waker::noop());
        let crowd = Crowd::new(2);
        let (first, second) = (crowd.join(), crowd.join());
        assert_eq!((first.pushed_out_of(&cx), second.pushed_out_of(&cx)), (None, None));
        drop(second);
        let third = crowd.join();
        assert_eq!(first.pushed_out_of(&cx), None);
        let fourth = crowd.join();
        assert_eq!((first.pushed_out_of(&cx), third.pushed_out_of(&cx)), (Some(2), None));
        drop((first, third, fourth));
        assert!(crowd.state.lock().running.is_empty());
    }
}
