//! Errors of the core as exceptions of Python: always the standard library's own classes.

use millstream_core::Failure;
use pyo3::exceptions::{PyException, PyOSError, PyStopIteration, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyType};

/// The end of an awaitable, with its result.
#[inline]
pub(crate) fn stop(value: Py<PyAny>) -> PyErr {
    PyStopIteration::new_err((value,))
}

/// The same, set in the interpreter without an error object of ours between: for `__next__`, which then returns nothing.
#[inline]
pub(crate) fn set_stop(_: Python<'_>, value: Py<PyAny>) {
    // SAFETY: this thread is attached, as the token shows; both objects are alive during the call, which takes references
    // of its own. A result is never a tuple or an exception, which would be unpacked.
    #[allow(unsafe_code)]
    unsafe {
        pyo3::ffi::PyErr_SetObject(pyo3::ffi::PyExc_StopIteration, value.as_ptr());
    }
}

/// `asyncio.IncompleteReadError`.
pub(crate) fn incomplete(py: Python<'_>, partial: &[u8], expected: Option<usize>) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    raise(py, &CLASS, "IncompleteReadError", (PyBytes::new(py, partial), expected))
}

/// `asyncio.LimitOverrunError`.
pub(crate) fn overrun(py: Python<'_>, found: bool, consumed: usize) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    raise(py, &CLASS, "LimitOverrunError", (overrun_text(found), consumed))
}

/// What `readline` makes of it.
pub(crate) fn line_overrun(py: Python<'_>, found: bool, consumed: usize) -> PyErr {
    let error = PyValueError::new_err(overrun_text(found));
    let context = overrun(py, found, consumed);
    // As `raise` does inside of an `except`.
    if let Err(failed) = error.value(py).setattr("__context__", context.value(py)) {
        return failed;
    }
    error
}

/// The texts of CPython: programs look for them.
fn overrun_text(found: bool) -> &'static str {
    if found {
        "Separator is found, but chunk is longer than limit"
    } else {
        "Separator is not found, and chunk exceed the limit"
    }
}

/// `asyncio.TimeoutError`, which is the built-in one from 3.11 on.
pub(crate) fn timed_out(py: Python<'_>, text: &str) -> PyResult<Py<PyAny>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    Ok(CLASS.import(py, "asyncio.exceptions", "TimeoutError")?.call1((text,))?.unbind())
}

/// Whether this is no error but a wish to end: Ctrl-C, an exit, a cancellation. It is passed on wherever it comes up.
pub(crate) fn is_interrupt(py: Python<'_>, error: &PyErr) -> bool {
    !error.is_instance_of::<PyException>(py)
}

/// A failure that has no exception of its own.
pub(crate) fn failed(failure: &Failure) -> PyErr {
    match failure.raw_os_error() {
        Some(code) => PyOSError::new_err((code, failure.to_string())),
        None => PyOSError::new_err(failure.to_string()),
    }
}

fn raise<'py, A: pyo3::call::PyCallArgs<'py>>(
    py: Python<'py>,
    class: &'static PyOnceLock<Py<PyType>>,
    name: &str,
    args: A,
) -> PyErr {
    let made = class
        .get_or_try_init(py, || {
            Ok::<_, PyErr>(py.import("asyncio.exceptions")?.getattr(name)?.cast_into::<PyType>()?.unbind())
        })
        .and_then(|class| class.bind(py).call1(args));
    made.map_or_else(|error| error, PyErr::from_value)
}
