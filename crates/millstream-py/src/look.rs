//! A look at the buffer for a read, and what its end is for Python: an object or an exception.

use millstream_core::{Answer, Failure};
use pyo3::exceptions::{PyRuntimeError, PyStopAsyncIteration, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PySlice};

use crate::errors;
use crate::kind::Kind;
use crate::reader::State;

/// How a look at the buffer ended. Exceptions are made from it when the lock is released: making one runs Python code.
pub(crate) enum Step {
    Wait,
    Bytes(Py<PyBytes>),
    /// For the caller's memoryview.
    Into(Py<PyAny>, Py<PyBytes>),
    /// The end of `async for`.
    NoMore,
    Lines(Vec<Py<PyBytes>>),
    Incomplete {
        partial: Vec<u8>,
        expected: Option<usize>,
    },
    Overrun {
        found: bool,
        consumed: usize,
        of_line: bool,
    },
    Bad(&'static str),
    Raise(Py<PyAny>),
    Failed(Failure),
}

/// Takes the answer out of the buffer, if there is one. Runs no Python code.
#[inline]
pub(crate) fn look(py: Python<'_>, state: &mut State, kind: &Kind) -> Step {
    match kind {
        Kind::Until { separators, .. } if separators.is_empty() => {
            return Step::Bad("Separator should contain at least one element");
        }
        Kind::Until { separators, .. } if separators.iter().any(Vec::is_empty) => {
            return Step::Bad("Separator should be at least one-byte string");
        }
        Kind::Negative => return Step::Bad("readexactly size can not be less than zero"),
        _ => {}
    }
    if let Some(exception) = state.raised(py) {
        return Step::Raise(exception);
    }
    if let Kind::Line { limit } = kind
        && let Some(len) = state.buffer.ready_line(limit.unwrap_or_else(|| state.buffer.limit()))
    {
        return Step::Bytes(bytes(py, state.buffer.lend(len)));
    }
    match kind.judge(&mut state.buffer) {
        Answer::Need => Step::Wait,
        Answer::Ready { len } => match kind {
            Kind::Peek { max } => Step::Bytes(bytes(py, &state.buffer.unread()[..len.min(*max)])),
            Kind::Into { view, .. } => Step::Into(view.clone_ref(py), bytes(py, state.buffer.lend(len))),
            Kind::Lines { most, limit } => Step::Lines(lines(py, state, *most, *limit, len)),
            _ => Step::Bytes(bytes(py, state.buffer.lend(len))),
        },
        Answer::End => match kind {
            Kind::Until { .. } => Step::Incomplete { partial: Vec::new(), expected: None },
            Kind::Exactly(n) => Step::Incomplete { partial: Vec::new(), expected: Some(*n) },
            Kind::Lines { .. } => Step::Lines(Vec::new()),
            Kind::Next => Step::NoMore,
            Kind::Into { view, .. } => Step::Into(view.clone_ref(py), bytes(py, b"")),
            _ => Step::Bytes(bytes(py, b"")),
        },
        Answer::Incomplete { len } => {
            let expected = if let Kind::Exactly(n) = kind { Some(*n) } else { None };
            Step::Incomplete { partial: state.buffer.lend(len).to_vec(), expected }
        }
        Answer::Overrun { consumed, found } => {
            let of_line = matches!(kind, Kind::Line { .. } | Kind::Next | Kind::Lines { .. });
            if of_line {
                // As asyncio: the line goes, or what is there of it.
                let len = if found { consumed + 1 } else { state.buffer.len() };
                state.buffer.consume(len);
            }
            Step::Overrun { found, consumed, of_line }
        }
        Answer::Failed(failure) => match state.lost(py) {
            Some(exception) => Step::Raise(exception),
            None => Step::Failed(failure),
        },
    }
}

#[inline]
fn bytes(py: Python<'_>, data: &[u8]) -> Py<PyBytes> {
    PyBytes::new(py, data).unbind()
}

/// The first line, which is `len` long, and the complete ones behind it.
fn lines(
    py: Python<'_>,
    state: &mut State,
    most: usize,
    limit: Option<usize>,
    len: usize,
) -> Vec<Py<PyBytes>> {
    let mut found = vec![bytes(py, state.buffer.lend(len))];
    let limit = limit.unwrap_or_else(|| state.buffer.limit());
    while found.len() < most
        && let Some(len) = state.buffer.ready_line(limit)
    {
        found.push(bytes(py, state.buffer.lend(len)));
    }
    found
}

/// Puts the bytes at the start of the caller's view, and counts them.
fn put(view: &Bound<'_, PyAny>, data: Py<PyBytes>) -> PyResult<Py<PyAny>> {
    let py = view.py();
    let n = data.as_bytes(py).len();
    view.set_item(PySlice::new(py, 0, n.cast_signed(), 1), data)?;
    Ok(n.into_pyobject(py)?.into_any().unbind())
}

/// The result of a read.
#[inline]
pub(crate) fn finish(py: Python<'_>, step: Step) -> PyResult<Py<PyAny>> {
    let error = match step {
        Step::Bytes(bytes) => return Ok(bytes.into_any()),
        Step::Into(view, bytes) => return put(view.bind(py), bytes),
        Step::NoMore => return Err(PyStopAsyncIteration::new_err(())),
        Step::Lines(lines) => return Ok(PyList::new(py, lines)?.into_any().unbind()),
        Step::Incomplete { partial, expected } => errors::incomplete(py, &partial, expected),
        Step::Overrun { found, consumed, of_line: true } => {
            return Err(errors::line_overrun(py, found, consumed));
        }
        Step::Overrun { found, consumed, of_line: false } => errors::overrun(py, found, consumed),
        Step::Bad(text) => PyValueError::new_err(text),
        Step::Raise(exception) => PyErr::from_value(exception.into_bound(py)),
        Step::Failed(failure) => errors::failed(&failure),
        Step::Wait => PyRuntimeError::new_err("a read was finished while it waits"),
    };
    Err(errors::chained(py, error))
}
