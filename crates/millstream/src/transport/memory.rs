//! One end of an in-memory connection: two pipes of bounded size, with the manners of a socket.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Result};
use std::task::{Context, Poll, Waker};

use crate::sync::{Arc, Mutex};
use crate::waiters::Wakes;

/// One end: what it reads and what it writes.
#[derive(Debug)]
pub(crate) struct MemoryEnd {
    pub(crate) incoming: Arc<Pipe>,
    pub(crate) outgoing: Arc<Pipe>,
    /// How often this end was closed, for the models.
    #[cfg(all(test, millstream_loom))]
    pub(crate) closes: std::sync::atomic::AtomicUsize,
}

/// One direction.
#[derive(Debug)]
pub(crate) struct Pipe(Mutex<State>);

#[derive(Debug)]
struct State {
    bytes: VecDeque<u8>,
    /// Never are more bytes than this on their way.
    capacity: usize,
    /// A send takes at most this much, to play a socket that takes little.
    most_per_write: usize,
    /// The writer has ended the stream.
    ended: bool,
    /// The writer has reset the connection; what is on its way still arrives.
    reset: bool,
    /// The reader is gone: sends fail.
    unread: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl MemoryEnd {
    /// Two connected ends.
    pub(crate) fn pair(capacity: usize) -> (Self, Self) {
        let (there, back) = (Arc::new(Pipe::new(capacity)), Arc::new(Pipe::new(capacity)));
        (Self::new(Arc::clone(&back), Arc::clone(&there)), Self::new(there, back))
    }

    fn new(incoming: Arc<Pipe>, outgoing: Arc<Pipe>) -> Self {
        Self {
            incoming,
            outgoing,
            #[cfg(all(test, millstream_loom))]
            closes: std::sync::atomic::AtomicUsize::new(0),
        }
    }

    pub(crate) fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<Result<usize>> {
        let mut wakes = Wakes::default();
        self.incoming.poll_read(cx, buf, &mut wakes)
    }

    pub(crate) fn read_now(&self, buf: &mut [u8]) -> Result<usize> {
        let mut wakes = Wakes::default();
        self.incoming.read_now(buf, &mut wakes).unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into()))
    }

    pub(crate) fn try_write(&self, slices: &[IoSlice<'_>], wakes: &mut Wakes) -> Result<usize> {
        self.outgoing.try_write(slices, wakes)
    }

    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.outgoing.poll_writable(cx).map(Ok)
    }

    pub(crate) fn shutdown_write(&self, wakes: &mut Wakes) {
        self.outgoing.end(wakes);
    }

    pub(crate) fn close(&self, reset: bool, wakes: &mut Wakes) {
        #[cfg(all(test, millstream_loom))]
        self.closes.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if reset {
            self.outgoing.reset(wakes);
        } else {
            self.outgoing.end(wakes);
        }
        self.incoming.stop_reading(wakes);
    }
}

impl Pipe {
    fn new(capacity: usize) -> Self {
        Self(Mutex::new(State {
            bytes: VecDeque::new(),
            capacity: capacity.max(1),
            most_per_write: usize::MAX,
            ended: false,
            reset: false,
            unread: false,
            reader: None,
            writer: None,
        }))
    }

    /// Takes what is there; `Ok(0)` is the end.
    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
        wakes: &mut Wakes,
    ) -> Poll<Result<usize>> {
        let mut state = self.0.lock();
        if let Some(result) = state.read(buf, wakes) {
            return Poll::Ready(result);
        }
        wakes.drop_later(state.reader.replace(cx.waker().clone()));
        Poll::Pending
    }

    /// As `poll_read`, without waiting: `None` if there is nothing yet.
    fn read_now(&self, buf: &mut [u8], wakes: &mut Wakes) -> Option<Result<usize>> {
        self.0.lock().read(buf, wakes)
    }

    /// Puts in what fits.
    pub(crate) fn try_write(&self, slices: &[IoSlice<'_>], wakes: &mut Wakes) -> Result<usize> {
        let mut state = self.0.lock();
        if state.unread || state.ended || state.reset {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut room = state.room();
        if room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let before = state.bytes.len();
        for slice in slices {
            let n = room.min(slice.len());
            state.bytes.extend(&slice[..n]);
            room -= n;
        }
        wakes.wake(state.reader.take());
        Ok(state.bytes.len() - before)
    }

    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if state.room() > 0 || state.unread || state.ended || state.reset {
            return Poll::Ready(());
        }
        let replaced = state.writer.replace(cx.waker().clone());
        drop(state);
        drop(replaced);
        Poll::Pending
    }

    pub(crate) fn end(&self, wakes: &mut Wakes) {
        self.change(wakes, |state| state.ended = true);
    }

    pub(crate) fn reset(&self, wakes: &mut Wakes) {
        self.change(wakes, |state| state.reset = true);
    }

    pub(crate) fn stop_reading(&self, wakes: &mut Wakes) {
        self.change(wakes, |state| {
            state.unread = true;
            state.bytes.clear();
        });
    }

    /// Limits how much one send takes.
    pub(crate) fn limit_writes(&self, most: usize, wakes: &mut Wakes) {
        self.change(wakes, |state| state.most_per_write = most.max(1));
    }

    /// Everyone who waits looks again.
    fn change(&self, wakes: &mut Wakes, f: impl FnOnce(&mut State)) {
        let mut state = self.0.lock();
        f(&mut state);
        wakes.wake(state.reader.take());
        wakes.wake(state.writer.take());
    }
}

impl State {
    fn read(&mut self, buf: &mut [u8], wakes: &mut Wakes) -> Option<Result<usize>> {
        if !self.bytes.is_empty() {
            let result = self.bytes.read(buf);
            wakes.wake(self.writer.take());
            return Some(result);
        }
        if self.reset {
            return Some(Err(io::ErrorKind::ConnectionReset.into()));
        }
        (self.ended || self.unread).then_some(Ok(0))
    }

    /// How much the next send takes.
    fn room(&self) -> usize {
        self.capacity.saturating_sub(self.bytes.len()).min(self.most_per_write)
    }
}
