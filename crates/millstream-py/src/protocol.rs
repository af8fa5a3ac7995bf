//! What the loop's transport talks to: it fills our buffer, and the reader that is still there takes what came.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyMemoryView, PyTuple, PyWeakrefMethods, PyWeakrefReference};

use crate::outbox::Link;
use crate::reader::ReaderBase;
use crate::scratch::Scratch;
use crate::{Lock, call};

/// What `StreamReaderProtocol` inherits: everything that is done often.
#[pyclass(frozen, subclass, module = "millstream._core")]
#[derive(Debug)]
pub(crate) struct ProtocolBase {
    pub(crate) paused: AtomicBool,
    pub(crate) lost: AtomicBool,
    /// Nobody has overridden what our bytes pass through, so they need not become an object on the way.
    direct: AtomicBool,
    reader: Lock<Option<Py<PyWeakrefReference>>>,
    link: OnceLock<Py<Link>>,
    /// What the transport was lent last, and receives into.
    lent: Lock<Option<Py<Scratch>>>,
}

impl ProtocolBase {
    fn link(&self) -> PyResult<&Py<Link>> {
        self.link
            .get()
            .ok_or_else(|| PyRuntimeError::new_err("StreamReaderProtocol.__init__() was not called"))
    }

    fn reader<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let reader = self.reader.lock().as_ref()?.clone_ref(py);
        reader.bind(py).upgrade()
    }
}

#[pymethods]
impl ProtocolBase {
    /// Takes any arguments: subclasses have constructors of their own.
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            paused: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            direct: AtomicBool::new(false),
            reader: Lock::new(None),
            link: OnceLock::new(),
            lent: Lock::new(None),
        }
    }

    fn get_buffer(&self, py: Python<'_>, _sizehint: Bound<'_, PyAny>) -> PyResult<Py<PyMemoryView>> {
        let (view, memory) = self.link()?.get().lend(py)?;
        let mut lent = self.lent.lock();
        if !lent.as_ref().is_some_and(|lent| lent.is(&memory)) {
            let old = lent.replace(memory);
            drop(lent);
            drop(old);
        }
        Ok(view)
    }

    fn buffer_updated(slf: &Bound<'_, Self>, nbytes: usize) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let memory = this.lent.lock().as_ref().map(|memory| memory.clone_ref(py));
        let memory =
            memory.ok_or_else(|| PyRuntimeError::new_err("buffer_updated() without get_buffer()"))?;
        if this.direct.load(Ordering::Relaxed) {
            let Some(reader) = this.reader(py) else { return Ok(()) };
            if let Ok(reader) = reader.cast::<ReaderBase>() {
                let reader = reader.get();
                let fed = memory.get().with(py, nbytes, |data| reader.state.lock().feed(py, data))?;
                return reader.fed(py, fed);
            }
        }
        let data = memory.get().with(py, nbytes, |data| PyBytes::new(py, data))?;
        call::method(slf.as_any(), intern!(py, "data_received"), [data.as_any()]).map(drop)
    }

    fn data_received(&self, py: Python<'_>, data: Bound<'_, PyAny>) -> PyResult<()> {
        let Some(reader) = self.reader(py) else { return Ok(()) };
        if self.direct.load(Ordering::Relaxed)
            && let (Ok(reader), Ok(bytes)) = (reader.cast::<ReaderBase>(), data.cast::<PyBytes>())
        {
            let bytes = bytes.as_bytes();
            return if bytes.is_empty() { Ok(()) } else { reader.get().received(py, bytes) };
        }
        call::method(&reader, intern!(py, "feed_data"), [&data]).map(drop)
    }

    /// The loop's buffer.
    fn _set_link(&self, link: Py<Link>) {
        let _ = self.link.set(link);
    }

    /// Which reader, by a weak reference, and whether bytes may go to it directly.
    fn _set_reader(&self, reader: Option<Py<PyWeakrefReference>>, direct: bool) {
        self.direct.store(direct, Ordering::Relaxed);
        let mut slot = self.reader.lock();
        let old = std::mem::replace(&mut *slot, reader);
        drop(slot);
        drop(old);
    }

    #[getter]
    fn _stream_reader_wr(&self, py: Python<'_>) -> Option<Py<PyWeakrefReference>> {
        self.reader.lock().as_ref().map(|reader| reader.clone_ref(py))
    }

    #[setter(_stream_reader_wr)]
    fn set_stream_reader_wr(&self, reader: Option<Py<PyWeakrefReference>>) {
        self._set_reader(reader, false);
    }

    #[getter]
    fn _stream_reader<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.reader(py)
    }

    #[getter]
    fn _paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    #[setter(_paused)]
    fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }

    #[getter]
    fn _connection_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    #[setter(_connection_lost)]
    fn set_connection_lost(&self, lost: bool) {
        self.lost.store(lost, Ordering::Relaxed);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(link) = self.link.get() {
            visit.call(link)?;
        }
        match self.reader.try_lock() {
            Some(reader) => visit.call(&*reader),
            None => Ok(()),
        }
    }
}
