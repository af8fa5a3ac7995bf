//! The deadline of a read that waits: a timer of the loop's, which lets the future fail that is waited on.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyFloat;

use super::Read;
use crate::reader::{ReaderBase, throw_into};
use crate::{Lock, call, errors};

/// A timer of the loop's, and what it calls.
#[derive(Debug)]
pub(super) struct Timer {
    pub(super) handle: Py<PyAny>,
    pub(super) expiry: Py<Expiry>,
}

/// Called at a read's deadline. It knows the future and not the read, so that a read that is forgotten goes at once and
/// not at its deadline.
#[pyclass(frozen, module = "millstream._core")]
#[derive(Debug)]
pub(crate) struct Expiry {
    /// Nothing once nobody waits for it any more.
    pub(super) future: Lock<Option<Py<PyAny>>>,
    /// Of the method, for the message.
    name: &'static str,
}

#[pymethods]
impl Expiry {
    /// The deadline has come.
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let future = self.future.lock().take();
        if future.is_none() {
            return Ok(());
        }
        let text = format!("{}(): the deadline came before the data", self.name);
        throw_into(py, future, errors::timed_out(py, &text)?)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.future.try_lock() {
            Some(future) => visit.call(&*future),
            None => Ok(()),
        }
    }
}

impl Read {
    /// The timer that lets the future fail at the deadline.
    pub(super) fn timer(
        &self,
        py: Python<'_>,
        reader: &ReaderBase,
        deadline: f64,
        future: &Py<PyAny>,
    ) -> PyResult<Timer> {
        let name = self.job.lock().kind.name();
        let expiry = Py::new(py, Expiry { future: Lock::new(Some(future.clone_ref(py))), name })?;
        let event_loop = reader.event_loop(py)?;
        let when = PyFloat::new(py, deadline);
        let args = [when.as_any(), expiry.bind(py).as_any()];
        let handle = call::method(&event_loop, intern!(py, "call_at"), args)?;
        Ok(Timer { handle: handle.unbind(), expiry })
    }
}
