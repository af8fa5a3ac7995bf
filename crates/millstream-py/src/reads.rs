//! A read: lazy, cancel-safe, and finished without a coroutine's frame when the buffer can answer.

use millstream_core::{Answer, Failure, ReadBuffer, Request, Separators};
use pyo3::exceptions::{PyRuntimeError, PyStopAsyncIteration, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PySlice, PyTuple};

use crate::reader::{ReaderBase, State, Tell, throw_into};
use crate::ready::thrown;
use crate::{Lock, errors};

/// What is read.
#[derive(Debug)]
pub(crate) enum Kind {
    Line { limit: Option<usize> },
    /// A line of `async for`.
    Next,
    Until { separators: Vec<Vec<u8>>, limit: Option<usize> },
    Exactly(usize),
    /// `readexactly` of less than nothing.
    Negative,
    Some { max: usize },
    All,
    /// As `Some`, without taking it.
    Peek { max: usize },
    /// All complete lines that are there, at least one.
    Lines { most: usize, limit: Option<usize> },
    /// As `Some`, into a memoryview of the caller's bytes, which are `max` many.
    Into { view: Py<PyAny>, max: usize },
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
    state: Lock<Progress>,
}

#[derive(Debug)]
struct Progress {
    /// The future we wait on, and the timer that ends it.
    future: Option<Py<PyAny>>,
    timer: Option<Py<PyAny>>,
    finished: bool,
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
    #[inline]
    pub(crate) fn new(reader: Py<ReaderBase>, kind: Kind, deadline: Option<f64>) -> Self {
        let state = Lock::new(Progress { future: None, timer: None, finished: false });
        Self { reader, kind, deadline, state }
    }

    /// Goes on: `Ok` is the future to wait for, `Err` the end, a result in `StopIteration` included.
    fn step(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let mut progress = this.state.lock();
        if progress.finished {
            drop(progress);
            return Err(PyRuntimeError::new_err("cannot reuse already awaited read"));
        }
        let waited = progress.future.take();
        let timer = progress.timer.take();
        drop(progress);
        if let Some(timer) = timer {
            timer.bind(py).call_method0(intern!(py, "cancel"))?;
        }
        let is_first = waited.is_none();
        let reader = this.reader.get();
        let (step, tell, forgotten) = {
            let mut state = reader.state.lock();
            let forgotten = waited.as_ref().and_then(|waited| state.forget(waited));
            let step = look(py, &mut state, &this.kind);
            let tell = if let Step::Wait = step {
                Tell::Nothing
            } else {
                state.tell_writer();
                state.flow(py, false)
            };
            (step, tell, forgotten)
        };
        drop((waited, forgotten));
        if let Step::Wait = step {
            return Self::wait(slf, is_first);
        }
        this.state.lock().finished = true;
        reader.tell(py, tell)?;
        Err(finish(py, &this.kind, step))
    }

    fn wait(slf: &Bound<'_, Self>, is_first: bool) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let reader = this.reader.get();
        if reader.state.lock().waiter.is_some() {
            this.state.lock().finished = true;
            let name = this.kind.name();
            return Err(PyRuntimeError::new_err(format!(
                "{name}() called while another coroutine is already waiting for incoming data"
            )));
        }
        reader.flush_writer(py)?;
        let future = reader.make_future(py)?;
        // As `await future` does, without its iterator between us.
        future.setattr(intern!(py, "_asyncio_future_blocking"), true)?;
        let future = future.unbind();
        let timer = match this.deadline {
            None => None,
            Some(deadline) => {
                let expire = slf.getattr(intern!(py, "_expire"))?;
                Some(reader.event_loop(py)?.call_method1(intern!(py, "call_at"), (deadline, expire))?.unbind())
            }
        };
        let tell = {
            let mut state = reader.state.lock();
            state.waiter = Some(future.clone_ref(py));
            state.wanted = Some(this.kind.question());
            if is_first {
                state.gave_way = false;
            }
            state.flow(py, true)
        };
        let mut progress = this.state.lock();
        progress.future = Some(future.clone_ref(py));
        progress.timer = timer;
        drop(progress);
        reader.tell(py, tell)?;
        Ok(future)
    }

    /// Stops waiting: nothing was consumed, and the next read finds everything.
    fn abandon(&self, py: Python<'_>) -> PyResult<()> {
        let mut progress = self.state.lock();
        progress.finished = true;
        let future = progress.future.take();
        let timer = progress.timer.take();
        drop(progress);
        let forgotten = future.as_ref().and_then(|future| self.reader.get().state.lock().forget(future));
        drop((future, forgotten));
        match timer {
            Some(timer) => timer.bind(py).call_method0(intern!(py, "cancel")).map(drop),
            None => Ok(()),
        }
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
    match kind.judge(&mut state.buffer) {
        Answer::Need => Step::Wait,
        Answer::Ready { len } => match kind {
            Kind::Peek { max } => Step::Bytes(bytes(py, &state.buffer.unread()[..len.min(*max)])),
            Kind::Lines { most, .. } => Step::Lines(lines(py, state, *most, len)),
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
fn lines(py: Python<'_>, state: &mut State, most: usize, len: usize) -> Vec<Py<PyBytes>> {
    let mut found = vec![bytes(py, state.buffer.lend(len))];
    let limit = state.buffer.limit();
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
fn finish(py: Python<'_>, kind: &Kind, step: Step) -> PyErr {
    let value = match step {
        Step::Bytes(line) => {
            if let Kind::Next = kind
                && line.as_bytes(py).is_empty()
            {
                return PyStopAsyncIteration::new_err(());
            }
            match kind {
                Kind::Into { view, .. } => match put(view.bind(py), line) {
                    Ok(count) => count,
                    Err(error) => return error,
                },
                _ => line.into_any(),
            }
        }
        Step::Lines(lines) => match PyList::new(py, lines) {
            Ok(list) => list.into_any().unbind(),
            Err(error) => return error,
        },
        Step::Incomplete { partial, expected } => return errors::incomplete(py, &partial, expected),
        Step::Overrun { found, consumed, of_line: true } => return errors::line_overrun(py, found, consumed),
        Step::Overrun { found, consumed, of_line: false } => return errors::overrun(py, found, consumed),
        Step::Bad(text) => return PyValueError::new_err(text),
        Step::Raise(exception) => return PyErr::from_value(exception.into_bound(py)),
        Step::Failed(failure) => return errors::failed(&failure),
        Step::Wait => return PyRuntimeError::new_err("a read was finished while it waits"),
    };
    errors::stop(value)
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
    fn __next__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Self::step(slf)
    }

    fn send(slf: &Bound<'_, Self>, _value: Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        Self::step(slf)
    }

    /// The deadline has come.
    fn _expire(&self, py: Python<'_>) -> PyResult<()> {
        let mut progress = self.state.lock();
        let timer = progress.timer.take();
        let future = progress.future.as_ref().map(|future| future.clone_ref(py));
        drop(progress);
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
        match self.state.try_lock() {
            Some(progress) => {
                visit.call(&progress.future)?;
                visit.call(&progress.timer)
            }
            None => Ok(()),
        }
    }
}
