//! An awaitable that is ready: what `drain()` returns when there is nothing to wait for. One object serves all.

use pyo3::exceptions::{PyBaseException, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

use crate::call;

/// Completes at once with `None`, in the shape of a coroutine.
#[pyclass(frozen, module = "millstream._core")]
#[derive(Debug)]
pub(crate) struct Ready;

impl Ready {
    /// The one object.
    #[inline]
    pub(crate) fn get(py: Python<'_>) -> PyResult<Py<PyAny>> {
        static READY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        Ok(READY.get_or_try_init(py, || Py::new(py, Self).map(Py::into_any))?.clone_ref(py))
    }
}

#[pymethods]
impl Ready {
    fn __await__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[allow(clippy::unused_self, reason = "a slot of Python's")]
    fn __next__(&self) -> Option<Py<PyAny>> {
        None
    }

    fn send(&self, py: Python<'_>, value: Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let _ = value;
        Err(crate::errors::stop(py.None()))
    }

    #[pyo3(signature = (kind, value = None, traceback = None))]
    fn throw(
        &self,
        kind: Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        Err(thrown(kind, value, traceback))
    }

    fn close(&self) {}
}

/// The exception that `throw` was called with, in either of its forms.
pub(crate) fn thrown(
    kind: Bound<'_, PyAny>,
    value: Option<Bound<'_, PyAny>>,
    _traceback: Option<Bound<'_, PyAny>>,
) -> PyErr {
    if kind.is_instance_of::<PyBaseException>() {
        return PyErr::from_value(kind);
    }
    let made = match value {
        Some(value) if value.is_instance_of::<PyBaseException>() => Ok(value),
        Some(value) if !value.is_none() => {
            PyTuple::new(kind.py(), [value]).and_then(|args| call::with_args(&kind, &args))
        }
        _ => call::with_args(&kind, &PyTuple::empty(kind.py())),
    };
    match made {
        Ok(exception) if exception.is_instance_of::<PyBaseException>() => PyErr::from_value(exception),
        Ok(_) => PyTypeError::new_err("exceptions must derive from BaseException"),
        Err(error) => error,
    }
}
