//! What went wrong in a server without anyone to return it to: each cause is reported once, to whom the user chose.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use millstream_core::{DeadlineKind, Failure};

use crate::address::Address;
use crate::handler::BoxError;
use crate::proxy::ProxyRefusal;
use crate::report_limit::bounded;

/// A failure inside a server. The server itself goes on.
#[derive(Debug)]
pub struct ServerFailure {
    /// The peer of the connection, or the listener's own address if accepting failed.
    address: Option<Address>,
    cause: Cause,
    deadline: Option<DeadlineKind>,
}

#[derive(Debug)]
enum Cause {
    Error(BoxError),
    Panic(String),
    Accept(Failure),
    Handshake(Failure),
    ProxyHeader(ProxyRefusal),
}

impl ServerFailure {
    pub(crate) fn error(peer: Option<Address>, error: BoxError) -> Self {
        Self { address: peer, cause: Cause::Error(error), deadline: None }
    }

    pub(crate) fn panic(peer: Option<Address>, payload: &(dyn Any + Send)) -> Self {
        Self { address: peer, cause: Cause::Panic(panic_text(payload)), deadline: None }
    }

    pub(crate) fn accept(listener: Address, failure: Failure) -> Self {
        Self { address: Some(listener), cause: Cause::Accept(failure), deadline: None }
    }

    pub(crate) fn handshake(peer: Option<Address>, failure: Failure) -> Self {
        Self { address: peer, cause: Cause::Handshake(failure), deadline: None }
    }

    /// The connection had failed for this deadline before its handler did.
    pub(crate) fn after_deadline(mut self, deadline: Option<DeadlineKind>) -> Self {
        self.deadline = deadline;
        self
    }

    /// Which of its connection's deadlines had passed when the handler failed, whatever error the handler made of that.
    pub fn deadline(&self) -> Option<DeadlineKind> {
        self.deadline
    }

    pub(crate) fn proxy_header_refused(peer: Option<Address>, refusal: ProxyRefusal) -> Self {
        Self { address: peer, cause: Cause::ProxyHeader(refusal), deadline: None }
    }

    /// The reason, if a connection was refused for its PROXY header or for the lack of one, so that the handler was not
    /// called. [`address`](Self::address) is the socket's peer then, the proxy.
    pub fn proxy_header(&self) -> Option<&ProxyRefusal> {
        match &self.cause {
            Cause::ProxyHeader(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// The failure, if a TLS handshake failed, so that the handler was not called. [`Failure::tls`] says why.
    pub fn tls_handshake(&self) -> Option<&Failure> {
        match &self.cause {
            Cause::Handshake(failure) => Some(failure),
            _ => None,
        }
    }

    /// The peer of the failed handler's connection, or the listener's address if accepting failed.
    pub fn address(&self) -> Option<&Address> {
        self.address.as_ref()
    }

    /// Which of the [`CAUSES`] it is, from zero.
    pub(crate) fn cause_number(&self) -> usize {
        match self.cause {
            Cause::Error(_) => 0,
            Cause::Panic(_) => 1,
            Cause::Accept(_) => 2,
            Cause::Handshake(_) => 3,
            Cause::ProxyHeader(_) => 4,
        }
    }

    /// Whether a handler panicked.
    pub fn is_panic(&self) -> bool {
        matches!(self.cause, Cause::Panic(_))
    }

    /// Whether accepting is paused because this machine ran out of something (descriptors, memory).
    pub fn is_accept(&self) -> bool {
        matches!(self.cause, Cause::Accept(_))
    }
}

impl fmt::Display for ServerFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address.as_ref().map_or_else(|| "unknown".to_owned(), ToString::to_string);
        match &self.cause {
            Cause::Error(error) => write!(f, "the handler of the connection from {address} failed: {error}"),
            Cause::Panic(text) => write!(f, "the handler of the connection from {address} panicked: {text}"),
            Cause::Accept(failure) => write!(f, "accepting on {address} pauses: {failure}"),
            Cause::Handshake(failure) => write!(f, "the TLS handshake with {address} failed: {failure}"),
            Cause::ProxyHeader(refusal) => {
                write!(f, "the connection from {address} was refused for its PROXY header: {refusal}")
            }
        }
    }
}

impl StdError for ServerFailure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.cause {
            Cause::Error(error) => Some(&**error),
            Cause::Accept(failure) => Some(failure),
            Cause::Handshake(failure) => Some(failure),
            Cause::ProxyHeader(refusal) => Some(refusal),
            Cause::Panic(_) => None,
        }
    }
}

/// What a panic said.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}

/// Who is told.
pub(crate) type Report = Arc<dyn Fn(ServerFailure) + Send + Sync>;

/// Tells them. A reporter that panics has only itself to blame; the server lives.
pub(crate) fn tell(report: &Report, failure: ServerFailure) {
    let _ = catch_unwind(AssertUnwindSafe(|| report(failure)));
}

/// Lines on standard error, as asyncio does where no logger was set up, but a bounded number of them.
#[allow(clippy::print_stderr, reason = "the stated default, which `on_failure` replaces")]
pub(crate) fn to_stderr() -> Report {
    bounded(|line| eprintln!("{line}"))
}

/// How many causes there are.
pub(crate) const CAUSES: usize = 5;
