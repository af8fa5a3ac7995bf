//! Calls into Python that can take a while: the loop's, its transports' and its futures', and what users hand in.
//!
//! Before 3.14, CPython ends a daemon thread that comes back from a system call during the interpreter's exit by unwinding
//! its stack (`pthread_exit`). No unwinding that is not a panic may pass the frame in which PyO3 catches panics: the process
//! would be aborted. So a thread that is unwound here stops here for ever, as CPython does itself from 3.14 on; it holds no
//! lock, and the process is about to end.

use std::hint::black_box;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

type VectorcallMethod = unsafe extern "C-unwind" fn(
    *mut ffi::PyObject,
    *const *mut ffi::PyObject,
    usize,
    *mut ffi::PyObject,
) -> *mut ffi::PyObject;

type Call = unsafe extern "C-unwind" fn(
    *mut ffi::PyObject,
    *mut ffi::PyObject,
    *mut ffi::PyObject,
) -> *mut ffi::PyObject;

/// CPython's functions, which PyO3 declares as such that never unwind, as such that may. The black box keeps the compiler
/// from knowing better again.
#[inline]
fn vectorcall_method() -> VectorcallMethod {
    let known: unsafe extern "C" fn(_, _, _, _) -> _ = ffi::PyObject_VectorcallMethod;
    // SAFETY: the two types differ in nothing but what may happen during a call.
    #[allow(unsafe_code)]
    unsafe {
        std::mem::transmute::<unsafe extern "C" fn(_, _, _, _) -> _, VectorcallMethod>(black_box(known))
    }
}

#[inline]
fn call() -> Call {
    let known: unsafe extern "C" fn(_, _, _) -> _ = ffi::PyObject_Call;
    // SAFETY: as above.
    #[allow(unsafe_code)]
    unsafe {
        std::mem::transmute::<unsafe extern "C" fn(_, _, _) -> _, Call>(black_box(known))
    }
}

/// Dropped only by unwinding; if that is no panic, it is the thread's end.
struct Unwound;

impl Drop for Unwound {
    fn drop(&mut self) {
        while !std::thread::panicking() {
            std::thread::park();
        }
    }
}

/// `object.name(*args)`.
#[inline]
pub(crate) fn method<'py, const N: usize>(
    object: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    args: [&Bound<'py, PyAny>; N],
) -> PyResult<Bound<'py, PyAny>> {
    const { assert!(N < MOST) };
    let mut all = [std::ptr::null_mut(); MOST];
    all[0] = object.as_ptr();
    for (slot, arg) in all[1..].iter_mut().zip(args) {
        *slot = arg.as_ptr();
    }
    // SAFETY: this thread is attached, as the tokens show; the objects are alive, and as many as the count says. The result
    // is a new reference, or null with an exception set.
    #[allow(unsafe_code)]
    unsafe {
        guarded(object.py(), || vectorcall_method()(name.as_ptr(), all.as_ptr(), N + 1, std::ptr::null_mut()))
    }
}

/// `callable(*args)`.
pub(crate) fn with_args<'py>(
    callable: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    object(callable, args, None)
}

/// `callable(**keywords)`.
#[inline]
pub(crate) fn with_keywords<'py>(
    callable: &Bound<'py, PyAny>,
    keywords: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    object(callable, &PyTuple::empty(callable.py()), Some(keywords))
}

#[inline]
fn object<'py>(
    callable: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    keywords: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let keywords = keywords.map_or(std::ptr::null_mut(), Bound::as_ptr);
    // SAFETY: as above; without keywords, null stands for none.
    #[allow(unsafe_code)]
    unsafe {
        guarded(callable.py(), || call()(callable.as_ptr(), args.as_ptr(), keywords))
    }
}

/// The result of a call that may end this thread.
///
/// # Safety
/// What the call returns is a new reference, or null with an exception set.
#[inline]
#[allow(unsafe_code)]
unsafe fn guarded<'py>(
    py: Python<'py>,
    call: impl FnOnce() -> *mut ffi::PyObject,
) -> PyResult<Bound<'py, PyAny>> {
    let unwound = Unwound;
    let result = call();
    std::mem::forget(unwound);
    // SAFETY: this thread is attached, as the token shows; the rest is the caller's promise.
    unsafe { Bound::from_owned_ptr_or_err(py, result) }
}

/// The object itself and two arguments.
const MOST: usize = 3;
