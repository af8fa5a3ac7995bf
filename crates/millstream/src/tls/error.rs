//! What can go wrong when TLS is configured and when it is begun.

use std::io;
use std::time::Duration;

use millstream_core::tls::{TlsFault, TlsVersion};
use millstream_core::{ErrorClass, Failure};
use thiserror::Error;

/// A TLS configuration that can never work.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TlsConfigError {
    /// A text is not PEM, or does not contain what it should.
    #[error("TLS configuration: the {what}: {text}")]
    BadPem {
        /// What it should have been, such as "private key".
        what: &'static str,
        /// What is wrong with it.
        text: String,
    },
    /// A server has to have a certificate.
    #[error("TLS configuration: a server needs a certificate and its key")]
    NoCertificate,
    /// A private key that does not belong to its certificate, or is of an unknown kind.
    #[error("TLS configuration: the private key: {text}")]
    BadKey {
        /// What is wrong with it.
        text: String,
    },
    /// No version lies between the oldest and the newest.
    #[error("TLS configuration: no version is at least {oldest} and at most {newest}")]
    NoVersion {
        /// The oldest that was allowed.
        oldest: TlsVersion,
        /// The newest that was allowed.
        newest: TlsVersion,
    },
    /// No host can have this name.
    #[error("TLS configuration: {name:?} is neither a DNS name nor an IP address")]
    BadServerName {
        /// The name.
        name: String,
    },
    /// The system has no trusted roots, or rustls refuses the configuration.
    #[error("TLS configuration: {text}")]
    Refused {
        /// What it says.
        text: String,
    },
}

impl TlsConfigError {
    /// Whose doing it was: always the caller's.
    pub fn class(&self) -> ErrorClass {
        ErrorClass::BadCall
    }

    pub(crate) fn refused(error: impl ToString) -> Self {
        Self::Refused { text: error.to_string() }
    }
}

/// `start_tls`, and connecting with TLS.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The reader belongs to another connection. Nothing was done.
    #[error("start_tls: the reader belongs to another connection than the writer")]
    NotOnePair,
    /// The connection has TLS already. Nothing was done.
    #[error("start_tls: this connection has TLS already")]
    AlreadySecure,
    /// This side has half-closed, so it cannot say its part of a handshake. Nothing was done.
    #[error("start_tls: write_eof() was called before")]
    Ended,
    /// rustls refuses the configuration for a connection. Nothing was done.
    #[error("TLS configuration: {text}")]
    BadConfiguration {
        /// What it says.
        text: String,
    },
    /// A client has to know whom to verify. Nothing was done.
    #[error(
        "TLS: a client needs a server name to verify, and this connection was not opened by one: set server_name"
    )]
    NoServerName,
    /// No certificate can be for this name. Nothing was done.
    #[error("TLS: {name:?} is neither a DNS name nor an IP address that a certificate could be for")]
    BadServerName {
        /// The name.
        name: String,
    },
    /// Adopting a socket does not wait, so it cannot do a handshake. The socket that was passed is closed.
    #[error("adopting an open socket cannot begin TLS: adopt it without, then call start_tls")]
    NeedsStartTls,
    /// The handshake failed. The connection is closed; nothing can be read or written, in plaintext least of all.
    #[error("TLS with {peer}: {failure}")]
    Handshake {
        /// The server's name, or the peer's address.
        peer: String,
        /// What happened; see [`Failure::tls`].
        failure: Failure,
    },
    /// The handshake took too long. The connection is closed.
    #[error("TLS with {peer}: the handshake was not over within {timeout:?}")]
    TimedOut {
        /// The server's name, or the peer's address.
        peer: String,
        /// The time that was allowed.
        timeout: Duration,
    },
}

impl TlsError {
    /// Whose doing it was.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Handshake { failure, .. } => failure.class(),
            Self::TimedOut { .. } => ErrorClass::Deadline,
            Self::Ended => ErrorClass::ClosedByUs,
            _ => ErrorClass::BadCall,
        }
    }

    /// What the TLS failure was, if it was one.
    pub fn fault(&self) -> Option<TlsFault> {
        match self {
            Self::Handshake { failure, .. } => failure.tls(),
            Self::TimedOut { .. } => Some(TlsFault::TimedOut),
            _ => None,
        }
    }

    /// The kind this has as [`io::Error`].
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Handshake { failure, .. } => failure.kind(),
            Self::TimedOut { .. } => io::ErrorKind::TimedOut,
            _ => io::ErrorKind::InvalidInput,
        }
    }
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        io::Error::new(error.kind(), error)
    }
}

impl From<TlsConfigError> for io::Error {
    fn from(error: TlsConfigError) -> Self {
        io::Error::new(io::ErrorKind::InvalidInput, error)
    }
}
