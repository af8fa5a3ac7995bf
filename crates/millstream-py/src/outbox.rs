//! What was written and not sent: the core's queue, corked, and the loop's turn at whose end everything leaves.

mod direct;
mod link;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use millstream_core::WriteQueue;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

pub(crate) use direct::know_transport;
pub(crate) use link::Link;

use crate::{Lock, call, errors};

/// The outgoing side of one connection: shared by its writer, its reader, which flushes before it waits, and its loop.
#[pyclass(frozen, module = "millstream._core")]
#[derive(Debug)]
pub(crate) struct Outbox {
    state: Lock<State>,
    link: Py<Link>,
    /// The transport is closing, or there is another reason to look closer at each `drain`.
    attention: AtomicBool,
    /// Others have the transport, and may close it.
    handed_out: AtomicBool,
    /// The reader has more in its buffer, which will be answered as well: answers are worth gathering.
    more_to_answer: AtomicBool,
    /// `drain` has yet to look at the transport's limits since the queue began to fill.
    unchecked: AtomicBool,
    /// The transport's high watermark when that was last looked at, and whether more than that is queued.
    high_mark: AtomicUsize,
    is_above: AtomicBool,
    /// Whether what was read last has been answered: see [`Talk`].
    talk: AtomicU8,
    /// Bytes that the transport was handed so far.
    handed_over: AtomicU64,
}

/// What passed last, for a server that wants to know which of its connections are idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Talk {
    /// Nothing was ever read.
    Silent,
    /// Something was read, and nothing written since.
    Taken,
    Answered,
}

#[derive(Debug)]
struct State {
    queue: WriteQueue,
    transport: Option<Py<PyAny>>,
    /// The transport's `write`, if it can be sent past.
    write: Option<Py<PyAny>>,
    event_loop: Option<Py<PyAny>>,
    corked: bool,
    /// Everything goes to the transport as it comes: it was closed or half-closed, and knows what that means.
    ended: bool,
    /// Nothing was written since the reader last waited or the loop's turn last ended.
    fresh: bool,
    /// The loop has been asked to flush at the end of its turn.
    scheduled: bool,
    /// What the transport refused queued bytes with when no writer was there to be told: the next one is.
    failure: Option<Py<PyAny>>,
}

impl Outbox {
    /// Queues a message, or sends it.
    #[inline]
    pub(crate) fn write(
        slf: &Py<Self>,
        py: Python<'_>,
        data: &[u8],
        object: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let this = slf.get();
        let mut state = this.state.lock();
        // The first message of a turn leaves at once if it answers the only request there is: gathering would gain
        // nothing and cost a callback at the end of the turn.
        if state.failure.is_some() {
            drop(state);
            return this.tell_failure(py);
        }
        this.note_answered();
        let is_first = std::mem::take(&mut state.fresh);
        // Nor are others surprised who have the transport and write to it, or close it, at any time.
        let now = state.ended
            || !state.corked
            || ((is_first || this.handed_out.load(Ordering::Relaxed))
                && !this.more_to_answer.load(Ordering::Relaxed))
            || state.queue.admit(data.len()).is_ok_and(|urgency| urgency == millstream_core::Urgency::Now);
        if !now {
            if state.queue.is_empty() {
                this.unchecked.store(true, Ordering::Relaxed);
            }
            state.queue.push(data);
            if state.queue.len() > this.high_mark.load(Ordering::Relaxed) {
                this.is_above.store(true, Ordering::Relaxed);
            }
            if state.scheduled {
                return Ok(());
            }
            state.scheduled = true;
            let event_loop = state.event_loop.as_ref().map(|event_loop| event_loop.clone_ref(py));
            drop(state);
            return match event_loop {
                Some(event_loop) => Link::schedule(&this.link, py, slf, event_loop.bind(py)),
                None => this.flush(py),
            };
        }
        // A large message is not copied behind the small ones, unless they are all it takes to spare a send.
        if !state.queue.is_empty() && data.len() < SHARE_LEN && !state.ended {
            state.queue.push(data);
            drop(state);
            return this.flush(py);
        }
        drop(state);
        this.flush(py)?;
        this.note_handed_over(data.len());
        this.send(py, object, data.len(), is_first)
    }

    /// What could not be sent in the background is told once.
    #[cold]
    fn tell_failure(&self, py: Python<'_>) -> PyResult<()> {
        let failure = self.state.lock().failure.take();
        match failure {
            Some(failure) => Err(PyErr::from_value(failure.into_bound(py))),
            None => Ok(()),
        }
    }

    /// Flushes where no writer waits for the result: the next write or drain is told what went wrong. Only a wish to end
    /// comes out at once.
    #[inline]
    pub(crate) fn flush_in_background(&self, py: Python<'_>) -> PyResult<()> {
        let Err(error) = self.flush(py) else { return Ok(()) };
        if errors::is_interrupt(py, &error) {
            return Err(error);
        }
        self.alert();
        let mut failure = Some(error.into_value(py).into_any());
        let mut state = self.state.lock();
        if state.failure.is_none() {
            state.failure = failure.take();
        }
        // One that is left over goes without the lock.
        drop(state);
        Ok(())
    }

    /// As a writer's own call: what went wrong before is told first.
    pub(crate) fn flush_and_tell(&self, py: Python<'_>) -> PyResult<()> {
        self.tell_failure(py)?;
        self.flush(py)
    }

    /// The reader is about to wait: everything leaves, and what comes next is a turn's first.
    #[inline]
    pub(crate) fn turn_over(&self, py: Python<'_>) -> PyResult<()> {
        let mut state = self.state.lock();
        state.fresh = true;
        if state.queue.is_empty() {
            return Ok(());
        }
        drop(state);
        self.flush_in_background(py)
    }

    /// A read has handed something out.
    #[inline]
    pub(crate) fn note_taken(&self) {
        self.talk.store(Talk::Taken as u8, Ordering::Relaxed);
    }

    /// Something is written.
    #[inline]
    fn note_answered(&self) {
        if self.talk.load(Ordering::Relaxed) == Talk::Taken as u8 {
            self.talk.store(Talk::Answered as u8, Ordering::Relaxed);
        }
    }

    pub(crate) fn talk(&self) -> Talk {
        match self.talk.load(Ordering::Relaxed) {
            0 => Talk::Silent,
            1 => Talk::Taken,
            _ => Talk::Answered,
        }
    }

    /// Nobody counts at the same time: the global lock is held.
    #[inline]
    fn note_handed_over(&self, len: usize) {
        let before = self.handed_over.load(Ordering::Relaxed);
        self.handed_over.store(before.wrapping_add(len as u64), Ordering::Relaxed);
    }

    /// How many bytes the transport was handed so far.
    pub(crate) fn handed_over(&self) -> u64 {
        self.handed_over.load(Ordering::Relaxed)
    }

    pub(crate) fn set_more_to_answer(&self, more: bool) {
        self.more_to_answer.store(more, Ordering::Relaxed);
    }

    /// Hands everything queued to the transport, in one call.
    #[inline]
    pub(crate) fn flush(&self, py: Python<'_>) -> PyResult<()> {
        let mut state = self.state.lock();
        if state.queue.is_empty() {
            return Ok(());
        }
        let len = state.queue.len();
        let data = match state.queue.as_slice() {
            Some(all) => PyBytes::new(py, all),
            None => {
                let parts: Vec<&[u8]> = state.queue.gather().collect();
                PyBytes::new(py, &parts.concat())
            }
        };
        // Whoever waits for room waits for the transport's, which has a queue of its own.
        let _ = state.queue.advance(len);
        drop(state);
        self.note_handed_over(len);
        self.is_above.store(false, Ordering::Relaxed);
        match self.send(py, data.as_any(), len, false) {
            // Written while there was a connection, and lost with it: as in silence as from a transport's own queue.
            Err(error) if !errors::is_interrupt(py, &error) && self.is_closing(py) => {
                self.alert();
                Ok(())
            }
            result => result,
        }
    }

    fn is_closing(&self, py: Python<'_>) -> bool {
        let Some(transport) = self.transport(py) else { return true };
        let closing = call::method(transport.bind(py), intern!(py, "is_closing"), []);
        closing.and_then(|closing| closing.is_truthy()).unwrap_or(false)
    }

    /// One write: the transport's, or past it. After all but a turn's first, looks whether that has closed it: a task that writes
    /// and drains without end would not hear of it otherwise.
    fn send(&self, py: Python<'_>, data: &Bound<'_, PyAny>, len: usize, is_first: bool) -> PyResult<()> {
        let state = self.state.lock();
        let transport = state.transport.as_ref().map(|transport| transport.clone_ref(py));
        // A large one may find room for a part only, and the transport is quicker to see that if it has sent it itself.
        let write = state.write.as_ref().filter(|_| len < SHARE_LEN).map(|write| write.clone_ref(py));
        drop(state);
        // Without one, it fails as asyncio does.
        let transport = transport.unwrap_or_else(|| py.None());
        let transport = transport.bind(py);
        direct::write(transport, write, data, len)?;
        if !is_first && call::method(transport, intern!(py, "is_closing"), [])?.is_truthy()? {
            self.attention.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    pub(crate) fn transport(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.lock().transport.as_ref().map(|transport| transport.clone_ref(py))
    }

    pub(crate) fn set_transport(&self, py: Python<'_>, transport: Option<Py<PyAny>>) {
        let write = transport.as_ref().and_then(|transport| direct::known_write(transport.bind(py)));
        let mut state = self.state.lock();
        let old =
            (std::mem::replace(&mut state.transport, transport), std::mem::replace(&mut state.write, write));
        drop(state);
        drop(old);
    }

    /// From here on every message goes to the transport at once.
    pub(crate) fn end(&self) {
        self.state.lock().ended = true;
    }

    pub(crate) fn set_corked(&self, corked: bool) {
        self.state.lock().corked = corked;
    }

    pub(crate) fn queued(&self) -> usize {
        self.state.lock().queue.len()
    }

    /// Whether `drain` has nothing to wait for here.
    #[inline]
    pub(crate) fn is_calm(&self, py: Python<'_>) -> PyResult<bool> {
        if self.attention.load(Ordering::Relaxed) {
            return Ok(false);
        }
        if self.handed_out.load(Ordering::Relaxed) && self.is_closing(py) {
            self.alert();
            return Ok(false);
        }
        if self.is_above.load(Ordering::Relaxed) {
            return Ok(false);
        }
        if !self.unchecked.load(Ordering::Relaxed) {
            return Ok(true);
        }
        self.unchecked.store(false, Ordering::Relaxed);
        let state = self.state.lock();
        let queued = state.queue.len();
        let transport = state.transport.as_ref().map(|transport| transport.clone_ref(py));
        drop(state);
        let Some(transport) = transport else { return Ok(false) };
        let high = high_mark(transport.bind(py))?.unwrap_or(usize::MAX);
        self.high_mark.store(high, Ordering::Relaxed);
        Ok(queued <= high)
    }

    /// The transport is given to the program: `drain` has to look whether that has closed it.
    pub(crate) fn hand_out(&self) {
        self.handed_out.store(true, Ordering::Relaxed);
    }

    /// Asks for a closer look at the next `drain`.
    pub(crate) fn alert(&self) {
        self.attention.store(true, Ordering::Relaxed);
    }
}

/// The transport's high watermark, if it tells.
fn high_mark(transport: &Bound<'_, PyAny>) -> PyResult<Option<usize>> {
    let limits = call::method(transport, intern!(transport.py(), "get_write_buffer_limits"), []);
    match limits.and_then(|limits| limits.get_item(1)).and_then(|high| high.extract::<usize>()) {
        Ok(high) => Ok(Some(high)),
        Err(error) if errors::is_interrupt(transport.py(), &error) => Err(error),
        Err(_) => Ok(None),
    }
}

#[pymethods]
impl Outbox {
    #[new]
    pub(crate) fn new(py: Python<'_>, transport: Py<PyAny>, event_loop: Py<PyAny>, link: Py<Link>) -> Self {
        let write = direct::known_write(transport.bind(py));
        Self {
            state: Lock::new(State {
                queue: WriteQueue::default(),
                transport: Some(transport),
                write,
                event_loop: Some(event_loop),
                corked: true,
                ended: false,
                fresh: true,
                scheduled: false,
                failure: None,
            }),
            link,
            attention: AtomicBool::new(false),
            handed_out: AtomicBool::new(false),
            more_to_answer: AtomicBool::new(false),
            unchecked: AtomicBool::new(false),
            high_mark: AtomicUsize::new(usize::MAX),
            is_above: AtomicBool::new(false),
            talk: AtomicU8::new(Talk::Silent as u8),
            handed_over: AtomicU64::new(0),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.link)?;
        let Some(state) = self.state.try_lock() else { return Ok(()) };
        visit.call(&state.transport)?;
        visit.call(&state.write)?;
        visit.call(&state.failure)?;
        visit.call(&state.event_loop)
    }

    fn __clear__(&self) {
        let mut state = self.state.lock();
        let old = (state.transport.take(), state.write.take(), state.event_loop.take(), state.failure.take());
        drop(state);
        drop(old);
    }
}

/// From here on a message goes to the transport as the object it is.
const SHARE_LEN: usize = 64 * 1024;
