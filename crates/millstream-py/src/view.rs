//! `reader._buffer`: what programs that reach inside of asyncio's reader expect there, as a live view of ours.

use std::ffi::c_int;

use pyo3::basic::CompareOp;
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PySlice, PyString, PyTuple};

use crate::call;
use crate::reader::ReaderBase;
use crate::writer::snapshot;

/// The unread bytes of a reader, in the manner of a `bytearray`. What is asked for a buffer or an iterator gets the bytes as
/// they are at that moment.
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

    fn array<'py>(&self, py: Python<'py>) -> Bound<'py, PyByteArray> {
        self.with(|data| PyByteArray::new(py, data))
    }

    /// Does to the bytes what is done to a `bytearray`.
    fn edit<'py>(&self, method: &str, args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        let array = self.array(args.py());
        let len = array.len();
        let result = call::with_args(&array.getattr(method)?, args)?;
        let mut edited = array.to_vec();
        // What the method called may have fed the reader: that stays, behind all else.
        self.with(|data| edited.extend_from_slice(data.get(len..).unwrap_or_default()));
        self.replace(&edited);
        Ok(result)
    }

    /// Puts other bytes in the place of all.
    fn replace(&self, data: &[u8]) {
        let mut state = self.reader.get().state.lock();
        let len = state.buffer.len();
        state.buffer.consume(len);
        state.buffer.feed(data);
    }
}

fn is_number(value: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the object is alive, and the global lock is held.
    #[allow(unsafe_code)]
    let is_number = unsafe { ffi::PyNumber_Check(value.as_ptr()) };
    is_number == 1
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

    /// A buffer of the bytes as they are now, which belongs to nobody else: what is read later moves none of it.
    ///
    /// # Safety
    /// `view` is valid for writing, as CPython's buffer protocol says.
    #[allow(unsafe_code)]
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let bytes = slf.get().__bytes__(slf.py());
        // SAFETY: `view` is the caller's to be filled. The request is passed on to a living `bytes` object, of which the
        // filled view holds a reference and to which its release goes.
        let result = unsafe { ffi::PyObject_GetBuffer(bytes.as_ptr(), view, flags) };
        if result == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.__bytes__(py).try_iter()?.into_any())
    }

    fn __getitem__<'py>(&self, py: Python<'py>, index: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.array(py).into_any().get_item(&index)
    }

    fn __contains__(&self, py: Python<'_>, item: Bound<'_, PyAny>) -> PyResult<bool> {
        self.__bytes__(py).contains(item)
    }

    fn __add__<'py>(&self, py: Python<'py>, other: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        call::method(&self.array(py), intern!(py, "__add__"), [&other])
    }

    fn __radd__<'py>(&self, py: Python<'py>, other: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        other.add(self.__bytes__(py))
    }

    fn __iadd__(&self, data: Bound<'_, PyAny>) -> PyResult<()> {
        self.extend(data)
    }

    fn __setitem__(&self, index: Bound<'_, PyAny>, value: Bound<'_, PyAny>) -> PyResult<()> {
        let py = index.py();
        // A `bytearray` is changed once everything is there that is put into it, which may run a generator. What it refuses
        // it refuses itself: numbers and text are no bytes.
        let is_iterated = index.is_instance_of::<PySlice>()
            && !value.is_instance_of::<PyBytes>()
            && !value.is_instance_of::<PyString>()
            && !is_number(&value);
        let value = if is_iterated { PyByteArray::from(&value)?.into_any() } else { value };
        self.edit("__setitem__", &PyTuple::new(py, [index, value])?).map(drop)
    }

    fn __delitem__(&self, index: Bound<'_, PyAny>) -> PyResult<()> {
        let len = self.__len__();
        if let Ok(slice) = index.cast::<PySlice>() {
            let place = slice.indices(isize::try_from(len).unwrap_or(isize::MAX))?;
            if (place.start, place.step) == (0, 1) {
                // What was read: nothing moves.
                let mut state = self.reader.get().state.lock();
                let stop = usize::try_from(place.stop).unwrap_or(0).min(state.buffer.len());
                state.buffer.consume(stop);
                return Ok(());
            }
        }
        self.edit("__delitem__", &PyTuple::new(index.py(), [&index])?).map(drop)
    }

    #[pyo3(signature = (*args))]
    fn append(&self, args: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.edit("append", args).map(drop)
    }

    #[pyo3(signature = (*args))]
    fn insert(&self, args: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.edit("insert", args).map(drop)
    }

    #[pyo3(signature = (*args))]
    fn pop<'py>(&self, args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        self.edit("pop", args)
    }

    #[pyo3(signature = (*args))]
    fn remove(&self, args: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.edit("remove", args).map(drop)
    }

    fn reverse(&self, py: Python<'_>) -> PyResult<()> {
        self.edit("reverse", &PyTuple::empty(py)).map(drop)
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
