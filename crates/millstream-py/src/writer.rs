//! The writing half: `write` queues, `drain` is free when there is nothing to wait for.

use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use pyo3::exceptions::PyTypeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyMemoryView, PyTuple};

use crate::outbox::{Link, Outbox};
use crate::protocol::ProtocolBase;
use crate::reader::ReaderBase;
use crate::ready::Ready;
use crate::{Lock, call};

/// What `StreamWriter` inherits: everything that is done often, and all attributes: CPython calls methods of an object
/// without a `__dict__` of its own faster.
#[pyclass(frozen, subclass, dict, weakref, module = "millstream._core")]
#[derive(Debug)]
pub(crate) struct WriterBase {
    parts: OnceLock<Parts>,
    attributes: Lock<Attributes>,
}

/// What is only kept for the Python half.
#[derive(Debug, Default)]
struct Attributes {
    protocol: Option<Py<PyAny>>,
    reader: Option<Py<PyAny>>,
    event_loop: Option<Py<PyAny>>,
}

#[derive(Debug)]
struct Parts {
    outbox: Py<Outbox>,
    /// Where it is ours and unchanged, `drain` looks into it directly.
    protocol: Option<Py<ProtocolBase>>,
    reader: Option<Py<ReaderBase>>,
}

impl WriterBase {
    #[inline]
    fn parts(&self) -> PyResult<&Parts> {
        self.parts.get().ok_or_else(|| {
            pyo3::exceptions::PyRuntimeError::new_err("StreamWriter.__init__() was not called")
        })
    }
}

/// The bytes of a bytes-like object as they are now.
pub(crate) fn snapshot(data: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    if let Ok(bytes) = data.cast::<PyBytes>() {
        return Ok(bytes.as_bytes().to_vec());
    }
    if let Ok(array) = data.cast::<PyByteArray>() {
        return Ok(array.to_vec());
    }
    let view = PyMemoryView::from(data)?;
    let bytes = view.call_method0(intern!(data.py(), "tobytes"))?;
    Ok(bytes.cast::<PyBytes>()?.as_bytes().to_vec())
}

#[pymethods]
impl WriterBase {
    /// Takes any arguments: subclasses have constructors of their own.
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self { parts: OnceLock::new(), attributes: Lock::default() }
    }

    #[getter]
    fn _protocol(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.attributes.lock().protocol.as_ref().map(|protocol| protocol.clone_ref(py))
    }

    #[setter(_protocol)]
    fn set_protocol(&self, protocol: Option<Py<PyAny>>) {
        let old = std::mem::replace(&mut self.attributes.lock().protocol, protocol);
        drop(old);
    }

    #[getter]
    fn _reader(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.attributes.lock().reader.as_ref().map(|reader| reader.clone_ref(py))
    }

    #[setter(_reader)]
    fn set_reader(&self, reader: Option<Py<PyAny>>) {
        let old = std::mem::replace(&mut self.attributes.lock().reader, reader);
        drop(old);
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.attributes.lock().event_loop.as_ref().map(|event_loop| event_loop.clone_ref(py))
    }

    #[setter(_loop)]
    fn set_loop(&self, event_loop: Option<Py<PyAny>>) {
        let old = std::mem::replace(&mut self.attributes.lock().event_loop, event_loop);
        drop(old);
    }

    /// What `__init__` finds out.
    fn _setup(
        &self,
        py: Python<'_>,
        transport: Py<PyAny>,
        event_loop: Py<PyAny>,
        link: Py<Link>,
        protocol: Option<Py<ProtocolBase>>,
        reader: Option<Py<ReaderBase>>,
    ) -> PyResult<()> {
        let outbox = Py::new(py, Outbox::new(py, transport, event_loop, link))?;
        if let Some(reader) = &reader {
            reader.get().set_outbox(outbox.clone_ref(py));
        }
        let _ = self.parts.set(Parts { outbox, protocol, reader });
        Ok(())
    }

    #[inline]
    fn write(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = data.py();
        let outbox = &self.parts()?.outbox;
        if let Ok(bytes) = data.cast::<PyBytes>() {
            let content = bytes.as_bytes();
            return if content.is_empty() { Ok(()) } else { Outbox::write(outbox, py, content, data) };
        }
        if !data.is_instance_of::<PyByteArray>() && !data.is_instance_of::<PyMemoryView>() {
            let kind = data.get_type().name()?;
            let kind = kind.repr()?;
            return Err(PyTypeError::new_err(format!(
                "data argument must be a bytes-like object, not {kind}"
            )));
        }
        // What can change later is sent as it is now.
        let content = PyBytes::new(py, &snapshot(data)?);
        match content.as_bytes() {
            [] => Ok(()),
            bytes => Outbox::write(outbox, py, bytes, content.as_any()),
        }
    }

    fn writelines(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let joined = call::method(PyBytes::new(py, b"").as_any(), intern!(py, "join"), [data])?;
        self.write(&joined)
    }

    fn drain(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let parts = slf.get().parts()?;
        if let Some(protocol) = &parts.protocol {
            let protocol = protocol.get();
            let is_calm = !protocol.paused.load(Ordering::Relaxed)
                && !protocol.lost.load(Ordering::Relaxed)
                && parts.outbox.get().is_calm(py)?;
            if is_calm {
                return Ready::get(py);
            }
        }
        call::method(slf.as_any(), intern!(py, "_drain"), []).map(Bound::unbind)
    }

    /// Sends what is queued.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        self.parts()?.outbox.get().flush_and_tell(py)
    }

    /// Whether messages are gathered (the default) or each is sent at once.
    #[pyo3(signature = (corked = true))]
    fn cork(&self, py: Python<'_>, corked: bool) -> PyResult<()> {
        let outbox = self.parts()?.outbox.get();
        outbox.set_corked(corked);
        if corked { Ok(()) } else { outbox.flush(py) }
    }

    /// How many bytes are queued here, not counting those of the transport.
    #[getter]
    fn corked(&self) -> PyResult<usize> {
        Ok(self.parts()?.outbox.get().queued())
    }

    /// Sends what is queued; from here on everything goes to the transport as it comes.
    fn _end(&self, py: Python<'_>) -> PyResult<()> {
        let outbox = self.parts()?.outbox.get();
        let flushed = outbox.flush_in_background(py);
        outbox.end();
        outbox.alert();
        flushed
    }

    #[getter]
    fn _transport(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.parts.get()?.outbox.get().transport(py)
    }

    #[setter(_transport)]
    fn set_transport(&self, py: Python<'_>, transport: Option<Py<PyAny>>) -> PyResult<()> {
        let outbox = self.parts()?.outbox.get();
        // What was written before belongs to the old one.
        let flushed = outbox.flush_in_background(py);
        outbox.set_transport(py, transport);
        flushed
    }

    /// With what was written before on its way: who writes to it directly, writes behind that.
    #[getter]
    fn transport(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let outbox = self.parts()?.outbox.get();
        outbox.flush(py)?;
        outbox.hand_out();
        Ok(outbox.transport(py))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(attributes) = self.attributes.try_lock() {
            visit.call(&attributes.protocol)?;
            visit.call(&attributes.reader)?;
            visit.call(&attributes.event_loop)?;
        }
        let Some(parts) = self.parts.get() else { return Ok(()) };
        visit.call(&parts.outbox)?;
        visit.call(&parts.protocol)?;
        visit.call(&parts.reader)
    }

    fn __clear__(&self) {
        let attributes = std::mem::take(&mut *self.attributes.lock());
        drop(attributes);
    }
}
