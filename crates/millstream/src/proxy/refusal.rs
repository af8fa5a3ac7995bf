//! Why a connection was refused for its PROXY header, or for the lack of one.

use millstream_core::proxy::ProxyHeaderError;
use millstream_core::{ErrorClass, Failure};
use std::time::Duration;
use thiserror::Error;

/// Why a server closed a connection before its handler was called; see
/// [`ServerFailure::proxy_header`](crate::ServerFailure::proxy_header).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProxyRefusal {
    /// A header is required, and this peer is in no trusted network.
    #[error("the peer is in no network that is trusted to send one")]
    Untrusted,
    /// A header is required, and the first bytes were something else.
    #[error("the connection begins with something else")]
    Missing,
    /// The first bytes begin as a header does, and are none.
    #[error(transparent)]
    Broken(#[from] ProxyHeaderError),
    /// The peer ended the connection in the header or before it. With nothing received this is what the checks of load
    /// balancers look like that only connect.
    #[error("the connection ended after {received} bytes of it")]
    Ended {
        /// What had arrived, in bytes.
        received: usize,
    },
    /// The transport failed in the header or before it.
    #[error("the connection failed after {received} bytes of it: {failure}")]
    Failed {
        /// What had arrived, in bytes.
        received: usize,
        /// Why.
        failure: Failure,
    },
    /// The header was not there in time.
    #[error("it was not there within {timeout:?} ({received} bytes of it were)")]
    TimedOut {
        /// The time that was allowed.
        timeout: Duration,
        /// What had arrived, in bytes.
        received: usize,
    },
}

impl ProxyRefusal {
    /// Whose doing it was.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::TimedOut { .. } => ErrorClass::Deadline,
            Self::Broken(error) => error.class(),
            Self::Failed { failure, .. } => failure.class(),
            Self::Untrusted | Self::Missing | Self::Ended { .. } => ErrorClass::BrokenByPeer,
        }
    }
}
