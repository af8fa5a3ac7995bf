//! The buffer that a loop's transports receive into: one for all connections of the loop, because each hands over what
//! came before the next one receives.

use std::cell::UnsafeCell;
use std::ffi::c_int;
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyMemoryView;

/// Memory that never moves and lives as long as anyone looks at it through a memoryview.
#[pyclass(frozen, module = "millstream._core")]
#[derive(Debug)]
pub(crate) struct Scratch {
    data: Box<[UnsafeCell<u8>]>,
    /// Views that were made and not released.
    exports: AtomicUsize,
}

// SAFETY: the bytes are read and written only by threads that are attached to an interpreter with a global lock (the
// module says `gil_used`), here and by whoever holds a memoryview, as with a `bytearray`.
#[allow(unsafe_code)]
unsafe impl Sync for Scratch {}

#[pymethods]
impl Scratch {
    /// Lends the memory, writable.
    ///
    /// # Safety
    /// `view` is valid for writing, as CPython's buffer protocol says.
    #[allow(unsafe_code)]
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let data = &slf.get().data;
        let len = ffi::Py_ssize_t::try_from(data.len()).map_err(|_| PyBufferError::new_err("too large"))?;
        // SAFETY: `view` is the caller's to be filled. The memory is `len` bytes of `UnsafeCell`, so writing through a
        // shared reference is allowed; it is a box that is never replaced, and the view holds a reference to its owner.
        let result = unsafe {
            ffi::PyBuffer_FillInfo(
                view,
                slf.as_ptr(),
                data.as_ptr().cast_mut().cast::<std::ffi::c_void>(),
                len,
                0,
                flags,
            )
        };
        if result != 0 {
            return Err(PyErr::fetch(slf.py()));
        }
        slf.get().exports.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// # Safety
    /// Called by CPython once for each view that was made.
    #[allow(unsafe_code)]
    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {
        self.exports.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Scratch {
    /// What was received: the first `n` bytes. `f` must not run Python code.
    pub(crate) fn with<R>(&self, _: Python<'_>, n: usize, f: impl FnOnce(&[u8]) -> R) -> PyResult<R> {
        let Some(data) = self.data.get(..n) else {
            let room = self.data.len();
            return Err(PyValueError::new_err(format!("{n} bytes received into a buffer of {room}")));
        };
        // SAFETY: the bytes are initialised and live as long as `self`. While `f` runs, this thread holds the global
        // lock and runs no Python code, so nobody else writes to them, as long as a transport hands over what it received
        // before it receives again. (One that did both at once would get wrong bytes from a `bytearray` as well.)
        #[allow(unsafe_code)]
        let data = unsafe { std::slice::from_raw_parts(data.as_ptr().cast::<u8>(), n) };
        Ok(f(data))
    }
}

/// A loop's buffer, with the view of it that is lent.
#[derive(Debug)]
pub(crate) struct Lent {
    scratch: Py<Scratch>,
    view: Py<PyMemoryView>,
}

impl Lent {
    pub(crate) fn new(py: Python<'_>) -> PyResult<Self> {
        let data = (0..SCRATCH_LEN).map(|_| UnsafeCell::new(0)).collect();
        let scratch = Py::new(py, Scratch { data, exports: AtomicUsize::new(0) })?;
        let view = PyMemoryView::from(scratch.bind(py).as_any())?.unbind();
        Ok(Self { scratch, view })
    }

    pub(crate) fn view(&self, py: Python<'_>) -> Py<PyMemoryView> {
        self.view.clone_ref(py)
    }

    /// Whether the view can be lent once more: nobody else still holds it (a loop that receives in the background, for one),
    /// and nobody has released it.
    pub(crate) fn is_free(&self, _: Python<'_>) -> bool {
        // SAFETY: the object is alive, for we hold a reference, and the global lock is held.
        #[allow(unsafe_code)]
        let references = unsafe { ffi::Py_REFCNT(self.view.as_ptr()) };
        references == 1 && self.scratch.get().exports.load(Ordering::Relaxed) == 1
    }

    pub(crate) fn memory(&self, py: Python<'_>) -> Py<Scratch> {
        self.scratch.clone_ref(py)
    }
}

/// As much as a hand-written loop receives at once.
const SCRATCH_LEN: usize = 64 * 1024;
