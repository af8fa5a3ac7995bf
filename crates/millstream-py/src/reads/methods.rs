//! What Python sees of a read: the methods of a coroutine.

use std::sync::atomic::Ordering;

use pyo3::exceptions::PyTypeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::{Next, Read, awaited_already, reused};
use crate::errors;
use crate::kind::Kind;
use crate::ready::thrown;

#[pymethods]
impl Read {
    #[inline]
    fn __await__(slf: PyRef<'_, Self>) -> PyResult<PyRef<'_, Self>> {
        if slf.waits.load(Ordering::Relaxed) && !slf.finished.load(Ordering::Relaxed) {
            // The first who awaits it is to get what it waits for.
            return Err(awaited_already(slf.py()));
        }
        Ok(slf)
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

    fn send(slf: &Bound<'_, Self>, value: Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        if !value.is_none() && slf.get().is_fresh() {
            return Err(PyTypeError::new_err("can't send non-None value to a just-started read"));
        }
        match Self::step(slf)? {
            Next::Wait(future) => Ok(future),
            Next::Done(value) => Err(errors::stop(value)),
        }
    }

    #[pyo3(signature = (kind, value = None, traceback = None))]
    fn throw(
        &self,
        kind: Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        if self.finished.load(Ordering::Relaxed) {
            return Err(reused(kind.py()));
        }
        self.abandon(kind.py())?;
        Err(thrown(kind, value, traceback))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.abandon(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(job) = self.job.try_lock() {
            visit.call(&job.reader)?;
            if let Kind::Into { view, .. } = &job.kind {
                visit.call(view)?;
            }
        }
        match self.waiting.try_lock() {
            Some(waiting) => {
                visit.call(&waiting.future)?;
                match &waiting.timer {
                    Some(timer) => {
                        visit.call(&timer.handle)?;
                        visit.call(&timer.expiry)
                    }
                    None => Ok(()),
                }
            }
            None => Ok(()),
        }
    }
}
