//! Tasks that wait for one condition of a connection, any number of them, and the wakes that are owed after unlocking.
//!
//! A waker may run code of strangers (dropping a task drops the streams it owns), so none is ever woken or dropped under
//! the connection's lock: they are collected in a [`Wakes`] that is run afterwards.

use std::fmt;
use std::pin::Pin;
use std::task::Waker;

use crate::transport::AnyIo;

/// The tasks that wait for one condition. Each has a ticket, which it gives back when it goes. Boxed: most connections never
/// have any.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Option<Box<List>>);

#[derive(Debug, Default)]
struct List {
    waiting: Vec<(u64, Waker)>,
    next_ticket: u64,
}

/// The place of one task among the [`Waiters`]; empty until it has to wait.
#[derive(Debug, Default)]
pub(crate) struct Ticket(Option<u64>);

impl Waiters {
    /// Makes the task wait, or renews its waker. A waker that is replaced goes to `wakes`, to be dropped there.
    pub(crate) fn register(&mut self, ticket: &mut Ticket, waker: &Waker, wakes: &mut Wakes) {
        let list = self.0.get_or_insert_default();
        if let Some(entry) = list.waiting.iter_mut().find(|(number, _)| Some(*number) == ticket.0) {
            if !entry.1.will_wake(waker) {
                wakes.drop_later([std::mem::replace(&mut entry.1, waker.clone())]);
            }
            return;
        }
        ticket.0 = Some(list.next_ticket);
        list.waiting.push((list.next_ticket, waker.clone()));
        list.next_ticket += 1;
    }

    /// The task goes away; its waker goes to `wakes`, to be dropped there.
    pub(crate) fn forget(&mut self, ticket: &mut Ticket, wakes: &mut Wakes) {
        let (Some(number), Some(list)) = (ticket.0.take(), &mut self.0) else { return };
        if let Some(at) = list.waiting.iter().position(|(other, _)| *other == number) {
            wakes.drop_later([list.waiting.swap_remove(at).1]);
        }
    }

    /// The condition holds for everyone.
    #[inline]
    pub(crate) fn wake_all(&mut self, wakes: &mut Wakes) {
        if let Some(list) = &mut self.0 {
            wakes.wake(list.waiting.drain(..).map(|(_, waker)| waker));
        }
    }

    #[cfg(all(test, millstream_loom))]
    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |list| list.waiting.len())
    }
}

impl Ticket {
    pub(crate) fn is_waiting(&self) -> bool {
        self.0.is_some()
    }
}

/// Wakers to wake and wakers to drop once the lock is released: run it by dropping it after the guard.
#[derive(Debug, Default)]
#[must_use = "the wakes happen when this is dropped, which has to be after the lock is released"]
pub(crate) struct Wakes {
    /// Nothing in the common case, and then it costs nothing; nearly always enough, and needs no allocation.
    first: Option<Owed>,
    /// Empty if there is no first.
    more: Vec<Owed>,
}

#[derive(Debug)]
enum Owed {
    Wake(Waker),
    Drop(Waker),
    DropIo(BoxedIo),
}

/// An adopted byte stream that is done with.
struct BoxedIo(#[allow(dead_code, reason = "it is here to be dropped")] Pin<Box<dyn AnyIo>>);

impl fmt::Debug for BoxedIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxedIo")
    }
}

impl Wakes {
    /// Owes a wake to each of these.
    pub(crate) fn wake(&mut self, wakers: impl IntoIterator<Item = Waker>) {
        wakers.into_iter().for_each(|waker| self.owe(Owed::Wake(waker)));
    }

    /// Takes over a waker that is not needed any more.
    pub(crate) fn drop_later(&mut self, waker: impl IntoIterator<Item = Waker>) {
        waker.into_iter().for_each(|waker| self.owe(Owed::Drop(waker)));
    }

    /// Takes over an adopted byte stream that is done with.
    pub(crate) fn drop_io_later(&mut self, io: Option<Pin<Box<dyn AnyIo>>>) {
        io.into_iter().for_each(|io| self.owe(Owed::DropIo(BoxedIo(io))));
    }

    fn owe(&mut self, owed: Owed) {
        match self.first {
            None => self.first = Some(owed),
            Some(_) => self.more.push(owed),
        }
    }

    #[cold]
    fn pay(&mut self) {
        for owed in self.first.take().into_iter().chain(self.more.drain(..)) {
            match owed {
                Owed::Wake(waker) => waker.wake(),
                Owed::Drop(waker) => drop(waker),
                Owed::DropIo(io) => drop(io),
            }
        }
    }
}

impl Drop for Wakes {
    #[inline]
    fn drop(&mut self) {
        if self.first.is_some() {
            self.pay();
        }
    }
}
