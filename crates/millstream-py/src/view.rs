//! `reader._buffer`: what programs that reach inside of asyncio's reader expect there, as a live view of ours.

use pyo3::basic::CompareOp;
use pyo3::exceptions::{PyIndexError, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PySlice};

use crate::reader::ReaderBase;
use crate::writer::snapshot;

/// The unread bytes of a reader, in the manner of a `bytearray`.
#[pyclass(frozen, module = "millstream._core")]
#[derive(Debug)]
pub(crate) struct BufferView {
    reader: Py<ReaderBase>,
}

impl BufferView {
    pub(crate) fn new(reader: Py<ReaderBase>) -> Self {
        Self { reader }
    }

    fn with<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        f(self.reader.get().state.lock().buffer.unread())
    }

    /// Puts other bytes in the place of all.
    fn replace(&self, data: &[u8]) {
        let mut state = self.reader.get().state.lock();
        let len = state.buffer.len();
        state.buffer.consume(len);
        state.buffer.feed(data);
    }
}

#[pymethods]
impl BufferView {
    fn __len__(&self) -> usize {
        self.with(<[u8]>::len)
    }

    fn __bool__(&self) -> bool {
        self.with(|data| !data.is_empty())
    }

    fn __bytes__<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        self.with(|data| PyBytes::new(py, data))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("bytearray({})", self.__bytes__(py).repr()?))
    }

    fn __richcmp__(&self, py: Python<'_>, other: Bound<'_, PyAny>, op: CompareOp) -> PyResult<Py<PyAny>> {
        let ours = self.__bytes__(py);
        let theirs = match other.cast::<Self>() {
            Ok(view) => view.get().__bytes__(py).into_any(),
            Err(_) => other,
        };
        Ok(ours.rich_compare(theirs, op)?.unbind())
    }

    fn __getitem__<'py>(&self, py: Python<'py>, index: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let item = self.__bytes__(py).into_any().get_item(&index)?;
        if index.is_instance_of::<PySlice>() {
            return py.import("builtins")?.getattr("bytearray")?.call1((item,));
        }
        Ok(item)
    }

    fn __contains__(&self, py: Python<'_>, item: Bound<'_, PyAny>) -> PyResult<bool> {
        self.__bytes__(py).contains(item)
    }

    fn __delitem__(&self, index: Bound<'_, PyAny>) -> PyResult<()> {
        let len = self.__len__();
        let Ok(slice) = index.cast::<PySlice>() else {
            return Err(PyTypeError::new_err("bytes of the buffer can be deleted by slices only"));
        };
        let place = slice.indices(isize::try_from(len).unwrap_or(isize::MAX))?;
        if place.step != 1 {
            return Err(PyIndexError::new_err("bytes of the buffer can be deleted by slices of step 1 only"));
        }
        let start = usize::try_from(place.start).unwrap_or(0);
        let stop = usize::try_from(place.stop).unwrap_or(0).max(start);
        if start == 0 {
            let mut state = self.reader.get().state.lock();
            let stop = stop.min(state.buffer.len());
            state.buffer.consume(stop);
            return Ok(());
        }
        let kept = self.with(|data| {
            // It may have shrunk since: what an index is may run code.
            let (start, stop) = (start.min(data.len()), stop.min(data.len()));
            [&data[..start], &data[stop..]].concat()
        });
        self.replace(&kept);
        Ok(())
    }

    fn clear(&self) {
        self.replace(&[]);
    }

    fn extend(&self, data: Bound<'_, PyAny>) -> PyResult<()> {
        let data = snapshot(&data)?;
        self.reader.get().state.lock().buffer.feed(&data);
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.reader)
    }

    /// Everything else that `bytes` can do without changing: `find`, `startswith`, `split`, `decode`...
    fn __getattr__<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        self.__bytes__(py).into_any().getattr(name)
    }
}
