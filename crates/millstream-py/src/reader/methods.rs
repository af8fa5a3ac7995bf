//! What Python sees of a reader: its reads, what feeds it, and the attributes that programs reach for.

use millstream_core::{ErrorClass, Failure};
use pyo3::exceptions::{PyAssertionError, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyInt, PyMemoryView, PyTuple};

use super::{ReaderBase, State, throw_into, wake};
use crate::kind::Kind;
use crate::outbox::Talk;
use crate::reads::Read;
use crate::view::BufferView;
use crate::{Lock, call};

#[pymethods]
impl ReaderBase {
    /// Takes any arguments: subclasses have constructors of their own.
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        Ok(Self { state: Lock::new(State::new()?) })
    }

    /// What `__init__` finds out: the limit, the loop, and how futures are made on it.
    fn _setup(&self, limit: usize, event_loop: Py<PyAny>, future_args: Option<Py<PyDict>>) {
        let mut state = self.state.lock();
        state.buffer.set_limit(limit);
        let old = (state.event_loop.replace(event_loop), state.future_args.take());
        state.future_args = future_args;
        drop(state);
        drop(old);
    }

    #[pyo3(signature = (*, limit = None, deadline = None))]
    fn readline(slf: PyRef<'_, Self>, limit: Option<usize>, deadline: Option<f64>) -> PyResult<Py<Read>> {
        Self::read_of(slf, Kind::Line { limit }, deadline)
    }

    #[pyo3(signature = (n = -1, *, deadline = None), text_signature = "($self, n=-1, *, deadline=None)")]
    fn read(slf: PyRef<'_, Self>, n: isize, deadline: Option<f64>) -> PyResult<Py<Read>> {
        let kind = usize::try_from(n).map_or(Kind::All, |max| Kind::Some { max });
        Self::read_of(slf, kind, deadline)
    }

    #[pyo3(signature = (n, *, deadline = None))]
    fn readexactly(slf: PyRef<'_, Self>, n: isize, deadline: Option<f64>) -> PyResult<Py<Read>> {
        Self::read_of(slf, usize::try_from(n).map_or(Kind::Negative, Kind::Exactly), deadline)
    }

    #[pyo3(signature = (separator = None, *, limit = None, deadline = None))]
    fn readuntil(
        slf: PyRef<'_, Self>,
        separator: Option<Bound<'_, PyAny>>,
        limit: Option<usize>,
        deadline: Option<f64>,
    ) -> PyResult<Py<Read>> {
        let kind = match separator {
            None => Kind::until(vec![b"\n".to_vec()], limit),
            Some(separator) => Kind::until(crate::kind::separators(&separator)?, limit),
        };
        Self::read_of(slf, kind, deadline)
    }

    #[pyo3(signature = (n = None, *, deadline = None))]
    fn peek(slf: PyRef<'_, Self>, n: Option<usize>, deadline: Option<f64>) -> PyResult<Py<Read>> {
        Self::read_of(slf, Kind::Peek { max: n.unwrap_or(usize::MAX) }, deadline)
    }

    #[pyo3(signature = (max = None, *, limit = None, deadline = None))]
    fn readlines(
        slf: PyRef<'_, Self>,
        max: Option<usize>,
        limit: Option<usize>,
        deadline: Option<f64>,
    ) -> PyResult<Py<Read>> {
        Self::read_of(slf, Kind::Lines { most: max.unwrap_or(usize::MAX), limit }, deadline)
    }

    #[pyo3(signature = (buffer, *, deadline = None))]
    fn readinto(slf: PyRef<'_, Self>, buffer: Bound<'_, PyAny>, deadline: Option<f64>) -> PyResult<Py<Read>> {
        let py = slf.py();
        let view = PyMemoryView::from(&buffer)?;
        if view.getattr(intern!(py, "readonly"))?.is_truthy()? {
            return Err(PyTypeError::new_err("readinto() needs a writable buffer"));
        }
        let view = view.call_method1(intern!(py, "cast"), ("B",))?;
        let max = view.len()?;
        Self::read_of(slf, Kind::Into { view: view.unbind(), max }, deadline)
    }

    fn __aiter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __anext__(slf: PyRef<'_, Self>) -> PyResult<Py<Read>> {
        Self::read_of(slf, Kind::Next, None)
    }

    fn feed_data(&self, py: Python<'_>, data: Bound<'_, PyAny>) -> PyResult<()> {
        let state = self.state.lock();
        if state.eof && !state.deaf {
            drop(state);
            return Err(PyAssertionError::new_err("feed_data after feed_eof"));
        }
        drop(state);
        if let Ok(data) = data.cast::<PyBytes>() {
            let data = data.as_bytes();
            return if data.is_empty() { Ok(()) } else { self.received(py, data) };
        }
        if !data.is_truthy()? {
            return Ok(());
        }
        // Whatever a `bytearray` can be extended with, as in asyncio.
        let array = PyByteArray::new(py, b"");
        call::method(&array, intern!(py, "extend"), [&data])?;
        self.received(py, &array.to_vec())
    }

    fn feed_eof(&self, py: Python<'_>) -> PyResult<()> {
        let mut state = self.state.lock();
        state.eof = true;
        state.buffer.feed_eof();
        state.wanted = None;
        let waiter = state.waiter.take();
        drop(state);
        wake(py, waiter)
    }

    fn at_eof(&self) -> bool {
        let state = self.state.lock();
        state.eof && state.buffer.is_empty()
    }

    fn exception(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let state = self.state.lock();
        state.exception.as_ref().or(state.lost.as_ref()).map(|exception| exception.clone_ref(py))
    }

    /// By hand: raised at once, before what is buffered, as asyncio does.
    fn set_exception(&self, py: Python<'_>, exc: Py<PyAny>) -> PyResult<()> {
        let mut state = self.state.lock();
        let old = state.exception.replace(exc.clone_ref(py));
        if let Some(outbox) = &state.outbox {
            // `drain` raises it as well.
            outbox.get().alert();
        }
        state.wanted = None;
        let waiter = state.waiter.take();
        drop(state);
        drop(old);
        throw_into(py, waiter, exc)
    }

    /// By the transport: raised behind what is buffered.
    fn _connection_failed(&self, py: Python<'_>, exc: Py<PyAny>) -> PyResult<()> {
        // Only to mark the end: what is raised is the exception itself.
        let text = "the transport was lost";
        let failure = Failure::new(std::io::ErrorKind::ConnectionReset, text, ErrorClass::BrokenByPeer);
        let mut state = self.state.lock();
        let old = state.lost.replace(exc);
        state.buffer.fail(failure);
        state.wanted = None;
        let waiter = state.waiter.take();
        drop(state);
        drop(old);
        // The read finds out by itself whether what is buffered answers it.
        wake(py, waiter)
    }

    /// Everything that was written and not sent leaves: someone other than the writer closes the transport.
    fn _flush_writer(&self, py: Python<'_>) -> PyResult<()> {
        self.flush_writer(py)
    }

    /// Whether the connection is idle as far as this side can tell: "answered" if a read waits, nothing is left to be read
    /// or sent, and something was written since the last read; "silent" if nothing was ever read; else nothing.
    fn _idle(&self) -> Option<&'static str> {
        let state = self.state.lock();
        let waits = state.waiting().is_some_and(|waiting| waiting.held == 0);
        let outbox = state.outbox.as_ref().map(Py::get).filter(|outbox| waits && outbox.queued() == 0)?;
        match outbox.talk() {
            Talk::Silent => Some("silent"),
            Talk::Taken => None,
            Talk::Answered => Some("answered"),
        }
    }

    /// Whom to call whenever a read begins to wait.
    fn _call_on_wait(&self, on_wait: Option<Py<PyAny>>) {
        let old = std::mem::replace(&mut self.state.lock().on_wait, on_wait);
        drop(old);
    }

    /// From here on what comes is dropped.
    fn _deafen(&self) {
        self.state.lock().deaf = true;
    }

    /// There is no connection any more: what is written goes to the transport as it comes, which knows what that means.
    fn _end_writer(&self) {
        if let Some(outbox) = &self.state.lock().outbox {
            outbox.get().end();
            outbox.get().alert();
        }
    }

    fn set_transport(&self, transport: Py<PyAny>) -> PyResult<()> {
        let mut state = self.state.lock();
        if state.transport.is_some() {
            drop(state);
            return Err(PyAssertionError::new_err("Transport already set"));
        }
        state.transport = Some(transport);
        Ok(())
    }

    fn _wakeup_waiter(&self, py: Python<'_>) -> PyResult<()> {
        let mut state = self.state.lock();
        state.wanted = None;
        let waiter = state.waiter.take();
        drop(state);
        wake(py, waiter)
    }

    /// In line with how full the buffer is, or in any case if someone waits.
    #[pyo3(signature = (waits = false))]
    fn _maybe_resume_transport(&self, py: Python<'_>, waits: bool) -> PyResult<()> {
        let tell = self.state.lock().flow(py, waits);
        self.tell(py, tell)
    }

    /// How many bytes are buffered.
    #[getter]
    fn buffered(&self) -> usize {
        self.state.lock().buffer.len()
    }

    #[getter(_buffer)]
    fn buffer_view(slf: PyRef<'_, Self>) -> BufferView {
        BufferView::new(slf.into())
    }

    #[setter(_buffer)]
    fn set_buffer(&self, data: Bound<'_, PyAny>) -> PyResult<()> {
        let data = crate::writer::snapshot(&data)?;
        let mut state = self.state.lock();
        let len = state.buffer.len();
        state.buffer.consume(len);
        state.buffer.feed(&data);
        Ok(())
    }

    #[getter]
    fn _limit(&self) -> usize {
        self.state.lock().buffer.limit()
    }

    #[setter(_limit)]
    fn set_limit(&self, limit: Bound<'_, PyAny>) -> PyResult<()> {
        let limit = match limit.extract::<isize>() {
            Ok(limit) => limit,
            // Whatever compares with numbers, as in the constructor.
            Err(_) if limit.ge(isize::MAX)? => isize::MAX,
            Err(_) if limit.lt(1)? => 1,
            Err(_) => {
                let py = limit.py();
                call::with_args(py.get_type::<PyInt>().as_any(), &PyTuple::new(py, [limit])?)?.extract()?
            }
        };
        // Less than one counts as one.
        self.state.lock().buffer.set_limit(usize::try_from(limit).unwrap_or(0));
        Ok(())
    }

    #[getter]
    fn _served(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.lock().served.as_ref().map(|served| served.clone_ref(py))
    }

    #[setter(_served)]
    fn set_served(&self, served: Option<Py<PyAny>>) {
        let old = std::mem::replace(&mut self.state.lock().served, served);
        drop(old);
    }

    #[getter]
    fn _eof(&self) -> bool {
        self.state.lock().eof
    }

    #[setter(_eof)]
    fn set_eof(&self, eof: bool) {
        let mut state = self.state.lock();
        state.eof = eof;
        if eof {
            state.buffer.feed_eof();
        }
    }

    #[getter]
    fn _paused(&self) -> bool {
        self.state.lock().paused
    }

    #[getter]
    fn _waiter(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.lock().waiter.as_ref().map(|waiter| waiter.clone_ref(py))
    }

    #[setter(_waiter)]
    fn set_waiter(&self, waiter: Option<Py<PyAny>>) {
        let mut state = self.state.lock();
        state.wanted = None;
        let old = std::mem::replace(&mut state.waiter, waiter);
        drop(state);
        drop(old);
    }

    #[getter]
    fn _exception(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.exception(py)
    }

    #[setter(_exception)]
    fn set_exception_attribute(&self, exception: Option<Py<PyAny>>) {
        let mut state = self.state.lock();
        if exception.is_some()
            && let Some(outbox) = &state.outbox
        {
            // `drain` raises it as well.
            outbox.get().alert();
        }
        let old = std::mem::replace(&mut state.exception, exception);
        drop(state);
        drop(old);
    }

    #[getter]
    fn _transport(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.lock().transport.as_ref().map(|transport| transport.clone_ref(py))
    }

    #[setter(_transport)]
    fn set_transport_attribute(&self, transport: Option<Py<PyAny>>) {
        let mut state = self.state.lock();
        let old = std::mem::replace(&mut state.transport, transport);
        drop(state);
        drop(old);
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.lock().event_loop.as_ref().map(|event_loop| event_loop.clone_ref(py))
    }

    #[setter(_loop)]
    fn set_loop(&self, event_loop: Option<Py<PyAny>>) {
        let mut state = self.state.lock();
        let old = (std::mem::replace(&mut state.event_loop, event_loop), state.future_args.take());
        drop(state);
        drop(old);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(state) = self.state.try_lock() else { return Ok(()) };
        for object in [&state.waiter, &state.exception, &state.lost, &state.transport, &state.event_loop] {
            visit.call(object)?;
        }
        visit.call(&state.future_args)?;
        visit.call(&state.outbox)?;
        visit.call(&state.served)?;
        visit.call(&state.on_wait)?;
        visit.call(&state.spare)
    }

    fn __clear__(&self) {
        let mut state = self.state.lock();
        let old = (
            state.waiter.take(),
            state.exception.take(),
            state.lost.take(),
            state.transport.take(),
            state.event_loop.take(),
            state.future_args.take(),
            state.outbox.take(),
            state.spare.take(),
            state.served.take(),
            state.on_wait.take(),
        );
        drop(state);
        drop(old);
    }
}
