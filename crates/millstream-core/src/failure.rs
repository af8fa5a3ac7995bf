//! A transport's failure that can be kept, cloned and compared, and the class that says whose doing an error was.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::deadlines::DeadlineKind;
use crate::tls::TlsFault;

/// Whose doing an error was. Every error value of this library belongs to exactly one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorClass {
    /// The caller passed something that can never work. Nothing was read, queued or changed.
    BadCall,
    /// This side closed, half-closed or aborted the connection before.
    ClosedByUs,
    /// The peer, the network between or the system ended or broke it.
    BrokenByPeer,
    /// A configured bound was reached. The bytes of a read or write are still there and the stream goes on; a TLS handshake
    /// that was pushed out is over.
    Limit,
    /// A configured time ran out.
    Deadline,
}

/// The failure of a transport, kept once and handed to everyone who asks.
///
/// Unlike [`io::Error`] it can be cloned and compared; [`io::Error::from`] gives back the original's kind, system error
/// number and text.
#[derive(Clone, PartialEq, Eq)]
pub struct Failure {
    kind: io::ErrorKind,
    /// The system's error number, where the failure came from a system call.
    code: Option<i32>,
    detail: Arc<str>,
    class: ErrorClass,
    tls: Option<TlsFault>,
    deadline: Option<DeadlineKind>,
}

impl Failure {
    /// A failure that this side caused: the connection was aborted.
    pub fn aborted() -> Self {
        Self::new(
            io::ErrorKind::ConnectionAborted,
            "the connection was aborted by this side",
            ErrorClass::ClosedByUs,
        )
    }

    /// A failure of the given kind whose text says what happened.
    pub fn new(kind: io::ErrorKind, detail: impl Into<Arc<str>>, class: ErrorClass) -> Self {
        Self { kind, code: None, detail: detail.into(), class, tls: None, deadline: None }
    }

    pub(crate) fn with_tls(mut self, fault: TlsFault) -> Self {
        self.tls = Some(fault);
        self
    }

    pub(crate) fn with_deadline(mut self, kind: DeadlineKind) -> Self {
        self.deadline = Some(kind);
        self
    }

    /// The kind of the transport's error.
    pub fn kind(&self) -> io::ErrorKind {
        self.kind
    }

    /// The system's error number (`errno`), if the failure came from a system call.
    pub fn raw_os_error(&self) -> Option<i32> {
        self.code
    }

    /// Whose doing it was.
    pub fn class(&self) -> ErrorClass {
        self.class
    }

    /// What it was, if it was TLS that failed.
    pub fn tls(&self) -> Option<TlsFault> {
        self.tls
    }

    /// Which of the connection's [`Deadlines`](crate::Deadlines) passed, if it was cut for one.
    pub fn deadline(&self) -> Option<DeadlineKind> {
        self.deadline
    }
}

impl From<&io::Error> for Failure {
    fn from(error: &io::Error) -> Self {
        Self {
            kind: error.kind(),
            code: error.raw_os_error(),
            detail: error.to_string().into(),
            class: ErrorClass::BrokenByPeer,
            tls: None,
            deadline: None,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::from(&error)
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        match failure.code {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(failure.kind, failure),
        }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Failure({:?}: {})", self.kind, self.detail)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_keeps_the_error_number() {
        let failure = Failure::from(io::Error::from_raw_os_error(104));
        assert_eq!(failure.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(io::Error::from(failure).raw_os_error(), Some(104));
    }
}
