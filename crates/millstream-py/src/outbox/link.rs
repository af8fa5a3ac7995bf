//! One loop's connections: who sends at the end of a turn, and the buffer that all of them receive into.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyMemoryView;

use super::Outbox;
use crate::scratch::{Lent, Scratch};
use crate::{Lock, call, errors};

/// One loop's connections with something to send. One callback a turn serves them all.
#[pyclass(frozen, weakref, module = "millstream._core")]
#[derive(Debug, Default)]
pub(crate) struct Link {
    waiting: Lock<Vec<Py<Outbox>>>,
    /// Where the loop's transports receive.
    scratch: Lock<Option<Lent>>,
}

impl Link {
    /// A view of the buffer to receive into, and the buffer.
    pub(crate) fn lend(&self, py: Python<'_>) -> PyResult<(Py<PyMemoryView>, Py<Scratch>)> {
        if let Some(lent) = &*self.scratch.lock()
            && lent.is_free(py)
        {
            return Ok((lent.view(py), lent.memory(py)));
        }
        let lent = Lent::new(py)?;
        let both = (lent.view(py), lent.memory(py));
        let old = self.scratch.lock().replace(lent);
        drop(old);
        Ok(both)
    }

    pub(super) fn schedule(
        slf: &Py<Self>,
        py: Python<'_>,
        outbox: &Py<Outbox>,
        event_loop: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let mut waiting = slf.get().waiting.lock();
        waiting.push(outbox.clone_ref(py));
        let is_first = waiting.len() == 1;
        drop(waiting);
        if !is_first {
            return Ok(());
        }
        if let Err(error) = call::method(event_loop, intern!(py, "call_soon"), [slf.bind(py).as_any()]) {
            // A closed loop has no turns any more.
            let flushed = slf.get().flush_all(py);
            return if errors::is_interrupt(py, &error) { Err(error) } else { flushed };
        }
        Ok(())
    }

    /// Everyone sends. What one fails with stops no other; the first failure is reported, a wish to end before it.
    fn flush_all(&self, py: Python<'_>) -> PyResult<()> {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        let mut result = Ok(());
        for outbox in waiting {
            outbox.get().state.lock().scheduled = false;
            if let Err(error) = outbox.get().turn_over(py)
                && (result.is_ok() || errors::is_interrupt(py, &error))
            {
                result = Err(error);
            }
        }
        result
    }
}

#[pymethods]
impl Link {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// The end of a turn: what was not sent by a read that waits is sent now.
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        self.flush_all(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(waiting) = self.waiting.try_lock() else { return Ok(()) };
        for outbox in waiting.iter() {
            visit.call(outbox)?;
        }
        Ok(())
    }

    /// A loop that was closed with bytes still waiting for the end of its turn.
    fn __clear__(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        drop(waiting);
    }
}
