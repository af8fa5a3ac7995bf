//! Errors of the core as exceptions of Python: always the standard library's own classes.

use millstream_core::Failure;
use pyo3::exceptions::{PyException, PyOSError, PyStopIteration, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyTuple, PyType};

use crate::{Lock, call};

/// The end of an awaitable, with its result.
#[inline]
pub(crate) fn stop(value: Py<PyAny>) -> PyErr {
    PyStopIteration::new_err((value,))
}

/// The same, set in the interpreter without an error object of ours between: for `__next__`, which then returns nothing.
///
/// Making and dropping an exception costs more than reading a line does, so a short result comes in one that is kept: as
/// long as nobody else holds it, which is always so where an `await` takes the result out of it at once. It keeps the
/// last such result until the next one.
#[inline]
pub(crate) fn set_stop(py: Python<'_>, value: Py<PyAny>) {
    static KEPT: Lock<Option<Py<PyAny>>> = Lock::new(None);
    let is_short = value.cast_bound::<PyBytes>(py).is_ok_and(|bytes| bytes.as_bytes().len() <= KEPT_LEN);
    if is_short {
        let mut slot = KEPT.lock();
        if let Some(kept) = &*slot
            && is_as_new(py, kept)
        {
            // SAFETY: this thread is attached, as the token shows, and ours is the only reference to the exception, so nobody
            // sees it change; it is a `StopIteration` itself and no subclass, so it has that layout, in which `value` is
            // owned. What it held before is bytes or `None`, as was just looked at, and runs no code when it goes.
            // `restore` takes over a reference that is made for it.
            #[allow(unsafe_code)]
            unsafe {
                let stop = kept.as_ptr().cast::<ffi::PyStopIterationObject>();
                ffi::Py_XDECREF(std::mem::replace(&mut (*stop).value, value.into_ptr()));
                restore(kept.clone_ref(py).into_ptr());
            }
            return;
        }
        // Someone has it, or has changed it: the next one is new. Dropping it may run code, so not under the lock.
        let old = slot.take();
        drop(slot);
        drop(old);
        let new = py.get_type::<PyStopIteration>().call0().ok();
        let old = std::mem::replace(&mut *KEPT.lock(), new.map(|new| new.into_any().unbind()));
        drop(old);
    }
    // SAFETY: this thread is attached; both objects are alive during the call, which takes references of its own. A result
    // is never a tuple or an exception, which would be unpacked.
    #[allow(unsafe_code)]
    unsafe {
        ffi::PyErr_SetObject(ffi::PyExc_StopIteration, value.as_ptr());
    }
}

/// Whether the kept exception is nobody else's, and nobody has left anything in it: one that passed through frames by hand
/// remembers them, and whoever caught it may have set any of its attributes.
#[inline]
fn is_as_new(_: Python<'_>, kept: &Py<PyAny>) -> bool {
    // SAFETY: the global lock is held, the object is alive and a `StopIteration` itself, whose value is never null once it was
    // made, nor are its arguments, a tuple; the other fields are null or alive.
    #[allow(unsafe_code)]
    unsafe {
        let stop = &*kept.as_ptr().cast::<ffi::PyStopIterationObject>();
        #[cfg(Py_3_11)]
        let has_notes = !stop.notes.is_null();
        #[cfg(not(Py_3_11))]
        let has_notes = false;
        ffi::Py_REFCNT(kept.as_ptr()) == 1
            && stop.traceback.is_null()
            && stop.context.is_null()
            && stop.cause.is_null()
            && stop.dict.is_null()
            && !has_notes
            && (stop.value == ffi::Py_None() || ffi::PyBytes_CheckExact(stop.value) != 0)
            && ffi::PyTuple_Size(stop.args) == 0
    }
}

/// # Safety
/// The thread is attached; `exception` is an exception, with a reference that is handed over.
#[inline]
#[allow(unsafe_code)]
unsafe fn restore(exception: *mut ffi::PyObject) {
    #[cfg(Py_3_12)]
    // SAFETY: as above.
    unsafe {
        ffi::PyErr_SetRaisedException(exception);
    }
    #[cfg(not(Py_3_12))]
    // SAFETY: as above; the type's reference is one of its own.
    unsafe {
        let kind = ffi::Py_NewRef(ffi::PyExc_StopIteration);
        ffi::PyErr_Restore(kind, exception, std::ptr::null_mut());
    }
}

/// Longer results are not worth keeping.
const KEPT_LEN: usize = 4096;

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
    let context = chained(py, overrun(py, found, consumed));
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
    let class = CLASS.import(py, "asyncio.exceptions", "TimeoutError")?;
    call::with_args(class.as_any(), &PyTuple::new(py, [text])?).map(Bound::unbind)
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

fn raise<'py, A: IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>, Error = PyErr>>(
    py: Python<'py>,
    class: &'static PyOnceLock<Py<PyType>>,
    name: &str,
    args: A,
) -> PyErr {
    let made = class
        .get_or_try_init(py, || {
            Ok::<_, PyErr>(py.import("asyncio.exceptions")?.getattr(name)?.cast_into::<PyType>()?.unbind())
        })
        .and_then(|class| call::with_args(class.bind(py).as_any(), &args.into_pyobject(py)?));
    made.map_or_else(|error| error, PyErr::from_value)
}

/// The error with the exception that is being handled as its context, as `raise` does it: what is returned from here is
/// otherwise set as it is.
#[cold]
pub(crate) fn chained(py: Python<'_>, error: PyErr) -> PyErr {
    let kind = error.get_type(py);
    let value = error.into_value(py);
    // SAFETY: this thread is attached, as the token shows; both are alive, the one is an exception and the other its class;
    // the call takes references of its own.
    #[allow(unsafe_code)]
    unsafe {
        ffi::PyErr_SetObject(kind.as_ptr(), value.as_ptr());
    }
    PyErr::fetch(py)
}
