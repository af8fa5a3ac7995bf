//! What a server calls for each connection: a plain function or an async one, with or without an error.

use std::error::Error as StdError;
use std::future::Future;
use std::pin::Pin;

/// Any error a handler may end with.
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// What a handler may end with: nothing, or a `Result` of nothing.
pub trait HandlerOutput: Send + 'static {
    /// The error, if it is one.
    fn into_failure(self) -> Option<BoxError>;
}

impl HandlerOutput for () {
    fn into_failure(self) -> Option<BoxError> {
        None
    }
}

impl<E: Into<BoxError> + Send + 'static> HandlerOutput for Result<(), E> {
    fn into_failure(self) -> Option<BoxError> {
        self.err().map(Into::into)
    }
}

/// What a handler may return: an output at once, or a future of one. `Kind` only tells the two apart, and is inferred.
pub trait HandlerReturn<Kind>: Send + 'static {
    /// The rest of the handler's work.
    fn into_work(self) -> HandlerWork;
}

/// The rest of a handler's work.
#[allow(missing_debug_implementations, reason = "a future has nothing to show")]
pub struct HandlerWork(pub(crate) Pin<Box<dyn Future<Output = Option<BoxError>> + Send>>);

/// [`HandlerReturn`] of a plain function.
#[derive(Debug)]
pub struct Plain;

/// [`HandlerReturn`] of an async function.
#[derive(Debug)]
pub struct Async;

impl<T: HandlerOutput> HandlerReturn<Plain> for T {
    fn into_work(self) -> HandlerWork {
        HandlerWork(Box::pin(std::future::ready(self.into_failure())))
    }
}

impl<F> HandlerReturn<Async> for F
where
    F: Future + Send + 'static,
    F::Output: HandlerOutput,
{
    fn into_work(self) -> HandlerWork {
        HandlerWork(Box::pin(async move { self.await.into_failure() }))
    }
}
