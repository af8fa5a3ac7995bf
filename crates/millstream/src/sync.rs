//! Std's or loom's synchronisation types, one switch: the models in `loom_models/` run the very code that ships.

use std::sync::PoisonError;

// Methods take `self: &Arc<Self>`, which stable Rust allows for std's alone; loom need not see who counts references.
pub(crate) use std::sync::Arc;

#[cfg(millstream_loom)]
pub(crate) use loom::{
    sync::MutexGuard,
    sync::atomic::{AtomicBool, Ordering},
    thread_local,
};
#[cfg(not(millstream_loom))]
pub(crate) use std::{
    sync::MutexGuard,
    sync::atomic::{AtomicBool, Ordering},
    thread_local,
};

#[cfg(millstream_loom)]
use loom::sync as imp;
#[cfg(not(millstream_loom))]
use std::sync as imp;

/// A mutex whose sections are short and leave their data whole at every step, so that a poisoned one can go on.
#[derive(Debug)]
pub(crate) struct Mutex<T>(imp::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(imp::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
