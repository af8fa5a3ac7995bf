//! Calls into Python that can take a while: the loop's, its transports' and its futures'.
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
    let unwound = Unwound;
    // SAFETY: this thread is attached, as the tokens show; the objects are alive, and as many as the count says. The result
    // is a new reference, or null with an exception set.
    #[allow(unsafe_code)]
    let result = unsafe {
        let result = vectorcall_method()(name.as_ptr(), all.as_ptr(), N + 1, std::ptr::null_mut());
        Bound::from_owned_ptr_or_err(object.py(), result)
    };
    std::mem::forget(unwound);
    result
}

/// `callable(**keywords)`.
#[inline]
pub(crate) fn with_keywords<'py>(
    callable: &Bound<'py, PyAny>,
    keywords: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    let nothing = PyTuple::empty(callable.py());
    let unwound = Unwound;
    // SAFETY: as above.
    #[allow(unsafe_code)]
    let result = unsafe {
        let result = call()(callable.as_ptr(), nothing.as_ptr(), keywords.as_ptr());
        Bound::from_owned_ptr_or_err(callable.py(), result)
    };
    std::mem::forget(unwound);
    result
}

/// The object itself and two arguments.
const MOST: usize = 3;
