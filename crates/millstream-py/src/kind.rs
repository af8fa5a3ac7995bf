//! What a read asks for: the methods of a reader as questions to the core's buffer.

use millstream_core::{Answer, ReadBuffer, Request, Separators};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// What is read.
#[derive(Debug)]
pub(crate) enum Kind {
    Line {
        limit: Option<usize>,
    },
    /// A line of `async for`.
    Next,
    Until {
        separators: Vec<Vec<u8>>,
        limit: Option<usize>,
    },
    Exactly(usize),
    /// `readexactly` of less than nothing.
    Negative,
    Some {
        max: usize,
    },
    All,
    /// As `Some`, without taking it.
    Peek {
        max: usize,
    },
    /// All complete lines that are there, at least one.
    Lines {
        most: usize,
        limit: Option<usize>,
    },
    /// As `Some`, into a memoryview of the caller's bytes, which are `max` many.
    Into {
        view: Py<PyAny>,
        max: usize,
    },
}

impl Kind {
    pub(crate) fn until(separators: Vec<Vec<u8>>, limit: Option<usize>) -> Self {
        Self::Until { separators, limit }
    }

    /// The same question to the buffer, for the reader to ask while the read waits.
    pub(crate) fn question(&self) -> Self {
        match self {
            Self::Line { limit } | Self::Lines { limit, .. } => Self::Line { limit: *limit },
            Self::Next => Self::Next,
            Self::Until { separators, limit } => Self::until(separators.clone(), *limit),
            Self::Exactly(n) => Self::Exactly(*n),
            Self::Negative => Self::Negative,
            Self::Some { max } | Self::Peek { max } | Self::Into { max, .. } => Self::Some { max: *max },
            Self::All => Self::All,
        }
    }

    /// The name of the method, for messages.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Line { .. } | Self::Next | Self::Until { .. } => "readuntil",
            Self::Exactly(_) | Self::Negative => "readexactly",
            Self::Some { .. } | Self::All => "read",
            Self::Peek { .. } => "peek",
            Self::Lines { .. } => "readlines",
            Self::Into { .. } => "readinto",
        }
    }

    /// Asks the buffer.
    #[inline]
    pub(crate) fn judge(&self, buffer: &mut ReadBuffer) -> Answer {
        let limit = buffer.limit();
        let request = match self {
            Self::Line { limit: own } | Self::Lines { limit: own, .. } => {
                Request::Line { limit: own.unwrap_or(limit) }
            }
            Self::Next => Request::Line { limit },
            Self::Until { separators, limit: own } => {
                let limit = own.unwrap_or(limit);
                if let [one] = &separators[..] {
                    let separators = Separators::One(one);
                    return buffer.poll(&Request::Until { separators, limit });
                }
                let several: Vec<&[u8]> = separators.iter().map(|separator| &separator[..]).collect();
                return buffer.poll(&Request::Until { separators: Separators::Any(&several), limit });
            }
            Self::Exactly(n) => Request::Exactly(*n),
            Self::Negative => Request::Exactly(0),
            Self::Some { max } | Self::Peek { max } | Self::Into { max, .. } => Request::Some { max: *max },
            Self::All => Request::All { max: usize::MAX },
        };
        buffer.poll(&request)
    }
}

/// The separators of `readuntil`: one bytes-like object, or a tuple of them.
pub(crate) fn separators(separator: &Bound<'_, PyAny>) -> PyResult<Vec<Vec<u8>>> {
    match separator.cast::<PyTuple>() {
        Ok(several) => several.iter().map(|one| crate::writer::snapshot(&one)).collect(),
        Err(_) => Ok(vec![crate::writer::snapshot(separator)?]),
    }
}
