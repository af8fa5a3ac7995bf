//! The reading half: the core's buffer, who waits on it, and the transport that is paused when it is full.

mod methods;

use millstream_core::{Answer, Flow, ReadBuffer, Waiting};
use pyo3::exceptions::{PyNotImplementedError, PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};

use crate::kind::Kind;
use crate::outbox::Outbox;
use crate::reads::Read;
use crate::{Lock, call};

/// What `StreamReader` inherits: everything that is done often.
#[pyclass(frozen, subclass, dict, weakref, module = "millstream._core")]
#[derive(Debug)]
pub(crate) struct ReaderBase {
    pub(crate) state: Lock<State>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) buffer: ReadBuffer,
    /// The future that a read waits on, and what it waits for if it is one of ours: it is woken only for that.
    pub(crate) waiter: Option<Py<PyAny>>,
    pub(crate) wanted: Option<Kind>,
    /// Set by hand, and raised before anything is read.
    exception: Option<Py<PyAny>>,
    /// Why the transport was lost: raised behind the bytes that had arrived.
    lost: Option<Py<PyAny>>,
    transport: Option<Py<PyAny>>,
    paused: bool,
    /// The read that waits has let others go first once already: its item is larger than the buffer's bound.
    pub(crate) gave_way: bool,
    eof: bool,
    event_loop: Option<Py<PyAny>>,
    /// The arguments that make a future directly, on loops whose `create_future` does nothing else.
    future_args: Option<Py<PyDict>>,
    /// What the writer of the same connection has not sent yet: it leaves before a read waits.
    outbox: Option<Py<Outbox>>,
    /// A read that has finished, to be used again.
    pub(crate) spare: Option<Py<Read>>,
    /// Bytes that came so far.
    received: u64,
    /// What the server that accepted this connection knows of it.
    served: Option<Py<PyAny>>,
    /// Called whenever a read begins to wait: by a server that is being stopped.
    on_wait: Option<Py<PyAny>>,
    /// It was told an end that its peer has not sent: what still comes is dropped.
    deaf: bool,
}

/// What has to be told to the transport once the lock is released.
#[must_use]
pub(crate) enum Tell {
    Nothing,
    Pause(Py<PyAny>),
    Resume(Py<PyAny>),
}

impl State {
    /// That of a reader without a connection, with the default limit.
    fn new() -> PyResult<Self> {
        let buffer = ReadBuffer::new(millstream_core::DEFAULT_LIMIT);
        Ok(Self {
            buffer: buffer.map_err(|error| PyValueError::new_err(error.to_string()))?,
            waiter: None,
            wanted: None,
            exception: None,
            lost: None,
            transport: None,
            paused: false,
            gave_way: false,
            eof: false,
            event_loop: None,
            future_args: None,
            outbox: None,
            spare: None,
            received: 0,
            served: None,
            on_wait: None,
            deaf: false,
        })
    }

    /// Brings the transport in line with how full the buffer is.
    #[inline]
    pub(crate) fn flow(&mut self, py: Python<'_>, waits: bool) -> Tell {
        let Some(transport) = &self.transport else { return Tell::Nothing };
        match self.buffer.flow(waits) {
            None => Tell::Nothing,
            Some(Flow::Pause) => {
                self.paused = true;
                Tell::Pause(transport.clone_ref(py))
            }
            Some(Flow::Resume) => {
                self.paused = false;
                Tell::Resume(transport.clone_ref(py))
            }
        }
    }

    /// As `flow`, behind a read: another one may wait for more than the buffer's bound.
    #[inline]
    pub(crate) fn taken(&mut self, py: Python<'_>) -> Tell {
        let waits = self.waiter.is_some();
        self.flow(py, waits)
    }

    /// The transport was to be paused and was not.
    fn unpaused(&mut self) {
        self.paused = false;
        // A read that waits always resumes: the buffer then holds that it is not paused.
        let _ = self.buffer.flow(true);
    }

    /// Whether there is more to read, for the writer to know.
    #[inline]
    pub(crate) fn tell_writer(&self) {
        if let Some(outbox) = &self.outbox {
            outbox.get().set_more_to_answer(!self.buffer.is_empty());
            outbox.get().note_taken();
        }
    }

    /// Bytes that came so far.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// How many bytes the writer has queued, and how many it has handed to the transport.
    pub(crate) fn written(&self) -> (usize, u64) {
        let outbox = self.outbox.as_ref().map(Py::get);
        outbox.map_or((0, 0), |outbox| (outbox.queued(), outbox.handed_over()))
    }

    /// The read that waits for the peer.
    pub(crate) fn waiting(&self) -> Option<Waiting> {
        if self.waiter.is_none() || self.buffer.is_ended() || self.exception.is_some() {
            return None;
        }
        let held = self.buffer.len();
        let begun = held > 0 && self.wanted.is_some();
        Some(Waiting { position: self.received.saturating_sub(held as u64), held, begun })
    }

    /// What is to be called now that a read waits.
    #[inline]
    pub(crate) fn on_wait(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.on_wait.as_ref().map(|on_wait| on_wait.clone_ref(py))
    }

    /// Whether anything came since a read looked, found `seen` bytes and had to wait.
    #[inline]
    pub(crate) fn has_news(&self, seen: usize) -> bool {
        self.buffer.len() != seen || self.buffer.is_ended() || self.exception.is_some()
    }

    /// The exception that was set by hand.
    #[inline]
    pub(crate) fn raised(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.exception.as_ref().map(|exception| exception.clone_ref(py))
    }

    /// Why the transport was lost.
    pub(crate) fn lost(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.lost.as_ref().map(|exception| exception.clone_ref(py))
    }

    /// The future of a read that can go on now.
    fn satisfied(&mut self) -> Option<Py<PyAny>> {
        if let Some(wanted) = &self.wanted
            && wanted.judge(&mut self.buffer) == Answer::Need
        {
            return None;
        }
        self.wanted = None;
        self.waiter.take()
    }

    /// Whether a read waits on this future, and nobody woke it.
    #[inline]
    pub(crate) fn waits_for(&self, future: &Py<PyAny>) -> bool {
        self.waiter.as_ref().is_some_and(|waiter| waiter.is(future))
    }

    /// The read that waits on this future does so no more. Returns the reader's own reference, to be dropped without the
    /// lock.
    pub(crate) fn forget(&mut self, future: &Py<PyAny>) -> Option<Py<PyAny>> {
        if self.waits_for(future) {
            self.wanted = None;
            return self.waiter.take();
        }
        None
    }

    /// Takes bytes in. Runs no Python code; see [`ReaderBase::fed`].
    #[inline]
    pub(crate) fn feed(&mut self, py: Python<'_>, data: &[u8]) -> (Option<Py<PyAny>>, Tell) {
        if self.deaf {
            return (None, Tell::Nothing);
        }
        self.received += data.len() as u64;
        self.buffer.feed(data);
        // A read of more than the buffer's bound pauses the transport once as well, and resumes it in its own turn: others
        // come first that once. After that it would only cost time.
        let waits = self.waiter.is_some() && self.gave_way;
        let tell = self.flow(py, waits);
        if let Tell::Pause(_) = tell {
            self.gave_way = true;
            self.wanted = None;
            return (self.waiter.take(), tell);
        }
        (self.satisfied(), tell)
    }
}

impl ReaderBase {
    /// Bytes came from the transport.
    #[inline]
    pub(crate) fn received(&self, py: Python<'_>, data: &[u8]) -> PyResult<()> {
        let fed = self.state.lock().feed(py, data);
        self.fed(py, fed)
    }

    /// Tells whom bytes that came in concern.
    #[inline]
    pub(crate) fn fed(&self, py: Python<'_>, (woken, tell): (Option<Py<PyAny>>, Tell)) -> PyResult<()> {
        let woken = wake(py, woken);
        self.tell(py, tell)?;
        woken
    }

    pub(crate) fn tell(&self, py: Python<'_>, tell: Tell) -> PyResult<()> {
        match tell {
            Tell::Nothing => Ok(()),
            Tell::Resume(transport) => {
                call::method(transport.bind(py), intern!(py, "resume_reading"), []).map(drop)
            }
            Tell::Pause(transport) => {
                let Err(error) = call::method(transport.bind(py), intern!(py, "pause_reading"), []) else {
                    return Ok(());
                };
                let mut state = self.state.lock();
                state.unpaused();
                if !error.is_instance_of::<PyNotImplementedError>(py) {
                    // It goes on bringing bytes: it is asked again.
                    return Err(error);
                }
                // It cannot be paused: all there is has to be buffered, and it is not asked again.
                let forgotten = state.transport.take();
                drop(state);
                drop(forgotten);
                Ok(())
            }
        }
    }

    /// As `tell`, behind a read. That the transport cannot be paused is no concern of the read's, which has its bytes: the
    /// next arrival asks again, and fails.
    #[inline]
    pub(crate) fn tell_behind_a_read(&self, py: Python<'_>, tell: Tell) -> PyResult<()> {
        let pauses = matches!(tell, Tell::Pause(_));
        match self.tell(py, tell) {
            Err(error) if pauses && !crate::errors::is_interrupt(py, &error) => Ok(()),
            result => result,
        }
    }

    /// A new future of the reader's loop.
    pub(crate) fn make_future<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let state = self.state.lock();
        let args = state.future_args.as_ref().map(|args| args.clone_ref(py));
        let event_loop = state.event_loop.as_ref().map(|event_loop| event_loop.clone_ref(py));
        drop(state);
        match (args, event_loop) {
            (Some(args), _) => call::with_keywords(future_class(py)?.as_any(), args.bind(py)),
            (None, Some(event_loop)) => call::method(event_loop.bind(py), intern!(py, "create_future"), []),
            (None, None) => Err(PyRuntimeError::new_err("this reader has no event loop")),
        }
    }

    /// Everything that was written and not sent leaves before a read waits.
    #[inline]
    pub(crate) fn flush_writer(&self, py: Python<'_>) -> PyResult<()> {
        let outbox = self.state.lock().outbox.as_ref().map(|outbox| outbox.clone_ref(py));
        match outbox {
            Some(outbox) => outbox.get().turn_over(py),
            None => Ok(()),
        }
    }

    pub(crate) fn set_outbox(&self, outbox: Py<Outbox>) {
        let mut state = self.state.lock();
        if state.exception.is_some() || state.lost.is_some() {
            // `drain` raises it.
            outbox.get().alert();
        }
        let old = state.outbox.replace(outbox);
        drop(state);
        drop(old);
    }

    pub(crate) fn event_loop<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let event_loop = self.state.lock().event_loop.as_ref().map(|event_loop| event_loop.clone_ref(py));
        let event_loop =
            event_loop.ok_or_else(|| PyRuntimeError::new_err("this reader has no event loop"))?;
        Ok(event_loop.into_bound(py))
    }

    #[inline]
    fn read_of(slf: PyRef<'_, Self>, kind: Kind, deadline: Option<f64>) -> PyResult<Py<Read>> {
        let py = slf.py();
        let spare = slf.state.lock().spare.take();
        Read::make(py, spare, slf.into(), kind, deadline)
    }
}

/// Lets a waiting read go on. A future that is done (its read was cancelled) is left alone.
#[inline]
pub(crate) fn wake(py: Python<'_>, waiter: Option<Py<PyAny>>) -> PyResult<()> {
    let Some(waiter) = waiter else { return Ok(()) };
    let waiter = waiter.bind(py);
    match call::method(waiter, intern!(py, "set_result"), [py.None().bind(py)]) {
        Ok(_) => Ok(()),
        Err(error) if crate::errors::is_interrupt(py, &error) => Err(error),
        Err(error) => match call::method(waiter, intern!(py, "done"), [])?.is_truthy()? {
            true => Ok(()),
            false => Err(error),
        },
    }
}

/// Lets a waiting read fail. A future that is done (its read was cancelled) is left alone.
pub(crate) fn throw_into(py: Python<'_>, waiter: Option<Py<PyAny>>, exc: Py<PyAny>) -> PyResult<()> {
    let Some(waiter) = waiter else { return Ok(()) };
    let waiter = waiter.bind(py);
    if call::method(waiter, intern!(py, "done"), [])?.is_truthy()? {
        return Ok(());
    }
    call::method(waiter, intern!(py, "set_exception"), [exc.bind(py)]).map(drop)
}

/// `asyncio.Future`.
fn future_class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.import(py, "asyncio", "Future")
}
