//! The native half of the Python package `millstream`: streams over the transports of any asyncio loop.
//!
//! Everything that has a meaning, limits, separators, ends, cork, is `millstream-core`'s. This crate moves bytes between
//! Python objects and those machines; `python/millstream` has the classes that users see, with all that is rare.
//!
//! # The rule of the border
//!
//! State is behind mutexes that are held for moments: **no Python code runs under one**, so nothing is ever entered twice
//! and no lock is waited for. What an object of Python's is to be told (`set_result`, `write`, `resume_reading`) is
//! collected and said after the lock is released; objects are dropped there too.

mod call;
mod errors;
mod kind;
mod look;
mod outbox;
mod protocol;
mod reader;
mod reads;
mod ready;
mod scratch;
mod view;
mod watch;
mod writer;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyImportError;
use pyo3::ffi;
use pyo3::prelude::*;

/// A mutex whose sections leave their data whole, so that a poisoned one can go on.
#[derive(Debug, Default)]
pub(crate) struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the owner, who needs no lock.
    #[inline]
    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the garbage collector, which must not wait.
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok()
    }
}

/// One interpreter of a process has these classes, the first that asks: they are one set of objects, which must not be
/// shared. CPython itself refuses only those sub-interpreters that have a lock of their own.
fn only_one_interpreter(_: Python<'_>) -> PyResult<()> {
    static FIRST: AtomicI64 = AtomicI64::new(-1);
    // SAFETY: this thread is attached, as the token shows, so there is a current interpreter, which stays.
    #[allow(unsafe_code)]
    let id = unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) };
    match FIRST.compare_exchange(-1, id, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => Ok(()),
        Err(first) if first == id => Ok(()),
        Err(_) => Err(PyImportError::new_err("millstream can be used by one interpreter of a process only")),
    }
}

/// What `python/millstream` builds its classes on.
#[pymodule(gil_used = true)]
mod _core {
    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::only_one_interpreter(module.py())
    }

    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::outbox::{Link, Outbox, know_transport};
    #[pymodule_export]
    use crate::protocol::ProtocolBase;
    #[pymodule_export]
    use crate::reader::ReaderBase;
    #[pymodule_export]
    use crate::reads::Read;
    #[pymodule_export]
    use crate::ready::Ready;
    #[pymodule_export]
    use crate::view::BufferView;
    #[pymodule_export]
    use crate::watch::Watch;
    #[pymodule_export]
    use crate::writer::WriterBase;
}
