//! A read: lazy, cancel-safe, and finished without a coroutine's frame when the buffer can answer.

use std::sync::atomic::{AtomicBool, Ordering};

use millstream_core::{Answer, Failure, ReadBuffer, Request, Separators};
use pyo3::exceptions::{PyRuntimeError, PyStopAsyncIteration, PyValueError};
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PySlice, PyTuple};

use crate::reader::{ReaderBase, State, Tell, throw_into, wake};
use crate::ready::thrown;
use crate::{Lock, errors};

/// What is read.
#[derive(Debug)]
pub(crate) enum Kind {
    Line {
        limit: Option<usize>,
    },
    /// A line of `async for`.
    Next,
    Until {
        separators: Vec<Vec<u8>>,
        limit: Option<usize>,
    },
    Exactly(usize),
    /// `readexactly` of less than nothing.
    Negative,
    Some {
        max: usize,
    },
    All,
    /// As `Some`, without taking it.
    Peek {
        max: usize,
    },
    /// All complete lines that are there, at least one.
    Lines {
        most: usize,
        limit: Option<usize>,
    },
    /// As `Some`, into a memoryview of the caller's bytes, which are `max` many.
    Into {
        view: Py<PyAny>,
        max: usize,
    },
}

impl Kind {
    pub(crate) fn until(separators: Vec<Vec<u8>>, limit: Option<usize>) -> Self {
        Self::Until { separators, limit }
    }

    /// The same question to the buffer, for the reader to ask while the read waits.
    fn question(&self) -> Self {
        match self {
            Self::Line { limit } | Self::Lines { limit, .. } => Self::Line { limit: *limit },
            Self::Next => Self::Next,
            Self::Until { separators, limit } => Self::until(separators.clone(), *limit),
            Self::Exactly(n) => Self::Exactly(*n),
            Self::Negative => Self::Negative,
            Self::Some { max } | Self::Peek { max } | Self::Into { max, .. } => Self::Some { max: *max },
            Self::All => Self::All,
        }
    }

    /// The name of the method, for messages.
    fn name(&self) -> &'static str {
        match self {
            Self::Line { .. } | Self::Next | Self::Until { .. } => "readuntil",
            Self::Exactly(_) | Self::Negative => "readexactly",
            Self::Some { .. } | Self::All => "read",
            Self::Peek { .. } => "peek",
            Self::Lines { .. } => "readlines",
            Self::Into { .. } => "readinto",
        }
    }

    /// Asks the buffer.
    #[inline]
    pub(crate) fn judge(&self, buffer: &mut ReadBuffer) -> Answer {
        let limit = buffer.limit();
        let request = match self {
            Self::Line { limit: own } | Self::Lines { limit: own, .. } => {
                Request::Line { limit: own.unwrap_or(limit) }
            }
            Self::Next => Request::Line { limit },
            Self::Until { separators, limit: own } => {
                let limit = own.unwrap_or(limit);
                if let [one] = &separators[..] {
                    let separators = Separators::One(one);
                    return buffer.poll(&Request::Until { separators, limit });
                }
                let several: Vec<&[u8]> = separators.iter().map(|separator| &separator[..]).collect();
                return buffer.poll(&Request::Until { separators: Separators::Any(&several), limit });
            }
            Self::Exactly(n) => Request::Exactly(*n),
            Self::Negative => Request::Exactly(0),
            Self::Some { max } | Self::Peek { max } | Self::Into { max, .. } => Request::Some { max: *max },
            Self::All => Request::All { max: usize::MAX },
        };
        buffer.poll(&request)
    }
}

/// The separators of `readuntil`: one bytes-like object, or a tuple of them.
pub(crate) fn separators(separator: &Bound<'_, PyAny>) -> PyResult<Vec<Vec<u8>>> {
    match separator.cast::<PyTuple>() {
        Ok(several) => several.iter().map(|one| crate::writer::snapshot(&one)).collect(),
        Err(_) => Ok(vec![crate::writer::snapshot(separator)?]),
    }
}

/// One read that was asked for. Nothing happens before it is awaited.
#[pyclass(frozen, freelist = 64, module = "millstream._core")]
#[derive(Debug)]
pub(crate) struct Read {
    reader: Py<ReaderBase>,
    kind: Kind,
    /// The loop's time at which waiting ends.
    deadline: Option<f64>,
    finished: AtomicBool,
    /// It has waited before.
    waits: AtomicBool,
    waiting: Lock<Waiting>,
}

/// The future that is waited on, and the timer that ends it.
#[derive(Debug, Default)]
struct Waiting {
    future: Option<Py<PyAny>>,
    timer: Option<Py<PyAny>>,
}

/// What comes next.
enum Next {
    /// This future is to be waited for.
    Wait(Py<PyAny>),
    Done(Py<PyAny>),
}

/// How a look at the buffer ended. Exceptions are made from it when the lock is released: making one runs Python code.
enum Step {
    Wait,
    Bytes(Py<PyBytes>),
    Lines(Vec<Py<PyBytes>>),
    Incomplete { partial: Vec<u8>, expected: Option<usize> },
    Overrun { found: bool, consumed: usize, of_line: bool },
    Bad(&'static str),
    Raise(Py<PyAny>),
    Failed(Failure),
}

impl Read {
    /// A read that the garbage collector knows of: one whose memory comes from the free list it otherwise does not, so that
    /// a cycle through it would stay for ever.
    #[inline]
    pub(crate) fn make(
        py: Python<'_>,
        reader: Py<ReaderBase>,
        kind: Kind,
        deadline: Option<f64>,
    ) -> PyResult<Py<Self>> {
        let read = Py::new(py, Self::new(reader, kind, deadline))?;
        // SAFETY: the object is alive and whole, its type takes part in garbage collection, and the global lock is held.
        #[allow(unsafe_code)]
        unsafe {
            if ffi::PyObject_GC_IsTracked(read.as_ptr()) == 0 {
                ffi::PyObject_GC_Track(read.as_ptr().cast());
            }
        }
        Ok(read)
    }

    #[inline]
    fn new(reader: Py<ReaderBase>, kind: Kind, deadline: Option<f64>) -> Self {
        Self {
            reader,
            kind,
            deadline,
            finished: AtomicBool::new(false),
            waits: AtomicBool::new(false),
            waiting: Lock::default(),
        }
    }

    /// Goes on.
    #[inline]
    fn step(slf: &Bound<'_, Self>) -> PyResult<Next> {
        let py = slf.py();
        let this = slf.get();
        if this.finished.load(Ordering::Relaxed) {
            return Err(PyRuntimeError::new_err("cannot reuse already awaited read"));
        }
        let is_first = !this.waits.load(Ordering::Relaxed);
        let waited = if is_first { None } else { this.stop_waiting(py)? };
        let reader = this.reader.get();
        let (step, tell, forgotten, seen) = {
            let mut state = reader.state.lock();
            let forgotten = waited.as_ref().and_then(|waited| state.forget(waited));
            let step = look(py, &mut state, &this.kind);
            let tell = if let Step::Wait = step {
                Tell::Nothing
            } else {
                state.tell_writer();
                state.taken(py)
            };
            (step, tell, forgotten, state.buffer.len())
        };
        drop(waited);
        if forgotten.is_some() {
            this.awaited_twice(py, forgotten, &step)?;
        }
        if let Step::Wait = step {
            return match Self::wait(slf, is_first, seen)? {
                Some(future) => Ok(Next::Wait(future)),
                None => Self::step(slf),
            };
        }
        this.finished.store(true, Ordering::Relaxed);
        reader.tell(py, tell)?;
        finish(py, &this.kind, step).map(Next::Done)
    }

    /// This read goes on though nobody woke the future that it waits on: either a stranger completed that, or two await
    /// the same read. Then the other must not wait for ever.
    #[cold]
    fn awaited_twice(&self, py: Python<'_>, other: Option<Py<PyAny>>, step: &Step) -> PyResult<()> {
        let Some(future) = &other else { return Ok(()) };
        if future.bind(py).call_method0(intern!(py, "done"))?.is_truthy()? {
            return Ok(());
        }
        if let Step::Wait = step {
            self.finished.store(true, Ordering::Relaxed);
        }
        wake(py, other)?;
        match step {
            Step::Wait => Err(PyRuntimeError::new_err("this read is being awaited already")),
            _ => Ok(()),
        }
    }

    /// There is one reader at a time.
    #[cold]
    fn busy(&self) -> PyErr {
        self.finished.store(true, Ordering::Relaxed);
        let name = self.kind.name();
        PyRuntimeError::new_err(format!(
            "{name}() called while another coroutine is already waiting for incoming data"
        ))
    }

    /// The future to wait for. `None` if there is something new since the look that `seen` bytes: a transport that answers
    /// within `write` itself.
    fn wait(slf: &Bound<'_, Self>, is_first: bool, seen: usize) -> PyResult<Option<Py<PyAny>>> {
        let py = slf.py();
        let this = slf.get();
        let reader = this.reader.get();
        reader.flush_writer(py)?;
        {
            let state = reader.state.lock();
            if state.waiter.is_some() {
                drop(state);
                return Err(this.busy());
            }
            if state.has_news(seen) {
                return Ok(None);
            }
        }
        let future = reader.make_future(py)?;
        // As `await future` does, without its iterator between us.
        future.setattr(intern!(py, "_asyncio_future_blocking"), true)?;
        let future = future.unbind();
        let timer = match this.deadline {
            None => None,
            Some(deadline) => {
                let expire = slf.getattr(intern!(py, "_expire"))?;
                Some(
                    reader.event_loop(py)?.call_method1(intern!(py, "call_at"), (deadline, expire))?.unbind(),
                )
            }
        };
        let mut waiting = this.waiting.lock();
        waiting.future = Some(future.clone_ref(py));
        waiting.timer = timer;
        drop(waiting);
        this.waits.store(true, Ordering::Relaxed);
        let tell = {
            let mut state = reader.state.lock();
            if state.waiter.is_some() {
                // Another thread was faster.
                drop(state);
                this.abandon(py)?;
                return Err(this.busy());
            }
            state.waiter = Some(future.clone_ref(py));
            state.wanted = Some(this.kind.question());
            if is_first {
                state.gave_way = false;
            }
            state.flow(py, true)
        };
        if let Err(error) = reader.tell(py, tell) {
            this.abandon(py)?;
            return Err(error);
        }
        Ok(Some(future))
    }

    /// Stops waiting: nothing was consumed, and the next read finds everything.
    fn abandon(&self, py: Python<'_>) -> PyResult<()> {
        self.finished.store(true, Ordering::Relaxed);
        let future = self.stop_waiting(py)?;
        let forgotten = future.as_ref().and_then(|future| self.reader.get().state.lock().forget(future));
        drop((future, forgotten));
        Ok(())
    }

    /// The future that was waited on; its timer is cancelled.
    fn stop_waiting(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let mut waiting = self.waiting.lock();
        let future = waiting.future.take();
        let timer = waiting.timer.take();
        drop(waiting);
        if let Some(timer) = timer
            && let Err(error) = timer.bind(py).call_method0(intern!(py, "cancel"))
        {
            // Ctrl-C, for one: the next read must not find this one waiting.
            let forgotten = future.as_ref().and_then(|future| self.reader.get().state.lock().forget(future));
            drop(forgotten);
            return Err(error);
        }
        Ok(future)
    }
}

impl Drop for Read {
    /// A read that waited and was forgotten: the next one must not find it waiting.
    fn drop(&mut self) {
        let Some(future) = self.waiting.get_mut().future.take() else { return };
        let forgotten = self.reader.get().state.lock().forget(&future);
        drop((future, forgotten));
    }
}

/// Takes the answer out of the buffer, if there is one. Runs no Python code.
fn look(py: Python<'_>, state: &mut State, kind: &Kind) -> Step {
    match kind {
        Kind::Until { separators, .. } if separators.is_empty() => {
            return Step::Bad("Separator should contain at least one element");
        }
        Kind::Until { separators, .. } if separators.iter().any(Vec::is_empty) => {
            return Step::Bad("Separator should be at least one-byte string");
        }
        Kind::Negative => return Step::Bad("readexactly size can not be less than zero"),
        _ => {}
    }
    if let Some(exception) = state.raised(py) {
        return Step::Raise(exception);
    }
    if let Kind::Line { limit } = kind
        && let Some(len) = state.buffer.ready_line(limit.unwrap_or_else(|| state.buffer.limit()))
    {
        return Step::Bytes(bytes(py, state.buffer.lend(len)));
    }
    match kind.judge(&mut state.buffer) {
        Answer::Need => Step::Wait,
        Answer::Ready { len } => match kind {
            Kind::Peek { max } => Step::Bytes(bytes(py, &state.buffer.unread()[..len.min(*max)])),
            Kind::Lines { most, limit } => Step::Lines(lines(py, state, *most, *limit, len)),
            _ => Step::Bytes(bytes(py, state.buffer.lend(len))),
        },
        Answer::End => match kind {
            Kind::Until { .. } => Step::Incomplete { partial: Vec::new(), expected: None },
            Kind::Exactly(n) => Step::Incomplete { partial: Vec::new(), expected: Some(*n) },
            Kind::Lines { .. } => Step::Lines(Vec::new()),
            _ => Step::Bytes(bytes(py, b"")),
        },
        Answer::Incomplete { len } => {
            let expected = if let Kind::Exactly(n) = kind { Some(*n) } else { None };
            Step::Incomplete { partial: state.buffer.lend(len).to_vec(), expected }
        }
        Answer::Overrun { consumed, found } => {
            let of_line = matches!(kind, Kind::Line { .. } | Kind::Next | Kind::Lines { .. });
            if of_line {
                // As asyncio: the line goes, or what is there of it.
                let len = if found { consumed + 1 } else { state.buffer.len() };
                state.buffer.consume(len);
            }
            Step::Overrun { found, consumed, of_line }
        }
        Answer::Failed(failure) => match state.lost(py) {
            Some(exception) => Step::Raise(exception),
            None => Step::Failed(failure),
        },
    }
}

#[inline]
fn bytes(py: Python<'_>, data: &[u8]) -> Py<PyBytes> {
    PyBytes::new(py, data).unbind()
}

/// The first line, which is `len` long, and the complete ones behind it.
fn lines(
    py: Python<'_>,
    state: &mut State,
    most: usize,
    limit: Option<usize>,
    len: usize,
) -> Vec<Py<PyBytes>> {
    let mut found = vec![bytes(py, state.buffer.lend(len))];
    let limit = limit.unwrap_or_else(|| state.buffer.limit());
    while found.len() < most
        && let Some(len) = state.buffer.ready_line(limit)
    {
        found.push(bytes(py, state.buffer.lend(len)));
    }
    found
}

/// Puts the bytes at the start of the caller's view, and counts them.
fn put(view: &Bound<'_, PyAny>, data: Py<PyBytes>) -> PyResult<Py<PyAny>> {
    let py = view.py();
    let n = data.as_bytes(py).len();
    view.set_item(PySlice::new(py, 0, n.cast_signed(), 1), data)?;
    Ok(n.into_pyobject(py)?.into_any().unbind())
}

/// A result as the end of an awaitable.
#[inline]
fn finish(py: Python<'_>, kind: &Kind, step: Step) -> PyResult<Py<PyAny>> {
    Err(match step {
        Step::Bytes(line) => {
            if let Kind::Next = kind
                && line.as_bytes(py).is_empty()
            {
                return Err(PyStopAsyncIteration::new_err(()));
            }
            return match kind {
                Kind::Into { view, .. } => put(view.bind(py), line),
                _ => Ok(line.into_any()),
            };
        }
        Step::Lines(lines) => return Ok(PyList::new(py, lines)?.into_any().unbind()),
        Step::Incomplete { partial, expected } => errors::incomplete(py, &partial, expected),
        Step::Overrun { found, consumed, of_line: true } => errors::line_overrun(py, found, consumed),
        Step::Overrun { found, consumed, of_line: false } => errors::overrun(py, found, consumed),
        Step::Bad(text) => PyValueError::new_err(text),
        Step::Raise(exception) => PyErr::from_value(exception.into_bound(py)),
        Step::Failed(failure) => errors::failed(&failure),
        Step::Wait => PyRuntimeError::new_err("a read was finished while it waits"),
    })
}

#[pymethods]
impl Read {
    #[inline]
    fn __await__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[inline]
    fn __next__(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        match Self::step(slf)? {
            Next::Wait(future) => Ok(Some(future)),
            Next::Done(value) => {
                errors::set_stop(slf.py(), value);
                Ok(None)
            }
        }
    }

    fn send(slf: &Bound<'_, Self>, _value: Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        match Self::step(slf)? {
            Next::Wait(future) => Ok(future),
            Next::Done(value) => Err(errors::stop(value)),
        }
    }

    /// The deadline has come.
    fn _expire(&self, py: Python<'_>) -> PyResult<()> {
        let mut waiting = self.waiting.lock();
        let timer = waiting.timer.take();
        let future = waiting.future.as_ref().map(|future| future.clone_ref(py));
        drop(waiting);
        drop(timer);
        let name = self.kind.name();
        let text = format!("{name}(): the deadline came before the data");
        throw_into(py, future, errors::timed_out(py, &text)?)
    }

    #[pyo3(signature = (kind, value = None, traceback = None))]
    fn throw(
        &self,
        kind: Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        self.abandon(kind.py())?;
        Err(thrown(kind, value, traceback))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.abandon(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.reader)?;
        if let Kind::Into { view, .. } = &self.kind {
            visit.call(view)?;
        }
        match self.waiting.try_lock() {
            Some(waiting) => {
                visit.call(&waiting.future)?;
                visit.call(&waiting.timer)
            }
            None => Ok(()),
        }
    }
}
