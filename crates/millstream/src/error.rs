//! The errors of connecting and serving, and one enum that holds every error of this crate for use with `?`.
//!
//! The errors of reading and writing are the core's, one enum per operation.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use millstream_core::{
    CloseError, ConfigError, DrainError, ErrorClass, Failure, ReadError, ReadExactlyError, ReadLineError,
    ReadToEndError, ReadUntilError, SkipError, WriteError,
};
use thiserror::Error;

use crate::address::Address;

/// A host name that is refused before anyone looks it up: a resolver might cut it and find someone else.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HostError {
    /// There is no name.
    #[error("the host name is empty")]
    Empty,
    /// Longer than DNS allows.
    #[error("the host name has {len} bytes; DNS allows 253 (RFC 1035)")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// It contains a zero byte.
    #[error("the host name has a zero byte at offset {at}")]
    Nul {
        /// Where.
        at: usize,
    },
}

/// One address that was tried in vain.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// The address.
    pub address: SocketAddr,
    /// Why it failed.
    pub failure: Failure,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.address, self.failure)
    }
}

/// `open_connection`, `open_unix_connection`, and adopting a socket.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The host name cannot be one. Nothing was looked up.
    #[error("open_connection: {0}")]
    BadHost(#[from] HostError),
    /// An option can never work.
    #[error("open_connection: {0}")]
    Config(#[from] ConfigError),
    /// The path of a Unix socket does not fit into the system's address.
    #[error("open_unix_connection: {path:?}: {failure}")]
    BadPath {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        failure: Failure,
    },
    /// The name could not be resolved.
    #[error("open_connection: looking up {host:?}: {failure}")]
    Lookup {
        /// The name.
        host: String,
        /// What the resolver said.
        failure: Failure,
    },
    /// The name has no address of the wanted family.
    #[error("open_connection: {host:?} has no address of the wanted family")]
    NoAddress {
        /// The name.
        host: String,
    },
    /// Every address failed.
    #[error("open_connection: no address of {host:?} answered: {}", list(attempts))]
    AllFailed {
        /// The name.
        host: String,
        /// Each address with its failure, in the order they were tried.
        attempts: Vec<Attempt>,
    },
    /// The path failed.
    #[error("open_unix_connection: {path:?}: {failure}")]
    PathFailed {
        /// The path.
        path: PathBuf,
        /// Why it failed.
        failure: Failure,
    },
    /// The time for connecting, name lookup included, ran out.
    #[error(
        "open_connection: no address of {host:?} answered within {timeout:?}; failed so far: {}",
        list(attempts)
    )]
    TimedOut {
        /// The name.
        host: String,
        /// The time that was allowed.
        timeout: Duration,
        /// The addresses that had failed by then.
        attempts: Vec<Attempt>,
    },
    /// An open socket could not be adopted.
    #[error("adopting an open socket: {0}")]
    Adopt(Failure),
    /// The PROXY header that was to be sent cannot be written. Nothing was opened.
    #[error("open_connection: {0}")]
    ProxyHeader(#[from] crate::proxy::ProxyEncodeError),
    /// The connection was made, and TLS failed on it.
    #[cfg(feature = "tls")]
    #[error("open_connection: {0}")]
    Tls(#[from] crate::tls::TlsError),
}

impl ConnectError {
    /// Whose doing it was.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::BadHost(_) | Self::Config(_) | Self::BadPath { .. } | Self::Adopt(_) => ErrorClass::BadCall,
            Self::ProxyHeader(error) => error.class(),
            Self::Lookup { .. }
            | Self::NoAddress { .. }
            | Self::AllFailed { .. }
            | Self::PathFailed { .. } => ErrorClass::BrokenByPeer,
            Self::TimedOut { .. } => ErrorClass::Deadline,
            #[cfg(feature = "tls")]
            Self::Tls(error) => error.class(),
        }
    }

    /// The kind this has as [`io::Error`]: that of the attempts if they agree.
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::BadHost(_) | Self::Config(_) | Self::BadPath { .. } => io::ErrorKind::InvalidInput,
            Self::ProxyHeader(_) => io::ErrorKind::InvalidInput,
            Self::Lookup { failure, .. } | Self::PathFailed { failure, .. } | Self::Adopt(failure) => {
                failure.kind()
            }
            Self::NoAddress { .. } => io::ErrorKind::NotFound,
            #[cfg(feature = "tls")]
            Self::Tls(error) => error.kind(),
            Self::TimedOut { .. } => io::ErrorKind::TimedOut,
            Self::AllFailed { attempts, .. } => {
                let mut kinds = attempts.iter().map(|attempt| attempt.failure.kind());
                match kinds.next() {
                    Some(first) if kinds.all(|kind| kind == first) => first,
                    _ => io::ErrorKind::Other,
                }
            }
        }
    }
}

/// `start_server`, `start_unix_server`, `start_serving`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The host name cannot be one. Nothing was looked up.
    #[error("start_server: {0}")]
    BadHost(#[from] HostError),
    /// An option can never work.
    #[error("start_server: {0}")]
    Config(#[from] ConfigError),
    /// The name could not be resolved.
    #[error("start_server: looking up {host:?}: {failure}")]
    Lookup {
        /// The name.
        host: String,
        /// What the resolver said.
        failure: Failure,
    },
    /// There is nothing to listen on.
    #[error("start_server: no host has an address of the wanted family")]
    NoAddress,
    /// The path of a Unix socket does not fit into the system's address.
    #[error("start_unix_server: {path:?}: {failure}")]
    BadPath {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        failure: Failure,
    },
    /// An address could not be listened on.
    #[error("start_server: {address}: {failure}")]
    Listen {
        /// The address.
        address: Address,
        /// What the system said.
        failure: Failure,
    },
    /// A process is listening on the path.
    #[error("start_unix_server: {path:?} is in use by a living server")]
    PathInUse {
        /// The path.
        path: PathBuf,
    },
    /// The path is taken by something that is no socket; it is left alone.
    #[error("start_unix_server: {path:?} exists and is no socket")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// This process inherited no listening socket, or none of the wanted name that was not taken already.
    #[error("start_inherited: this process has no inherited listening socket{}", named(name.as_deref()))]
    NoInherited {
        /// The name that was wanted, if one was.
        name: Option<String>,
    },
    /// An inherited descriptor is no socket that listens for streams. It is left alone, unless it is a socket; the ones before it are closed.
    #[error("start_inherited: descriptor {index} of those inherited: {failure}")]
    BadInherited {
        /// Which one, counted from zero.
        index: usize,
        /// What is wrong with it.
        failure: Failure,
    },
    /// There is no tokio runtime to serve on.
    #[error("start_server: this has to be called in a tokio runtime")]
    NoRuntime,
    /// The thread of a core could not be started, or has panicked while it started.
    #[error("serve_per_core: core {core}: {failure}")]
    Core {
        /// Which core's, counted from zero.
        core: usize,
        /// Why.
        failure: Failure,
    },
    /// The server was closed before.
    #[error("start_serving: the server was closed by this side")]
    Closed,
}

impl ServeError {
    /// Whether the system lacks the address's family, or has none of its addresses.
    pub(crate) fn is_missing_family(&self) -> bool {
        let Self::Listen { failure, .. } = self else { return false };
        matches!(failure.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT))
    }

    /// Whose doing it was.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::BadHost(_)
            | Self::Config(_)
            | Self::BadPath { .. }
            | Self::NotASocket { .. }
            | Self::PathInUse { .. }
            | Self::NoRuntime
            | Self::NoInherited { .. }
            | Self::BadInherited { .. }
            | Self::NoAddress => ErrorClass::BadCall,
            Self::Listen { failure, .. } if WRONG_ADDRESS.contains(&failure.kind()) => ErrorClass::BadCall,
            Self::Listen { .. } | Self::Lookup { .. } => ErrorClass::BrokenByPeer,
            Self::Closed => ErrorClass::ClosedByUs,
            Self::Core { failure, .. } => failure.class(),
        }
    }

    /// The kind this has as [`io::Error`].
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Core { failure, .. } => failure.kind(),
            Self::BadHost(_) | Self::Config(_) | Self::BadPath { .. } => io::ErrorKind::InvalidInput,
            Self::Listen { failure, .. } | Self::Lookup { failure, .. } => failure.kind(),
            Self::NoRuntime => io::ErrorKind::Unsupported,
            Self::BadInherited { failure, .. } => failure.kind(),
            Self::NoAddress | Self::NoInherited { .. } => io::ErrorKind::NotFound,
            Self::PathInUse { .. } => io::ErrorKind::AddrInUse,
            Self::NotASocket { .. } => io::ErrorKind::AlreadyExists,
            Self::Closed => io::ErrorKind::BrokenPipe,
        }
    }
}

/// The address cannot be listened on by this program: taken, not this machine's, or not allowed.
const WRONG_ADDRESS: [io::ErrorKind; 3] =
    [io::ErrorKind::AddrInUse, io::ErrorKind::AddrNotAvailable, io::ErrorKind::PermissionDenied];

macro_rules! any_error {
    ($($(#[$gate:meta])? $variant:ident($error:ty)),* $(,)?) => {
        /// Any error of this crate, for functions that do several things: every other error turns into it by `?`.
        #[derive(Clone, Debug, PartialEq, Eq, Error)]
        #[non_exhaustive]
        pub enum Error {
            $(
                #[doc = concat!("See [`", stringify!($error), "`].")]
                #[error(transparent)]
                $(#[$gate])?
                $variant(#[from] $error),
            )*
            /// An error of the user's own I/O, for convenience.
            #[error("{0}")]
            Io(Failure),
        }

        impl Error {
            /// Whose doing it was.
            pub fn class(&self) -> ErrorClass {
                match self {
                    $($(#[$gate])? Self::$variant(error) => error.class(),)*
                    Self::Io(failure) => failure.class(),
                }
            }
        }

        impl From<Error> for io::Error {
            fn from(error: Error) -> Self {
                match error {
                    $($(#[$gate])? Error::$variant(error) => error.into(),)*
                    Error::Io(failure) => failure.into(),
                }
            }
        }
    };
}

any_error! {
    Read(ReadError),
    ReadExactly(ReadExactlyError),
    ReadUntil(ReadUntilError),
    ReadLine(ReadLineError),
    ReadToEnd(ReadToEndError),
    Skip(SkipError),
    Write(WriteError),
    Drain(DrainError),
    Close(CloseError),
    Config(ConfigError),
    Connect(ConnectError),
    Serve(ServeError),
    BadNetwork(crate::proxy::BadNetwork),
    #[cfg(feature = "tls")] Tls(crate::tls::TlsError),
    #[cfg(feature = "tls")] TlsConfig(crate::tls::TlsConfigError),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error.into())
    }
}

macro_rules! into_io {
    ($($error:ty),*) => {$(
        impl From<$error> for io::Error {
            fn from(error: $error) -> Self {
                io::Error::new(error.kind(), error)
            }
        }
    )*};
}

into_io!(ConnectError, ServeError);

fn list(attempts: &[Attempt]) -> String {
    let texts: Vec<String> = attempts.iter().map(ToString::to_string).collect();
    if texts.is_empty() { "none".to_owned() } else { texts.join("; ") }
}

fn named(name: Option<&str>) -> String {
    name.map(|name| format!(" named {name:?}")).unwrap_or_default()
}
