//! What stands in for `trace` without the feature `tracing`: nothing.

use crate::connection::Connection;
use crate::report::ServerFailure;
use crate::sync::Arc;

pub(crate) struct Watched;

impl Watched {
    pub(crate) fn accepted(_connection: &Arc<Connection>) -> Self {
        Self
    }

    #[inline]
    pub(crate) fn header_over(&self) {}

    #[inline]
    pub(crate) fn in_scope<R>(&self, f: impl FnOnce() -> R) -> R {
        f()
    }
}

#[inline]
pub(crate) fn handshake_over() {}

#[inline]
pub(crate) fn refused() {}

pub(crate) struct Failures;

impl Failures {
    pub(crate) fn new() -> Self {
        Self
    }

    #[inline]
    pub(crate) fn tell(&self, _failure: &ServerFailure) {}
}
