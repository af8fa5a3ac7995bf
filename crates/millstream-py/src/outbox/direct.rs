//! Sending past the `write` of asyncio's own socket transport, which takes several times as long in Python as its send
//! does. What it does as long as the socket has room is done here; with anything else the transport is called as ever.

use pyo3::exceptions::{PyBlockingIOError, PyInterruptedError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyMemoryView, PySlice, PyType};

use crate::{call, errors};

/// The transport that can be sent past: `python/millstream/_direct.py` has looked at it.
#[derive(Debug)]
struct Known {
    class: Py<PyType>,
    /// The function that is its `write`.
    write: Py<PyAny>,
    /// What to call with a transport and the exception that a send has raised.
    failed: Py<PyAny>,
}

static KNOWN: PyOnceLock<Known> = PyOnceLock::new();

/// From here on, what goes to transports of exactly this class is sent past this `write` of theirs.
#[pyfunction]
pub(crate) fn know_transport(py: Python<'_>, kind: Py<PyType>, write: Py<PyAny>, failed: Py<PyAny>) {
    let _ = KNOWN.set(py, Known { class: kind, write, failed });
}

/// The `write` of a transport that can be sent past it.
pub(super) fn known_write(transport: &Bound<'_, PyAny>) -> Option<Py<PyAny>> {
    let py = transport.py();
    let known = KNOWN.get(py)?;
    if !transport.get_type().is(&known.class) {
        return None;
    }
    let write = transport.getattr(intern!(py, "write")).ok()?;
    let function = write.getattr(intern!(py, "__func__")).ok()?;
    function.is(&known.write).then(|| write.unbind())
}

/// `transport.write(data)`, of `len` bytes: by a send past it if `write` is the [`known_write`] that it had.
#[inline]
pub(super) fn write(
    transport: &Bound<'_, PyAny>,
    write: Option<Py<PyAny>>,
    data: &Bound<'_, PyAny>,
    len: usize,
) -> PyResult<()> {
    let sent = write.map_or(Ok(0), |write| send(transport, &write, data, len))?;
    if sent == 0 {
        call::method(transport, intern!(transport.py(), "write"), [data])?;
    } else if sent < len {
        call::method(transport, intern!(transport.py(), "write"), [&rest(data, sent)?])?;
    }
    Ok(())
}

/// Sends as `transport.write` would, and returns how many of the bytes that settles.
#[inline]
fn send(
    transport: &Bound<'_, PyAny>,
    write: &Py<PyAny>,
    data: &Bound<'_, PyAny>,
    len: usize,
) -> PyResult<usize> {
    let py = transport.py();
    let socket = match open_socket(transport, write) {
        Ok(Some(socket)) => socket,
        Err(error) if errors::is_interrupt(py, &error) => return Err(error),
        Ok(None) | Err(_) => return Ok(0),
    };
    match call::method(&socket, intern!(py, "send"), [data]) {
        Ok(sent) => sent.extract(),
        Err(error) if errors::is_interrupt(py, &error) => Err(error),
        Err(error) => Ok(if is_lost(transport, error)? { len } else { 0 }),
    }
}

/// The socket, if `write` would send on it at once. Asks for everything that `write` asks for, each time: others may have
/// the transport, and close it, write to it, or replace its methods.
#[inline]
fn open_socket<'py>(transport: &Bound<'py, PyAny>, write: &Py<PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = transport.py();
    let now = transport.getattr(intern!(py, "write"))?;
    // Of one type, a bound method: comparing them runs no code of anyone's.
    let is_open = now.get_type_ptr() == write.bind(py).get_type_ptr()
        && now.eq(write)?
        && !transport.getattr(intern!(py, "_eof"))?.is_truthy()?
        && transport.getattr(intern!(py, "_empty_waiter"))?.is_none()
        && !transport.getattr(intern!(py, "_conn_lost"))?.is_truthy()?
        && !transport.getattr(intern!(py, "_buffer"))?.is_truthy()?;
    if is_open { transport.getattr(intern!(py, "_sock")).map(Some) } else { Ok(None) }
}

/// Whether a failed send means that the connection is lost, which the transport is told, and not only that there was no
/// room.
#[cold]
fn is_lost(transport: &Bound<'_, PyAny>, error: PyErr) -> PyResult<bool> {
    let py = transport.py();
    if error.is_instance_of::<PyBlockingIOError>(py) || error.is_instance_of::<PyInterruptedError>(py) {
        return Ok(false);
    }
    let Some(known) = KNOWN.get(py) else { return Err(error) };
    let args = (transport, error.into_value(py)).into_pyobject(py)?;
    call::with_args(known.failed.bind(py), &args)?;
    Ok(true)
}

/// What a short send has left.
#[cold]
fn rest<'py>(data: &Bound<'py, PyAny>, sent: usize) -> PyResult<Bound<'py, PyAny>> {
    let view = PyMemoryView::from(data)?;
    view.get_item(PySlice::new(data.py(), sent.cast_signed(), isize::MAX, 1))
}
