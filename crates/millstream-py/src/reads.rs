//! A read: lazy, cancel-safe, and finished without a coroutine's frame when the buffer can answer.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;

use crate::kind::Kind;
use crate::look::{Step, finish, look};
use crate::reader::{ReaderBase, Tell, throw_into, wake};
use crate::ready::thrown;
use crate::{Lock, errors};

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
    timer: Option<Py<PyAny>>,
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
        let py = slf.py();
        let this = slf.get();
        if this.finished.load(Ordering::Relaxed) {
            return Err(PyRuntimeError::new_err("cannot reuse already awaited read"));
        }
        let is_first = !this.waits.load(Ordering::Relaxed);
        let waited = if is_first { None } else { this.stop_waiting(py)? };
        let mut job = this.job.lock();
        let Some(reader) = job.reader.take() else {
            return Err(PyRuntimeError::new_err("this read is being awaited already"));
        };
        let (step, tell, forgotten, seen) = {
            let mut state = reader.get().state.lock();
            let forgotten = waited.as_ref().and_then(|waited| state.forget(waited));
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
        drop(waited);
        if forgotten.is_some() {
            this.awaited_twice(py, forgotten, &step)?;
        }
        if let Step::Wait = step {
            return match Self::wait(slf, reader.get(), is_first, seen)? {
                Some(future) => Ok(Next::Wait(future)),
                None => Self::step(slf),
            };
        }
        reader.get().tell(py, tell)?;
        finish(py, step).map(Next::Done)
    }

    /// This read goes on though nobody woke the future that it waits on: either a stranger completed that, or two await
    /// the same read. Then the other must not wait for ever.
    #[cold]
    fn awaited_twice(&self, py: Python<'_>, other: Option<Py<PyAny>>, step: &Step) -> PyResult<()> {
        let Some(future) = &other else { return Ok(()) };
        if future.bind(py).call_method0(intern!(py, "done"))?.is_truthy()? {
            return Ok(());
        }
        if let Step::Wait = step {
            self.finished.store(true, Ordering::Relaxed);
        }
        wake(py, other)?;
        match step {
            Step::Wait => Err(PyRuntimeError::new_err("this read is being awaited already")),
            _ => Ok(()),
        }
    }

    /// There is one reader at a time.
    #[cold]
    fn busy(&self) -> PyErr {
        self.finished.store(true, Ordering::Relaxed);
        let name = self.job.lock().kind.name();
        PyRuntimeError::new_err(format!(
            "{name}() called while another coroutine is already waiting for incoming data"
        ))
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
                return Err(this.busy());
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
            Some(deadline) => {
                let expire = slf.getattr(intern!(py, "_expire"))?;
                Some(
                    reader.event_loop(py)?.call_method1(intern!(py, "call_at"), (deadline, expire))?.unbind(),
                )
            }
        };
        let mut waiting = this.waiting.lock();
        waiting.future = Some(future.clone_ref(py));
        waiting.timer = timer;
        drop(waiting);
        this.waits.store(true, Ordering::Relaxed);
        let question = this.job.lock().kind.question();
        let tell = {
            let mut state = reader.state.lock();
            if state.waiter.is_some() {
                // Another thread was faster.
                drop(state);
                this.abandon(py)?;
                return Err(this.busy());
            }
            state.waiter = Some(future.clone_ref(py));
            state.wanted = Some(question);
            if is_first {
                state.gave_way = false;
            }
            state.flow(py, true)
        };
        if let Err(error) = reader.tell(py, tell) {
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
            && let Err(error) = timer.bind(py).call_method0(intern!(py, "cancel"))
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
        let Some(future) = self.waiting.get_mut().future.take() else { return };
        let Some(reader) = self.job.get_mut().reader.take() else { return };
        let forgotten = reader.get().state.lock().forget(&future);
        drop((future, forgotten));
    }
}

/// Whether ours is the only reference.
#[inline]
fn is_unshared(_: Python<'_>, read: &Py<Read>) -> bool {
    // SAFETY: the object is alive, for we hold a reference, and the global lock is held.
    #[allow(unsafe_code)]
    let references = unsafe { ffi::Py_REFCNT(read.as_ptr()) };
    references == 1
}

#[pymethods]
impl Read {
    #[inline]
    fn __await__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
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

    fn send(slf: &Bound<'_, Self>, _value: Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        match Self::step(slf)? {
            Next::Wait(future) => Ok(future),
            Next::Done(value) => Err(errors::stop(value)),
        }
    }

    /// The deadline has come.
    fn _expire(&self, py: Python<'_>) -> PyResult<()> {
        let mut waiting = self.waiting.lock();
        let timer = waiting.timer.take();
        let future = waiting.future.as_ref().map(|future| future.clone_ref(py));
        drop(waiting);
        drop(timer);
        let name = self.job.lock().kind.name();
        let text = format!("{name}(): the deadline came before the data");
        throw_into(py, future, errors::timed_out(py, &text)?)
    }

    #[pyo3(signature = (kind, value = None, traceback = None))]
    fn throw(
        &self,
        kind: Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
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
                visit.call(&waiting.timer)
            }
            None => Ok(()),
        }
    }
}
