//! A read: lazy, cancel-safe, and finished without a coroutine's frame when the buffer can answer.

mod expiry;
mod methods;

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use expiry::Timer;

use crate::kind::Kind;
use crate::look::{Step, finish, look};
use crate::reader::{ReaderBase, Tell};
use crate::{Lock, call, errors};

/// One read that was asked for. Nothing happens before it is awaited.
///
/// One that has finished knows its reader no more. The reader keeps it, and uses it again if nobody else has it by then.
#[pyclass(frozen, freelist = 64, module = "millstream._core")]
#[derive(Debug)]
pub(crate) struct Read {
    job: Lock<Job>,
    finished: AtomicBool,
    /// It has waited before.
    waits: AtomicBool,
    waiting: Lock<Waiting>,
}

/// What is to be read.
#[derive(Debug)]
struct Job {
    /// Nothing once the read has finished.
    reader: Option<Py<ReaderBase>>,
    kind: Kind,
    /// The loop's time at which waiting ends.
    deadline: Option<f64>,
}

/// The future that is waited on, and the timer that ends it.
#[derive(Debug, Default)]
struct Waiting {
    future: Option<Py<PyAny>>,
    timer: Option<Timer>,
}

/// What comes next.
enum Next {
    /// This future is to be waited for.
    Wait(Py<PyAny>),
    Done(Py<PyAny>),
}

impl Read {
    /// A read: the spare one if it is nobody else's.
    #[inline]
    pub(crate) fn make(
        py: Python<'_>,
        spare: Option<Py<Self>>,
        reader: Py<ReaderBase>,
        kind: Kind,
        deadline: Option<f64>,
    ) -> PyResult<Py<Self>> {
        let job = Job { reader: Some(reader), kind, deadline };
        if let Some(spare) = spare
            && is_unshared(py, &spare)
        {
            let read = spare.get();
            let old = std::mem::replace(&mut *read.job.lock(), job);
            drop(old);
            read.finished.store(false, Ordering::Relaxed);
            read.waits.store(false, Ordering::Relaxed);
            return Ok(spare);
        }
        let read = Py::new(
            py,
            Self {
                job: Lock::new(job),
                finished: AtomicBool::new(false),
                waits: AtomicBool::new(false),
                waiting: Lock::default(),
            },
        )?;
        // A read whose memory comes from the free list is not known to the garbage collector, so that a cycle through it would
        // stay for ever.
        // SAFETY: the object is alive and whole, its type takes part in garbage collection, and the global lock is held.
        #[allow(unsafe_code)]
        unsafe {
            if ffi::PyObject_GC_IsTracked(read.as_ptr()) == 0 {
                ffi::PyObject_GC_Track(read.as_ptr().cast());
            }
        }
        Ok(read)
    }

    /// The reader, while the read has not finished.
    fn reader(&self, py: Python<'_>) -> Option<Py<ReaderBase>> {
        self.job.lock().reader.as_ref().map(|reader| reader.clone_ref(py))
    }

    /// Goes on.
    #[inline]
    fn step(slf: &Bound<'_, Self>) -> PyResult<Next> {
        Self::step_unless_awaited(slf, false)
    }

    /// Goes on. `is_done` says that the future which the read waits on is known to be done, though nobody woke it there.
    #[inline]
    fn step_unless_awaited(slf: &Bound<'_, Self>, is_done: bool) -> PyResult<Next> {
        let py = slf.py();
        let this = slf.get();
        if this.finished.load(Ordering::Relaxed) {
            return Err(reused(py));
        }
        let is_first = !this.waits.load(Ordering::Relaxed);
        let waited = if is_first {
            None
        } else {
            let mut waiting = this.waiting.lock();
            if waiting.timer.is_none() {
                waiting.future.take()
            } else {
                drop(waiting);
                if !is_done && this.is_waited_for(py) {
                    return Self::step_unwoken(slf);
                }
                this.stop_waiting(py)?
            }
        };
        let mut job = this.job.lock();
        let Some(reader) = job.reader.take() else {
            drop(job);
            return Err(awaited_already(py));
        };
        let (step, tell, forgotten, seen) = {
            let mut state = reader.get().state.lock();
            let unwoken = waited.as_ref().filter(|waited| state.waits_for(waited));
            if unwoken.is_some() && !is_done {
                // As if nothing had been touched.
                drop(state);
                job.reader = Some(reader);
                drop(job);
                this.waiting.lock().future = waited;
                return Self::step_unwoken(slf);
            }
            let forgotten = unwoken.and_then(|future| state.forget(future));
            let step = look(py, &mut state, &job.kind);
            let tell = if let Step::Wait = step {
                job.reader = Some(reader.clone_ref(py));
                Tell::Nothing
            } else {
                this.finished.store(true, Ordering::Relaxed);
                // Not one that holds the caller's buffer.
                if state.spare.is_none() && !matches!(job.kind, Kind::Into { .. }) {
                    state.spare = Some(slf.clone().unbind());
                }
                state.tell_writer();
                state.taken(py)
            };
            (step, tell, forgotten, state.buffer.len())
        };
        drop(job);
        drop((waited, forgotten));
        if let Step::Wait = step {
            return match Self::wait(slf, reader.get(), is_first, seen)? {
                Some(future) => Ok(Next::Wait(future)),
                None => Self::step(slf),
            };
        }
        reader.get().tell_behind_a_read(py, tell)?;
        finish(py, step).map(Next::Done)
    }

    /// This read is to go on though nobody woke the future that it waits on: either that was completed by a stranger or
    /// cancelled, or two await the same read, and the first is to get what it waits for.
    #[cold]
    fn step_unwoken(slf: &Bound<'_, Self>) -> PyResult<Next> {
        let py = slf.py();
        let future = slf.get().waiting.lock().future.as_ref().map(|future| future.clone_ref(py));
        if let Some(future) = future
            && !call::method(future.bind(py), intern!(py, "done"), [])?.is_truthy()?
        {
            return Err(awaited_already(py));
        }
        Self::step_unless_awaited(slf, true)
    }

    /// Whether the reader still has the future that this read waits on.
    fn is_waited_for(&self, py: Python<'_>) -> bool {
        let Some(reader) = self.reader(py) else { return false };
        let future = self.waiting.lock().future.as_ref().map(|future| future.clone_ref(py));
        future.is_some_and(|future| reader.get().state.lock().waits_for(&future))
    }

    /// Whether it has neither waited nor finished.
    fn is_fresh(&self) -> bool {
        !self.waits.load(Ordering::Relaxed) && !self.finished.load(Ordering::Relaxed)
    }

    /// There is one reader at a time.
    #[cold]
    fn busy(&self, py: Python<'_>) -> PyErr {
        self.finished.store(true, Ordering::Relaxed);
        let name = self.job.lock().kind.name();
        let text = format!("{name}() called while another coroutine is already waiting for incoming data");
        errors::chained(py, PyRuntimeError::new_err(text))
    }

    /// The future to wait for. `None` if there is something new since the look that `seen` bytes: a transport that answers
    /// within `write` itself.
    fn wait(
        slf: &Bound<'_, Self>,
        reader: &ReaderBase,
        is_first: bool,
        seen: usize,
    ) -> PyResult<Option<Py<PyAny>>> {
        let py = slf.py();
        let this = slf.get();
        reader.flush_writer(py)?;
        {
            let state = reader.state.lock();
            if state.waiter.is_some() {
                drop(state);
                return Err(this.busy(py));
            }
            if state.has_news(seen) {
                return Ok(None);
            }
        }
        let future = reader.make_future(py)?;
        // As `await future` does, without its iterator between us.
        future.setattr(intern!(py, "_asyncio_future_blocking"), true)?;
        let future = future.unbind();
        let deadline = this.job.lock().deadline;
        let timer = match deadline {
            None => None,
            Some(deadline) => Some(this.timer(py, reader, deadline, &future)?),
        };
        let mut waiting = this.waiting.lock();
        waiting.future = Some(future.clone_ref(py));
        waiting.timer = timer;
        drop(waiting);
        let question = this.job.lock().kind.question();
        let (tell, on_wait) = {
            let mut state = reader.state.lock();
            if state.waiter.is_some() {
                // Another thread was faster.
                drop(state);
                this.abandon(py)?;
                return Err(this.busy(py));
            }
            if state.has_news(seen) {
                // Making the future or the timer has run code that fed the reader.
                drop(state);
                let unneeded = this.stop_waiting(py)?;
                drop(unneeded);
                return Ok(None);
            }
            state.waiter = Some(future.clone_ref(py));
            state.wanted = Some(question);
            if is_first {
                state.gave_way = false;
            }
            (state.flow(py, true), state.on_wait(py))
        };
        this.waits.store(true, Ordering::Relaxed);
        let told = reader.tell(py, tell).and_then(|()| {
            on_wait.map_or(Ok(()), |on_wait| call::with_args(on_wait.bind(py), &PyTuple::empty(py)).map(drop))
        });
        if let Err(error) = told {
            this.abandon(py)?;
            return Err(error);
        }
        Ok(Some(future))
    }

    /// Stops waiting: nothing was consumed, and the next read finds everything.
    fn abandon(&self, py: Python<'_>) -> PyResult<()> {
        self.finished.store(true, Ordering::Relaxed);
        let future = self.stop_waiting(py)?;
        let forgotten = self.forget(py, future.as_ref());
        drop((future, forgotten));
        Ok(())
    }

    /// The reader's reference to the future that this read waited on, to be dropped without a lock.
    fn forget(&self, py: Python<'_>, future: Option<&Py<PyAny>>) -> Option<Py<PyAny>> {
        let reader = self.reader(py)?;
        reader.get().state.lock().forget(future?)
    }

    /// The future that was waited on; its timer is cancelled.
    fn stop_waiting(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let mut waiting = self.waiting.lock();
        let future = waiting.future.take();
        let timer = waiting.timer.take();
        drop(waiting);
        if let Some(timer) = timer
            && let Err(error) = call::method(timer.handle.bind(py), intern!(py, "cancel"), [])
        {
            // Ctrl-C, for one: the next read must not find this one waiting.
            drop(self.forget(py, future.as_ref()));
            return Err(error);
        }
        Ok(future)
    }
}

impl Drop for Read {
    /// A read that waited and was forgotten: the next one must not find it waiting.
    fn drop(&mut self) {
        let waiting = self.waiting.get_mut();
        let Some(future) = waiting.future.take() else { return };
        if let Some(timer) = &waiting.timer {
            // Nobody is left to be told.
            let unneeded = timer.expiry.get().future.lock().take();
            drop(unneeded);
        }
        let Some(reader) = self.job.get_mut().reader.take() else { return };
        let forgotten = reader.get().state.lock().forget(&future);
        drop((future, forgotten));
    }
}

#[cold]
fn awaited_already(py: Python<'_>) -> PyErr {
    errors::chained(py, PyRuntimeError::new_err("this read is being awaited already"))
}

#[cold]
fn reused(py: Python<'_>) -> PyErr {
    errors::chained(py, PyRuntimeError::new_err("cannot reuse already awaited read"))
}

/// Whether ours is the only reference.
#[inline]
fn is_unshared(_: Python<'_>, read: &Py<Read>) -> bool {
    // SAFETY: the object is alive, for we hold a reference, and the global lock is held.
    #[allow(unsafe_code)]
    let references = unsafe { ffi::Py_REFCNT(read.as_ptr()) };
    references == 1
}
